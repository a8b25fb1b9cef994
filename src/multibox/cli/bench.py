"""``multibox bench``: how fast a model is, stage by stage, beside the processor's own peak."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from multibox.benchmarking.bench import bench as measure
from multibox.benchmarking.report import Report, table
from multibox.checkpoints import files
from multibox.errors import InputError

_TABLE_WIDTH = 120
_NO_LIMIT = 10_000
# Of the peak: big convolutions come this near to what a processor can do.
_AT_MOST = 1.05


def bench(
    *models: str,
    engines: str | None = None,
    train: Annotated[bool, Parameter(negative=())] = False,
    batch_sizes: str = "1",
    batch_size: int | None = None,
    threads: int | None = None,
    seconds: float = 10,
    picture: Path | None = None,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Measure how fast a model is, stage by stage, and how much of the processor it reaches.

    Parameters
    ----------
    models
        A checkpoint, an exported file, or a detector's name (random weights); several are compared.
    engines
        Engines with commas between them, each with an optional precision:
        onnxruntime,openvino:bf16. What can run the model by default.
    train
        Measure a step of training of one of the zoo's detectors instead, with torchvision's
        reference loop beside it where that has the detector.
    batch_size
        Pictures of a step of training; 8 on a CPU and 32 on an accelerator by default.
    batch_sizes
        Pictures at once, with commas between several sizes: 1,8.
    threads
        Of each engine; one for each core by default.
    seconds
        How long to measure each engine at each batch size.
    picture
        A picture to detect in; a made-up scene of 500 x 375 by default.
    json
        Write the figures to this file.
    """
    if not models:
        raise InputError("bench takes a model: a checkpoint, an exported file, or a name")
    if train:
        _bench_training(models, batch_size, threads, seconds, json)
        return
    if batch_size is not None:
        raise InputError("--batch-size goes with --train; without it: --batch-sizes 1,8")
    report = measure(
        models,
        engines=None if engines is None else engines.split(","),
        batch_sizes=_numbers(batch_sizes),
        threads=threads,
        seconds=seconds,
        picture=picture,
    )
    _show(report)
    _write(json, report.model_dump(mode="json"))


def _bench_training(
    models: tuple[str, ...],
    batch_size: int | None,
    threads: int | None,
    seconds: float,
    json: Path | None,
) -> None:
    from multibox.benchmarking.train import bench_training
    from multibox.benchmarking.train import table as training_table

    if len(models) > 1:
        raise InputError("bench --train takes one detector of the zoo at a time")
    report = bench_training(models[0], batch_size=batch_size, threads=threads, seconds=seconds)
    machine, (height, width) = report.machine, report.image_size
    console = _console()
    console.print(
        f"{machine.processor}, {machine.cores} cores; {report.threads} threads; on {report.device}"
    )
    if report.peak is not None:
        speed = report.peak.operations_per_second / 1e9
        console.print(
            f"peak {report.precision}: {speed:,.0f} GOP/s "
            f"({report.peak.engine}, {report.peak.kernel})"
        )
    console.print(
        f"{report.model} {width} x {height}, {report.classes} classes, "
        f"{report.batch_size} pictures a step, "
        f"{report.multiply_adds / 1e9:.3f} G multiply-adds a picture forward"
    )
    console.print("milliseconds of the median step; random weights; data: one process, beside it")
    console.print(training_table(report))
    if report.times_torchvision is not None:
        console.print(f"{report.times_torchvision:.2f} times torchvision's reference loop")
    _write(json, report.model_dump(mode="json"))


def _write(path: Path | None, values: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        files.write_json(path, values)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def _console() -> Console:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.width = max(console.width, _TABLE_WIDTH)  # wrapped figures cannot be read
    return console


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(
            f"--batch-sizes {text}: give whole numbers with commas between them, such as 1,8"
        ) from None


def _show(report: Report) -> None:
    console = _console()
    machine = report.machine
    console.print(f"{machine.processor}, {machine.cores} cores; {report.threads} threads")
    for peak in report.peaks:
        speed = peak.operations_per_second / 1e9
        console.print(f"peak {peak.precision}: {speed:,.0f} GOP/s ({peak.engine}, {peak.kernel})")
    for model in report.models:
        height, width = model.image_size
        console.print(
            f"{model.file}: {model.name} {width} x {height}, {model.classes} classes, "
            f"{model.multiply_adds / 1e9:.3f} G multiply-adds"
            + (f"; {model.note}" if model.note else "")
        )
    console.print("milliseconds of the median call; p99 is the whole's, from 100 calls on")
    figures = table(report)
    unlimited = console.options.update(max_width=_NO_LIMIT)
    console.width = max(console.width, console.measure(figures, options=unlimited).maximum)
    console.print(figures)
    if any((result.fraction_of_peak or 0) > _AT_MOST for result in report.results):
        console.print(
            "more than the peak cannot be: other work slowed the kernel that stands for it down; "
            "measure again on an idle machine"
        )
