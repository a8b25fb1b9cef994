"""Training from JPEGs on disk beside torchvision's: its pipeline, model, loss and optimiser."""

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import io, tv_tensors
from torchvision.transforms import v2

from gpu_timing import Clock
from multibox.benchmarking import multiply_adds
from multibox.benchmarking.train import bench_training
from multibox.data.augmentation import Augmentation
from multibox.data.batches import TrainingPictures, remaining_batches
from multibox.data.open import open_data
from multibox.data.samples import DataSet
from multibox.data.synthetic import generate
from multibox.engines.torch import TorchEngine
from multibox.ssd.model import build_ssd
from multibox.training.loading import default_workers, load_batches
from multibox.training.optimiser import build_optimiser, set_rate
from multibox.training.recipes import paper
from multibox.training.step import Step
from peer_models import Twins

WARM_UP, LEAST, LONGEST = 6, 4, 30
"""Steps before the clock starts, steps at least, seconds at most."""
RATE = 1e-6
"""So low that random weights go on for as long as is measured."""
FORWARD_AND_BACKWARD = 3
"""Operations of a training step by those of its forward pass."""


def measure_training(
    name: str,
    twins: Twins,
    batch_size: int,
    folder: Path,
    jpegs: int,
    peak: float,
    clock: Clock,
    report: dict[str, Any],
) -> None:
    """Add ``name`` to the report's "training": images a second, decoding included."""
    if not folder.exists():
        generate(folder, images=jpegs, size=(500, 375), splits={"train": 1.0})
    data = open_data(folder)
    engine = TorchEngine.from_checkpoint(twins.checkpoint, str(clock.device))
    height, width = twins.checkpoint.card.preprocessing.image_size
    operations = FORWARD_AND_BACKWARD * 2 * multiply_adds.of_torch(
        engine, np.zeros((1, height, width, 3), np.uint8)
    )  # fmt: skip
    del engine
    alone = bench_training(
        twins.checkpoint.card.model,
        batch_size=batch_size,
        seconds=4 if clock.device.type == "cuda" else 0.1,
        device=str(clock.device),
    )
    print(f"training {name}, batch {batch_size}, the step alone: "
          f"{alone.pictures_per_second:.1f} images/s", flush=True)  # fmt: skip
    rates = {}
    for contender, steps in (
        ("multibox bf16", multibox_steps(twins, data, batch_size, clock)),
        ("torchvision bf16", torchvision_steps(twins, data, batch_size, clock, half=True)),
        ("torchvision fp32", torchvision_steps(twins, data, batch_size, clock, half=False)),
    ):
        if clock.is_over():
            report["skipped"].append(f"training, {name}: {contender}")
            continue
        rates[contender] = rate = batch_size * steps_per_second(steps, clock)
        print(f"training {name}, batch {batch_size}, {contender}: {rate:.1f} images/s, "
              f"{rate * operations / peak:.1%} of the peak", flush=True)  # fmt: skip
    report["training"][name] = {
        "batch_size": batch_size,
        "workers": workers_of(clock),
        "operations_a_picture": operations,
        "images_per_second": rates,
        "step_alone": alone.model_dump(),
        "fraction_of_peak": {key: rate * operations / peak for key, rate in rates.items()},
    }
    for contender, rate in rates.items():
        if not contender.startswith("multibox"):
            key = f"training {name}: multibox bf16 by {contender}"
            report["ratios"][key] = rates["multibox bf16"] / rate


def steps_per_second(steps: Iterator[object], clock: Clock) -> float:
    """Of a training that goes on; its first steps fill the loader's queue and choose kernels."""
    for _ in range(WARM_UP):
        next(steps)
    clock.wait()
    start, done = time.perf_counter(), 0
    while done < LEAST or (time.perf_counter() - start < LONGEST / 2 and not clock.is_over()):
        next(steps)
        done += 1
    clock.wait()
    seconds = time.perf_counter() - start
    close: Callable[[], None] = getattr(steps, "close", lambda: None)
    close()
    return done / seconds


def workers_of(clock: Clock) -> int:
    return default_workers(accelerated=clock.device.type == "cuda")


def multibox_steps(twins: Twins, data: DataSet, batch_size: int, clock: Clock) -> Iterator[object]:
    """Our loop's parts: its loader, its step."""
    card = twins.checkpoint.card
    recipe = paper().model_copy(update={"batch_size": batch_size, "learning_rate": RATE})
    detector = build_ssd(card).to(clock.device)
    accelerator = Accelerator(cpu=clock.device.type == "cpu")
    model, optimiser = accelerator.prepare(detector, build_optimiser(detector, recipe))
    set_rate(optimiser, 1)
    step = Step(detector, model, optimiser, recipe, accelerator, bf16=True)
    red, green, blue = (round(mean) for mean in card.preprocessing.mean)
    pictures = TrainingPictures(
        data.samples,
        card.preprocessing.image_size,
        augmentation=Augmentation(card.preprocessing.image_size, (red, green, blue)),
    )
    keys = remaining_batches(len(pictures), batch_size, seed=0, epochs=10_000, steps_done=0)
    batches = load_batches(
        pictures, keys, workers=workers_of(clock), pinned=clock.device.type == "cuda"
    )
    try:
        for batch in batches:
            yield step(batch)
    finally:
        batches.close()


class TorchvisionPictures(Dataset):
    """The chain of torchvision's SSD reference training on v2 transforms."""

    def __init__(self, data: DataSet, size: tuple[int, int], repeats: int) -> None:
        self._samples = data.samples
        self._length = repeats * len(data.samples)
        self._chain = v2.Compose(
            [
                v2.RandomPhotometricDistort(),
                v2.RandomZoomOut(fill=[123, 117, 104]),
                v2.RandomIoUCrop(),
                v2.RandomHorizontalFlip(),
                v2.SanitizeBoundingBoxes(),
                v2.Resize(size, antialias=True),
                v2.ToDtype(torch.float32, scale=True),
                v2.ToPureTensor(),
            ]
        )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        sample = self._samples[index % len(self._samples)]
        picture = io.decode_jpeg(io.read_file(str(sample.image)), mode=io.ImageReadMode.RGB)
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(sample.boxes), format="XYXY", canvas_size=picture.shape[1:]
        )
        target = {"boxes": boxes, "labels": torch.from_numpy(sample.labels) + 1}
        return self._chain(tv_tensors.Image(picture), target)


def as_lists(parts: list[tuple[torch.Tensor, dict[str, torch.Tensor]]]) -> tuple[list, list]:
    pictures, targets = zip(*parts, strict=True)
    return list(pictures), list(targets)


def one_thread(_: int) -> None:
    torch.set_num_threads(1)


def torchvision_steps(
    twins: Twins, data: DataSet, batch_size: int, clock: Clock, *, half: bool
) -> Iterator[object]:
    """Its reference loop: SGD, the module's own losses; with ``half`` autocast, channels-last."""
    layout = torch.channels_last if half else torch.contiguous_format
    model: nn.Module = twins.module.to(clock.device).to(memory_format=layout).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(
        TorchvisionPictures(data, twins.checkpoint.card.preprocessing.image_size, repeats=1000),
        batch_size=batch_size,
        shuffle=True,
        num_workers=min(os.cpu_count() or 1, workers_of(clock)),
        collate_fn=as_lists,
        worker_init_fn=one_thread,
        pin_memory=clock.device.type == "cuda",
        drop_last=True,
    )
    send = partial(torch.Tensor.to, device=clock.device, non_blocking=True)
    for pictures, targets in loader:
        with torch.autocast(clock.device.type, torch.bfloat16, enabled=half):
            losses = model(
                [send(each) for each in pictures],
                [{key: send(value) for key, value in each.items()} for each in targets],
            )
            loss = sum(losses.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss
