"""Random labelled pictures with the detections of an imperfect detector."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multibox.data.samples import Sample
from multibox.detections import Detections

Scene = tuple[list[Detections], list[Sample], tuple[str, ...]]


def make_scene(
    seed: int,
    *,
    images: int = 30,
    classes: int = 4,
    objects: int = 8,
    strays: int = 10,
    grid: float = 1.0,
    score_levels: int = 1000,
    crowd: float = 0.1,
    difficult: float = 0.15,
) -> Scene:
    """Coordinates on a grid and few score levels make equal overlaps and equal scores common."""
    rng = np.random.default_rng(seed)
    names = tuple(f"class {i}" for i in range(classes))
    samples, detections = [], []
    for i in range(images):
        n = int(rng.integers(0, objects + 1))
        corner = rng.uniform(0, 300, (n, 2))
        boxes = np.hstack([corner, corner + np.exp(rng.uniform(1.5, 5.5, (n, 2)))])
        boxes = np.round(boxes / grid) * grid
        labels = rng.integers(0, classes, n)
        samples.append(
            Sample.of(
                Path(f"{i}.jpg"), boxes, labels, width=640, height=640,
                difficult=rng.random(n) < difficult, crowd=rng.random(n) < crowd,
            )
        )  # fmt: skip
        # Each object is found up to three times, some with another class; the rest is noise.
        again = np.repeat(np.arange(n), rng.integers(0, 4, n))
        sides = boxes[again, 2:] - boxes[again, :2]
        near = boxes[again] + rng.normal(0, 0.08, (len(again), 4)) * np.tile(sides, 2)
        stray = rng.uniform(0, 300, (int(rng.integers(0, strays + 1)), 2))
        stray = np.hstack([stray, stray + rng.uniform(5, 200, stray.shape)])
        found = np.round(np.concatenate([near, stray]) / grid) * grid
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + grid)
        found_labels = np.concatenate([labels[again], rng.integers(0, classes, len(stray))])
        mistaken = rng.random(len(found)) < 0.1
        found_labels[mistaken] = rng.integers(0, classes, mistaken.sum())
        scores = np.sort(rng.integers(0, score_levels, len(found)) / score_levels)[::-1]
        shuffled = rng.permutation(len(found))
        detections.append(
            Detections(
                found[shuffled].astype(np.float32), scores.astype(np.float32),
                found_labels[shuffled].astype(np.int64), names, 640, 640,
            )
        )  # fmt: skip
    return detections, samples, names


@pytest.fixture
def scene() -> Callable[..., Scene]:
    return make_scene
