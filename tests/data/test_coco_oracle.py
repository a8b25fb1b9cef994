"""COCO JSON against pycocotools' own loader."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import by_name, names_of, reasons, write_picture
from pycocotools.coco import COCO

from multibox.data import open_data
from multibox.errors import InputError

WIDTH, HEIGHT = 64, 48

# Corners in quarters of a pixel, well inside the picture, at least a pixel a side.
quarter = st.integers(0, 4 * 40).map(lambda n: n / 4)
side = st.integers(4, 4 * 8).map(lambda n: n / 4)


@st.composite
def coco_files(draw: st.DrawFn) -> dict[str, Any]:
    """What a tool may write: ids with gaps and in no order, images without annotations, crowds."""
    ids = st.integers(1, 2**40)
    images = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    categories = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    annotations = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "image_id": st.sampled_from(images),
                    "category_id": st.sampled_from(categories),
                    "bbox": st.tuples(quarter, quarter, side, side).map(list),
                    "area": st.integers(1, 200),
                    "iscrowd": st.integers(0, 1),
                }
            ),
            max_size=8,
            unique_by=lambda item: tuple(item["bbox"]),
        )
    )
    return {
        "info": {"description": "drawn"},
        "images": [
            {"id": id, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT}
            for n, id in enumerate(images)
        ],
        "annotations": [{"id": n, **item} for n, item in enumerate(annotations, 1)],
        "categories": [{"id": id, "name": f"class {id}"} for id in categories],
    }


def pycocotools_reads(path: Path) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


@given(coco_files())
@settings(max_examples=25, deadline=None)
def test_as_pycocotools_reads_it(content: dict[str, Any]) -> None:
    folder = Path(mkdtemp())
    try:
        for image in content["images"]:
            write_picture(folder / image["file_name"], WIDTH, HEIGHT)
        file = folder / "labels.json"
        file.write_text(json.dumps(content))
        theirs, ours = pycocotools_reads(file), open_data(file)
        categories = sorted(theirs.getCatIds())
        assert ours.names == tuple(theirs.loadCats(id)[0]["name"] for id in categories)
        assert len(ours) == len(theirs.getImgIds())
        by_file = by_name(ours)
        for id in theirs.getImgIds():
            image = theirs.loadImgs(id)[0]
            sample = by_file[Path(image["file_name"]).stem]
            objects = theirs.loadAnns(theirs.getAnnIds(imgIds=[id]))
            boxes = np.array([item["bbox"] for item in objects], float).reshape(-1, 4)
            np.testing.assert_allclose(
                sample.boxes, np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
            )
            labels = [categories.index(item["category_id"]) for item in objects]
            assert sample.labels.tolist() == labels
            assert sample.crowd.tolist() == [bool(item["iscrowd"]) for item in objects]
            if objects:
                assert sample.areas.tolist() == [item["area"] for item in objects]
    finally:
        shutil.rmtree(folder)


def lone_file(folder: Path, **parts: Any) -> Path:
    """A file of one picture and one object, with ``parts`` of it replaced."""
    write_picture(folder / "1.png", WIDTH, HEIGHT)
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": WIDTH, "height": HEIGHT}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    file = folder / "labels.json"
    file.write_text(json.dumps(content | parts))
    return file


CAT = {"id": 1, "name": "cat"}
IMAGE = {"id": 1, "file_name": "1.png"}
OBJECT = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20]}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"annotations": [OBJECT, {**OBJECT, "bbox": []}]}, "annotation without a bbox"),
        ({"annotations": [OBJECT, {**OBJECT, "bbox": "1 2 3 4"}]}, "box is not four numbers"),
        ({"annotations": [OBJECT, {**OBJECT, "bbox": {"x": 1}}]}, "box is not four numbers"),
        ({"annotations": [OBJECT, {**OBJECT, "bbox": [1, 2, [3], 4]}]}, "box is not four numbers"),
        ({"annotations": [OBJECT, {**OBJECT, "category_id": [1]}]}, "category id that is not"),
        ({"annotations": [OBJECT, {**OBJECT, "category_id": True}]}, None),  # Python's True is 1
        ({"annotations": [OBJECT, {**OBJECT, "image_id": {}}]}, "annotation of an image that is"),
        ({"annotations": [OBJECT, {**OBJECT, "bbox": [5, 5, 0, 4]}]}, "box without area"),
        ({"categories": [CAT, {"id": 1, "name": "dog"}]}, "category id with two names"),
        ({"categories": [CAT, {"id": 2, "name": " cat "}]}, "class listed twice"),
        ({"categories": [CAT, {"id": 2, "name": " "}]}, "categories[1] is without an id or a name"),
        ({"categories": [{"id": None, "name": "dog"}, CAT]}, "categories[0] is without an id"),
        ({"categories": [CAT, ["dog"]]}, "categories[1] is not an object"),
        ({"images": [None, IMAGE]}, "images[0] is not an object"),
        ({"annotations": [OBJECT, None]}, "annotations[1] is not an object"),
        ({"images": [IMAGE, {"id": 2, "file_name": "../1.png"}]}, "picture not found"),
        ({"images": [IMAGE, {"id": 2, "file_name": "/etc/passwd"}]}, "picture not found"),
        ({"images": [IMAGE, {"id": 2, "file_name": "a" * 5000}]}, "picture not found"),
        ({"images": [IMAGE, {"id": 2, "file_name": "\ud800"}]}, "picture not found"),
        ({"images": [IMAGE, {"id": 2, "file_name": "\0"}]}, "picture not found"),
        ({"images": [IMAGE, {"id": 2, "file_name": None}]}, "picture not found"),
        ({"images": [IMAGE, {"id": 2, "file_name": ""}]}, "picture not found"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_entry_leaves_the_others(
    tmp_path: Path, parts: dict[str, Any], said: str | None
) -> None:
    data = open_data(lone_file(tmp_path, **parts))
    sample = by_name(data)["1"]
    assert names_of(data, sample)[0] == "cat"
    assert sample.boxes[0].tolist() == [1, 2, 11, 22]
    found = [reason for _, _, reason, _ in reasons(data)]
    assert [reason for reason in found if said is not None and reason.startswith(said)] or not said
    if said is None:
        assert not [reason for reason in found if reason != "box drawn twice"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"categories": []}, "no labelled objects"),
        ({"categories": [{"id": 1, "name": " "}]}, "no labelled objects"),
        ({"categories": [["cat"]]}, r"categories\[0\] is not an object"),
        ({"images": {"1": "1.png"}}, "not a COCO file: it needs the lists"),
        ({"images": [7]}, r"images\[0\] is not an object"),
        ({"images": []}, "no readable picture"),
        ({"annotations": [None]}, r"annotations\[0\] is not an object"),
        ({"annotations": None}, "not a COCO file"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_one_line(
    tmp_path: Path, parts: dict[str, Any], said: str
) -> None:
    file = lone_file(tmp_path, **parts)
    with pytest.raises(InputError, match=said) as caught:
        open_data(file)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_half_a_unicode_pair_in_a_class_name_can_be_written_anywhere(tmp_path: Path) -> None:
    data = open_data(lone_file(tmp_path, categories=[{"id": 1, "name": "cat \ud83d"}]))
    assert data.names == ("cat �",)
    assert names_of(data, data.samples[0]) == ["cat �"]
    data.names[0].encode()


@pytest.mark.parametrize(
    ("raw", "box"),
    [("1e400", None), ("-1e400", None), ("NaN", None), ("9" * 400, None), ("1e-400", 0.0),
     ("true", 1.0)],
)  # fmt: skip
def test_numbers_at_the_edge_of_json(tmp_path: Path, raw: str, box: float | None) -> None:
    file = lone_file(tmp_path)
    file.write_text(file.read_text().replace('"bbox": [1,', f'"bbox": [{raw},'))
    data = open_data(file)
    if box is None:
        assert [reason for _, _, reason, _ in reasons(data)] == ["box is not four numbers"]
    else:
        assert data.samples[0].boxes[0, 0] == box


def test_of_a_key_that_is_there_twice_the_last_counts_as_in_every_json_reader(
    tmp_path: Path,
) -> None:
    file = lone_file(tmp_path)
    file.write_text(file.read_text().replace('"bbox": ', '"bbox": [0, 0, 1, 1], "bbox": '))
    assert json.loads(file.read_text())["annotations"][0]["bbox"] == [1, 2, 10, 20]
    assert open_data(file).samples[0].boxes.tolist() == [[1, 2, 11, 22]]


def test_a_missing_picture_is_not_taken_from_another_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_picture(tmp_path / "a" / "1.png", WIDTH, HEIGHT)
    images = [{"id": 1, "file_name": "a/1.png"}, {"id": 2, "file_name": "b/1.png"}]
    objects = [OBJECT, {**OBJECT, "image_id": 2, "bbox": [5, 5, 9, 9]}]
    data = open_data(lone_file(tmp_path, images=images, annotations=objects))
    assert [sample.boxes.tolist() for sample in data.samples] == [[[1, 2, 11, 22]]]
    assert [reason for _, _, reason, _ in reasons(data)] == ["picture not found"]
