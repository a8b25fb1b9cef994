import numpy as np
import pytest

from multibox.card import DefaultBoxLevel, DefaultBoxSpec
from multibox.data.box_fit import fit, suggest
from multibox.zoo import new_card

SPEC = new_card("ssdlite320_mobilenet_v2", ["object"]).default_boxes


def boxes_of(rng, n, low, high):
    sides = rng.uniform(low, high, (n, 2))
    corner = rng.random((n, 2)) * (1 - sides)
    return np.concatenate([corner, corner + sides], axis=1)


def slow_iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_fit_agrees_with_counting_by_hand():
    level = DefaultBoxLevel(grid=(3, 4), min_size=30, max_size=60, aspect_ratios=(2.0,))
    spec = DefaultBoxSpec(image_size=(90, 120), levels=(level,))
    priors = [
        ((x + 0.5) / 4 - w / 240, (y + 0.5) / 3 - h / 180, (x + 0.5) / 4 + w / 240,
         (y + 0.5) / 3 + h / 180)
        for y in range(3)
        for x in range(4)
        for w, h in [
            (30, 30), (1800**0.5,) * 2, (30 * 2**0.5, 30 / 2**0.5), (30 / 2**0.5, 30 * 2**0.5)
        ]
    ]  # fmt: skip
    objects = boxes_of(np.random.default_rng(0), 60, 0.05, 0.6)
    table = np.array([[slow_iou(o, p) for p in priors] for o in objects])
    found = fit(spec, objects)
    assert found.recall == pytest.approx((table.max(1) >= 0.5).mean())
    assert found.positives == pytest.approx((table >= 0.5).sum(1).mean())
    assert found.missed == tuple(np.flatnonzero(table.max(1) < 0.5))
    assert sum(item.objects for item in found.by_size) == 60
    assert sum(i.objects * i.recall for i in found.by_aspect) == pytest.approx(found.recall * 60)


def test_small_objects_are_reached_by_what_is_suggested():
    # Cells of a microscope: many middling ones, and some of 20 pixels in 640 x 480.
    rng = np.random.default_rng(1)
    small, large = boxes_of(rng, 60, 0.05, 0.07), boxes_of(rng, 600, 0.15, 0.25)
    objects, labels = np.concatenate([small, large]), np.repeat([0, 1], [60, 600])
    found = suggest(SPEC, objects, labels)
    assert fit(SPEC, small).recall == 0
    assert fit(found, small).recall > 0.4  # centres are 16 pixels apart
    assert fit(found, large).recall >= fit(SPEC, large).recall
    assert found == suggest(SPEC, objects, labels)


def test_the_same_heads_fit_what_is_suggested():
    found = suggest(SPEC, boxes_of(np.random.default_rng(2), 50, 0.02, 0.1))
    assert found != SPEC
    assert found.count == SPEC.count
    pairs = [(level.grid, level.boxes_per_cell) for level in found.levels]
    assert pairs == [(level.grid, level.boxes_per_cell) for level in SPEC.levels]


def test_without_objects_or_anything_better_nothing_changes():
    assert suggest(SPEC, np.zeros((0, 4))) == SPEC
    with pytest.raises(ValueError, match="no boxes"):
        fit(SPEC, np.zeros((0, 4)))


def test_a_suggestion_is_never_worse():
    rng = np.random.default_rng(3)
    for low, high in [(0.01, 0.02), (0.3, 0.9), (0.95, 1.0)]:
        objects = boxes_of(rng, 80, low, high)
        assert fit(suggest(SPEC, objects), objects).recall >= fit(SPEC, objects).recall
