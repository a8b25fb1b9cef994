"""The default boxes of every published variant, against slow generators typed from the originals.

Each generator follows its project's own loop and returns ``[n, 4]`` (cx, cy, w, h) in fractions of
the picture, in the order of the project's heads.
"""

from collections.abc import Callable
from math import sqrt
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

from multibox.default_boxes import default_boxes, to_corners
from multibox.zoo import MODELS, new_card

VOC_300 = (30, 60, 111, 162, 213, 264, 315)
COCO_300 = (21, 45, 99, 153, 207, 261, 315)
STEPS_300 = (8, 16, 32, 64, 100, 300)
GRIDS_300 = (38, 19, 10, 5, 3, 1)
RATIOS_300 = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
RATIOS_512 = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
STEPS_512 = (8, 16, 32, 64, 128, 256, 512)
GRIDS_512 = (64, 32, 16, 8, 4, 2, 1)


def caffe(
    side: int,
    grids: tuple[int, ...],
    steps: tuple[int, ...] | None,
    min_sizes: tuple[float, ...],
    max_sizes: tuple[float | None, ...],
    ratios: tuple[tuple[int, ...], ...],
    *,
    truncate: bool,
) -> np.ndarray:
    """PriorBox with ``flip``: corners, in the layer's order (prior_box_layer.cpp, Forward_cpu)."""
    number: Callable[[float], float] = int if truncate else float
    corners = []
    for level, grid in enumerate(grids):
        step = steps[level] if steps else side / grid
        smallest, largest = number(min_sizes[level]), max_sizes[level]
        for h in range(grid):
            for w in range(grid):
                centre_x, centre_y = (w + 0.5) * step, (h + 0.5) * step
                sides = [(smallest, smallest)]
                if largest is not None:
                    sides.append((sqrt(smallest * number(largest)),) * 2)
                for ratio in ratios[level]:
                    for r in (ratio, 1 / ratio):
                        sides.append((smallest * sqrt(r), smallest / sqrt(r)))
                corners += [
                    [
                        (centre_x - width / 2) / side,
                        (centre_y - height / 2) / side,
                        (centre_x + width / 2) / side,
                        (centre_y + height / 2) / side,
                    ]
                    for width, height in sides
                ]
    boxes = np.array(corners)
    return np.hstack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])


def mlperf(sizes: tuple[int, ...]) -> np.ndarray:
    """MLPerf's and NVIDIA's DefaultBoxes: box by box over all cells, all clamped to 0..1.

    Their heads lay the same out cell by cell, as ours do, so a level's boxes are brought there.
    """
    levels = []
    for k, grid in enumerate(GRIDS_300):
        smaller, larger = sizes[k] / 300, sizes[k + 1] / 300
        kinds = [(smaller, smaller), (sqrt(smaller * larger),) * 2]
        for ratio in RATIOS_300[k]:
            w, h = smaller * sqrt(ratio), smaller / sqrt(ratio)
            kinds += [(w, h), (h, w)]
        cells = 300 / STEPS_300[k]
        boxes = [
            ((j + 0.5) / cells, (i + 0.5) / cells, w, h)
            for w, h in kinds
            for i in range(grid)
            for j in range(grid)
        ]
        by_kind = np.array(boxes).reshape(len(kinds), grid * grid, 4)
        levels.append(by_kind.transpose(1, 0, 2).reshape(-1, 4))
    return np.concatenate(levels).clip(0, 1)


def gluon(sizes: tuple[float, ...]) -> np.ndarray:
    """GluonCV's SSDAnchorGenerator of ssd_512_resnet50_v1: pixels, first both squares."""
    three, five = (1, 2, 0.5), (1, 2, 0.5, 3, 1 / 3)
    boxes = []
    for k, (step, ratios) in enumerate(
        zip((16, 32, 64, 128, 256, 512), (three, five, five, five, three, three), strict=True)
    ):
        for i in range(512 // step):
            for j in range(512 // step):
                cy, cx = (i + 0.5) * step, (j + 0.5) * step
                larger = sqrt(sizes[k] * sizes[k + 1])
                boxes += [[cx, cy, sizes[k], sizes[k]], [cx, cy, larger, larger]]
                for r in ratios[1:]:
                    boxes.append([cx, cy, sizes[k] * sqrt(r), sizes[k] / sqrt(r)])
    return np.array(boxes) / 512


def tensorflow() -> np.ndarray:
    """create_ssd_anchors of ssd_mobilenet_v2 at 300 pixels, six layers, scales .2 to .95.

    The lowest layer is reduced to three boxes; the interpolated square comes last elsewhere.
    """
    scales = [0.2 + (0.95 - 0.2) * i / 5 for i in range(6)] + [1.0]
    boxes = []
    for layer, grid in enumerate((19, 10, 5, 3, 2, 1)):
        if layer == 0:
            specs = [(0.1, 1.0), (scales[0], 2.0), (scales[0], 0.5)]
        else:
            specs = [(scales[layer], ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
            specs.append((sqrt(scales[layer] * scales[layer + 1]), 1.0))
        for row in range(grid):
            for column in range(grid):
                for scale, ratio in specs:
                    # TileGrid: anchors are centred half a stride in, where the stride is 1 / grid.
                    height, width = scale / sqrt(ratio), scale * sqrt(ratio)
                    boxes.append([(column + 0.5) / grid, (row + 0.5) / grid, width, height])
    return np.array(boxes)


def torchvision_lite(side: int, grids: tuple[int, ...]) -> np.ndarray:
    generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95, clip=False)
    maps = [torch.zeros(1, 1, grid, grid) for grid in grids]
    images = SimpleNamespace(tensors=torch.zeros(1, 3, side, side), image_sizes=[(side, side)])
    x0, y0, x1, y1 = (generator(images, maps)[0].double() / side).unbind(1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=1).numpy()


def caffe_levels(sizes: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return sizes[:-1], sizes[1:]


def lite(side: int, *, truncate: bool = False) -> np.ndarray:
    """Six boxes a cell by Caffe's rule, whose sizes torchvision computes from two ratios."""
    sizes = tuple(side * percent / 100 for percent in (20, 35, 50, 65, 80, 95, 100))
    grids = (20, 10, 5, 3, 2, 1)
    return caffe(side, grids, None, *caffe_levels(sizes), ((2, 3),) * 6, truncate=truncate)


def mobilenet_v1(*, truncate: bool) -> np.ndarray:
    """deploy.prototxt of MobileNet-SSD: no max_size and one ratio on the first map."""
    return caffe(
        300, (19, 10, 5, 3, 2, 1), None,
        (60, 105, 150, 195, 240, 285), (None, 150, 195, 240, 285, 300),
        ((2,), *((2, 3),) * 5), truncate=truncate,
    )  # fmt: skip


def paper(side: int, sizes: tuple[float, ...], *, truncate: bool) -> np.ndarray:
    grids, steps, ratios = (
        (GRIDS_300, STEPS_300, RATIOS_300) if side == 300 else (GRIDS_512, STEPS_512, RATIOS_512)
    )
    return caffe(side, grids, steps, *caffe_levels(sizes), ratios, truncate=truncate)


VOC_512 = (35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6)
COCO_512 = (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)
GLUON_VOC = (51.2, 102.4, 189.4, 276.4, 363.52, 450.6, 492)
GLUON_COCO = (51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)
COUNTS_300 = (5776, 2166, 600, 150, 36, 4)
COUNTS_512 = (16384, 6144, 1536, 384, 96, 16, 4)
COUNTS_LITE = (2400, 600, 150, 54, 24, 6)
COUNTS_TF = (1083, 600, 150, 54, 24, 6)
COUNTS_GLUON = (4096, 1536, 384, 96, 16, 4)

# For each published variant: boxes a level, the generator with sizes as written, and the same with
# sizes cut to whole pixels.
Golden = tuple[tuple[int, ...], Callable[[], np.ndarray], Callable[[], np.ndarray]]


def _paper(side: int, sizes: tuple[float, ...]) -> Golden:
    return (
        COUNTS_300 if side == 300 else COUNTS_512,
        lambda: paper(side, sizes, truncate=False),
        lambda: paper(side, sizes, truncate=True),
    )


def _gluon(sizes: tuple[float, ...]) -> Golden:
    return COUNTS_GLUON, lambda: gluon(sizes), lambda: gluon_truncated(sizes)


def gluon_truncated(sizes: tuple[float, ...]) -> np.ndarray:
    return gluon(tuple(float(int(size)) for size in sizes))


def _lite() -> Golden:
    return COUNTS_LITE, lambda: lite(320), lambda: lite(320, truncate=True)


GOLDEN: dict[tuple[str, str], Golden] = {
    ("ssd300_vgg16", "voc"): _paper(300, VOC_300),
    ("ssd300_vgg16", "coco"): _paper(300, COCO_300),
    ("ssd512_vgg16", "voc"): _paper(512, VOC_512),
    ("ssd512_vgg16", "coco"): _paper(512, COCO_512),
    ("ssd300_mobilenet_v1", "voc"): (
        COUNTS_TF,
        lambda: mobilenet_v1(truncate=False),
        lambda: mobilenet_v1(truncate=True),
    ),
    ("ssdlite320_mobilenet_v2", "voc"): _lite(),
    ("ssdlite300_mobilenet_v2", "voc"): (COUNTS_TF, tensorflow, tensorflow),
    ("ssdlite320_mobilenet_v3_large", "voc"): _lite(),
    ("ssdlite320_mobilenet_v3_small", "voc"): _lite(),
    ("ssd300_resnet34", "voc"): (COUNTS_300, lambda: mlperf(VOC_300), lambda: mlperf(VOC_300)),
    ("ssd300_resnet34", "coco"): (COUNTS_300, lambda: mlperf(COCO_300), lambda: mlperf(COCO_300)),
    ("ssd300_resnet50", "voc"): (COUNTS_300, lambda: mlperf(VOC_300), lambda: mlperf(VOC_300)),
    ("ssd300_resnet50", "coco"): (COUNTS_300, lambda: mlperf(COCO_300), lambda: mlperf(COCO_300)),
    ("ssd512_resnet50", "voc"): _gluon(GLUON_VOC),
    ("ssd512_resnet50", "coco"): _gluon(GLUON_COCO),
}
TOTALS = {
    "ssd300_vgg16": 8732,
    "ssd512_vgg16": 24564,
    "ssd300_mobilenet_v1": 1917,
    "ssdlite320_mobilenet_v2": 3234,
    "ssdlite300_mobilenet_v2": 1917,
    "ssdlite320_mobilenet_v3_large": 3234,
    "ssdlite320_mobilenet_v3_small": 3234,
    "ssd300_resnet34": 8732,
    "ssd300_resnet50": 8732,
    "ssd512_resnet50": 6132,
}


def spec(model: str, box_set: Any, **changes: Any) -> Any:
    return new_card(model, ["object"], box_set=box_set).default_boxes.model_copy(update=changes)


def test_every_variant_is_here() -> None:
    assert set(GOLDEN) == {
        (model.name, box_set)
        for model in MODELS.values()
        for box_set in model.box_sets
        if not model.name.startswith("tiny_")  # other tests' own
    }


@pytest.mark.parametrize(("model", "box_set"), GOLDEN)
class TestEveryVariant:
    def test_counts(self, model: str, box_set: str) -> None:
        levels = spec(model, box_set).levels
        counts = tuple(level.grid[0] * level.grid[1] * level.boxes_per_cell for level in levels)
        assert counts == GOLDEN[model, box_set][0]
        assert sum(counts) == TOTALS[model]

    def test_sizes_as_written(self, model: str, box_set: str) -> None:
        # TensorFlow's configurations write a third as 0.3333.
        near = 1e-4 if model == "ssdlite300_mobilenet_v2" else 1e-7
        boxes = default_boxes(spec(model, box_set))
        np.testing.assert_allclose(boxes, GOLDEN[model, box_set][1](), rtol=0, atol=near)

    def test_sizes_cut_to_whole_pixels(self, model: str, box_set: str) -> None:
        near = 1e-4 if model == "ssdlite300_mobilenet_v2" else 1e-7
        boxes = default_boxes(spec(model, box_set, truncate_sizes=True))
        np.testing.assert_allclose(boxes, GOLDEN[model, box_set][2](), rtol=0, atol=near)


@pytest.mark.parametrize(
    "model",
    [
        "ssdlite320_mobilenet_v2",
        "ssdlite320_mobilenet_v3_large",
        "ssdlite320_mobilenet_v3_small",
    ],
)
def test_torchvisions_own_generator(model: str) -> None:
    theirs = torchvision_lite(320, (20, 10, 5, 3, 2, 1))
    np.testing.assert_allclose(default_boxes(spec(model, "voc")), theirs, rtol=0, atol=3e-7)


@pytest.mark.parametrize(("model", "box_set"), GOLDEN)
def test_only_mlperf_and_nvidia_clip(model: str, box_set: str) -> None:
    clipped = model in ("ssd300_resnet34", "ssd300_resnet50")
    assert spec(model, box_set).clip == ("centre-size" if clipped else "none")


@pytest.mark.parametrize(("box_set", "changed"), [("voc", 134), ("coco", 116)])
def test_their_clamp_changes_few_boxes(box_set: str, changed: int) -> None:
    clipped = default_boxes(spec("ssd300_resnet34", box_set))
    plain = default_boxes(spec("ssd300_resnet34", box_set, clip="none"))
    assert (plain != clipped).any(axis=1).sum() == changed


def test_half_of_the_boxes_of_six_a_cell_reach_beyond_the_picture() -> None:
    """qfgaohao's set: 1,500 of 3,000 boxes, which a corner clip would change."""
    sizes = (60, 105, 150, 195, 240, 285, 330)
    boxes = caffe(
        300, (19, 10, 5, 3, 2, 1), (16, 32, 64, 100, 150, 300), *caffe_levels(sizes),
        ((2, 3),) * 6, truncate=False,
    )  # fmt: skip
    corners = to_corners(boxes)
    assert len(boxes) == 3000
    outside = ((corners < 0) | (corners > 1)).any(axis=1).mean()
    assert outside == pytest.approx(0.5, abs=0.01)
