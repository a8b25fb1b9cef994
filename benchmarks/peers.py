"""The same weights in torchvision, OpenCV, bare engines and multibox, in turn in one process.

SSD300-VGG16 and SSDLite320-MobileNetV3 of 91 classes with random weights with which about 500 boxes
pass a score threshold of .01; batch 1, a decoded 500 x 375 picture in, detections out; the bare
engines take the network's input and give its raw outputs. Beside them the processor's arithmetic
peak. Ratios are of medians; those of the fastest calls, beside them, suffer less from other work
on the machine.

    python benchmarks/peers.py [--json FILE] [--seconds S] [--model NAME] [--no-compile]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

os.environ["TORCHINDUCTOR_FREEZING"] = "1"  # torch.compile ignores it as an option

import numpy as np
import torch

from multibox.benchmarking.interleave import interleave
from multibox.benchmarking.machine import this_machine
from multibox.benchmarking.multiply_adds import of_onnx
from multibox.benchmarking.peak import Kernel, Precision, best_kernel
from multibox.data.synthetic import scene
from multibox.imaging import to_network_input
from peer_engines import Calls, bare_calls, our_calls, torchvision_calls
from peer_models import BUILDERS, check_agreement, make_peer

THREADS = 2
# torch.compile takes one to two minutes for each model: the second is left out where that is more
# than there is time for.
COMPILE_WITHIN = 60
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
Ratios = dict[str, float]
EAGER = "torchvision eager fp32"


class Times(NamedTuple):
    """Milliseconds by contender."""

    median: dict[str, float]
    fastest: dict[str, float]


def measure(calls: Calls, seconds: float) -> Times:
    """How long each call takes, all in turn."""

    def timed(call):
        def run() -> float:
            start = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - start)

        return run

    samples = interleave({name: timed(call) for name, call in calls.items()}, seconds)
    return Times(
        {name: statistics.median(each) for name, each in samples.items()},
        {name: min(each) for name, each in samples.items()},
    )


def ratios_of(milliseconds: dict[str, float], count: int, rates: dict[str, float]) -> Ratios:
    """Speeds by speeds: above 1, multibox (or its engine's network) is the faster one."""
    found = {}
    for name, each in milliseconds.items():
        if not name.startswith("multibox "):
            continue
        ours = name.removeprefix("multibox ")
        bare = milliseconds[f"bare {ours}"]
        for rival in (EAGER, "torchvision compiled fp32", "OpenCV fp32"):
            if rival in milliseconds:
                found[f"{ours} by {rival}"] = milliseconds[rival] / each
        found[f"{ours} by its bare network"] = bare / each
        if (peak := rates.get(ours.split()[-1])) is not None:
            found[f"bare {ours} by the peak"] = 2 * count / (bare / 1000) / peak
    return found


def rates_of(milliseconds: dict[str, float], kernels: dict[str, Kernel]) -> dict[str, float]:
    """Operations a second of each precision's kernel."""
    return {
        each: 2 * kernel.multiply_adds / (milliseconds[f"peak {each}"] / 1000)
        for each, kernel in kernels.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--seconds", type=float, default=2, help="of each contender")
    parser.add_argument("--model", choices=BUILDERS, help="only this one")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    picture = scene(np.random.default_rng(0), (500, 375)).image
    candidates = {each: best_kernel(each, THREADS) for each in PRECISIONS}
    kernels: dict[str, Kernel] = {each: kernel for each, kernel in candidates.items() if kernel}
    started = time.perf_counter()
    report: dict[str, Any] = {"ratios": {}, "models": {}}
    # The smaller one first: it compiles sooner.
    for name in [arguments.model] if arguments.model else reversed(BUILDERS):
        with tempfile.TemporaryDirectory() as folder:
            peer = make_peer(name, picture, Path(folder))
            late = time.perf_counter() - started > COMPILE_WITHIN
            calls = torchvision_calls(peer, picture, compiled=not (arguments.no_compile or late))
            calls |= bare_calls(peer, picture, THREADS) | our_calls(peer, picture, THREADS)
            check_agreement(calls[EAGER](), calls["multibox onnxruntime fp32"]())
            example = to_network_input(picture, peer.card.preprocessing)[None]
            count = of_onnx(peer.bare["fp32"], example)
        calls |= {f"peak {each}": kernel.run for each, kernel in kernels.items()}
        times = measure(calls, arguments.seconds)
        rates = [rates_of(each, kernels) for each in times]
        ratios = [ratios_of(each, count, rate) for each, rate in zip(times, rates, strict=True)]
        report["ratios"] |= {f"{name}: {key}": value for key, value in ratios[0].items()}
        report["models"][name] = {
            "milliseconds": times.median,
            "fastest_milliseconds": times.fastest,
            "ratios_of_fastest": ratios[1],
            "peaks": rates[0],
        }
        show(f"{name}, 91 classes, {count / 1e9:.2f} G multiply-adds", times, ratios)
    if arguments.json:
        report["machine"] = this_machine().model_dump()
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def show(title: str, times: Times, ratios: list[Ratios]) -> None:
    print(f"\n{title}, {THREADS} threads\n{'milliseconds':<48}{'median':>9}{'fastest':>9}")
    for each, median in times.median.items():
        print(f"{each:<48}{median:>9.2f}{times.fastest[each]:>9.2f}")
    print(f"{'speed by speed':<48}{'median':>9}{'fastest':>9}")
    for each, ratio in ratios[0].items():
        print(f"{each:<48}{ratio:>9.2f}{ratios[1][each]:>9.2f}")


if __name__ == "__main__":
    main()
