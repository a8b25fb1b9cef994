from collections import Counter
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multibox.boxes import iou
from multibox.data import synthetic
from multibox.data.synthetic import CLASSES, generate, scene
from multibox.data.synthetic_background import pink_noise
from multibox.data.synthetic_objects import Window
from multibox.errors import InputError

SIZE = (160, 120)


@pytest.fixture(scope="module")
def scenes():
    return [scene(np.random.default_rng((7, i)), SIZE) for i in range(250)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("synthetic") / "a set", images=20, size=SIZE, seed=3)


def inside(thing, size, margin=0):
    """Where an object is, from each shape's inequalities instead of its drawn outline."""
    x, y = np.meshgrid(
        np.arange(-margin, size[0] + margin) + 0.5, np.arange(-margin, size[1] + margin) + 0.5
    )
    place = np.exp(-1j * thing.angle) * ((x - thing.centre[0]) + 1j * (y - thing.centre[1]))
    u, v = place.real / thing.half_size[0], place.imag / thing.half_size[1]
    if thing.kind == "ball":
        return u**2 + v**2 <= 1
    if thing.kind == "board":
        return np.maximum(abs(u), abs(v)) <= 1
    if thing.kind == "ring":
        return (u**2 + v**2 <= 1) & (u**2 + v**2 >= 0.55**2)
    if thing.kind == "triangle":
        return (v <= 1) & (abs(u) <= (1 + v) / 2)
    radius, tenth = np.hypot(u, v), np.pi / 5
    turn = abs((np.arctan2(u, -v) + tenth) % (2 * tenth) - tenth)  # 0 at a tip, a tenth at a notch
    along, across = radius * np.cos(turn), radius * np.sin(turn)
    notch_along, notch_across = 0.45 * np.cos(tenth), 0.45 * np.sin(tenth)
    return (1 - along) * notch_across >= across * (1 - notch_along)


def test_labels_agree_with_a_second_way_to_find_the_objects(monkeypatch):
    drawn = []
    draw = synthetic._draw_object

    def record(*arguments):
        drawn.append(draw(*arguments))
        return drawn[-1]

    monkeypatch.setattr(synthetic, "_draw_object", record)
    left_out = difficult = 0
    for index in range(120):
        drawn.clear()
        sample = scene(np.random.default_rng((5, index)), SIZE)
        masks = [inside(thing, SIZE) for thing in drawn]
        expected = []
        for i, (thing, mask) in enumerate(zip(drawn, masks, strict=True)):
            in_front = np.any([np.zeros_like(mask), *masks[i + 1 :]], axis=0)
            share = (mask & ~in_front).sum() / inside(thing, SIZE, margin=60).sum()
            rows, columns = np.nonzero(mask)
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            expected.append((CLASSES.index(thing.kind), box, share))
        if any(min(abs(share - 0.05), abs(share - 0.3)) < 0.03 for *_, share in expected):
            continue  # too close to a limit for two ways of counting pixels
        expected = [(label, box, share < 0.3) for label, box, share in expected if share >= 0.05]
        assert sample.labels.tolist() == [label for label, *_ in expected]
        assert sample.difficult.tolist() == [hard for *_, hard in expected]
        boxes = np.array([box for _, box, _ in expected]).reshape(-1, 4)
        np.testing.assert_allclose(sample.boxes, boxes, atol=2)  # a star's tips are thin
        left_out += len(drawn) - len(expected)
        difficult += sample.difficult.sum()
    assert left_out
    assert difficult


def test_a_box_is_tight_to_the_pixel():
    rng = np.random.default_rng(0)
    for _ in range(50):
        thing = synthetic._draw_object(rng, SIZE, light=1.0)
        mask = synthetic._paint(np.full((*SIZE[::-1], 3), 128, np.float32), thing, rng, 1.0)
        x0, y0, x1, y1 = synthetic._tight_box(mask)
        assert mask[y0:y1, x0:x1].sum() == mask.sum()
        assert mask[y0:y1, x0].any()
        assert mask[y0:y1, x1 - 1].any()
        assert mask[y0, x0:x1].any()
        assert mask[y1 - 1, x0:x1].any()


def test_an_object_is_painted_where_its_mask_is_and_its_shadow_falls_away_from_the_light():
    rng = np.random.default_rng(2)
    thing = synthetic.SceneObject(
        "board", (80.0, 60.0), (20.0, 20.0), 0.0, np.array([[255, 0, 0], [255, 0, 0]]), 2
    )
    picture = np.full((*SIZE[::-1], 3), 128, np.float32)
    mask = synthetic._paint(picture, thing, rng, light=0.0)
    assert synthetic._tight_box(mask) == (60, 40, 100, 80)
    assert (picture[mask][:, 0] > 150).all()
    assert (picture[mask][:, 1:] < 5).all()
    assert picture[60, 59].mean() < picture[60, 100].mean() < 129
    assert (abs(picture[:25] - 128) < 0.1).all()


def test_coverage_of_a_window_is_a_part_of_the_coverage_of_the_picture():
    thing = synthetic._draw_object(np.random.default_rng(1), SIZE, light=0.0)
    whole = thing.coverage(Window(0, 0, *SIZE))
    part = thing.coverage(Window(30, 20, 70, 60))
    np.testing.assert_allclose(part, whole[20:80, 30:100], atol=0.15)  # 2 of 16 subpixels


@settings(deadline=None, max_examples=25)
@given(st.integers(64, 200), st.integers(64, 200), st.integers(0, 2**32))
def test_boxes_lie_within_pictures_of_any_size(width, height, seed):
    sample = scene(np.random.default_rng(seed), (width, height))
    assert sample.image.shape == (height, width, 3)
    assert sample.image.dtype == np.uint8
    assert (sample.boxes[:, :2] >= 0).all()
    assert (sample.boxes[:, 2:] <= (width, height)).all()
    assert (sample.boxes[:, 2:] - sample.boxes[:, :2] >= 1).all()


def test_classes_are_balanced(scenes):
    counts = Counter(label for sample in scenes for label in sample.labels.tolist())
    assert min(counts[i] for i in range(len(CLASSES))) > 0.14 * counts.total()


def test_sizes_spread_and_objects_overlap(scenes):
    sides = np.concatenate([s.boxes[:, 2:] - s.boxes[:, :2] for s in scenes])
    relative = np.sqrt(sides.prod(axis=1)) / min(SIZE)
    assert np.percentile(relative, 10) < 0.15
    assert np.percentile(relative, 90) > 0.4
    overlaps = [np.triu(iou(s.boxes, s.boxes), 1).max(initial=0) > 0.1 for s in scenes]
    assert 0.15 < np.mean(overlaps) < 0.6


def test_a_few_pictures_hold_nothing_and_a_few_objects_are_difficult(scenes):
    assert 0.01 < np.mean([len(s.labels) == 0 for s in scenes]) < 0.09
    assert 0.005 < np.mean(np.concatenate([s.difficult for s in scenes])) < 0.1
    assert max(len(s.labels) for s in scenes) >= 5


def test_colour_does_not_tell_the_class(scenes):
    channels = {i: [] for i in range(len(CLASSES))}
    for sample in scenes:
        for box, label in zip(sample.boxes.astype(int), sample.labels.tolist(), strict=True):
            x0, y0, x1, y1 = box
            channels[label].append(sample.image[y0:y1, x0:x1].mean(axis=(0, 1)))
    means = np.array([np.mean(values, axis=0) for values in channels.values()])
    assert np.ptp(means, axis=0).max() < 35


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.0])
def test_noise_has_the_power_spectrum_of_photographs(exponent):
    noise = pink_noise(np.random.default_rng(0), 8, 128, 128, exponent)
    power = (abs(np.fft.fft2(noise)) ** 2).mean(axis=0)
    frequency = np.hypot(np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)[None, :])
    rings = [(f, power[abs(frequency - f) < 0.01].mean()) for f in np.linspace(0.05, 0.45, 15)]
    slope = np.polyfit(*np.log(np.transpose(rings)), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.15)
    np.testing.assert_allclose(noise.std(axis=(1, 2)), 1, rtol=1e-3)


def test_the_folder_is_voc_with_disjoint_splits(folder):
    lists = {
        split: (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        for split in ("train", "val", "test")
    }
    assert [len(names) for names in lists.values()] == [14, 3, 3]
    everything = sorted(name for names in lists.values() for name in names)
    assert len(set(everything)) == 20
    assert everything == sorted(path.stem for path in (folder / "JPEGImages").glob("*.jpg"))
    assert everything == sorted(path.stem for path in (folder / "Annotations").glob("*.xml"))


def test_annotations_are_one_based_and_inclusive(folder):
    for index in range(20):
        sample = scene(np.random.default_rng((3, index)), SIZE)
        root = ElementTree.parse(folder / "Annotations" / f"scene_{index:05d}.xml").getroot()
        written = [
            [int(node.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
            for node in root.iter("object")
        ]
        assert written == (sample.boxes + np.array([1, 1, 0, 0])).astype(int).tolist()
        names = [node.findtext("name") for node in root.iter("object")]
        assert names == [CLASSES[label] for label in sample.labels]
        difficult = [node.findtext("difficult") for node in root.iter("object")]
        assert difficult == [str(int(flag)) for flag in sample.difficult]
        assert root.findtext("size/width") == "160"
        assert root.findtext("size/height") == "120"
        picture = cv2.imread(str(folder / "JPEGImages" / root.findtext("filename")))
        difference = picture[..., ::-1].astype(int) - sample.image
        assert abs(difference).mean() < 12


def test_the_same_seed_gives_the_same_files(folder, tmp_path):
    again = generate(tmp_path / "again", images=20, size=SIZE, seed=3)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in files)


def test_a_scene_depends_on_its_seed_and_number_only(folder, tmp_path):
    first = "JPEGImages/scene_00000.jpg"
    fewer = generate(tmp_path / "fewer", images=6, size=SIZE, seed=3)
    other = generate(tmp_path / "other", images=6, size=SIZE, seed=4)
    assert (fewer / first).read_bytes() == (folder / first).read_bytes()
    assert (other / first).read_bytes() != (folder / first).read_bytes()


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        generate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": 5}, "images=5: too few"),
        ({"seed": -1}, "seed=-1"),
        ({"size": (320, 20)}, "320x20"),
        ({"splits": {"train": 0.5, "test": 0.4}}, "sum to 1"),
        ({"splits": {"train": 1.2, "test": -0.2}}, "sum to 1"),
        ({"splits": {}}, "sum to 1"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        generate(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_command_line(tmp_path, capsys):
    assert synthetic.main([str(tmp_path / "set"), "--images", "6", "--seed", "1"]) == 0
    assert len(list((tmp_path / "set" / "JPEGImages").iterdir())) == 6
    assert "6 pictures" in capsys.readouterr().out
    assert synthetic.main([str(tmp_path / "set")]) == 2
    assert "not an empty folder" in capsys.readouterr().err
