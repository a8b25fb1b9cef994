"""The samplers against a loop that does what the paper says, one trial after the other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms.v2 import RandomIoUCrop

from multibox.boxes import iou
from multibox.data.crops import (
    MIN_IOU,
    TRIALS,
    Canvas,
    Window,
    draw_canvas,
    draw_window,
    propose_windows,
    whole,
)

LARGE = np.array([[40, 30, 460, 340]], np.float32)
TINY = np.array([[240, 180, 244, 184]], np.float32)


def jaccard(a, b) -> float:
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    overlap = width * height
    return overlap / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap)


def slow_samplers(width: int, height: int, objects, rng) -> int:
    """The chosen sampler of Caffe SSD, loop by loop; 0 = the whole picture."""
    successes = [0]
    for sampler, least in enumerate(MIN_IOU, start=1):
        for _ in range(TRIALS):
            scale = rng.uniform(0.3, 1)
            ratio = min(max(rng.uniform(0.5, 2), scale**2), 1 / scale**2)
            w, h = min(scale * ratio**0.5, 1), min(scale / ratio**0.5, 1)
            x, y = rng.uniform(0, 1 - w), rng.uniform(0, 1 - h)
            box = np.array([x * width, y * height, (x + w) * width, (y + h) * height])
            if any(jaccard(box, each) >= least for each in objects):
                successes.append(sampler)
                break
    return successes[rng.integers(len(successes))]


def frequencies(samplers) -> np.ndarray:
    return np.bincount(samplers, minlength=7) / len(samplers)


boxes = st.lists(
    st.tuples(*(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.02, 0.2), st.floats(0.02, 0.2))),
    min_size=1,
    max_size=6,
)


@given(boxes, st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_the_chosen_samplers_condition_holds_for_the_window_that_is_cut(found, width, height, seed):
    rng = np.random.default_rng(seed)
    objects = np.array([(x, y, x + w, y + h) for x, y, w, h in found], np.float32)
    objects *= (width, height, width, height)
    canvas = draw_canvas(width, height, rng, probability=0.5, max_ratio=4)
    window = draw_window(canvas, objects, rng)
    assert -canvas.left <= window.x0 < window.x1 <= canvas.width - canvas.left
    assert -canvas.top <= window.y0 < window.y1 <= canvas.height - canvas.top
    if window.sampler:
        corners = (window.x0, window.y0, window.x1, window.y1)
        best = max(jaccard(corners, each) for each in objects.tolist())
        assert best >= MIN_IOU[window.sampler - 1] - 1e-6
    else:
        assert (window.x1 - window.x0, window.y1 - window.y0) == (canvas.width, canvas.height)


def test_every_sampler_is_drawn_equally_often_where_all_succeed():
    rng = np.random.default_rng(0)
    # Objects nearly as large as the picture: some of 50 windows overlap one by more than 0.9.
    margin = np.array([[0.02], [0.04], [0.06]])
    objects = np.hstack([margin, margin, 1 - margin, 1 - margin]) * (500, 375, 500, 375)
    drawn = [draw_window(Canvas(500, 375), objects, rng).sampler for _ in range(3000)]
    assert np.abs(frequencies(drawn) - 1 / 7).max() < 0.03


@pytest.mark.parametrize(
    "objects",
    [LARGE, TINY, np.vstack([TINY, LARGE]), LARGE / 3],
    ids=["large", "tiny", "both", "third"],
)
def test_samplers_are_drawn_as_often_as_in_the_plain_loop(objects):
    rng = np.random.default_rng(1)
    ours = frequencies([draw_window(Canvas(500, 375), objects, rng).sampler for _ in range(3000)])
    slow = frequencies([slow_samplers(500, 375, objects.tolist(), rng) for _ in range(300)])
    assert np.abs(ours - slow).max() < 0.1  # 3.5 standard deviations of 300 draws


def test_tiny_objects_meet_no_iou_bound():
    rng = np.random.default_rng(2)
    drawn = {draw_window(Canvas(500, 375), TINY, rng).sampler for _ in range(200)}
    assert drawn == {0, 6}


def test_without_objects_the_whole_canvas_is_seen():
    rng = np.random.default_rng(3)
    nothing = np.zeros((0, 4), np.float32)
    canvas = Canvas(900, 700, 30, 40)
    for _ in range(20):
        assert draw_window(canvas, nothing, rng) == Window(-30, -40, 870, 660, 0) == whole(canvas)


def test_windows_have_the_papers_sizes_and_shapes():
    canvas = Canvas(10_000, 5_000)
    rng = np.random.default_rng(4)
    windows = np.concatenate([propose_windows(canvas, rng).reshape(-1, 4) for _ in range(20)])
    width = (windows[:, 2] - windows[:, 0]) / canvas.width
    height = (windows[:, 3] - windows[:, 1]) / canvas.height
    scale, ratio = np.sqrt(width * height), width / height
    assert 0.299 < scale.min() < 0.305
    assert 0.995 < scale.max() < 1.001
    assert scale.mean() == pytest.approx(0.65, abs=0.01)
    assert 0.499 < ratio.min() < 0.52
    assert 1.95 < ratio.max() < 2.01
    assert windows.min() >= 0
    assert windows[:, 2].max() <= canvas.width
    assert windows[:, 3].max() <= canvas.height
    free = 1 - width > 0.1
    at = windows[free, 0] / canvas.width / (1 - width[free])
    assert np.histogram(at, 4, (0, 1))[0] / free.sum() == pytest.approx(0.25, abs=0.03)


def test_a_ratio_too_long_for_the_canvas_is_cut_not_drawn_again():
    """So many windows are exactly as wide, or as high, as the canvas.

    A width of 1 needs a ratio above 1/s^2, which has the chance (2 - 1/s^2) / 1.5; over scales s
    drawn evenly from .3 to 1 that is (3 - 2 sqrt(2)) / 1.05. A height of 1 needs one below s^2.
    """
    rng = np.random.default_rng(8)
    canvas = Canvas(100_000, 100_000)
    windows = np.concatenate([propose_windows(canvas, rng).reshape(-1, 4) for _ in range(60)])
    sides = windows[:, 2:] - windows[:, :2]
    as_wide, as_high = (sides == 100_000).mean(axis=0)
    assert as_wide == pytest.approx((3 - 8**0.5) / 1.05, abs=0.01)  # .163
    assert as_high == pytest.approx((2**0.5 / 6 - 1 / 6) / 1.05, abs=0.01)  # .066


def test_windows_are_judged_by_any_object():
    """A far object must not spoil a crop around a near one."""
    two = np.array([[0, 0, 250, 375], [490, 370, 500, 375]], np.float32)
    rng = np.random.default_rng(5)
    drawn = [draw_window(Canvas(500, 375), two, rng) for _ in range(300)]
    chosen = [w for w in drawn if w.sampler in (3, 4)]
    assert len(chosen) > 30
    corners = np.array([(w.x0, w.y0, w.x1, w.y1) for w in chosen], np.float64)
    assert (iou(corners, two).min(axis=1) < 0.5).all()


class TestTorchvisionsSampler:
    def test_draws_windows_like_torchvision(self):
        """Its ``RandomIoUCrop`` as the oracle: how often the whole picture, and the windows."""
        objects = np.array([[40, 30, 300, 340], [350, 200, 380, 260]], np.float32)
        torch.manual_seed(0)
        labelled = tv_tensors.BoundingBoxes(objects, format="XYXY", canvas_size=(375, 500))
        picture, crop = tv_tensors.Image(torch.zeros(3, 375, 500)), RandomIoUCrop()
        theirs = [crop.make_params([picture, labelled]) for _ in range(250)]
        rng = np.random.default_rng(0)
        ours = [draw_window(Canvas(500, 375), objects, rng, "torchvision") for _ in range(2500)]
        whole_share = np.mean([w.sampler == 0 for w in ours])
        assert whole_share == pytest.approx(np.mean([not t for t in theirs]), abs=0.1)
        mine = np.array([(w.x1 - w.x0, w.y1 - w.y0, w.x0, w.y0) for w in ours if w.sampler])
        other = np.array([(t["width"], t["height"], t["left"], t["top"]) for t in theirs if t])
        assert np.abs(mine.mean(axis=0) - other.mean(axis=0)).max() < 20
        assert np.abs(mine.std(axis=0) - other.std(axis=0)).max() < 20

    @given(boxes, st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1))
    @settings(max_examples=60)
    def test_an_objects_centre_is_inside_and_its_bound_is_met(self, found, width, height, seed):
        rng = np.random.default_rng(seed)
        objects = np.array([(x, y, x + w, y + h) for x, y, w, h in found], np.float32)
        objects *= (width, height, width, height)
        canvas = draw_canvas(width, height, rng, probability=0.5, max_ratio=4)
        window = draw_window(canvas, objects, rng, "torchvision")
        assert -canvas.left <= window.x0 < window.x1 <= canvas.width - canvas.left
        assert -canvas.top <= window.y0 < window.y1 <= canvas.height - canvas.top
        if window.sampler:
            corners = (window.x0, window.y0, window.x1, window.y1)
            best = max(
                jaccard(corners, each)
                for each in objects.tolist()
                if window.x0 < (each[0] + each[2]) / 2 < window.x1
                and window.y0 < (each[1] + each[3]) / 2 < window.y1
            )
            assert best >= MIN_IOU[window.sampler - 1] - 1e-6
            assert 0.5 <= (window.x1 - window.x0) / (window.y1 - window.y0) <= 2

    def test_the_samplers_differ_on_a_tiny_object(self):
        """Caffe's random patch may leave it out; torchvision's always holds its centre."""
        for sampler, always in (("caffe", False), ("torchvision", True)):
            rng = np.random.default_rng(9)
            drawn = [draw_window(Canvas(500, 375), TINY, rng, sampler) for _ in range(200)]
            inside = [w.x0 < 242 < w.x1 and w.y0 < 182 < w.y1 for w in drawn]
            assert all(inside) == always

    def test_a_failed_sampler_is_replaced_by_another(self):
        """Of seven, only two can succeed here: each is then drawn half of the time."""
        rng = np.random.default_rng(10)
        drawn = [draw_window(Canvas(500, 375), TINY, rng, "torchvision") for _ in range(400)]
        shares = frequencies([w.sampler for w in drawn])
        assert shares[[0, 6]] == pytest.approx([0.5, 0.5], abs=0.1)

    def test_without_objects_the_whole_canvas_is_seen(self):
        canvas = Canvas(90, 70, 3, 4)
        nothing = np.zeros((0, 4), np.float32)
        window = draw_window(canvas, nothing, np.random.default_rng(0), "torchvision")
        assert window == whole(canvas)


def test_expansion_has_the_papers_frequency_and_ratio():
    rng = np.random.default_rng(6)
    canvases = [draw_canvas(200, 100, rng, probability=0.5, max_ratio=4) for _ in range(4000)]
    grown = [c for c in canvases if c != Canvas(200, 100)]
    assert len(grown) / len(canvases) == pytest.approx(0.5, abs=0.04)
    ratios = np.array([c.width / 200 for c in grown])
    assert ratios.min() >= 1
    assert ratios.max() < 4
    assert ratios.mean() == pytest.approx(2.5, abs=0.1)
    for c in grown:
        assert c.height == pytest.approx(c.width / 2, abs=1)
        assert 0 <= c.left <= c.width - 200
        assert 0 <= c.top <= c.height - 100
    lefts = np.array([c.left / (c.width - 200) for c in grown if c.width > 300])
    assert lefts.mean() == pytest.approx(0.5, abs=0.03)


def test_expansion_can_be_turned_off():
    rng = np.random.default_rng(7)
    for _ in range(50):
        assert draw_canvas(9, 5, rng, probability=0, max_ratio=4) == Canvas(9, 5)
        assert draw_canvas(9, 5, rng, probability=1, max_ratio=1) == Canvas(9, 5)
