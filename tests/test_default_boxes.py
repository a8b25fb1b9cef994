"""Default boxes against golden numbers, a slow generator and torchvision's."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

from multibox.card import DefaultBoxLevel, DefaultBoxSpec
from multibox.default_boxes import choose_scales, default_boxes, spec_from_sizes, to_corners
from multibox.zoo import new_card

# Minimum and maximum sizes in pixels, typed from the published configurations (ssd_pascal.py,
# ssd_coco.py and the SSD512 tables), not computed by the code under test.
SSD300_GRIDS = (38, 19, 10, 5, 3, 1)
SSD300_STEPS = (8, 16, 32, 64, 100, 300)
SSD300_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SSD512_GRIDS = (64, 32, 16, 8, 4, 2, 1)
SSD512_STEPS = (8, 16, 32, 64, 128, 256, 512)
SSD512_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
PUBLISHED = {
    "ssd300-voc": SimpleNamespace(
        model="ssd300_vgg16",
        box_set="voc",
        side=300,
        grids=SSD300_GRIDS,
        steps=SSD300_STEPS,
        ratios=SSD300_RATIOS,
        sizes=(30, 60, 111, 162, 213, 264, 315),
        counts=(5776, 2166, 600, 150, 36, 4),
    ),
    "ssd300-coco": SimpleNamespace(
        model="ssd300_vgg16",
        box_set="coco",
        side=300,
        grids=SSD300_GRIDS,
        steps=SSD300_STEPS,
        ratios=SSD300_RATIOS,
        sizes=(21, 45, 99, 153, 207, 261, 315),
        counts=(5776, 2166, 600, 150, 36, 4),
    ),
    "ssd512-voc": SimpleNamespace(
        model="ssd512_vgg16",
        box_set="voc",
        side=512,
        grids=SSD512_GRIDS,
        steps=SSD512_STEPS,
        ratios=SSD512_RATIOS,
        sizes=(35.84, 76.8, 153.6, 230.4, 307.2, 384, 460.8, 537.6),
        counts=(16384, 6144, 1536, 384, 96, 16, 4),
    ),
    "ssd512-coco": SimpleNamespace(
        model="ssd512_vgg16",
        box_set="coco",
        side=512,
        grids=SSD512_GRIDS,
        steps=SSD512_STEPS,
        ratios=SSD512_RATIOS,
        sizes=(20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72),
        counts=(16384, 6144, 1536, 384, 96, 16, 4),
    ),
    "ssdlite320": SimpleNamespace(
        model="ssdlite320_mobilenet_v2",
        box_set="voc",
        side=320,
        grids=(20, 10, 5, 3, 2, 1),
        steps=(16, 32, 64, 320 / 3, 160, 320),
        ratios=((2, 3),) * 6,
        sizes=(64, 112, 160, 208, 256, 304, 320),
        counts=(2400, 600, 150, 54, 24, 6),
    ),
}
TOTALS = {
    "ssd300-voc": 8732,
    "ssd300-coco": 8732,
    "ssd512-voc": 24564,
    "ssd512-coco": 24564,
    "ssdlite320": 3234,
}


def zoo_spec(name: str) -> DefaultBoxSpec:
    published = PUBLISHED[name]
    return new_card(published.model, ["object"], box_set=published.box_set).default_boxes


def slow_boxes(published: SimpleNamespace, *, truncate: bool = False) -> list[list[float]]:
    """One loop a sentence of section 2.2: every cell's square, larger square, then the ratios."""
    boxes = []
    for k, grid in enumerate(published.grids):
        small, large = published.sizes[k], published.sizes[k + 1]
        if truncate:
            small, large = small // 1, large // 1
        for i in range(grid):
            for j in range(grid):
                cx = (j + 0.5) * published.steps[k]
                cy = (i + 0.5) * published.steps[k]
                boxes.append([cx, cy, small, small])
                boxes.append([cx, cy, (small * large) ** 0.5, (small * large) ** 0.5])
                for ratio in published.ratios[k]:
                    for r in (ratio, 1 / ratio):
                        boxes.append([cx, cy, small * r**0.5, small * r**-0.5])
    return [[value / published.side for value in box] for box in boxes]


@pytest.mark.parametrize("name", PUBLISHED)
class TestPublishedSets:
    def test_counts(self, name: str) -> None:
        spec = zoo_spec(name)
        counts = [lv.grid[0] * lv.grid[1] * lv.boxes_per_cell for lv in spec.levels]
        assert tuple(counts) == PUBLISHED[name].counts
        assert spec.count == len(default_boxes(spec)) == TOTALS[name]

    def test_every_box_equals_the_slow_generator(self, name: str) -> None:
        boxes = default_boxes(zoo_spec(name))
        assert boxes.dtype == np.float32
        np.testing.assert_allclose(boxes, slow_boxes(PUBLISHED[name]), rtol=0, atol=1e-7)

    def test_truncated_sizes_equal_the_slow_generator(self, name: str) -> None:
        spec = zoo_spec(name).model_copy(update={"truncate_sizes": True})
        expected = slow_boxes(PUBLISHED[name], truncate=True)
        np.testing.assert_allclose(default_boxes(spec), expected, rtol=0, atol=1e-7)


def test_first_cells_and_last_box_of_ssd300_by_hand() -> None:
    boxes = default_boxes(zoo_spec("ssd300-voc")) * 300
    # sqrt(30 * 60) = 42.4264, 30 * sqrt(2) = 42.4264, 30 / sqrt(2) = 21.2132
    np.testing.assert_allclose(
        boxes[:5],
        [
            [4, 4, 30, 30],
            [4, 4, 42.4264, 42.4264],
            [4, 4, 42.4264, 21.2132],
            [4, 4, 21.2132, 42.4264],
            [12, 4, 30, 30],
        ],
        atol=1e-4,
    )
    # Second row of the first map: 38 cells of four boxes on.
    np.testing.assert_allclose(boxes[38 * 4], [4, 12, 30, 30], atol=1e-4)
    # Ratio 3 is the fifth box of the second map's cells: 60 * sqrt(3) wide, 60 / sqrt(3) high.
    np.testing.assert_allclose(boxes[5776 + 4], [8, 8, 103.9230, 34.6410], atol=1e-4)
    # 264 / sqrt(2) = 186.6762, 264 * sqrt(2) = 373.3524: the one cell of the last map.
    np.testing.assert_allclose(boxes[-1], [150, 150, 186.6762, 373.3524], atol=1e-4)


def test_first_and_last_box_of_ssd512_by_hand() -> None:
    boxes = default_boxes(zoo_spec("ssd512-coco")) * 512
    np.testing.assert_allclose(boxes[0], [4, 4, 20.48, 20.48], atol=1e-4)
    np.testing.assert_allclose(boxes[-4], [256, 256, 460.8, 460.8], atol=1e-4)
    np.testing.assert_allclose(boxes[-1], [256, 256, 325.8348, 651.6696], atol=1e-4)


def torchvision_boxes(generator: DefaultBoxGenerator, side: int, grids: tuple[int, ...]) -> object:
    """(cx, cy, w, h) in fractions, from the corners in pixels that torchvision's module returns."""
    maps = [torch.zeros(1, 1, grid, grid) for grid in grids]
    images = SimpleNamespace(tensors=torch.zeros(1, 3, side, side), image_sizes=[(side, side)])
    x0, y0, x1, y1 = (generator(images, maps)[0].double() / side).unbind(1)
    return torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], dim=1).numpy()


class TestTorchvision:
    def test_ssd300_coco(self) -> None:
        generator = DefaultBoxGenerator(
            [list(ratios) for ratios in SSD300_RATIOS],
            scales=[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05],
            steps=list(SSD300_STEPS),
        )
        theirs = torchvision_boxes(generator, 300, SSD300_GRIDS)
        ours = default_boxes(zoo_spec("ssd300-coco"))
        ours[:, 2:] = ours[:, 2:].clip(0, 1)  # torchvision clamps widths and heights alone
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-7)

    def test_ssdlite(self) -> None:
        generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
        theirs = torchvision_boxes(generator, 320, PUBLISHED["ssdlite320"].grids)
        ours = default_boxes(zoo_spec("ssdlite320"))
        ours[:, 2:] = ours[:, 2:].clip(0, 1)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3e-7)


@pytest.mark.parametrize(("name", "pixels"), [("ssd512-voc", 1.39), ("ssd512-coco", 1.66)])
def test_caffes_whole_pixel_sizes_move_ssd512_boxes(name: str, pixels: float) -> None:
    spec = zoo_spec(name)
    truncated = spec.model_copy(update={"truncate_sizes": True})
    difference = np.abs(default_boxes(truncated) - default_boxes(spec)) * 512
    assert round(float(difference.max()), 2) == pixels
    assert difference[:, :2].max() == 0


def test_truncation_leaves_ssd300_alone() -> None:
    spec = zoo_spec("ssd300-voc")
    truncated = spec.model_copy(update={"truncate_sizes": True})
    np.testing.assert_array_equal(default_boxes(truncated), default_boxes(spec))


def test_step_32_puts_centres_outside_the_picture() -> None:
    boxes = default_boxes(zoo_spec("ssd300-voc"))
    outside = (boxes[:, :2] > 1).any(axis=1)
    assert outside.sum() == 114  # last row and column of the 10 x 10 map: 19 cells of six boxes
    assert boxes[outside, :2].max() == pytest.approx(304 / 300)


class TestClip:
    @pytest.mark.parametrize(
        ("name", "changed"),
        [("ssd300-voc", 134), ("ssd300-coco", 116), ("ssd512-voc", 42), ("ssd512-coco", 42)],
    )
    def test_centre_size_changes_few_boxes(self, name: str, changed: int) -> None:
        spec = zoo_spec(name)
        assert spec.clip == "none"
        plain = default_boxes(spec)
        clipped = default_boxes(spec.model_copy(update={"clip": "centre-size"}))
        assert (plain != clipped).any(axis=1).sum() == changed
        np.testing.assert_array_equal(clipped, plain.clip(0, 1))

    @pytest.mark.parametrize(
        ("name", "changed"),
        [("ssd300-voc", 2869), ("ssd300-coco", 2223), ("ssd512-voc", 5486), ("ssd512-coco", 4118)],
    )
    def test_corners_changes_many(self, name: str, changed: int) -> None:
        spec = zoo_spec(name)
        plain = default_boxes(spec)
        clipped = default_boxes(spec.model_copy(update={"clip": "corners"}))
        assert (np.abs(plain - clipped) > 1e-6).any(axis=1).sum() == changed
        corners = to_corners(clipped)
        assert corners.min() >= -1e-6
        assert corners.max() <= 1 + 1e-6


def test_non_square_pictures_divide_x_by_width_and_y_by_height() -> None:
    level = DefaultBoxLevel(grid=(2, 4), min_size=50, max_size=200, aspect_ratios=(4,))
    boxes = default_boxes(DefaultBoxSpec(image_size=(100, 400), levels=(level,)))
    assert boxes.shape == (2 * 4 * 4, 4)
    np.testing.assert_allclose(
        boxes[:4],
        [
            [0.125, 0.25, 0.125, 0.5],
            [0.125, 0.25, 0.25, 1],  # sqrt(50 * 200) = 100 pixels
            [0.125, 0.25, 0.25, 0.25],  # 100 wide, 25 high
            [0.125, 0.25, 0.0625, 1],  # 25 wide, 100 high
        ],
    )
    np.testing.assert_allclose(boxes[4, :2], [0.375, 0.25])  # columns before rows
    np.testing.assert_allclose(boxes[16, :2], [0.125, 0.75])


def test_steps_are_down_then_across() -> None:
    level = DefaultBoxLevel(grid=(2, 2), step=(10, 40), min_size=10)
    boxes = default_boxes(DefaultBoxSpec(image_size=(100, 200), levels=(level,)))
    np.testing.assert_allclose(
        boxes[:, :2] * [200, 100], [[20, 5], [60, 5], [20, 15], [60, 15]], rtol=1e-6
    )


def test_a_level_without_max_size_has_no_second_square() -> None:
    level = DefaultBoxLevel(grid=(1, 1), min_size=30, aspect_ratios=(2,))
    boxes = default_boxes(DefaultBoxSpec(image_size=(100, 100), levels=(level,)))
    np.testing.assert_allclose(boxes[:, 2] * boxes[:, 3], [0.09] * 3, rtol=1e-6)
    np.testing.assert_allclose(boxes[:, 2] / boxes[:, 3], [1, 2, 0.5], rtol=1e-6)


sides = st.integers(1, 400)
levels = st.builds(
    DefaultBoxLevel,
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    step=st.none() | st.tuples(st.floats(1, 100), st.floats(1, 100)),
    min_size=st.floats(1, 300),
    max_size=st.none() | st.floats(1, 400),
    aspect_ratios=st.lists(st.floats(1.1, 5), max_size=3).map(tuple),
)
specs = st.builds(
    DefaultBoxSpec,
    image_size=st.tuples(sides, sides),
    levels=st.lists(levels, min_size=1, max_size=4).map(tuple),
    clip=st.sampled_from(["none", "centre-size", "corners"]),
)


@given(specs)
def test_count_is_the_number_of_boxes(spec: DefaultBoxSpec) -> None:
    boxes = default_boxes(spec)
    assert boxes.shape == (spec.count, 4)
    assert np.isfinite(boxes).all()


@given(levels, st.tuples(sides, sides))
def test_ratios_keep_the_area_of_the_small_square(
    level: DefaultBoxLevel, image_size: tuple[int, int]
) -> None:
    height, width = image_size
    boxes = default_boxes(DefaultBoxSpec(image_size=image_size, levels=(level,)))
    pixels = boxes.reshape(-1, level.boxes_per_cell, 4)[0].astype(np.float64) * [
        width, height, width, height,
    ]  # fmt: skip
    by_ratio = pixels[1 + (level.max_size is not None) :]
    np.testing.assert_allclose(by_ratio[:, 2] * by_ratio[:, 3], level.min_size**2, rtol=1e-5)
    expected = [r for ratio in level.aspect_ratios for r in (ratio, 1 / ratio)]
    np.testing.assert_allclose(by_ratio[:, 2] / by_ratio[:, 3], expected, rtol=1e-5)


def test_equation_4_as_the_paper_has_it() -> None:
    """Section 2.2: m = 6, s_min = .2 and s_max = .9; every scale .14 above the one before."""
    assert choose_scales(6, 0.2, 0.9) == pytest.approx([0.2, 0.34, 0.48, 0.62, 0.76, 0.9])


def test_sizes_must_be_one_more_than_levels() -> None:
    with pytest.raises(ValueError, match="one more"):
        spec_from_sizes((300, 300), [(2, 2), (1, 1)], [30, 60], [(2.0,), (2.0,)])
