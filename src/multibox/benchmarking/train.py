"""Measure a step of training: how fast, where the time goes, how much of the machine is reached."""

import contextlib
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from rich.table import Table

from multibox.benchmarking.interleave import interleave
from multibox.benchmarking.machine import this_machine
from multibox.benchmarking.multiply_adds import of_module
from multibox.benchmarking.peak import Kernel, Precision, best_kernel
from multibox.benchmarking.report import Latency, Machine, Peak
from multibox.benchmarking.train_contenders import (
    made_up_batch,
    our_loader,
    our_step,
    torchvisions_step,
)
from multibox.engines.graph import available_threads
from multibox.errors import InputError
from multibox.ssd.model import SSD, build_ssd
from multibox.training.recipes import modern
from multibox.training.step import computes_faster_in_bf16
from multibox.zoo import new_card

_CLASSES = 20
_STAGES = ("forward", "targets", "loss", "backward", "optimiser")
_MATRIX = 8192  # rows and columns of the product that stands for an accelerator's peak


class TrainingStages(BaseModel):
    """Milliseconds of the stages of a step, each with the device waited for at its end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    forward: Latency = Field(description="the network, with the pictures' way to the device")
    targets: Latency = Field(description="matching of default boxes and their offsets")
    loss: Latency = Field(description="with the mining of hard negatives")
    backward: Latency
    optimiser: Latency = Field(description="with the gradient's norm and the check of all figures")


class TrainReport(BaseModel):
    """What a step of training takes, and torchvision's beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    machine: Machine
    device: str
    threads: int
    model: str
    image_size: tuple[int, int] = Field(description="height and width, pixels")
    classes: int
    batch_size: int
    precision: Literal["fp32", "bf16"]
    multiply_adds: int = Field(description="of the network for one picture, forward")
    milliseconds: Latency = Field(description="of a whole step, as the training runs it")
    data: Latency = Field(
        description="of one process for the pictures of a step, from JPEGs; others do it meanwhile"
    )
    stages: TrainingStages
    pictures_per_second: float
    operations_per_second: float = Field(
        description="forward and twice as much backward, a multiply-add is two"
    )
    peak: Peak | None = Field(description="null where nothing here has the precision")
    fraction_of_peak: float | None
    torchvision_milliseconds: Latency | None = Field(description="null where it has no such model")
    torchvision_pictures_per_second: float | None
    times_torchvision: float | None = Field(description="the quotient of the two")


def bench_training(
    name: str,
    *,
    batch_size: int | None = None,
    threads: int | None = None,
    seconds: float = 10,
    device: str | None = None,
) -> TrainReport:
    """Time steps of the detector ``name`` of the zoo, with random weights and made-up pictures.

    The steps' data lies in memory. The loader, our step, our step with its stages apart,
    torchvision's and the peak's kernel are measured in turn within one process, about ``seconds``
    each. ``batch_size`` is 8 on a
    CPU and 32 on an accelerator where left out; ``device`` the accelerator where there is one.

    Raises: InputError for an unknown detector or a number that cannot be.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    size = batch_size or (8 if place.type == "cpu" else 32)
    if size < 2 or seconds <= 0 or (threads is not None and threads < 1):
        raise InputError("a batch must have 2 pictures or more, threads and seconds be above 0")
    threads = threads or available_threads()
    card = new_card(name, [f"class {i}" for i in range(_CLASSES)])
    bf16 = computes_faster_in_bf16(place)
    precision: Precision = "bf16" if bf16 else "fp32"
    batch = made_up_batch(card, size)
    with _threads(threads), tempfile.TemporaryDirectory() as folder:
        load = our_loader(card, size, modern().changed({"epochs": 1}), Path(folder, "data"))
        step = our_step(card, batch, modern(), place, bf16=bf16)
        theirs = torchvisions_step(name, card, batch, place)
        kernel = _peak_kernel(precision, threads, place)
        calls: dict[str, Callable[[], list[float]]] = {
            "data": lambda: _timed(load, place),
            "step": lambda: _timed(lambda: step(_nothing), place),
            "stages": lambda: _stages(step, place),
        }
        if theirs is not None:
            calls["torchvision"] = lambda: _timed(theirs, place)
        if kernel is not None:
            calls["peak"] = lambda: _timed(kernel.run, place)
        samples = interleave(calls, seconds)
        multiply_adds = _forward(build_ssd(card), batch.images[:1])
    whole = Latency.of([each[0] for each in samples["step"]])
    rate = 1000 * size / whole.p50
    speed = 3 * 2 * multiply_adds * rate
    peak = _peak(kernel, precision, samples.get("peak"))
    reference = _latency(samples.get("torchvision"))
    return TrainReport(
        machine=this_machine(),
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else place.type,
        threads=threads,
        model=name,
        image_size=card.preprocessing.image_size,
        classes=_CLASSES,
        batch_size=size,
        precision=precision,
        multiply_adds=multiply_adds,
        milliseconds=whole,
        data=Latency.of([each[0] for each in samples["data"]]),
        stages=TrainingStages(
            **{
                stage: Latency.of([each[i] for each in samples["stages"]])
                for i, stage in enumerate(_STAGES)
            }
        ),
        pictures_per_second=rate,
        operations_per_second=speed,
        peak=peak,
        fraction_of_peak=None if peak is None else speed / peak.operations_per_second,
        torchvision_milliseconds=reference,
        torchvision_pictures_per_second=None if reference is None else 1000 * size / reference.p50,
        times_torchvision=None if reference is None else reference.p50 / whole.p50,
    )


def table(report: TrainReport) -> Table:
    """A row for each contender, milliseconds of the median step."""
    rows = Table(box=None, pad_edge=False)
    rows.add_column("", no_wrap=True)
    for title in ("data", *_STAGES, "step", "pictures/s", "of peak"):
        rows.add_column(title, justify="right", no_wrap=True)
    fraction = "–" if report.fraction_of_peak is None else f"{report.fraction_of_peak:.0%}"
    rows.add_row(
        f"multibox {report.precision}",
        f"{report.data.p50:.1f}",
        *(f"{getattr(report.stages, stage).p50:.1f}" for stage in _STAGES),
        f"{report.milliseconds.p50:.1f}",
        f"{report.pictures_per_second:.2f}",
        fraction,
    )
    theirs = report.torchvision_milliseconds
    if theirs is not None:
        rate = report.torchvision_pictures_per_second
        stages = ["–"] * (1 + len(_STAGES))
        rows.add_row("torchvision fp32", *stages, f"{theirs.p50:.1f}", f"{rate:.2f}")
    return rows


def _nothing(_: str) -> None:
    pass


def _wait(device: torch.device) -> float:
    """The time, when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _timed(run: Callable[[], object], device: torch.device) -> list[float]:
    start = _wait(device)
    run()
    return [_wait(device) - start]


def _stages(step: Callable[[Callable[[str], object]], object], device: torch.device) -> list[float]:
    """Seconds of each of the stages."""
    spent = dict.fromkeys(_STAGES, 0.0)
    before = _wait(device)

    def note(stage: str) -> None:
        nonlocal before
        now = _wait(device)
        spent[stage] += now - before
        before = now

    step(note)
    return list(spent.values())


def _peak_kernel(precision: Precision, threads: int, device: torch.device) -> Kernel | None:
    if device.type == "cpu":
        return best_kernel(precision, threads)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(_MATRIX, _MATRIX, device=device, dtype=dtype) for _ in range(2))
    text = f"matrix product, {_MATRIX} x {_MATRIX} x {_MATRIX}"
    return Kernel(lambda: left @ right, _MATRIX**3, "torch", text)


def _peak(
    kernel: Kernel | None, precision: Precision, samples: Sequence[list[float]] | None
) -> Peak | None:
    if kernel is None or samples is None:
        return None
    seconds = float(np.median([each[0] for each in samples]))
    return Peak(
        precision=precision,
        operations_per_second=2 * kernel.multiply_adds / seconds,
        engine=kernel.engine,
        kernel=kernel.description,
    )


def _latency(samples: Sequence[list[float]] | None) -> Latency | None:
    return None if samples is None else Latency.of([each[0] for each in samples])


@torch.no_grad()
def _forward(model: SSD, picture: torch.Tensor) -> int:
    model.eval()
    return of_module(model, lambda: model(picture))


@contextlib.contextmanager
def _threads(number: int) -> Generator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
