"""Training from JPEGs on disk beside torchvision's: its pipeline, model, loss and optimiser."""

import os
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import io, tv_tensors
from torchvision.transforms import v2

from gpu_plan import Plan, Report
from multibox.benchmarking import multiply_adds
from multibox.benchmarking.train import bench_training
from multibox.data.augmentation import Augmentation
from multibox.data.batches import TrainingPictures, remaining_batches
from multibox.data.open import open_data
from multibox.data.samples import DataSet
from multibox.engines.torch import TorchEngine
from multibox.ssd.model import build_ssd
from multibox.training.loading import default_workers, load_batches
from multibox.training.optimiser import build_optimiser, set_rate
from multibox.training.recipes import modern
from multibox.training.step import Step
from peer_models import Twins

RATE = 1e-6
"""So low that random weights go on for as long as is measured."""
FORWARD_AND_BACKWARD = 3
"""Operations of a training step by those of its forward pass."""
SETTLING = 0.4
"""Of the time measured, how long steps go on before: the loader's queue finds its length."""

Training = tuple[Generator[Any], Callable[[Any], object]]
"""Batches, and what learns from one."""


def measure_training(name: str, twins: Twins, plan: Plan, report: Report) -> None:
    """Add ``name`` to the report's "training": images a second, decoding included."""
    data = open_data(plan.pictures())
    size = plan.training_batches[name]
    engine = TorchEngine.from_checkpoint(twins.checkpoint, plan.device)
    height, width = twins.checkpoint.card.preprocessing.image_size
    operations = FORWARD_AND_BACKWARD * 2 * multiply_adds.of_torch(
        engine, np.zeros((1, height, width, 3), np.uint8)
    )  # fmt: skip
    del engine
    figures = report.section("training", name)
    figures |= {
        "batch_size": size,
        "workers": workers_of(plan),
        "operations_a_picture": operations,
    }

    contenders: dict[str, Callable[[], Training]] = {
        "multibox bf16": partial(multibox_training, twins, data, size, plan),
        "torchvision bf16": partial(torchvision_training, twins, data, size, plan, half=True),
        "torchvision fp32": partial(torchvision_training, twins, data, size, plan, half=False),
    }
    for contender, begin in contenders.items():
        if plan.is_over():
            report.figures["skipped"].append(f"training, {name}: {contender}: out of time")
            continue
        rate, waiting = speed(*begin(), size, plan)
        found = {
            "images_per_second": rate,
            "waiting": waiting,
            "fraction_of_peak": rate * operations / report.figures["peak"],
        }
        figures[contender] = found
        if contender.startswith("torchvision"):
            key = f"training {name}: multibox bf16 by {contender}"
            report.section("ratios")[key] = figures["multibox bf16"]["images_per_second"] / rate
        report.save()
        print(f"training {name}, batch {size}, {contender}: {rate:.1f} images/s, "
              f"{found['fraction_of_peak']:.1%} of the peak, "
              f"{waiting:.0%} of the time waiting for pictures", flush=True)  # fmt: skip
    if not plan.is_over():
        alone = bench_training(
            twins.checkpoint.card.model,
            batch_size=size,
            seconds=2 * plan.seconds,
            device=plan.device,
        )
        figures["step_alone"] = alone.model_dump()
        print(f"training {name}, batch {size}, the step alone: "
              f"{alone.pictures_per_second:.1f} images/s", flush=True)  # fmt: skip
    report.save()


def speed(
    batches: Generator[Any], learn: Callable[[Any], object], size: int, plan: Plan
) -> tuple[float, float]:
    """Images a second of a training that goes on, and its share of waiting for them."""
    clock = plan.clock()
    settled = time.perf_counter() + SETTLING * plan.training_seconds
    done = 0
    while done < plan.warm_up or time.perf_counter() < settled:
        learn(next(batches))
        done += 1
    clock.wait()
    start, done, waited = time.perf_counter(), 0, 0.0
    while done < plan.least or (
        time.perf_counter() - start < plan.training_seconds and not plan.is_over()
    ):
        asked = time.perf_counter()
        batch = next(batches)
        waited += time.perf_counter() - asked
        learn(batch)
        done += 1
    clock.wait()
    seconds = time.perf_counter() - start
    batches.close()
    return size * done / seconds, waited / seconds


def workers_of(plan: Plan) -> int:
    return default_workers(accelerated=plan.device == "cuda")


def multibox_training(twins: Twins, data: DataSet, size: int, plan: Plan) -> Training:
    """Our loop's parts: its loader, its step."""
    card = twins.checkpoint.card
    settled = {"batch_size": size, "learning_rate": RATE, "backbone_rate": 1.0}
    recipe = modern().model_copy(update=settled)
    detector = build_ssd(card).to(plan.device)
    accelerator = Accelerator(cpu=plan.device == "cpu")
    model, optimiser = accelerator.prepare(detector, build_optimiser(detector, recipe))
    set_rate(optimiser, 1)
    step = Step(detector, model, optimiser, recipe, accelerator, bf16=True)
    red, green, blue = (round(mean) for mean in card.preprocessing.mean)
    image_size = card.preprocessing.image_size
    pictures = TrainingPictures(
        data.samples,
        image_size,
        augmentation=Augmentation(image_size, (red, green, blue), exact=recipe.exact_pixels),
    )
    keys = remaining_batches(len(pictures), size, seed=0, epochs=10_000, steps_done=0)
    batches = load_batches(pictures, keys, workers=workers_of(plan), pinned=plan.device == "cuda")
    return batches, step


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


def torchvision_training(
    twins: Twins, data: DataSet, size: int, plan: Plan, *, half: bool
) -> Training:
    """Its reference loop: SGD, the module's own losses; with ``half`` autocast, channels-last."""
    layout = torch.channels_last if half else torch.contiguous_format
    model: nn.Module = twins.module.to(plan.device).to(memory_format=layout).train()
    optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(
        TorchvisionPictures(data, twins.checkpoint.card.preprocessing.image_size, repeats=1000),
        batch_size=size,
        shuffle=True,
        num_workers=min(os.cpu_count() or 1, workers_of(plan)),
        collate_fn=as_lists,
        worker_init_fn=one_thread,
        pin_memory=plan.device == "cuda",
        drop_last=True,
    )
    send = partial(torch.Tensor.to, device=plan.device, non_blocking=True)

    def learn(batch: Any) -> None:
        pictures, targets = batch
        with torch.autocast(plan.device, torch.bfloat16, enabled=half):
            losses = model(
                [send(each) for each in pictures],
                [{key: send(value) for key, value in each.items()} for each in targets],
            )
            loss = sum(losses.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return (batch for batch in loader), learn
