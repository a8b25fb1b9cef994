"""Matching plus loss, forward and backward, on one core: ours against torchvision's SSD.

A batch of 32 pictures with 1 to 50 objects each, the 8,732 default boxes of SSD300, 21 classes with
background. Both sides match (torchvision with its box_iou and SSDMatcher) and compute the loss and
its gradients for the same raw outputs, in alternating rounds of one process; the medians of the
rounds are compared. Targets are compared first: they differ only where two objects share their
favourite default box, which torchvision gives to the later one and the paper to the better one.

    python benchmarks/loss.py [--json FILE]
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import SSDMatcher
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from multibox.default_boxes import default_boxes, to_corners
from multibox.ssd.matching import DefaultBoxes, MatchingRule, match
from multibox.ssd.multibox_loss import build_targets, multibox_loss, pad_objects
from multibox.zoo import new_card

BATCH = 32
CLASSES = 21
OBJECTS = (1, 50)
ROUNDS = 25
RULE = MatchingRule()


class Batch(NamedTuple):
    """Corners in fractions and labels from 0 of every picture, and the network's raw outputs."""

    boxes: list[Tensor]
    labels: list[Tensor]
    logits: Tensor
    offsets: Tensor


def make_batch(n: int) -> Batch:
    """Objects of 3 to 90 % of the sides; scores as a trained network spreads them."""
    rng = np.random.default_rng(0)
    boxes, labels = [], []
    for count in rng.integers(OBJECTS[0], OBJECTS[1] + 1, BATCH):
        sides = np.exp(rng.uniform(np.log(0.03), np.log(0.9), (count, 2)))
        corner = rng.random((count, 2)) * (1 - sides)
        boxes.append(torch.from_numpy(np.hstack([corner, corner + sides]).astype(np.float32)))
        labels.append(torch.from_numpy(rng.integers(0, CLASSES - 1, count)))
    torch.manual_seed(0)
    logits = torch.randn(BATCH, n, CLASSES)
    logits[..., 0] += 5
    offsets = torch.randn(BATCH, n, 4)
    return Batch(boxes, labels, logits.requires_grad_(), offsets.requires_grad_())


def multibox_step(batch: Batch, defaults: DefaultBoxes) -> Tensor:
    targets = build_targets(batch.boxes, batch.labels, defaults, (0.1, 0.1, 0.2, 0.2), RULE)
    loss = multibox_loss(batch.logits, batch.offsets, targets)
    return (loss.confidence + loss.localisation) / targets.matches.clamp(min=1)


def torchvision_matches(batch: Batch, corners: Tensor) -> list[Tensor]:
    matcher = SSDMatcher(0.5)
    return [matcher(box_iou(boxes, corners)) for boxes in batch.boxes]


def torchvision_step(batch: Batch, corners: Tensor, model: SSD) -> Tensor:
    targets = [
        {"boxes": boxes, "labels": labels + 1}
        for boxes, labels in zip(batch.boxes, batch.labels, strict=True)
    ]
    losses = model.compute_loss(
        targets,
        {"bbox_regression": batch.offsets, "cls_logits": batch.logits},
        [corners] * BATCH,
        torchvision_matches(batch, corners),
    )
    return losses["classification"] + losses["bbox_regression"]


def compare_targets(batch: Batch, defaults: DefaultBoxes, corners: Tensor) -> dict[str, float]:
    """The share of default boxes with the same target; all, wherever the rules are the same."""
    same, without_contest = [], 0
    for boxes, theirs in zip(batch.boxes, torchvision_matches(batch, corners), strict=True):
        objects, labels = pad_objects([boxes], [torch.zeros(len(boxes))], boxes.device)
        equal = match(objects, labels >= 0, defaults, RULE)[0] == theirs
        same.append(equal.float().mean().item())
        favourites = box_iou(boxes, corners).argmax(dim=1)
        if len(favourites.unique()) == len(boxes):
            without_contest += 1
            assert bool(equal.all()), "the rules agree on this picture, the targets do not"
    assert without_contest, "no picture in which the rules agree"
    return {
        "same_targets": statistics.mean(same),
        "pictures_without_a_shared_favourite": without_contest,
    }


def measure(batch: Batch, steps: dict[str, Callable[[], Tensor]]) -> dict[str, float]:
    """Median milliseconds of a step forward and backward."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_number in range(-2, ROUNDS):  # the first two warm up
        for name, step in steps.items():
            start = time.perf_counter()
            torch.autograd.grad(step(), (batch.logits, batch.offsets))
            if round_number >= 0:
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    boxes = default_boxes(new_card("ssd300_vgg16", ["object"]).default_boxes)
    defaults = DefaultBoxes(torch.from_numpy(boxes))
    corners = torch.from_numpy(to_corners(boxes))
    batch = make_batch(len(boxes))
    model = SSD(nn.Identity(), None, (300, 300), CLASSES, head=nn.Identity())

    agreement = compare_targets(batch, defaults, corners)
    milliseconds = measure(
        batch,
        {
            "multibox": lambda: multibox_step(batch, defaults),
            "torchvision": lambda: torchvision_step(batch, corners, model),
        },
    )
    ratio = milliseconds["torchvision"] / milliseconds["multibox"]
    objects = sum(len(each) for each in batch.boxes)
    print(f"{BATCH} pictures, {objects} objects, {len(boxes):,} default boxes, {CLASSES} classes")
    print(f"same target: {agreement['same_targets']:.3%} of the default boxes")
    print(f"{'match + loss + gradients':<28}{'ms a batch':>12}")
    for name, each in milliseconds.items():
        print(f"{name:<28}{each:>12.1f}")
    print(f"multibox is {ratio:.2f} times as fast as torchvision")
    if arguments.json:
        report = {
            "ratios": {"torchvision": ratio},
            "milliseconds": milliseconds,
            "agreement": agreement,
            "machine": platform.machine(),
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
