"""Faults and liberties of each format: COCO's ids, YOLO's numbers and lists, VOC's lists."""

import shutil

import pytest
from damaged_sets import CleanSet, encode, pixels
from findings_of import SPEC, edit, only, report

from multibox.data.doctor import examine

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


# What one bad entry must not hide, and what no reader comes by


def test_an_entry_that_is_no_object_hides_no_other_fault(tmp_path):
    data = CleanSet(tmp_path, "coco")

    def change(content):
        content["annotations"].append(None)
        content["annotations"][0]["bbox"][2] = 0

    edit(data, change)
    found = {item.kind: item for item in report(data).findings}
    assert found["degenerate-box"].object == 0
    assert "is not an object" in found["bad-label-file"].detail


def test_a_text_file_that_labels_two_pictures(tmp_path):
    data = CleanSet(tmp_path, "yolo")
    image = data.image("a")
    other = image.with_suffix(".png")
    other.write_bytes(encode(".png", pixels("other")))
    found = [item for item in report(data).findings if item.kind == "bad-label-file"]
    assert [item.file for item in found] == [str(data.label("a"))]
    assert image.name in found[0].detail
    assert other.name in found[0].detail


def test_labels_deep_in_a_folder_without_pictures(tmp_path):
    data = CleanSet(tmp_path, "yolo")
    ghost = data.label("a").parent / "deep" / "ghost.txt"
    ghost.parent.mkdir()
    ghost.write_text("0 .5 .5 .3 .3\n")
    found = only(data)
    assert (found.kind, found.file) == ("label-without-image", str(ghost))
