"""What is wrong with names, boxes and sizes, in every format; and whole sets that are odd."""

import os
import sys

import numpy as np
import pytest
from damaged_sets import FORMATS, HEIGHT, PICTURES, WIDTH, CleanSet, encode, pixels
from findings_of import SPEC, edit, only, report

from multibox.data.doctor import examine
from multibox.data.policies import CHOICES

# Class names


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "other",
    [
        "Dog", " dog", "d og", "d-og", "d_og", "d\u200bog", "dog\u200e", "do\u00adg", "d\u043eg",
        "d\u03bfg", "\uff44og", "d0g", "DOG",
    ],
    ids=ascii,
)  # fmt: skip
def test_names_that_look_like_another(tmp_path, kind, other):
    data = CleanSet(tmp_path, kind)
    data.names.append(other)
    data.objects["b"].append((other, (1, 1, 40, 40)))
    data.write()
    found = report(data).findings
    assert {f.kind for f in found} == {"similar-class-names"}
    assert {f.severity for f in found} == {"warning"}
    if kind == "voc":
        assert [(f.file, f.object) for f in found] == [(str(data.label("b")), 2)]
    else:
        lists = {str(data.root / "data.yaml")} if kind == "yolo" else {
            str(data.label("a")), str(data.label("c")),
        }  # fmt: skip
        assert {f.file for f in found} <= lists


@pytest.mark.parametrize("kind", FORMATS)
def test_two_unicode_forms_of_one_name_are_told_once_a_list(tmp_path, kind):
    data = CleanSet(tmp_path, kind)
    data.names += ["caf\u00e9", "cafe\u0301"]
    data.objects["a"] += [("caf\u00e9", (1, 1, 40, 40)), ("cafe\u0301", (9, 5, 50, 45))]
    data.write()
    found = report(data).findings
    assert [f.kind for f in found] == ["similar-class-names"] * (2 if kind == "coco" else 1)
    assert all("e\\u0301" in f.detail and "\\xe9" in f.detail for f in found)
    assert report(data).summary["classes"]["caf\u00e9"]["objects"] == 2


@pytest.mark.parametrize("names", [("0", "o"), ("1", "l"), ("C", "C+"), ("type 10", "type 11")])
def test_names_that_are_meant_to_differ(tmp_path, names):
    data = CleanSet(tmp_path, "yolo")
    data.names = list(names)
    data.objects = {n: [(names[0], (4, 6, 34, 36)), (names[1], (20, 10, 60, 44))] for n in PICTURES}
    data.write()
    assert report(data).findings == ()


def test_a_space_after_every_name_is_no_second_spelling(tmp_path):
    data = CleanSet(tmp_path, "voc")
    for name in PICTURES:
        data.label(name).write_text(data.label(name).read_text().replace("</name>", " </name>"))
    assert report(data).findings == ()
    assert list(report(data).summary["classes"]) == ["cat", "dog"]


def test_a_name_on_a_line_of_its_own_is_the_same_name(tmp_path):
    data = CleanSet(tmp_path, "voc")
    text = data.label("a").read_text()
    data.label("a").write_text(text.replace("<name>", "<name>\n  ").replace("</name>", "\n</name>"))
    assert report(data).findings == ()


# Boxes


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((40, 9, 12, 30), "inverted"),
        ((10, 30, 42, 9), "inverted"),
        ((40, 30, 12, 9), "inverted"),
        ((9, 9, 9, 30), "without area"),
        ((9, 9, 40, 9), "without area"),
        ((float("nan"), 9, 40, 30), "not four numbers"),
        ((9, 9, float("inf"), 30), "not four numbers"),
    ],
)
def test_the_reason_why_a_box_is_none(tmp_path, kind, box, reason):
    data = CleanSet(tmp_path, kind)
    data.objects["b"].insert(1, ("cat", box))
    data.write()
    found = only(data)
    assert (found.kind, found.severity) == ("degenerate-box", "error")
    assert (found.file, found.object) == (str(data.label("b")), data.place("b", 1))
    assert f"box {'is ' if reason.startswith('not') else ''}{reason}" in found.detail


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("box", "severity"),
    [
        ((-20, 4, 30, 40), "warning"), ((30, 20, 90, 40), "warning"), ((4, -9, 40, 40), "warning"),
        ((4, 10, 40, 60), "warning"), ((-9, -9, 80, 60), "warning"), ((70, 4, 90, 40), "error"),
        ((-30, 4, -9, 40), "error"), ((4, 50, 40, 80), "error"), ((4, -40, 40, -9), "error"),
    ],
)  # fmt: skip
def test_boxes_that_leave_the_picture(tmp_path, kind, box, severity):
    data = CleanSet(tmp_path, kind)
    data.objects["a"].append(("dog", box))
    data.write()
    found = only(data)
    assert (found.kind, found.severity) == ("box-outside", severity)
    assert (found.file, found.object) == (str(data.label("a")), data.place("a", 2))


@pytest.mark.parametrize("kind", FORMATS)
def test_each_repetition_of_a_box_is_told(tmp_path, kind):
    data = CleanSet(tmp_path, kind)
    near = (4.05, 6, 34.05, 36) if kind != "voc" else (4, 6, 34, 36)
    data.objects["a"] += [("cat", (4, 6, 34, 36)), ("cat", near), ("dog", (4, 6, 34, 36))]
    data.write()
    found = report(data).findings
    assert [(f.kind, f.object) for f in found] == [
        ("duplicate-box", data.place("a", 2)),
        ("duplicate-box", data.place("a", 3)),
    ]
    assert all(f"object {data.place('a', 0)}" in f.detail for f in found)


# Sizes


@pytest.mark.parametrize("kind", ["voc", "coco"])
@pytest.mark.parametrize(
    ("size", "severity"),
    [
        ((WIDTH + 1, HEIGHT), "error"), ((HEIGHT, WIDTH), "error"), ((0, 0), "warning"),
        ((-WIDTH, HEIGHT), "warning"), (("wide", "high"), "error"),
    ],
)  # fmt: skip
def test_a_size_that_is_not_the_picture_s(tmp_path, kind, size, severity):
    data = CleanSet(tmp_path, kind)
    data.sizes["c"] = size
    data.write()
    found = only(data)
    assert (found.kind, found.severity, found.object) == ("size-mismatch", severity, None)
    assert found.file == str(data.label("c"))
    if kind == "coco":
        assert "c.jpg: " in found.detail


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_size_that_is_left_out_or_left_empty(tmp_path, kind):
    data = CleanSet(tmp_path, kind)
    if kind == "coco":
        edit(data, lambda content: [content["images"][0].pop(k) for k in ("width", "height")])
        edit(data, lambda content: content["images"][1].update(width=None, height=None))
    else:
        text = data.label("a").read_text()
        data.label("a").write_text(text.replace(f">{WIDTH}<", "><").replace(f">{HEIGHT}<", "><"))
    assert report(data).findings == ()


# The whole set


@pytest.mark.parametrize("kind", FORMATS)
def test_a_class_without_objects_to_train_on_is_a_note(tmp_path, kind):
    data = CleanSet(tmp_path, kind)
    data.names += ["unicorn"] if kind == "voc" else ["unicorn", "griffin"]
    data.objects["c"].append(("unicorn", (5, 5, 50, 40)))
    data.write()
    found = report(data)
    assert found.findings == ()
    notes = "\n".join(found.summary["notes"])
    assert "class 'unicorn' has objects in val and none to train on" in notes
    assert ("classes without an object: 'griffin'" in notes) == (kind != "voc")


def test_pictures_in_no_split_are_a_note(tmp_path):
    data = CleanSet(tmp_path, "voc")
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    found = report(data)
    assert found.findings == ()
    assert "1 picture of its folders is in no split" in "\n".join(found.summary["notes"])


def test_remarks_on_parts_are_told_of_the_whole(tmp_path):
    first, second = CleanSet(tmp_path / "one", "coco"), CleanSet(tmp_path / "two", "coco")
    for number, name in enumerate(PICTURES):
        image = second.image(name)
        image.write_bytes(encode(".jpg", pixels(f"other {number}")))
    edit(second, lambda content: content["annotations"][3].update(id=1))
    (found,) = examine([first.root, second.root], SPEC, workers=0).findings
    assert (found.file, found.object) == (str(second.label("a")), 3)


@pytest.mark.skipif(sys.platform == "win32", reason="no links or pipes")
class TestFilesThatAreNone:
    def test_links_to_themselves(self, tmp_path):
        data = CleanSet(tmp_path, "voc")
        (tmp_path / "self").symlink_to("self")
        (tmp_path / "JPEGImages" / "loop").symlink_to(tmp_path)
        assert report(data).findings == ()
        data.image("a").unlink()
        data.image("a").symlink_to(data.image("a").name)
        found = only(data)
        assert (found.kind, found.severity) in [
            ("unreadable-image", "error"),
            ("label-without-image", "error"),
        ]
        assert "a." in found.file

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_pipe_in_the_place_of_labels_is_not_waited_for(self, tmp_path, kind):
        data = CleanSet(tmp_path, kind)
        data.label("a").unlink()
        os.mkfifo(data.label("a"))
        kinds = {f.kind for f in report(data).findings}
        assert kinds <= {"bad-label-file", "image-without-label", "duplicate-image"}
        assert kinds

    @pytest.mark.parametrize("kind", FORMATS)
    def test_a_folder_in_the_place_of_a_picture(self, tmp_path, kind):
        data = CleanSet(tmp_path, kind)
        data.image("b").unlink()
        data.image("b").mkdir()
        found = only(data)
        assert (found.kind, found.severity) == ("label-without-image", "error")
        assert found.object is None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "name",
    ["with space", "ünï 图片", "50%20off", "it's", "a+b", "semi;colon&amp", "#hash", "x" * 150],
)
def test_odd_file_names(tmp_path, kind, name):
    data = CleanSet(tmp_path, kind)
    image, label = data.image("b"), data.label("b")
    image.rename(image.with_name(f"{name}.jpg"))
    if kind == "coco":
        edit(data, lambda content: content["images"][1].update(file_name=f"{name}.jpg"))
    else:
        label.rename(label.with_name(f"{name}{label.suffix}"))
    if kind == "voc":
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(f"a\n{name}\n", "utf-8")
    found = report(data)
    assert found.findings == ()
    assert found.summary["objects"] == 6


def test_every_default_policy_is_in_the_detail(tmp_path):
    data = CleanSet(tmp_path, "coco")
    edit(data, lambda content: content["annotations"][2].update(id=1, bbox=[9, 9, 0, 9]))
    for found in report(data).findings:
        assert f"(train: {CHOICES[found.kind].default}" in found.detail


def test_the_same_pixels_in_another_file_format(tmp_path):
    data = CleanSet(tmp_path, "yolo")
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)  # which JPEG keeps to the bit
    data.image("a").write_bytes(encode(".jpg", flat))
    data.image("c").unlink()
    data.image("c").with_suffix(".png").write_bytes(encode(".png", flat))
    found = only(data)
    assert (found.kind, found.severity) == ("duplicate-image", "error")
    assert found.file == str(data.image("c").with_suffix(".png"))
    assert str(data.image("a")) in found.detail
