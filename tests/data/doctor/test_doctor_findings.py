import json
from pathlib import Path

import pytest
from damaged_sets import FAULTS, FORMATS, PICTURES, CleanSet, encode, pixels
from findings_of import SPEC
from hypothesis import given, settings
from hypothesis import strategies as st

from multibox.data import open_data, synthetic
from multibox.data.doctor import examine
from multibox.data.policies import CHOICES, KINDS
from multibox.errors import InputError


def findings(data, workers=0):
    return [(f.kind, Path(f.file), f.object) for f in examine(data, SPEC, workers=workers).findings]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_clean_set_has_no_findings(tmp_path, kind):
    report = examine(CleanSet(tmp_path, kind).root, SPEC)
    assert report.findings == ()
    assert report.summary["pictures"] == 3
    assert report.summary["objects"] == 6
    assert report.summary["classes"]["cat"] == {
        "objects": 3,
        "pictures": 3,
        "splits": {"train": 2, "val": 1},
    }
    assert json.loads(json.dumps(report.as_json())) == report.as_json()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_found_and_nothing_else(tmp_path, kind, fault):
    expected = fault(CleanSet(tmp_path, kind))
    assert findings(tmp_path) == expected


def test_every_kind_is_planted(tmp_path):
    planted = set()
    for number, fault in enumerate(FAULTS):
        planted |= {kind for kind, _, _ in fault(CleanSet(tmp_path / f"{number}", "voc"))}
    assert planted == set(KINDS)


@pytest.mark.parametrize("kind", FORMATS)
def test_many_faults_at_once(tmp_path, kind):
    by_name = {fault.__name__: fault for fault in FAULTS}
    together = ("zero_width", "repeated", "partly_outside", "without_label", "truncated", "alpha")
    data = CleanSet(tmp_path, kind)
    expected = [found for name in together for found in by_name[name](data)]
    assert sorted(findings(tmp_path), key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=15)
@given(drawn=st.data())
def test_clean_boxes_of_any_shape_have_no_findings(tmp_path_factory, kind, drawn):
    data = CleanSet(tmp_path_factory.mktemp("clean"), kind)
    corner = st.tuples(
        st.integers(0, 50), st.integers(0, 40), st.integers(3, 14), st.integers(3, 8)
    )
    boxes = drawn.draw(st.sets(corner, max_size=5))
    for name in PICTURES:
        data.objects[name] = [
            (drawn.draw(st.sampled_from(["cat", "dog"])), (x, y, x + w, y + h))
            for x, y, w, h in sorted(boxes)
        ]
    if not boxes:
        return
    data.write()
    assert findings(data.root) == []


def test_synthetic_scenes_are_clean(tmp_path):
    assert findings(synthetic.generate(tmp_path / "scenes", images=20)) == []


def test_details_name_the_remedy_and_what_train_does(tmp_path):
    for number, fault in enumerate(FAULTS):
        fault(CleanSet(tmp_path / str(number), "voc"))
        for found in examine(tmp_path / str(number), SPEC, workers=0).findings:
            assert f"(train: {CHOICES[found.kind].default}" in found.detail
            assert "; " in found.detail


@pytest.mark.parametrize(
    ("stated", "orientation", "said"),
    [
        ((48, 64), 6, "labels were made in the upright"),
        ((64, 48), 6, "labels were made in the raw frame"),
        ((64, 48), 3, "nothing tells"),
    ],
)
def test_the_frame_that_labels_were_made_in(tmp_path, stated, orientation, said):
    from damaged_sets import with_orientation

    data = CleanSet(tmp_path, "voc")
    data.image("c").write_bytes(with_orientation(data.image("c").read_bytes(), orientation))
    data.sizes["c"] = stated
    data.objects["c"] = [("cat", (4, 6, 30, 40))]
    data.write()
    (found,) = examine(tmp_path, SPEC, workers=0).findings
    assert (found.kind, found.file) == ("exif-rotation", str(data.image("c")))
    assert said in found.detail


def test_a_file_of_boxes_on_the_raw_picture_tells_its_frame_without_a_size(tmp_path):
    from damaged_sets import with_orientation

    data = CleanSet(tmp_path, "voc")
    data.image("c").write_bytes(with_orientation(data.image("c").read_bytes(), 6))
    xml = data.label("c")
    xml.write_text(xml.read_text().partition("<size>")[0] + xml.read_text().partition("</size>")[2])
    (found,) = examine(tmp_path, SPEC, workers=0).findings
    assert "raw frame" in found.detail
    sample = open_data(tmp_path, split="val").samples[0]
    # A quarter turn clockwise of a picture of height 48: x becomes 48 - y, y becomes x.
    assert sample.boxes[0].tolist() == [48 - 36, 4, 48 - 6, 34]


def test_yolo_classes_counted_from_one_and_coco_ids_from_zero(tmp_path):
    data = CleanSet(tmp_path / "yolo", "yolo")
    for name in PICTURES:
        data.label(name).write_text("1 .5 .5 .4 .4\n2 .5 .5 .5 .6\n")
    found = examine(data.root, SPEC, workers=0).findings
    assert {(f.kind, f.object) for f in found} == {("unknown-class", 1)}
    assert all("count from 1" in f.detail for f in found)
    data = CleanSet(tmp_path / "coco", "coco")
    data._write_coco(first_id=0)
    found = examine(data.root, SPEC, workers=0).findings
    assert {(f.kind, f.severity) for f in found} == {("bad-label-file", "warning")}
    assert "category ids count from 0" in found[0].detail


def test_names_never_lead_out_of_the_data(tmp_path):
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(encode(".jpg", pixels("x")))
    data = CleanSet(tmp_path / "data", "coco")
    content = json.loads(data.label("a").read_text())
    content["images"][0]["file_name"] = "../../outside.jpg"
    content["images"][1]["file_name"] = str(outside)
    data.label("a").write_text(json.dumps(content))
    kinds = [kind for kind, file, _ in findings(data.root)]
    assert kinds.count("label-without-image") == 2
    with pytest.raises(InputError, match="no readable picture"):
        open_data(data.root, split="train")


def test_the_only_label_file_may_be_the_broken_one(tmp_path):
    data = CleanSet(tmp_path, "yolo")
    (tmp_path / "data.yaml").write_text("names: [cat")
    assert findings(tmp_path) == [("bad-label-file", tmp_path / "data.yaml", None)]
    (tmp_path / "data.yaml").unlink()
    with pytest.raises(InputError, match="no data set recognised"):
        examine(tmp_path, SPEC)
    assert data.image("a").exists()
