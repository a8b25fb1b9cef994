"""Faults that each format has in its own way, and what is odd but legal in it."""

import json
import os
import shutil
import sys

import numpy as np
import pytest
from damaged_sets import FORMATS, HEIGHT, PICTURES, WIDTH, CleanSet, encode, pixels

from multibox import zoo
from multibox.data.doctor import examine
from multibox.data.policies import CHOICES

SPEC = zoo.new_card("ssd300_mobilenet_v1", ["object"]).default_boxes


def report(data):
    return examine(data.root, SPEC, workers=0)


def only(data):
    (found,) = report(data).findings
    return found


def edit(data, change, name="a"):
    """Change the JSON that labels the picture ``name``."""
    content = json.loads(data.label(name).read_text())
    change(content)
    data.label(name).write_text(json.dumps(content))


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
    if kind == "voc" and reason == "without area":  # which counts from 1, the last pixel included
        box = tuple(v - (i < 2 and box[i] == box[i + 2]) for i, v in enumerate(box))
        data.objects["b"][1] = ("cat", box)
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


# COCO's ids


def test_annotations_with_the_id_of_another(tmp_path):
    data = CleanSet(tmp_path, "coco")
    edit(data, lambda content: content["annotations"][2].update(id=1))
    found = only(data)
    assert (found.kind, found.severity, found.object) == ("bad-label-file", "warning", 2)
    assert "annotation id 1" in found.detail


def test_an_annotation_of_an_image_that_is_not_listed(tmp_path):
    data = CleanSet(tmp_path, "coco")
    edit(data, lambda content: content["annotations"][1].update(image_id=999))
    found = only(data)
    assert (found.kind, found.severity, found.object) == ("label-without-image", "error", 1)
    assert "image_id 999" in found.detail


def test_files_that_disagree_about_a_category_id(tmp_path):
    data = CleanSet(tmp_path, "coco")

    def exchange(content):
        first, second = content["categories"]
        first["id"], second["id"] = second["id"], first["id"]

    edit(data, exchange, "c")
    found = only(data)
    assert (found.kind, found.severity) == ("bad-label-file", "warning")
    assert found.file == str(data.label("c"))
    assert "'cat'" in found.detail
    assert "'dog'" in found.detail


def test_a_picture_that_two_images_of_a_file_name(tmp_path):
    data = CleanSet(tmp_path, "coco")
    edit(data, lambda content: content["images"][1].update(file_name="a.jpg"))
    found = report(data).findings
    assert [(f.kind, f.severity) for f in found] == [
        ("image-without-label", "warning"),
        ("duplicate-image", "warning"),
    ]
    assert "a.jpg: the same picture listed twice" in found[1].detail
    assert report(data).summary["objects"] == 6


def test_an_image_with_the_id_of_another_and_one_without(tmp_path):
    data = CleanSet(tmp_path, "coco")
    edit(data, lambda content: content["images"][1].update(id=content["images"][0]["id"]))
    kinds = [f.kind for f in report(data).findings]
    assert kinds.count("bad-label-file") == 1
    edit(data, lambda content: content["images"][1].update(id=None))
    assert any("image without an id" in f.detail for f in report(data).findings)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: [i.update(id=i["id"] * 10) for i in c["categories"]]
        and [a.update(category_id=a["category_id"] * 10) for a in c["annotations"]],
        lambda c: [i.update(id=f"im{i['id']}") for i in c["images"]]
        and [a.update(image_id=f"im{a['image_id']}") for a in c["annotations"]],
        lambda c: c["annotations"][0].update(segmentation=[[4, 6, 34, 6, 34, 36]], area=450.5),
        lambda c: c["annotations"][0].update(iscrowd=1, segmentation={"counts": [], "size": []}),
        lambda c: c.update(info={"year": 2024}, licenses=[], custom=[1, 2]),
        lambda c: c["images"][0].update(license=3, coco_url="", date_captured=None),
    ],
    ids=["gaps", "texts", "polygon", "crowd", "keys", "picture keys"],
)  # fmt: skip
def test_what_coco_allows(tmp_path, change):
    data = CleanSet(tmp_path, "coco")
    for name in ("a", "c"):
        edit(data, change, name)
    assert report(data).findings == ()


@pytest.mark.parametrize("form", ["utf-8-sig", "utf-16"])
def test_a_json_in_another_encoding(tmp_path, form):
    data = CleanSet(tmp_path, "coco")
    for name in ("a", "c"):
        data.label(name).write_bytes(data.label(name).read_text().encode(form))
    assert report(data).findings == ()
    assert report(data).summary["objects"] == 6


# YOLO's classes and lists


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("{1: cat, 2: dog}", "not numbered from 0 without gaps: no 0"),
        ("{0: cat, 2: dog}", "not numbered from 0 without gaps: no 1"),
        ("[cat, dog]\nnc: 3", "nc is 3, the names are 2"),
    ],
)
def test_class_numbers_that_are_not_0_to_n(tmp_path, names, said):
    data = CleanSet(tmp_path, "yolo")
    file = data.root / "data.yaml"
    file.write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    found = [f for f in report(data).findings if f.kind == "bad-label-file"]
    assert [(f.file, f.severity) for f in found] == [(str(file), "warning")]
    assert said in found[0].detail


def test_a_class_number_that_stands_twice(tmp_path):
    data = CleanSet(tmp_path, "yolo")
    file = data.root / "data.yaml"
    file.write_text("train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n  0: cow\n")
    found = only(data)
    assert (found.kind, found.severity, found.file) == ("bad-label-file", "error", str(file))
    assert "'0' twice" in found.detail


def test_lists_that_repeat_or_share_pictures(tmp_path):
    data = CleanSet(tmp_path, "yolo")
    (tmp_path / "train.txt").write_text(
        "images/train/a.jpg\nimages/train/b.jpg\nimages/train/a.jpg\n"
    )
    (tmp_path / "val.txt").write_text("images/val/c.jpg\nimages/train/b.jpg\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    found = report(data).findings
    assert [(f.kind, f.severity, f.file) for f in found] == [
        ("duplicate-image", "error", str(data.image("b"))),
        ("bad-label-file", "warning", str(tmp_path / "train.txt")),
    ]
    assert "lists pictures twice: a.jpg" in found[1].detail


def test_a_split_whose_folder_is_empty_or_gone(tmp_path):
    data = CleanSet(tmp_path, "yolo")
    data.label("c").unlink()
    data.image("c").unlink()
    found = only(data)
    assert (found.kind, found.severity) == ("bad-label-file", "warning")
    assert "its split val is empty" in found.detail
    data.image("c").parent.rmdir()
    assert "val: images/val does not exist" in only(data).detail


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "\n  \n" + text + "\n\n",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: "0 .1 .1 .5 .1 .5 .6 .1 .6\n1 .3 .3 .9 .3 .6 .9\n",
        lambda text: text.replace(" ", "\t"),
    ],
    ids=["empty", "blank lines", "crlf", "bom", "polygons", "tabs"],
)
def test_what_yolo_allows(tmp_path, change):
    data = CleanSet(tmp_path, "yolo")
    data.label("a").write_bytes(change(data.label("a").read_text()).encode())
    assert report(data).findings == ()


# VOC's lists


def test_an_empty_list_and_one_that_repeats(tmp_path):
    data = CleanSet(tmp_path, "voc")
    lists = tmp_path / "ImageSets" / "Main"
    (lists / "test.txt").write_text("\n")
    (lists / "train.txt").write_text("a\nb\na\n")
    found = report(data).findings
    assert [(f.kind, f.severity, f.file) for f in found] == [
        ("bad-label-file", "warning", str(lists / "test.txt")),
        ("bad-label-file", "warning", str(lists / "train.txt")),
    ]
    assert "the split test is empty" in found[0].detail
    assert "lists pictures twice: a" in found[1].detail


def test_a_listed_picture_without_annotation_is_named_itself(tmp_path):
    data = CleanSet(tmp_path, "voc")
    data.label("b").unlink()
    found = only(data)
    assert (found.kind, found.severity) == ("image-without-label", "warning")
    assert found.file == str(data.image("b"))


def test_a_list_in_another_encoding_is_a_finding(tmp_path):
    data = CleanSet(tmp_path, "voc")
    file = tmp_path / "ImageSets" / "Main" / "train.txt"
    file.write_bytes("a\nb\n".encode("utf-16"))
    found = only(data)
    assert (found.kind, found.severity, found.file) == ("bad-label-file", "error", str(file))
    assert "UTF-8" in found.detail


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("><", ">\r\n<"),
        lambda text: "\ufeff" + text,
        lambda text: '<?xml version="1.0"?>\n' + text,
        lambda text: text.replace("<name>", "<difficult>1</difficult><name>"),
        lambda text: text.replace("<xmin>5", "<xmin>5.25").replace("<ymax>36", "<ymax>35.75"),
        lambda text: text.replace("<annotation>", "<annotation><filename>../x/y.jpg</filename>"),
        lambda text: text.replace("</object>", "<part><name>head</name><bndbox><xmin>1</xmin>"
                                  "<ymin>1</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></part></object>"),
        lambda text: "<annotation></annotation>",
    ],
    ids=["crlf", "bom", "declared", "flags", "fractions", "other name", "parts", "nothing"],
)  # fmt: skip
def test_what_voc_allows(tmp_path, change):
    data = CleanSet(tmp_path, "voc")
    data.label("a").write_bytes(change(data.label("a").read_text()).encode())
    assert report(data).findings == ()


def test_an_annotation_in_utf_16(tmp_path):
    data = CleanSet(tmp_path, "voc")
    text = '<?xml version="1.0" encoding="UTF-16"?>' + data.label("a").read_text()
    data.label("a").write_bytes(text.encode("utf-16"))
    assert report(data).findings == ()


def test_an_xml_file_of_another_kind_beside_its_picture_is_told_once(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(encode(".jpg", pixels(name)))
    source = CleanSet(tmp_path / "other", "voc")
    (tmp_path / "a.xml").write_text(source.label("a").read_text())
    (tmp_path / "b.xml").write_text("<html><body/></html>")
    shutil.rmtree(source.root)
    (found,) = examine(tmp_path, SPEC, workers=0).findings
    assert (found.kind, found.file) == ("bad-label-file", str(tmp_path / "b.xml"))


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
