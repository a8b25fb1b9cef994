"""The processor's arithmetic peak, measured: what the best kernel on it really reaches."""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Literal, NamedTuple

from multibox.benchmarking.convolutions import Convolutions, convolutions
from multibox.benchmarking.interleave import interleave
from multibox.engines.openvino_core import openvino_core

Precision = Literal["fp32", "bf16", "int8"]

# Channels and positions along a side. Matrix products of the usual libraries reach only two thirds
# of what some processors can do; big convolutions come within a few per cent of it.
_SHAPES = ((256, 38), (256, 75), (512, 38))
_SECONDS = 0.3
"""How long each is tried, in turn with the others."""


class Kernel(NamedTuple):
    """A call that does ``multiply_adds``, and what it is."""

    run: Callable[[], object]
    multiply_adds: int
    engine: str
    description: str

    def timed(self) -> float:
        """Run once; the seconds it took."""
        start = time.perf_counter()
        self.run()
        return time.perf_counter() - start


def best_kernel(precision: Precision, threads: int) -> Kernel | None:
    """The fastest of a few convolutions on every installed engine that has ``precision``.

    It stands for the peak when it is measured again, in turn with what is compared to it. None
    where no installed engine has the precision.

    They take turns, and the fastest run of each counts: other work on the machine only slows runs
    down, and would have to slow every run of a kernel for a lesser one to be taken.
    """
    kernels = list(_kernels(precision, threads))
    seconds = interleave({kernel: kernel.timed for kernel in kernels}, _SECONDS)
    return min(kernels, key=lambda each: min(seconds[each]) / each.multiply_adds, default=None)


def _kernels(precision: Precision, threads: int) -> Iterator[Kernel]:
    for channels, side in _SHAPES:
        work = convolutions(channels, side, "int8" if precision == "int8" else "float")
        text = f"3x3 convolutions, {channels} -> {channels} on {side} x {side}"
        if precision != "bf16":  # onnxruntime's CPU kernels have none
            yield Kernel(_onnxruntime(work, threads), work.multiply_adds, "onnxruntime", text)
        if find_spec("openvino"):
            run = _openvino(work, threads, precision)
            yield Kernel(run, work.multiply_adds, "openvino", text)


def _onnxruntime(work: Convolutions, threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(work.model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x0": work.example})


def _openvino(work: Convolutions, threads: int, precision: Precision) -> Callable[[], object]:
    core = openvino_core()
    compiled = core.compile_model(
        core.read_model(work.model),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
        },
    )
    request = compiled.create_infer_request()
    return lambda: request.infer({0: work.example}, share_inputs=True, share_outputs=True)
