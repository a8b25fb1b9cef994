"""Inference and training on one GPU, with torchvision beside it in the same run, in one call.

SSD300-VGG16 and SSDLite320-MobileNetV3 of 91 classes, the same random weights on both sides, with
which about 500 boxes of a picture pass a score threshold of .01. Inference: uint8 pictures on the
device in, detections out, batch 1 to 128; then training from JPEGs on disk with all cores. Beside
them the matrix peak, a large bf16 product. What is left when time runs out is skipped, and said.

    python benchmarks/gpu.py [--json FILE] [--minutes M] [--no-compile] [--no-training]
    python benchmarks/gpu.py --cpu      # the same code on tiny sizes, to see that it runs
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_inference import measure_inference
from gpu_timing import Clock, matrix_peak
from gpu_training import measure_training
from multibox.benchmarking.machine import this_machine
from multibox.data.synthetic import scene
from peer_models import BUILDERS, make_twins

PICTURE = (500, 375)


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    device: torch.device
    models: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    compiled_sizes: tuple[int, ...]
    training_batches: dict[str, int]
    jpegs: int
    seconds: float
    peak_side: int

    @classmethod
    def for_gpu(cls) -> "Plan":
        return cls(
            device=torch.device("cuda"),
            models=tuple(BUILDERS),
            batch_sizes=(1, 2, 4, 8, 16, 32, 64, 128),
            compiled_sizes=(1, 64),
            training_batches={"SSD300-VGG16": 64, "SSDLite320-MobileNetV3": 128},
            jpegs=256,
            seconds=2,
            peak_side=8192,
        )

    @classmethod
    def rehearsal(cls) -> "Plan":
        return cls(
            device=torch.device("cpu"),
            models=("SSDLite320-MobileNetV3",),
            batch_sizes=(1, 2),
            compiled_sizes=(),
            training_batches={"SSDLite320-MobileNetV3": 4},
            jpegs=12,
            seconds=0.1,
            peak_side=256,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here, after every part")
    parser.add_argument("--minutes", type=float, default=7.5, help="what is left then is skipped")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the processor")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--no-training", action="store_true", help="inference alone")
    arguments = parser.parse_args()
    if not arguments.cpu and not torch.cuda.is_available():
        parser.error("no GPU here; --cpu rehearses on the processor")
    plan = Plan.rehearsal() if arguments.cpu else Plan.for_gpu()
    clock = Clock(plan.device, deadline=time.monotonic() + 60 * arguments.minutes)
    peak = matrix_peak(clock, plan.peak_side)
    report: dict[str, Any] = {
        "machine": this_machine().model_dump(),
        "device": device_name(plan.device),
        "torch": torch.__version__,
        "peak": peak,
        "inference": {},
        "training": {},
        "ratios": {},
        "skipped": [],
    }
    print(f"{report['device']}, torch {torch.__version__}, bf16 peak {peak / 1e12:.3g} TFLOP/s")
    picture = scene(np.random.default_rng(0), PICTURE).image

    def part(name: str, run: Callable[[], None]) -> None:
        """One part of the report: a failure of one costs no other."""
        if clock.is_over():
            report["skipped"].append(name)
            print(f"skipped, out of time: {name}")
            return
        try:
            run()
        except Exception as error:
            report["skipped"].append(f"{name}: {type(error).__name__}: {error}")
            print(f"failed: {report['skipped'][-1]}")
            if arguments.cpu:
                raise
        if arguments.json:
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        twins = {name: make_twins(name, picture, Path(folder)) for name in plan.models}
        for name in plan.models:
            part(
                f"inference, {name}",
                lambda name=name: measure_inference(
                    name, twins[name], picture, plan.batch_sizes, peak, clock, plan.seconds, report
                ),
            )
        for name, batch_size in plan.training_batches.items():
            if not arguments.no_training:
                part(
                    f"training, {name}",
                    lambda name=name, size=batch_size: measure_training(
                        name,
                        twins[name],
                        size,
                        Path(folder) / "jpegs",
                        plan.jpegs,
                        peak,
                        clock,
                        report,
                    ),
                )
        # Last, because compiling takes a minute for each.
        for name in plan.models:
            if plan.compiled_sizes and not arguments.no_compile:
                part(
                    f"compiled, {name}",
                    lambda name=name: measure_inference(
                        name,
                        twins[name],
                        picture,
                        plan.compiled_sizes,
                        peak,
                        clock,
                        plan.seconds,
                        report,
                        compiled=True,
                    ),
                )
    for name, ratio in report["ratios"].items():
        print(f"{ratio:8.2f}  {name}")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "rehearsal on a CPU"


if __name__ == "__main__":
    main()
