"""Measure models on engines, in turn within one process, beside the processor's own peak."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from multibox.benchmarking.contenders import Contender, open_contenders
from multibox.benchmarking.interleave import interleave
from multibox.benchmarking.machine import this_machine
from multibox.benchmarking.peak import Kernel, Precision, best_kernel
from multibox.benchmarking.report import Peak, Report, Result, Split
from multibox.benchmarking.stages import Stages, measure
from multibox.data.synthetic import scene
from multibox.engines import Engine, Goal
from multibox.engines.graph import available_threads
from multibox.errors import InputError
from multibox.imaging import Image, read_image, to_network_input

_SCENE = (500, 375)  # width and height of most pictures that SSD was ever measured on


class _Case(NamedTuple):
    contender: Contender
    batch_size: int

    @property
    def engine(self) -> Engine:
        return self.contender.engines[_goal(self.batch_size)]


def bench(
    models: Sequence[str | Path],
    *,
    engines: Sequence[str] | None = None,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    seconds: float = 10,
    picture: Path | None = None,
) -> Report:
    """Latency, throughput and their split of ``models`` on ``engines``, by ``batch_sizes``.

    ``models`` are checkpoints, exported files or names of the zoo, ``engines`` names with an
    optional precision ("openvino:bf16"); every engine that can run a model where left out.
    ``threads`` are each engine's, all cores where left out. Every case, which is a model on an
    engine at a batch size, and every precision's peak kernel is measured for about ``seconds``,
    in turn. A batch is ``picture`` (a made-up scene where left out) again and again; engines are
    set for latency where it is of one picture, and for throughput where it is of several.

    Raises: InputError when a model, engine, number or picture cannot be used.
    """
    if seconds <= 0 or min(batch_sizes, default=0) < 1 or (threads is not None and threads < 1):
        raise InputError("batch sizes, threads and seconds must be given, and above 0")
    goals = {_goal(size) for size in batch_sizes}
    threads = threads or available_threads()
    file = _scene() if picture is None else _read(picture)
    pixels = read_image(file)
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        with open_contenders(models, engines, goals, threads, pixels) as opened:
            cases = [_Case(each, size) for size in batch_sizes for each in opened]
            kernels = _kernels({each.precision for each in opened}, threads)
            stages, calls = _measure(cases, kernels, file, seconds)
            found = {case: _detections(case.engine, pixels) for case in cases}
    finally:
        cv2.setNumThreads(before)
    peaks = {
        precision: Peak(
            precision=precision,
            operations_per_second=2 * kernel.multiply_adds / float(np.median(calls[precision])),
            engine=kernel.engine,
            kernel=kernel.description,
        )
        for precision, kernel in kernels.items()
    }
    return Report(
        machine=this_machine(),
        threads=threads,
        picture=str(picture) if picture else "a made-up scene",
        picture_size=pixels.shape[:2],
        models=tuple(dict.fromkeys(each.model for each in opened)),
        peaks=tuple(peaks.values()),
        results=tuple(
            _result(case, stages[case], peaks.get(case.contender.precision), found[case])
            for case in cases
        ),
    )


def _goal(batch_size: int) -> Goal:
    return "latency" if batch_size == 1 else "throughput"


def _measure(
    cases: Sequence[_Case], kernels: dict[Precision, Kernel], file: bytes, seconds: float
) -> tuple[dict[_Case, list[Stages]], dict[Precision, list[float]]]:
    """The stages of each case's calls, and the seconds of each kernel's."""
    calls: dict[_Case | Precision, Callable[[], Stages | float]] = {
        case: measure(case.engine, [file] * case.batch_size) for case in cases
    }
    calls.update({precision: kernel.timed for precision, kernel in kernels.items()})
    samples = interleave(calls, seconds)
    return (
        {case: [s for s in samples[case] if isinstance(s, Stages)] for case in cases},
        {each: [s for s in samples[each] if isinstance(s, float)] for each in kernels},
    )


def _kernels(precisions: set[Precision], threads: int) -> dict[Precision, Kernel]:
    found = {each: best_kernel(each, threads) for each in sorted(precisions)}
    return {each: kernel for each, kernel in found.items() if kernel is not None}


def _result(case: _Case, samples: list[Stages], peak: Peak | None, found: int) -> Result:
    contender, batch_size = case
    split = Split.of(samples)
    operations = 2 * contender.model.multiply_adds * batch_size / (split.network.p50 / 1000)
    return Result(
        model=contender.model.file,
        engine=case.engine.name,
        precision=contender.precision,
        batch_size=batch_size,
        samples=len(samples),
        milliseconds=split,
        pictures_per_second=1000 * batch_size / split.whole.p50,
        operations_per_second=operations,
        fraction_of_peak=operations / peak.operations_per_second if peak else None,
        detections=found,
    )


def _detections(engine: Engine, pixels: Image) -> int:
    return int(engine(to_network_input(pixels, engine.card.preprocessing)[None]).num[0])


def _scene() -> bytes:
    image = scene(np.random.default_rng(0), _SCENE).image
    assert isinstance(image, np.ndarray)
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return encoded.tobytes()


def _read(picture: Path) -> bytes:
    read_image(picture)  # an error names the file
    return picture.read_bytes()
