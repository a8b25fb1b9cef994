"""Post-processing of fixed shapes against a loop that compares one pair at a time, and its twin."""

from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from multibox.card import PostProcessing
from multibox.default_boxes import default_boxes
from multibox.ssd import fixed_shape_postprocess
from multibox.ssd.box_coder import decode
from multibox.ssd.fixed_shape_postprocess import (
    FixedShapeDetections,
    pack,
    postprocess_fixed_shape,
    unpack,
)
from multibox.ssd.postprocess import BatchDetections, postprocess
from multibox.zoo import new_card

VARIANCES = (0.1, 0.1, 0.2, 0.2)


def fixed_shape(
    logits: Tensor, offsets: Tensor, defaults: Tensor, settings: PostProcessing, **limits: int
) -> FixedShapeDetections:
    variances = torch.tensor(VARIANCES)
    return postprocess_fixed_shape(logits, offsets, defaults, variances, settings, **limits)


def pairwise_iou(boxes: np.ndarray) -> np.ndarray:
    """``[n, n]``, in float32 as the devices compute."""
    first, last = boxes[:, :2], boxes[:, 2:]
    sides = np.minimum(last[:, None], last) - np.maximum(first[:, None], first)
    common = np.maximum(sides, 0).prod(axis=2)
    area = (last - first).prod(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return common / (area[:, None] + area - common)


def one_by_one(
    scores: np.ndarray, boxes: np.ndarray, settings: PostProcessing
) -> list[tuple[int, int, float]]:
    """(class, box, score) of what one picture keeps, ties by class, then by box."""
    overlap = pairwise_iou(boxes) > np.float32(settings.iou_threshold)
    kept = []
    for label, column in enumerate(scores.T):
        passing = np.flatnonzero(column > np.float32(settings.score_threshold))
        alive: list[int] = []
        for i in sorted(passing, key=lambda i: (-column[i], i))[: settings.top_k]:
            if not overlap[i, alive].any():
                alive.append(i)
        kept += [(label, i, float(column[i])) for i in alive]
    return sorted(kept, key=lambda found: (-found[2], found[0], found[1]))[: settings.keep]


@st.composite
def pictures(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, offsets and default boxes with ties, equal boxes and boxes that only touch."""
    b, n, classes = draw(st.integers(1, 3)), draw(st.integers(1, 24)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels = draw(st.sampled_from([3, 1000]))  # few: most scores have equals
    logits = rng.integers(-levels, levels + 1, (b, n, classes + 1)) * (4 / levels)
    sides = rng.integers(1, 5, (n, 2)) / 8
    defaults = np.concatenate([rng.integers(0, 9, (n, 2)) / 8, sides], axis=1)
    offsets = np.zeros((b, n, 4))
    if draw(st.booleans()):
        offsets = rng.normal(0, 2, offsets.shape)
    return tuple(torch.from_numpy(x.astype(np.float32)) for x in (logits, offsets, defaults))


SETTINGS = st.builds(
    PostProcessing,
    scores=st.sampled_from(["softmax", "sigmoid"]),
    score_threshold=st.sampled_from([0.0, 0.05, 0.25, 0.5, 1.0]),
    iou_threshold=st.sampled_from([0.0, 0.25, 1 / 3, 0.45, 1.0]),
    top_k=st.integers(1, 12),
    keep=st.integers(1, 12),
    clip=st.sampled_from(["before", "after"]),
    largest_log_ratio=st.sampled_from([None, 0.3]),
)


def scores_and_boxes(
    logits: Tensor, offsets: Tensor, defaults: Tensor, settings: PostProcessing
) -> tuple[Tensor, Tensor]:
    softmax = settings.scores == "softmax"
    scores = (logits.softmax(2) if softmax else logits.sigmoid())[..., 1:]
    boxes = decode(offsets, defaults, VARIANCES, largest_log_ratio=settings.largest_log_ratio)
    return scores, boxes.clamp(0, 1) if settings.clip == "before" else boxes


@hypothesis.settings(max_examples=50)
@given(picture=pictures(), settings=SETTINGS)
def test_as_one_by_one(picture: tuple[Tensor, Tensor, Tensor], settings: PostProcessing) -> None:
    found, exact = fixed_shape(*picture, settings)
    assert exact.all()
    scores, boxes = (x.numpy() for x in scores_and_boxes(*picture, settings))
    for i in range(len(scores)):
        expected = one_by_one(scores[i], boxes[i], settings)
        n = int(found.num[i])
        assert n == len(expected)
        assert found.classes[i, :n].tolist() == [label for label, _, _ in expected]
        assert found.scores[i, :n].tolist() == [score for _, _, score in expected]
        places = [place for _, place, _ in expected]
        np.testing.assert_array_equal(found.boxes[i, :n], boxes[i, places].clip(0, 1))
        for rows in (found.boxes, found.scores, found.classes):
            assert rows.shape[1] == settings.keep
            assert not rows[i, n:].any()


@hypothesis.settings(max_examples=50)
@given(
    picture=pictures(),
    settings=SETTINGS,
    candidates=st.integers(1, 40),
    rounds=st.integers(1, 6),
)
def test_where_it_says_exact_it_is(
    picture: tuple[Tensor, Tensor, Tensor],
    settings: PostProcessing,
    candidates: int,
    rounds: int,
) -> None:
    limited = fixed_shape(*picture, settings, candidates=candidates, rounds=rounds)
    unlimited = fixed_shape(*picture, settings)
    for some, all_ in zip(limited.found, unlimited.found, strict=True):
        assert torch.equal(some[limited.exact], all_[limited.exact])


@hypothesis.settings(max_examples=50)
@given(picture=pictures(), settings=SETTINGS, iou_threshold=st.sampled_from([0.3, 0.45]))
def test_as_class_by_class(
    picture: tuple[Tensor, Tensor, Tensor], settings: PostProcessing, iou_threshold: float
) -> None:
    """But for ties, which fall as torch's own sort has it there."""
    settings = settings.model_copy(update={"iou_threshold": iou_threshold})
    scores, boxes = scores_and_boxes(*picture, settings)
    assume(all(len(one.unique()) == one.numel() for one in scores))
    # Nor for an IoU within a rounding of the threshold, which is a float64 there.
    for each in boxes.numpy():
        assume(np.nanmin(np.abs(pairwise_iou(each) - iou_threshold)) > 1e-6)
    theirs = postprocess(*picture, VARIANCES, settings)
    for a, b in zip(fixed_shape(*picture, settings).found, theirs, strict=True):
        assert torch.equal(a, b)


def learned(passing: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """An SSD300 of 20 classes whose background is ``passing`` below the rest, on two pictures."""
    defaults = torch.from_numpy(default_boxes(new_card("ssd300_vgg16", ["a"]).default_boxes))
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, len(defaults), 21, generator=generator)
    logits[..., 0] += passing
    return logits, torch.randn(2, len(defaults), 4, generator=generator), defaults


@pytest.mark.parametrize(("background", "least", "most"), [(16.0, 0, 60), (12.5, 200, 200)])
def test_a_whole_network(background: float, least: int, most: int) -> None:
    picture = learned(background)
    found, exact = fixed_shape(*picture, PostProcessing())
    assert exact.all()
    assert least <= int(found.num.min()) <= int(found.num.max()) <= most
    theirs = postprocess(*picture, VARIANCES, PostProcessing())
    for a, b in zip(found, theirs, strict=True):
        assert torch.equal(a, b)


def a_chain(length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes in a row, each of which overlaps its neighbours too much: every second survives."""
    x = torch.arange(length) / 4
    defaults = torch.stack([x, torch.zeros(length), torch.ones(length), torch.ones(length)], dim=1)
    scores = torch.linspace(0.9, 0.5, length)
    logits = torch.stack([torch.zeros(length), scores.logit()], dim=1)[None]
    return logits, torch.zeros(1, length, 4), defaults


def test_too_few_rounds_are_noticed() -> None:
    picture, settings = a_chain(20), PostProcessing(iou_threshold=0.5)
    assert not fixed_shape(*picture, settings, rounds=8).exact
    found, exact = fixed_shape(*picture, settings, rounds=21)
    assert exact
    assert int(found.num) == 10
    torch.testing.assert_close(found.scores[0, :10], torch.linspace(0.9, 0.5, 20)[::2])


def test_too_few_candidates_are_noticed() -> None:
    picture = a_chain(20)
    settings = PostProcessing(iou_threshold=0.5, keep=10)
    assert not fixed_shape(*picture, settings, candidates=18).exact
    assert fixed_shape(*picture, settings, candidates=19).exact  # ten survive
    few = settings.model_copy(update={"score_threshold": 0.8})
    assert fixed_shape(*picture, few, candidates=18).exact  # no others pass


def test_one_class_does_not_take_the_places_of_the_others() -> None:
    """The best pairs are all of the first class, whose top_k is spent."""
    n = 30
    defaults = torch.tensor([[0.5, 0.5, 0.1, 0.1]]).repeat(n, 1)
    logits = torch.tensor([[0.0, 6.0, 3.0]]).repeat(n, 1)[None]
    settings = PostProcessing(scores="sigmoid", top_k=2, keep=5)
    assert not fixed_shape(logits, torch.zeros(1, n, 4), defaults, settings, candidates=n).exact
    found, exact = fixed_shape(logits, torch.zeros(1, n, 4), defaults, settings)
    assert exact
    assert found.classes[0, : int(found.num)].tolist() == [0, 1]


@pytest.mark.parametrize("scores", ["softmax", "sigmoid"])
def test_what_is_not_a_number_is_no_detection(scores: str) -> None:
    logits, offsets, defaults = learned(12.5)
    settings = PostProcessing.model_validate({"scores": scores, "score_threshold": 0.5})
    logits[0, 3] = float("nan")
    logits[1, :, 4] = float("nan")
    found, _ = fixed_shape(logits, offsets, defaults, settings)
    assert found.scores.isfinite().all()
    ours = fixed_shape(logits[:, :200], offsets[:, :200], defaults[:200], settings).found
    theirs = postprocess(logits[:, :200], offsets[:, :200], defaults[:200], VARIANCES, settings)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


class NothingIsRead(TorchDispatchMode):
    """Refuses the operations that need a value, or a shape that depends on one."""

    FORBIDDEN = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "equal",
        "unique",
        "nms",
        "item",
    )

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.FORBIDDEN
        assert not (name.startswith("_to_copy") and (kwargs or {}).get("device"))
        if name.startswith(("index", "_unsafe_index")):
            assert not any(
                isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8)
                for each in args[1] if args[1:] and isinstance(args[1], list | tuple)
            )  # fmt: skip
        self.seen.append(name)
        return func(*args, **(kwargs or {}))


def queue(function: Callable[[], object]) -> list[str]:
    with NothingIsRead() as mode:
        function()
    return mode.seen


def test_nothing_waits_for_the_device() -> None:
    picture = learned(12.5)
    names = queue(lambda: fixed_shape(*picture, PostProcessing()))
    assert "topk" in names
    # Nor does the number of operations depend on the pictures, as a graph would not see it change.
    other = learned(0.0, seed=1)
    assert queue(lambda: fixed_shape(*other, PostProcessing())) == names


def test_the_watch_sees_what_waits() -> None:
    picture = learned(12.5)
    with pytest.raises(AssertionError):
        queue(lambda: postprocess(*picture, VARIANCES, PostProcessing()))
    x = torch.arange(4)
    with pytest.raises(AssertionError):
        queue(lambda: x[x > 2])
    with pytest.raises(AssertionError):
        queue(lambda: bool(x[0]))


def test_large_batches_are_done_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, offsets, defaults = learned(12.5)
    five = logits[[0, 1, 0, 1, 1]], offsets[[0, 1, 0, 1, 1]]
    whole = fixed_shape(*five, defaults, PostProcessing())
    monkeypatch.setattr(fixed_shape_postprocess, "_AT_ONCE", 2)
    parts = fixed_shape(*five, defaults, PostProcessing())
    assert torch.equal(parts.exact, whole.exact)
    for a, b in zip(parts.found, whole.found, strict=True):
        assert torch.equal(a, b)


def test_packed_and_unpacked() -> None:
    detections = fixed_shape(*learned(12.5), PostProcessing())
    packed = pack(detections)
    assert packed.dtype == torch.int32
    assert packed.shape == (2, 2 + 6 * PostProcessing().keep)
    found, exact = unpack(packed, PostProcessing().keep)
    assert torch.equal(exact, detections.exact)
    for a, b in zip(found, detections.found, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_half_precision_outputs() -> None:
    logits, offsets, defaults = learned(12.5)
    halves = (logits.bfloat16(), offsets.bfloat16())
    found, _ = fixed_shape(*halves, defaults, PostProcessing())
    same, _ = fixed_shape(*(x.float() for x in halves), defaults, PostProcessing())
    assert isinstance(found, BatchDetections)
    for a, b in zip(found, same, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
