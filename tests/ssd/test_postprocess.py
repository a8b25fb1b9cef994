"""Post-processing against slow NumPy loops and against torchvision's."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSD

from multibox import default_boxes as numpy_boxes
from multibox.card import PostProcessing
from multibox.ssd.postprocess import BatchDetections, postprocess
from multibox.zoo import new_card

VARIANCES = (0.1, 0.1, 0.2, 0.2)


def boxes_of(model: str, side: int) -> Tensor:
    spec = new_card(model, ["object"], image_size=(side, side)).default_boxes
    return torch.from_numpy(numpy_boxes.default_boxes(spec))


def trained_like(b: int, defaults: Tensor, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Raw outputs as a trained network spreads them: certain of background nearly everywhere, and
    around a few spots certain of one class, with offsets that agree there."""
    generator = torch.Generator().manual_seed(seed)
    n = len(defaults)
    logits = torch.randn(b, n, classes + 1, generator=generator)
    logits[..., 0] += 7
    offsets = torch.randn(b, n, 4, generator=generator)
    for i in range(b):
        for spot in torch.rand(6, 2, generator=generator):
            near = ((defaults[:, :2] - spot).abs() < 0.08).all(dim=1)
            label = int(torch.randint(1, classes + 1, (), generator=generator))
            logits[i, near, label] += 4 + 5 * torch.rand(int(near.sum()), generator=generator)
            offsets[i, near, :2] = (spot - defaults[near, :2]) / defaults[near, 2:] / 0.1
            offsets[i, near] += 0.3 * torch.randn(int(near.sum()), 4, generator=generator)
    return logits, offsets


def slow_iou(a: np.ndarray, b: np.ndarray) -> float:
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    if w <= 0 or h <= 0:
        return 0.0
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return float(w * h / (both - w * h))


def slow_detections(
    logits: np.ndarray, offsets: np.ndarray, defaults: np.ndarray, settings: PostProcessing
) -> list[tuple[float, int, list[float]]]:
    """Caffe's DetectionOutput for one picture in float64, class by class and box by box."""
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    scores = e / e.sum(axis=1, keepdims=True)
    centre = defaults[:, :2] + offsets[:, :2] * 0.1 * defaults[:, 2:]
    sides = defaults[:, 2:] * np.exp(offsets[:, 2:] * 0.2)
    boxes = np.hstack([centre - sides / 2, centre + sides / 2])
    found = []
    for label in range(1, scores.shape[1]):
        passing = np.flatnonzero(scores[:, label] > settings.score_threshold)
        best = passing[np.argsort(-scores[passing, label], kind="stable")][: settings.top_k]
        kept: list[int] = []
        for i in best:
            if all(slow_iou(boxes[i], boxes[j]) <= settings.iou_threshold for j in kept):
                kept.append(i)
        found += [(scores[i, label], label - 1, boxes[i].clip(0, 1).tolist()) for i in kept]
    found.sort(key=lambda each: -each[0])
    return found[: settings.keep]


def assert_equals_slow(
    result: BatchDetections,
    logits: Tensor,
    offsets: Tensor,
    defaults: Tensor,
    settings: PostProcessing,
) -> None:
    for i in range(len(logits)):
        expected = slow_detections(
            *(x.double().numpy() for x in (logits[i], offsets[i], defaults)), settings
        )
        count = int(result.num[i])
        assert count == len(expected)
        assert result.classes[i, :count].tolist() == [label for _, label, _ in expected]
        np.testing.assert_allclose(
            result.scores[i, :count], [score for score, _, _ in expected], rtol=1e-4
        )
        np.testing.assert_allclose(
            result.boxes[i, :count],
            np.array([box for _, _, box in expected]).reshape(-1, 4),
            atol=1e-5,
        )


@pytest.mark.parametrize(
    ("classes", "settings"),
    [
        (3, PostProcessing()),
        (20, PostProcessing()),
        (20, PostProcessing(top_k=30, keep=10, iou_threshold=0.3)),
        (6, PostProcessing(score_threshold=0.5)),
        (6, PostProcessing(score_threshold=0.001, iou_threshold=0.55, top_k=300, keep=300)),
        (90, PostProcessing(score_threshold=0.02)),
    ],
)
def test_equals_the_slow_loops(classes: int, settings: PostProcessing) -> None:
    defaults = boxes_of("ssdlite320_mobilenet_v2", 192)
    logits, offsets = trained_like(3, defaults, classes, seed=classes)
    result = postprocess(logits, offsets, defaults, VARIANCES, settings)
    assert int(result.num.min()) > 0
    assert_equals_slow(result, logits, offsets, defaults, settings)


def test_a_picture_does_not_depend_on_the_others_of_its_batch() -> None:
    """One wild box must not cost the last picture digits, as moving classes apart by offsets does:
    torchvision's batched_nms, below a thousand candidates."""
    defaults = boxes_of("ssdlite320_mobilenet_v2", 192)
    logits, offsets = trained_like(4, defaults, 60, seed=1)
    offsets[0, 0, 2:] = 60  # e^12 default boxes wide
    logits[0, 0, 1] = 20
    settings = PostProcessing(score_threshold=0.3)
    together = postprocess(logits, offsets, defaults, VARIANCES, settings)
    alone = postprocess(logits[-1:], offsets[-1:], defaults, VARIANCES, settings)
    for batch, single in zip(together, alone, strict=True):
        torch.testing.assert_close(batch[-1:], single, rtol=0, atol=0)


def far_apart(boxes: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Default boxes that are the given corners, and the zero offsets that leave them so."""
    x0, y0, x1, y1 = torch.tensor(boxes).unbind(1)
    defaults = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=1)
    return defaults, torch.zeros(1, len(boxes), 4)


def certain(scores: list[list[float]]) -> Tensor:
    """Logits of given probabilities, background first."""
    return torch.tensor([scores]).log()


def test_suppression_keeps_an_iou_equal_to_the_threshold() -> None:
    # Half of the second box lies in the first: IoU exactly 1/3.
    defaults, offsets = far_apart([[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5]])
    logits = certain([[0.1, 0.9], [0.2, 0.8]])
    for threshold, kept in ((0.3334, 2), (0.3332, 1)):
        settings = PostProcessing(iou_threshold=threshold)
        result = postprocess(logits, offsets, defaults, VARIANCES, settings)
        assert int(result.num) == kept
    # One half is a number that floats hold exactly: kept, as Caffe's "<=" has it.
    defaults, offsets = far_apart([[0, 0, 1, 1], [0, 0, 1, 0.5]])
    settings = PostProcessing(iou_threshold=0.5)
    assert int(postprocess(logits, offsets, defaults, VARIANCES, settings).num) == 2


def test_classes_do_not_suppress_each_other() -> None:
    defaults, offsets = far_apart([[0.1, 0.1, 0.6, 0.6], [0.1, 0.1, 0.6, 0.6]])
    logits = certain([[0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    result = postprocess(logits, offsets, defaults, VARIANCES, PostProcessing(score_threshold=0.3))
    assert result.num.tolist() == [[2]]
    assert result.classes[0, :2].tolist() == [0, 1]
    np.testing.assert_allclose(result.scores[0, :2], [0.8, 0.7], rtol=1e-6)


def test_suppression_happens_before_the_clip() -> None:
    # Clipped to the picture the two would be the same box; as decoded they overlap by a third.
    defaults, offsets = far_apart([[0.5, 0, 1.5, 1], [0.5, 0, 3.5, 1]])
    result = postprocess(
        certain([[0.1, 0.9], [0.2, 0.8]]), offsets, defaults, VARIANCES, PostProcessing()
    )
    assert int(result.num) == 2
    assert result.boxes[0, :2].tolist() == [[0.5, 0, 1, 1]] * 2


def test_boxes_of_another_class_far_outside_the_picture_suppress_nothing() -> None:
    # A box that reaches far to the left and up belongs to the second class, its twin to the first.
    defaults, offsets = far_apart([[0, 0, 1, 1], [-9, -9, 1, 1], [-9, -9, 1, 1]])
    logits = certain([[0.1, 0.8, 0.1], [0.05, 0.9, 0.05], [0.25, 0.05, 0.7]])
    result = postprocess(logits, offsets, defaults, VARIANCES, PostProcessing(score_threshold=0.5))
    assert result.classes[0, : int(result.num)].tolist() == [0, 0, 1]


def test_each_class_keeps_its_best_before_suppression() -> None:
    # Three places side by side, all good for the first class, the last for the second as well.
    defaults, offsets = far_apart([[0, 0, 0.2, 0.2], [0.4, 0, 0.6, 0.2], [0.8, 0, 1, 0.2]])
    logits = certain([[0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.1, 0.5, 0.4]])
    settings = PostProcessing(score_threshold=0.2, top_k=2)
    result = postprocess(logits, offsets, defaults, VARIANCES, settings)
    assert result.num.tolist() == [[3]]
    np.testing.assert_allclose(result.scores[0, :3], [0.7, 0.6, 0.4], rtol=1e-6)
    assert result.classes[0, :3].tolist() == [0, 0, 1]


def test_the_threshold_is_strict() -> None:
    defaults, offsets = far_apart([[0.1, 0.1, 0.6, 0.6]])
    logits = torch.zeros(1, 1, 2)  # both one half
    for threshold, count in ((0.5, 0), (0.499, 1)):
        settings = PostProcessing(score_threshold=threshold)
        assert int(postprocess(logits, offsets, defaults, VARIANCES, settings).num) == count


def test_rows_behind_the_count_are_zero() -> None:
    defaults = boxes_of("ssdlite320_mobilenet_v2", 64)
    logits, offsets = trained_like(2, defaults, 4, seed=0)
    logits[1, :, 0] += 100  # nothing in the second picture
    settings = PostProcessing(keep=50)
    result = postprocess(logits, offsets, defaults, VARIANCES, settings)
    assert result.boxes.shape == (2, 50, 4)
    assert result.scores.shape == result.classes.shape == (2, 50)
    assert result.num.dtype == result.classes.dtype == torch.int32
    assert int(result.num[0]) > 0
    assert int(result.num[1]) == 0
    for i in range(2):
        for rows in (result.boxes, result.scores, result.classes):
            assert not rows[i, int(result.num[i]) :].any()


def test_scores_fall_and_boxes_lie_in_the_picture() -> None:
    defaults = boxes_of("ssdlite320_mobilenet_v2", 128)
    logits, offsets = trained_like(2, defaults, 20, seed=5)
    result = postprocess(logits, 5 * offsets, defaults, VARIANCES, PostProcessing())
    assert bool((result.scores.diff(dim=1) <= 0).all())
    assert bool(((result.boxes >= 0) & (result.boxes <= 1)).all())


def test_an_untrained_network_in_which_everything_passes() -> None:
    defaults = boxes_of("ssd300_vgg16", 300)
    generator = torch.Generator().manual_seed(0)
    logits = 0.01 * torch.randn(2, len(defaults), 21, generator=generator)  # all about 1/21
    offsets = 0.1 * torch.randn(2, len(defaults), 4, generator=generator)
    # 2 x 20 x 8,732 boxes pass the threshold; 2 x 20 x 400 are looked at.
    result = postprocess(logits, offsets, defaults, VARIANCES, PostProcessing())
    assert result.num.tolist() == [[200], [200]]


def test_half_precision_outputs() -> None:
    defaults = boxes_of("ssdlite320_mobilenet_v2", 128)
    logits, offsets = (x.bfloat16() for x in trained_like(1, defaults, 5, seed=3))
    settings = PostProcessing(score_threshold=0.2)
    result = postprocess(logits, offsets, defaults, VARIANCES, settings)
    assert result.boxes.dtype == result.scores.dtype == torch.float32
    same = postprocess(logits.float(), offsets.float(), defaults, VARIANCES, settings)
    for a, b in zip(result, same, strict=True):
        assert torch.equal(a, b)


def test_equals_torchvision_where_nothing_crosses_the_border() -> None:
    """Its differences are the clip before suppression and the bound on log sizes: idle here."""
    defaults = boxes_of("ssd300_vgg16", 300)
    corners = torch.cat(
        [defaults[:, :2] - defaults[:, 2:] / 2, defaults[:, :2] + defaults[:, 2:] / 2], dim=1
    )
    inside = ((corners > 0.1) & (corners < 0.9)).all(dim=1)
    defaults, corners = defaults[inside], corners[inside]
    logits, offsets = trained_like(2, defaults, 20, seed=7)
    offsets = offsets.clamp(-1, 1) * 0.5
    model = SSD(nn.Identity(), None, (300, 300), 21, head=nn.Identity())
    outputs = {"bbox_regression": offsets, "cls_logits": logits}
    theirs = model.postprocess_detections(outputs, [corners] * 2, [(1, 1)] * 2)
    ours = postprocess(logits, offsets, defaults, VARIANCES, PostProcessing())
    for i, expected in enumerate(theirs):
        count = int(ours.num[i])
        assert count == len(expected["scores"]) > 10
        torch.testing.assert_close(ours.scores[i, :count], expected["scores"])
        torch.testing.assert_close(ours.boxes[i, :count], expected["boxes"], rtol=0, atol=1e-5)
        assert torch.equal(ours.classes[i, :count].long() + 1, expected["labels"])
