"""Inference beside torchvision's: pictures on the device in, detections out."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from gpu_plan import Plan, Report
from multibox.benchmarking import multiply_adds
from multibox.engines.torch import TorchEngine
from multibox.engines.torch_graphs import Captured, CudaCapture
from multibox.imaging import to_network_input
from peer_models import Twins


def measure_inference(name: str, twins: Twins, plan: Plan, report: Report) -> None:
    """Add ``name`` to the report's "inference", by contender and batch size."""
    engine = TorchEngine.from_checkpoint(twins.checkpoint, plan.device, precision="bf16")
    one = network_input(twins, plan)
    measured = Table(name, engine, plan, report)
    ours: dict[int, float] = {}
    for size in plan.batch_sizes:
        images = one.expand(size, *one.shape).contiguous()
        ours[size] = measured("multibox bf16", size, partial(engine.detect_on_device, images))
        if size in plan.torchvision_sizes:
            measured("  its network alone", size, network_alone(engine, images))
    assert engine.detect_on_device(images).exact.all()
    theirs = twins.module.eval().to(plan.device)
    for contender, half in (("torchvision fp32", False), ("torchvision bf16 channels-last", True)):
        for size in plan.torchvision_sizes:
            rate = measured(contender, size, torchvision_call(theirs, one, size, half=half))
            if rate:
                key = f"{name}, batch {size}: multibox bf16 by {contender}"
                report.section("ratios")[key] = ours[size] / rate
    report.save()


def measure_compiled(name: str, twins: Twins, plan: Plan, report: Report) -> None:
    """The same with ``torch.compile``, which takes a minute for each batch size."""
    engine = TorchEngine.from_checkpoint(
        twins.checkpoint, plan.device, precision="bf16", compile=True
    )
    one = network_input(twins, plan)
    measured = Table(name, engine, plan, report)
    for size in plan.compiled_sizes:
        images = one.expand(size, *one.shape).contiguous()
        measured("multibox bf16 compiled", size, partial(engine.detect_on_device, images))


def network_input(twins: Twins, plan: Plan) -> Tensor:
    """The picture ``[h, w, 3]`` on the device, of the network's size."""
    pixels = to_network_input(plan.picture(), twins.checkpoint.card.preprocessing)
    return torch.from_numpy(np.ascontiguousarray(pixels)).to(plan.device)


class Table:
    """Measures a contender, prints its row and writes it to the report."""

    def __init__(self, name: str, engine: TorchEngine, plan: Plan, report: Report) -> None:
        self._plan = plan
        self._report = report
        self._rows = report.section("inference", name)
        height, width = engine.card.preprocessing.image_size
        empty = np.zeros((1, height, width, 3), np.uint8)
        self._operations = 2 * multiply_adds.of_torch(engine, empty)
        self._rows["operations_a_picture"] = self._operations
        print(f"{name}, {self._operations / 1e9:.1f} G operations a picture\n"
              f"{'':<34}{'batch':>6}{'p50 ms':>9}{'p99 ms':>9}"
              f"{'pictures/s':>12}{'of peak':>9}{'GB':>7}")  # fmt: skip

    @torch.inference_mode()
    def __call__(self, contender: str, size: int, call: Callable[[], object]) -> float:
        """Pictures a second, 0 if there is no time to measure them."""
        plan, clock = self._plan, self._plan.clock()
        if plan.is_over():
            what = f"{contender.strip()}, batch {size}: out of time"
            self._report.figures["skipped"].append(what)
            self._report.save()
            return 0
        on_gpu = plan.device == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        latency = clock.latency(call, plan.seconds)
        rate = size / clock.seconds_each(call, plan.seconds)
        found = {
            "p50": latency.p50,
            "p99": latency.p99,
            "samples": latency.samples,
            "pictures_per_second": rate,
            "fraction_of_peak": rate * self._operations / self._report.figures["peak"],
            "gigabytes": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0,
        }
        self._rows.setdefault(contender.strip(), {})[str(size)] = found
        print(f"{contender:<34}{size:>6}{latency.p50:>9.3f}{latency.p99:>9.3f}{rate:>12.1f}"
              f"{found['fraction_of_peak']:>9.1%}{found['gigabytes']:>7.2f}",
              flush=True)  # fmt: skip
        self._report.save()
        return rate


def network_alone(engine: TorchEngine, images: Tensor) -> Callable[[], object]:
    """The network up to its raw outputs, recorded as the whole is."""
    if images.device.type == "cpu":
        return lambda: engine.module(images)
    recorded = Captured(engine.module, images.device, CudaCapture(images.device))
    return lambda: recorded(images, lambda outputs: None)


def torchvision_call(
    module: nn.Module, picture: Tensor, size: int, *, half: bool
) -> Callable[[], object]:
    """torchvision's detector on a list of float pictures on the device, as it takes them."""
    pictures = [(picture.permute(2, 0, 1).float() / 255).contiguous()] * size
    module.to(memory_format=torch.channels_last if half else torch.contiguous_format)

    def call() -> object:
        with torch.autocast(picture.device.type, torch.bfloat16, enabled=half):
            return module(pictures)

    return call
