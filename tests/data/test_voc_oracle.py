"""VOC annotations against the standard library's DOM, and what their reader refuses."""

from pathlib import Path
from xml.dom import minidom

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import (
    boxes_of,
    by_name,
    reasons,
    voc_object,
    write_list,
    write_picture,
    write_voc,
    write_xml,
)

from multibox import limits
from multibox.data import available_splits, open_data
from multibox.data.loose_xml import recognise as recognise_loose
from multibox.data.open import read_labels
from multibox.data.policies import Policies
from multibox.data.voc import recognise
from multibox.data.voc_xml import read_annotation
from multibox.errors import InputError

CAT = voc_object("cat", (3, 4, 20, 25))


def by_hand(text: str) -> tuple[str, tuple[int, int] | None, list[tuple[str, list[float], bool]]]:
    """File name, size and objects, by walking the DOM; sides below one pixel left out."""
    root = minidom.parseString(text).documentElement

    def child(node: minidom.Element, tag: str) -> minidom.Element | None:
        return next((c for c in node.childNodes if c.nodeName == tag), None)

    def words(node: minidom.Element | None) -> str:
        if node is None:
            return ""
        return "".join(c.data for c in node.childNodes if c.nodeType in (3, 4)).strip()

    size = child(root, "size")
    stated = None
    if size is not None:
        stated = (int(words(child(size, "width"))), int(words(child(size, "height"))))
    objects = []
    for node in (c for c in root.childNodes if c.nodeName == "object"):
        box = child(node, "bndbox")
        x0, y0, x1, y1 = (float(words(child(box, k))) for k in ("xmin", "ymin", "xmax", "ymax"))
        if x1 > x0 and y1 > y0:
            hard = words(child(node, "difficult")) == "1"
            objects.append((words(child(node, "name")), [x0 - 1, y0 - 1, x1, y1], hard))
    return words(child(root, "filename")), stated, objects


def tag(name: str, inner: str) -> str:
    return f"<{name}>{inner}</{name}>"


space = st.sampled_from(["", " ", "\n\t", "<!-- said -->"])
number = st.one_of(st.integers(1, 60).map(str), st.floats(1, 60).map(lambda x: f"{x:.3f}"))
name = st.sampled_from(["cat", " dog ", "猫 &amp; &lt;犬&gt;", "<![CDATA[a <b>]]>", "Å&#228;"])


@st.composite
def annotations(draw: st.DrawFn) -> str:
    def corner(key: str) -> str:
        return tag(key, draw(st.sampled_from(["", " "])) + draw(number))

    def an_object() -> str:
        keys = draw(st.permutations(["xmin", "ymin", "xmax", "ymax"]))
        parts = [tag("name", draw(name)), tag("bndbox", "".join(corner(key) for key in keys))]
        parts.append(
            draw(st.sampled_from(["", "<difficult>1</difficult>", "<difficult>0</difficult>"]))
        )
        parts.append(draw(st.sampled_from(["", "<part><name>head</name><bndbox/></part>"])))
        return tag("object", draw(space).join(draw(st.permutations(parts))))

    parts = [an_object() for _ in range(draw(st.integers(0, 4)))]
    parts.append(draw(st.sampled_from(["", "<filename> a b.jpg </filename>"])))
    parts.append(draw(st.sampled_from(["", "<size><width>64</width><height>48</height></size>"])))
    return tag("annotation", draw(space).join(parts))


@given(annotations(), st.sampled_from(["utf-8", "utf-16"]))
@settings(max_examples=60, deadline=None)
def test_as_the_dom_has_it(
    tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "by hand.xml"
    path.write_bytes(f"<?xml version='1.0' encoding='{encoding}'?>{text}".encode(encoding))
    read = read_annotation(path)
    file_name, size, objects = by_hand(text)
    assert (read.file_name, read.size) == (file_name, size)
    found = [(item.name.strip(), item.difficult) for item in read.objects]
    assert found == [(name, hard) for name, _, hard in objects]
    np.testing.assert_allclose(
        np.reshape([item.box for item in read.objects], (-1, 4)),
        np.reshape([box for _, box, _ in objects], (-1, 4)),
    )
    assert len(read.objects) + len(read.problems) == text.count("<object>")


@pytest.mark.parametrize("declared", ["rot13", "base64", "zip", "klingon", "utf-32"])
def test_encodings_that_are_none_are_one_line(tmp_path: Path, declared: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(f"<?xml version='1.0' encoding='{declared}'?><annotation/>".encode())
    with pytest.raises(InputError, match=r"a\.xml: not a readable XML file") as caught:
        read_annotation(path)
    assert "\n" not in str(caught.value)


def test_more_objects_than_a_picture_can_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OBJECTS", 3)
    write_voc(tmp_path, {"a": [CAT] * 3}, {})
    assert len(open_data(tmp_path).samples[0].boxes) == 3
    write_voc(tmp_path, {"a": [CAT] * 4}, {})
    with pytest.raises(InputError, match=r"a\.xml: 4 objects, more than the limit of 3.*=2$"):
        open_data(tmp_path)


@pytest.mark.parametrize("depth", [49, 50])
def test_depth_is_limited_to_the_element(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "a.xml"
    inner = depth - 1
    path.write_text(f"<annotation>{'<a>' * inner}{'</a>' * inner}</annotation>")
    assert read_annotation(path).objects == []
    path.write_text(f"<annotation>{'<a>' * 50}{'</a>' * 50}</annotation>")
    with pytest.raises(InputError, match="more than 50 elements in each other"):
        read_annotation(path)


@pytest.mark.parametrize(
    ("size", "read"),
    [
        ("<size><width>40</width><height>30</height></size>", (40, 30)),
        ("<size><width>40.0</width><height>30.9</height></size>", (40, 30)),
        ("<size><width>40</width></size>", None),
        ("<size><width>nan</width><height>30</height></size>", None),
        ("<size><width>1e400</width><height>30</height></size>", None),
        ("<size/>", None),
        ("", None),
    ],
)
def test_sizes(tmp_path: Path, size: str, read: tuple[int, int] | None) -> None:
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation>{size}</annotation>")
    assert read_annotation(path).size == read


@pytest.mark.parametrize(
    ("said", "difficult"),
    [("1", True), (" True ", True), ("yes", True), ("0", False), ("no", False), ("", False),
     ("2", False)],
)  # fmt: skip
def test_what_means_difficult(tmp_path: Path, said: str, difficult: bool) -> None:
    path = write_xml(tmp_path / "a.xml", voc_object("cat", (3, 4, 20, 25), difficult=said))
    (item,) = read_annotation(path).objects
    assert item.difficult is difficult


def test_an_xml_of_another_kind_in_annotations(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [CAT], "b": [CAT]}, {"train": ["a", "b"]})
    (tmp_path / "Annotations" / "b.xml").write_text("<html/>")
    data = open_data(tmp_path, split="all")
    assert len(by_name(data)["b"].boxes) == 0
    assert reasons(data) == [
        ("b.xml", None, "not a VOC annotation", "kept as pictures without objects")
    ]


def test_folder_names_in_any_case(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [CAT], "b": [CAT]}, {"train": ["a"], "val": ["b"]})
    for name in ("Annotations", "JPEGImages", "ImageSets"):
        (tmp_path / name).rename(tmp_path / name.lower())
    (tmp_path / "imagesets" / "Main").rename(tmp_path / "imagesets" / "MAIN")
    assert recognise(tmp_path) == "VOC folder"
    assert available_splits(tmp_path) == ("train", "val")


def test_annotations_in_subfolders_and_lists_that_name_them(tmp_path: Path) -> None:
    for part in ("one", "two"):
        write_picture(tmp_path / "JPEGImages" / part / "a.jpg")
        write_xml(tmp_path / "Annotations" / part / "a.xml", voc_object(part, (1, 1, 9, 9)))
    write_list(tmp_path / "ImageSets" / "Main" / "train.txt", ["one/a", "two/a.jpg"])
    data = open_data(tmp_path, split="all")
    assert {sample.id: data.names[sample.labels[0]] for sample in data.samples} == {
        "JPEGImages/one/a.jpg": "one",
        "JPEGImages/two/a.jpg": "two",
    }


def test_what_is_no_voc_folder(tmp_path: Path) -> None:
    tmp_path = tmp_path / "VOC2007"
    tmp_path.mkdir()
    assert recognise(tmp_path) is None
    write_picture(tmp_path / "JPEGImages" / "a.jpg")
    assert recognise(tmp_path) is None
    (tmp_path / "Annotations").mkdir()
    assert recognise(tmp_path) is None  # COCO's folder has the same name
    write_xml(tmp_path / "Annotations" / ".hidden.xml", CAT)
    assert recognise(tmp_path) is None
    write_xml(tmp_path / "Annotations" / "a.xml", CAT)
    assert recognise(tmp_path) == "VOC folder"
    assert recognise(tmp_path.parent) == "VOC devkit (VOC2007)"


def test_a_loose_xml_that_cannot_be_read_is_its_pictures_problem(tmp_path: Path) -> None:
    for stem in ("a", "b"):
        write_picture(tmp_path / f"{stem}.jpg")
        write_xml(tmp_path / f"{stem}.xml", CAT)
    (tmp_path / "b.xml").write_text("<annotation>")
    assert recognise_loose(tmp_path) == "pictures with VOC XML files"
    with pytest.raises(InputError, match=r"b\.xml: not a readable XML file"):
        open_data(tmp_path)
    without = read_labels(tmp_path, policies=Policies({"bad-label-file": "drop-image"})).open()
    assert list(by_name(without)) == ["a"]


def test_the_file_name_inside_never_leads_out(tmp_path: Path) -> None:
    outside = write_picture(tmp_path / "outside" / "x.jpg")
    root = tmp_path / "set"
    write_voc(root, {"a": [CAT]}, {})
    for file_name in ("../outside/x.jpg", str(outside), "..\\outside\\x.jpg"):
        write_xml(root / "Annotations" / "b.xml", CAT, file_name=file_name)
        data = open_data(root)
        assert [sample.id for sample in data.samples] == ["JPEGImages/a.jpg"]
        assert ("b.xml", None, "picture not found", "left out") in reasons(data)


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)
)
@settings(max_examples=40, deadline=None)
def test_any_text_is_a_class_name_and_never_a_path(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any name"
    write_voc(folder, {"a": [voc_object(text, (3, 4, 20, 25))]}, {})
    if not text.strip():
        with pytest.raises(InputError, match="no labelled objects"):
            open_data(folder)
        return
    data = open_data(folder)
    # XML 1.0 turns no letter into another but line ends, which the category Cc has.
    assert data.names == (text.strip(),)
    assert boxes_of(data.samples[0]) == [[2, 3, 20, 25]]
