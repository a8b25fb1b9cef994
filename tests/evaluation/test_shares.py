"""A sharded evaluation is the evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from multibox.data.samples import DataSet, Sample
from multibox.detections import Detections
from multibox.evaluation import evaluate_model
from multibox.evaluation.shares import Found, Share, in_order, rounds

NAMES = ("cat", "dog")


def not_called(_: Found) -> list[Found]:
    raise AssertionError


@given(st.integers(0, 70), st.integers(1, 20), st.integers(1, 6))
def test_every_picture_is_looked_at_once_and_put_back_in_its_place(
    pictures: int, batch_size: int, count: int
) -> None:
    shares = [list(rounds(pictures, batch_size, Share(i, count, not_called))) for i in range(count)]
    assert len({len(share) for share in shares}) == 1
    assert in_order(shares) == list(range(pictures))
    # No rank has nothing to do while another has more than one batch of its own.
    sizes = [sum(map(len, share)) for share in shares]
    assert max(sizes) - min(sizes) <= batch_size
    if pictures >= batch_size * count:
        alone = list(rounds(pictures, batch_size))
        assert sorted(b.start for s in shares for b in s if b) == [b.start for b in alone]


def made_up() -> tuple[DataSet, list[Detections]]:
    """37 pictures, each its own number as its pixel, and what is found in them."""
    rng = np.random.default_rng(0)
    samples, found = [], []
    for i in range(37):
        n = int(rng.integers(0, 5))
        corner = rng.uniform(0, 50, (n, 2)).astype(np.float32)
        boxes = np.concatenate([corner, corner + rng.uniform(5, 40, (n, 2))], 1, dtype=np.float32)
        labels = rng.integers(0, 2, n)
        nothing = np.zeros(n, bool)
        samples.append(
            Sample(np.full((1, 1, 3), i, np.uint8), boxes, labels, nothing, nothing, 100, 100)
        )
        # Scores that tie across pictures: their order decides.
        scores = np.sort(rng.integers(1, 6, n))[::-1].astype(np.float32) / 5
        moved = boxes + rng.normal(0, 3, boxes.shape).astype(np.float32)
        found.append(Detections(moved, scores, labels, NAMES, 100, 100))
    return DataSet(samples, NAMES, "val", Path(), "samples"), found


def test_the_figures_of_shares_are_those_of_the_whole_to_the_last_bit() -> None:
    dataset, found = made_up()

    def detect(images: list[Any], /, *, score: float) -> list[Detections]:
        return [found[int(image[0, 0, 0])] for image in images]

    for metric in ("voc07", "voc", "coco"):
        whole, _ = evaluate_model(detect, dataset, metric=metric, batch_size=4)
        for count in (2, 3, 5):
            parts: list[Found] = []
            shares = [Share(i, count, lambda part: [part]) for i in range(count)]
            for share in shares:
                parts.append(
                    [
                        detect([dataset.samples[i].image for i in pictures], score=0)
                        for pictures in rounds(len(dataset), 4, share)
                    ]
                )
            last = Share(count - 1, count, lambda part, parts=parts: [*parts[:-1], part])
            sharded, detections = evaluate_model(
                detect, dataset, metric=metric, batch_size=4, share=last
            )
            assert all(a is b for a, b in zip(detections, found, strict=True))
            assert sharded.to_dict() == whole.to_dict()
