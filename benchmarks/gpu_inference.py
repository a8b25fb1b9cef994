"""Inference beside torchvision's: pictures on the device in, detections out."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gpu_timing import Clock
from multibox.benchmarking import multiply_adds
from multibox.engines.torch import TorchEngine
from multibox.imaging import Image, to_network_input
from peer_models import Twins

TORCHVISION_SIZES = (1, 64)
"""Batch sizes that torchvision is measured at too; the rehearsal takes the first."""


@torch.no_grad()
def measure_inference(
    name: str,
    twins: Twins,
    picture: Image,
    batch_sizes: Sequence[int],
    peak: float,
    clock: Clock,
    seconds: float,
    report: dict[str, Any],
    *,
    compiled: bool = False,
) -> None:
    """Add ``name`` to the report's "inference", by contender and batch size."""
    card = twins.checkpoint.card
    pixels = np.ascontiguousarray(to_network_input(picture, card.preprocessing))
    one = torch.from_numpy(pixels).to(clock.device)
    engine = TorchEngine.from_checkpoint(
        twins.checkpoint, str(clock.device), precision="bf16", compile=compiled
    )
    operations = 2 * multiply_adds.of_torch(engine, pixels[None])
    table = report["inference"].setdefault(name, {"operations_a_picture": operations})
    print(f"\n{name}, {operations / 1e9:.1f} G operations a picture\n"
          f"{'':<34}{'batch':>6}{'p50 ms':>9}{'p99 ms':>9}"
          f"{'pictures/s':>12}{'of peak':>9}")  # fmt: skip

    def measured(contender: str, call: Callable[[], object], size: int) -> dict[str, float]:
        latency = clock.latency(call, seconds)
        rate = size / clock.seconds_each(call, seconds)
        found = {
            "p50": latency.p50,
            "p99": latency.p99,
            "pictures_per_second": rate,
            "fraction_of_peak": rate * operations / peak,
        }
        table.setdefault(contender, {})[str(size)] = found
        print(f"{contender:<34}{size:>6}{latency.p50:>9.3f}{latency.p99:>9.3f}{rate:>12.1f}"
              f"{found['fraction_of_peak']:>9.1%}", flush=True)  # fmt: skip
        return found

    ours = "multibox bf16 compiled" if compiled else "multibox bf16"
    for size in batch_sizes:
        if clock.is_over():
            report["skipped"].append(f"{name}: {ours} from batch {size} on")
            break
        images = one.expand(size, *one.shape).contiguous()
        measured(ours, lambda images=images: engine.detect_on_device(images), size)
        assert engine.detect_on_device(images).exact.all()
        if not compiled and size in (batch_sizes[0], 64):
            measured("  its network alone", network_alone(engine, images, clock.device), size)
    if compiled:
        return
    theirs = twins.module.eval().to(clock.device)
    for half in (False, True):
        contender = f"torchvision {'bf16 channels-last' if half else 'fp32'}"
        for size in TORCHVISION_SIZES:
            if size in batch_sizes and not clock.is_over():
                found = measured(contender, torchvision_call(theirs, one, size, half=half), size)
                rate = (
                    table[ours][str(size)]["pictures_per_second"] if str(size) in table[ours] else 0
                )
                report["ratios"][f"{name}, batch {size}: multibox bf16 by {contender}"] = (
                    rate / found["pictures_per_second"]
                )


def network_alone(
    engine: TorchEngine, images: Tensor, device: torch.device
) -> Callable[[], object]:
    """The network up to its raw outputs, recorded as the whole is."""
    if device.type != "cuda":
        return lambda: engine.module(images)
    from multibox.engines.torch_graphs import Captured, CudaCapture

    recorded = Captured(engine.module, device, CudaCapture())
    return lambda: recorded(images)


def torchvision_call(
    module: nn.Module, picture: Tensor, size: int, *, half: bool
) -> Callable[[], object]:
    """torchvision's detector on a list of float pictures on the device, as it takes them."""
    pictures = [(picture.permute(2, 0, 1).float() / 255).contiguous()] * size
    module.to(memory_format=torch.channels_last if half else torch.contiguous_format)

    def call() -> object:
        with (
            torch.inference_mode(),
            torch.autocast(picture.device.type, torch.bfloat16, enabled=half),
        ):
            return module(pictures)

    return call
