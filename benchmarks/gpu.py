"""Inference and training on one GPU, with torchvision beside it in the same run, in one call.

SSD300-VGG16 and SSDLite320-MobileNetV3 of 91 classes, the same random weights on both sides, with
which about 500 boxes of a picture pass a score threshold of .01. First whether the GPU finds what
the processor finds; then inference, uint8 pictures on the device in, detections out, batch 1 to
128; training from JPEGs on disk with all cores; where the time goes, kernel by kernel; and the
compiled network. Beside them the matrix peak, a large bf16 product.

Every part is a process of its own, and every figure is in the file as soon as it is known: a part
that crashes, or for which no time is left, costs no other.

    python benchmarks/gpu.py [--json FILE] [--minutes M] [--parts A,B] [--models A,B] [--data DATA]
    python benchmarks/gpu.py --cpu      # the same code on tiny sizes, to see that it runs
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gpu_checks import check
from gpu_inference import measure_compiled, measure_inference
from gpu_plan import Plan, Report
from gpu_profile import profile
from gpu_timing import matrix_peak
from gpu_training import measure_training
from multibox.benchmarking.machine import this_machine
from multibox.data.synthetic import generate, scene
from peer_models import BUILDERS, load_twins, make_twins

PICTURE = (500, 375)
PARTS: dict[str, Callable[..., None]] = {
    "checks": check,
    "inference": measure_inference,
    "training": measure_training,
    "profile": profile,
    "compiled": measure_compiled,
}
GRACE = 45
"""Seconds that a part may go on when time has run out, before it is ended."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where the figures are written")
    parser.add_argument("--minutes", type=float, default=8, help="what is left then is skipped")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, of %(default)s")
    parser.add_argument("--models", default=",".join(BUILDERS), help="which, of %(default)s")
    parser.add_argument("--data", type=Path, help="train on these pictures, not on generated ones")
    parser.add_argument("--cpu", action="store_true", help="rehearse on the processor")
    arguments = parser.parse_args()
    parts, models = arguments.parts.split(","), arguments.models.split(",")
    if set(parts) - PARTS.keys() or set(models) - BUILDERS.keys():
        parser.error(f"parts are {', '.join(PARTS)}; models are {', '.join(BUILDERS)}")

    with tempfile.TemporaryDirectory() as folder:
        make = Plan.rehearsal if arguments.cpu else Plan.for_gpu
        plan = make(
            folder=Path(folder),
            data=arguments.data,
            results=arguments.json or Path(folder) / "results.json",
            deadline=time.time() + 60 * arguments.minutes,
        )
        report = Report(plan.results)
        report.save()
        run("prepare", models, plan, prepare)
        if not Report(plan.results).figures.get("peak"):
            sys.exit(1)
        # What the issue is about first; compiling, which takes a minute for each, last.
        first = [(part, [model]) for model in models for part in ("inference", "training")]
        others = [(part, [model]) for part in ("profile", "compiled") for model in models]
        for part, of in [("checks", models), *first, *others]:
            if part in parts:
                run(part, of, plan, PARTS[part])
        report = Report(plan.results)
    print()
    for name, ratio in report.section("ratios").items():
        print(f"{ratio:8.2f}  {name}")
    for line in report.figures["skipped"]:
        print(f"not measured: {line}")
    sys.exit(1 if report.figures["failed"] else 0)


def run(part: str, models: list[str], plan: Plan, function: Callable[..., None]) -> None:
    """``function`` of each model, in a process that ends with it."""
    what = f"{part} of {' and '.join(models)}"
    if plan.is_over():
        return note(plan, "skipped", f"{what}: out of time")
    print(f"\n{what}", flush=True)
    child = multiprocessing.get_context("spawn").Process(
        target=in_child, args=(part, models, plan, function)
    )
    child.start()
    child.join(plan.seconds_left() + GRACE)
    if child.is_alive():
        child.kill()
        child.join()
        return note(plan, "skipped", f"{what}: ended, out of time")
    if child.exitcode:
        note(plan, "failed", f"{what}: exit code {child.exitcode}")
    return None


def in_child(part: str, models: list[str], plan: Plan, function: Callable[..., None]) -> None:
    if function is prepare:
        return prepare(models, plan)
    for model in models:
        try:
            function(model, load_twins(model, plan.folder), plan, Report(plan.results))
        except Exception as error:
            if plan.device == "cpu":
                traceback.print_exc()
            note(plan, "failed", f"{part} of {model}: {type(error).__name__}: {error}")
    return None


def note(plan: Plan, where: str, line: str) -> None:
    print(f"{where}: {line}", flush=True)
    report = Report(plan.results)
    report.figures[where].append(line)
    report.save()


def prepare(models: list[str], plan: Plan) -> None:
    """The peak, the weights and the pictures, for all parts."""
    if plan.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU here; --cpu rehearses on the processor")
    report, clock = Report(plan.results), plan.clock()
    peak = matrix_peak(clock, plan.peak_side)
    name = torch.cuda.get_device_name() if plan.device == "cuda" else "rehearsal on a CPU"
    report.figures |= {
        "machine": this_machine().model_dump(),
        "device": name,
        "torch": torch.__version__,
        "peak": peak,
    }
    report.save()
    print(f"{name}, torch {torch.__version__}, bf16 peak {peak / 1e12:.3g} TFLOP/s", flush=True)
    picture = scene(np.random.default_rng(0), PICTURE).image
    np.save(plan.folder / "picture.npy", picture)
    for model in models:
        make_twins(model, picture, plan.folder)
    if plan.data is None:
        generate(plan.pictures(), images=plan.jpegs, size=PICTURE, splits={"train": 1.0})


if __name__ == "__main__":
    main()
