"""``multibox bench``: how fast a model is, stage by stage, beside the processor's own peak."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from multibox.benchmarking.bench import bench as measure
from multibox.benchmarking.report import Report, table
from multibox.checkpoints import files
from multibox.errors import InputError

_TABLE_WIDTH = 120


def bench(
    *models: str,
    engines: str | None = None,
    batch_sizes: str = "1",
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
    report = measure(
        models,
        engines=None if engines is None else engines.split(","),
        batch_sizes=_numbers(batch_sizes),
        threads=threads,
        seconds=seconds,
        picture=picture,
    )
    _show(report)
    if json is not None:
        try:
            files.write_json(json, report.model_dump(mode="json"))
        except OSError as error:
            raise InputError(f"{json}: cannot be written ({error.strerror})") from error


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise InputError(
            f"--batch-sizes {text}: give whole numbers with commas between them, such as 1,8"
        ) from None


def _show(report: Report) -> None:
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.width = max(console.width, _TABLE_WIDTH)  # wrapped figures cannot be read
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
    console.print(table(report))
