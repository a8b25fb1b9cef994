"""The same weights in torchvision, OpenCV, bare engines and multibox, in turn in one process.

SSD300-VGG16 and SSDLite320-MobileNetV3 of 91 classes with random weights with which about 500 boxes
pass a score threshold of .01; batch 1, a decoded 500 x 375 picture in, detections out; the bare
engines take the network's input and give its raw outputs. Beside them the processor's arithmetic
peak. Ratios are of medians.

    python benchmarks/peers.py [--json FILE] [--seconds S] [--model NAME] [--no-compile]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ["TORCHINDUCTOR_FREEZING"] = "1"  # torch.compile ignores it as an option

import numpy as np
import torch

from multibox.benchmarking.interleave import interleave
from multibox.benchmarking.machine import this_machine
from multibox.benchmarking.multiply_adds import of_onnx
from multibox.benchmarking.peak import Precision, best_kernel
from multibox.data.synthetic import scene
from multibox.imaging import to_network_input
from peer_engines import Calls, bare_calls, our_calls, torchvision_calls
from peer_models import BUILDERS, Peer, check_agreement, make_peer

THREADS = 2
# torch.compile takes one to two minutes for each model: the second is left out where that is more
# than there is time for.
COMPILE_WITHIN = 60
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
EAGER = "torchvision eager fp32"


def measure(peer: Peer, calls: Calls, seconds: float) -> dict[str, float]:
    """Median milliseconds of each call."""

    def timed(call):
        def run() -> float:
            start = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - start)

        return run

    samples = interleave({name: timed(call) for name, call in calls.items()}, seconds)
    return {name: statistics.median(each) for name, each in samples.items()}


def ratios_of(peer: Peer, milliseconds: dict[str, float], peaks: dict[str, float]) -> dict:
    """Speeds by speeds: above 1, multibox (or its engine's network) is the faster one."""
    found = {}
    ours = {name: each for name, each in milliseconds.items() if name.startswith("multibox")}
    for name, each in ours.items():
        short = name.removeprefix("multibox ")
        for rival in (EAGER, "torchvision compiled fp32", "OpenCV fp32"):
            if rival in milliseconds:
                found[f"{peer.name}: {short} by {rival}"] = milliseconds[rival] / each
        bare = milliseconds[f"bare {short}"]
        found[f"{peer.name}: {short} by its bare network"] = bare / each
        found[f"{peer.name}: network of {short} by the peak"] = peaks[name] / bare
    return found


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
    kernels = {each: best_kernel(each, THREADS) for each in PRECISIONS}
    started = time.perf_counter()
    report: dict = {"ratios": {}, "milliseconds": {}, "gigaoperations_per_second": {}}
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
        calls |= {f"peak {each}": kernel.run for each, kernel in kernels.items() if kernel}
        milliseconds = measure(peer, calls, arguments.seconds)
        rates = {
            each: 2 * kernel.multiply_adds / milliseconds[f"peak {each}"] / 1e6
            for each, kernel in kernels.items()
            if kernel
        }
        at_peak = {
            each: 2 * count / rates[each.split()[-1]] / 1e6
            for each in milliseconds
            if each.startswith("multibox")
        }
        ratios = ratios_of(peer, milliseconds, at_peak)
        report["ratios"] |= ratios
        report["milliseconds"][name] = milliseconds
        report["gigaoperations_per_second"][name] = rates
        show(name, count, milliseconds, ratios)
    if arguments.json:
        report["machine"] = this_machine().model_dump()
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


def show(name: str, count: int, milliseconds: dict[str, float], ratios: dict[str, float]) -> None:
    print(f"\n{name}, 91 classes, {count / 1e9:.2f} G multiply-adds, {THREADS} threads")
    print(f"{'':<36}{'ms':>9}{'by eager':>10}")
    for each, value in milliseconds.items():
        speed = "" if each.startswith("peak") else f"{milliseconds[EAGER] / value:>10.2f}"
        print(f"{each:<36}{value:>9.2f}{speed}")
    for each, value in ratios.items():
        print(f"{value:>7.3f}  {each.partition(': ')[2]}")


if __name__ == "__main__":
    main()
