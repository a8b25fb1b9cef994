"""Suppression against a loop that does one comparison at a time, and against ssd.postprocess."""

import time

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multibox.card import DefaultBoxLevel, DefaultBoxSpec, PostProcessing
from multibox.default_boxes import default_boxes
from multibox.engines.raw_outputs import BoxDecoder, to_scores
from multibox.engines.suppression import suppress
from multibox.ssd.box_coder import decode
from multibox.ssd.postprocess import postprocess

Floats = npt.NDArray[np.float32]


def as_they_are(boxes: Floats, places: npt.NDArray[np.int64]) -> Floats:
    """For a test that has boxes instead of offsets."""
    return boxes


def one_by_one(scores: Floats, boxes: Floats, s: PostProcessing) -> list[tuple[int, int, float]]:
    """(class, box, score) of what one picture keeps: the textbook's greedy loop."""
    kept = []
    for label in range(scores.shape[1] - 1):
        column = scores[:, label + 1]
        passing = [i for i in range(len(column)) if column[i] > s.score_threshold]
        candidates = sorted(passing, key=lambda i: (-column[i], i))[: s.top_k]
        alive: list[int] = []
        for i in candidates:
            if all(iou(boxes[i], boxes[j]) <= np.float32(s.iou_threshold) for j in alive):
                alive.append(i)
        kept += [(label, i, float(column[i])) for i in alive]
    return sorted(kept, key=lambda found: (-found[2], found[0], found[1]))[: s.keep]


def iou(a: Floats, b: Floats) -> np.float32:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = np.prod(np.maximum(sides, np.float32(0)))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common
    return common / union if union else np.float32(0)


SETTINGS = st.builds(
    PostProcessing,
    scores=st.just("sigmoid"),  # a softmax's have the sum 1, which these have not
    score_threshold=st.sampled_from([0.0, 0.01, 0.25, 0.5, 1.0]),
    iou_threshold=st.sampled_from([0.0, 0.25, 1 / 3, 0.45, 0.5, 1.0]),
    top_k=st.integers(1, 12),
    keep=st.integers(1, 12),
)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Boxes and scores on coarse grids: ties, duplicates, points and exact thresholds abound."""
    batch, n, classes = draw(st.integers(1, 2)), draw(st.integers(1, 14)), draw(st.integers(1, 4))
    grid = st.integers(-2, 10).map(lambda i: np.float32(i / 8))
    corners = draw(arrays(np.float32, (batch, n, 2, 2), elements=grid))
    boxes = np.sort(corners, axis=2).reshape(batch, n, 4)
    levels = st.sampled_from([np.float32(v) for v in (0, 0.01, 0.25, 0.5, 0.75, 1)])
    return draw(arrays(np.float32, (batch, n, classes + 1), elements=levels)), boxes


@given(picture=pictures(), settings=SETTINGS)
def test_as_one_by_one(picture: tuple[Floats, Floats], settings: PostProcessing) -> None:
    scores, boxes = picture
    found = suppress(scores, boxes, as_they_are, settings)
    assert found.boxes.shape == (len(scores), settings.keep, 4)
    for i in range(len(scores)):
        expected = one_by_one(scores[i], boxes[i], settings)
        n = found.num[i]
        assert n == len(expected)
        assert list(zip(found.classes[i, :n], found.scores[i, :n], strict=True)) == [
            (label, score) for label, _, score in expected
        ]
        places = [place for _, place, _ in expected]
        np.testing.assert_array_equal(found.boxes[i, :n], boxes[i, places].clip(0, 1))
        assert not found.boxes[i, n:].any()
        assert not found.scores[i, n:].any()


LEVEL = DefaultBoxLevel(grid=(6, 6), min_size=30, max_size=60, aspect_ratios=(2.0,))
SPEC = DefaultBoxSpec(image_size=(100, 100), levels=(LEVEL,))


def theirs_before_suppression(
    logits: Floats, offsets: Floats, settings: PostProcessing
) -> tuple[Floats, Floats]:
    softmax = settings.scores == "softmax"
    classes = torch.from_numpy(logits)
    boxes = decode(
        torch.from_numpy(offsets),
        torch.from_numpy(default_boxes(SPEC)),
        SPEC.variances,
        largest_log_ratio=settings.largest_log_ratio,
    )
    if settings.clip == "before":
        boxes = boxes.clamp(0, 1)
    return (classes.softmax(2) if softmax else classes.sigmoid()).numpy(), boxes.numpy()


@given(
    seed=st.integers(0, 10_000),
    scores=st.sampled_from(["softmax", "sigmoid"]),
    clip=st.sampled_from(["before", "after"]),
    background=st.sampled_from([0.0, 4.0, 9.0]),
    largest=st.sampled_from([None, 1.5]),
    top_k=st.sampled_from([5, 400]),
    keep=st.sampled_from([3, 20, 200]),
)
def test_as_the_torch_post_processing(
    seed: int, scores: str, clip: str, background: float, largest: float | None, top_k: int,
    keep: int,
) -> None:  # fmt: skip
    settings = PostProcessing.model_validate(
        {"scores": scores, "clip": clip, "largest_log_ratio": largest, "top_k": top_k, "keep": keep}
    )
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, (2, SPEC.count, 5)).astype(np.float32)
    logits[..., 0] += background
    logits[..., 1:] -= background / 2
    offsets = rng.normal(0, 2, (2, SPEC.count, 4)).astype(np.float32)
    scores, boxes = theirs_before_suppression(logits, offsets, settings)
    np.testing.assert_allclose(to_scores(logits, settings), scores, atol=1e-6)
    decode = BoxDecoder(SPEC, settings)
    np.testing.assert_allclose(decode(offsets), boxes, rtol=1e-5, atol=1e-5)
    some = rng.permutation(SPEC.count)[:7]
    np.testing.assert_array_equal(decode(offsets[0, some], some), decode(offsets)[0, some])
    # The last digit of a score may differ, and which of two equal ones comes first is torch's own.
    assume(all(len(np.unique(one[:, 1:])) == one[:, 1:].size for one in scores))
    ours = suppress(scores, boxes, as_they_are, settings)
    theirs = postprocess(
        torch.from_numpy(logits),
        torch.from_numpy(offsets),
        torch.from_numpy(default_boxes(SPEC)),
        SPEC.variances,
        settings,
    )
    np.testing.assert_array_equal(ours.num, theirs.num[:, 0].numpy())
    np.testing.assert_array_equal(ours.classes, theirs.classes.numpy())
    np.testing.assert_array_equal(ours.scores, theirs.scores.numpy())
    np.testing.assert_array_equal(ours.boxes, theirs.boxes.numpy())


@pytest.mark.parametrize("logit", [-1000.0, -100.0, 100.0, 1000.0])
def test_extreme_logits_give_scores_without_a_warning(logit: float) -> None:
    logits = np.array([[logit, -logit, 0]], np.float32)
    for kind in ("softmax", "sigmoid"):
        with np.errstate(all="raise", under="ignore"):
            scores = to_scores(logits, PostProcessing.model_validate({"scores": kind}))
        assert scores.dtype == np.float32
        assert ((scores >= 0) & (scores <= 1)).all()


def test_nothing_that_is_not_a_number_is_a_detection() -> None:
    scores = np.full((1, 10, 3), np.nan, np.float32)
    boxes = np.zeros((1, 10, 4), np.float32)
    assert suppress(scores, boxes, as_they_are, PostProcessing()).num[0] == 0


@pytest.mark.parametrize("alike", [False, True])
def test_a_network_that_has_learned_nothing_does_not_stall(alike: bool) -> None:
    """All 174,640 pairs of an SSD300 pass; the loop over all of them would take minutes."""
    rng = np.random.default_rng(0)
    centre, sides = rng.random((2, 1, 8732, 2), np.float32)
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=-1)
    scores = np.full((1, 8732, 21), 0.05, np.float32)
    if not alike:
        scores += rng.random(scores.shape, np.float32) / 100
    start = time.process_time()
    settings = PostProcessing(scores="sigmoid")
    found = suppress(scores, boxes, as_they_are, settings)
    assert time.process_time() - start < 2
    assert found.num[0] == 200
