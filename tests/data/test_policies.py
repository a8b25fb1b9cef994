import pytest
from label_files import voc_object, write_voc

from multibox.data.enforcement import without_repeated, without_tiny
from multibox.data.open import open_data, read_labels
from multibox.data.policies import CHOICES, DEFAULT_POLICIES, KINDS, Policies
from multibox.errors import InputError

GOOD = voc_object("cat", (3, 4, 20, 25))
FLAT = voc_object("cat", (9, 4, 9, 25))
OUT = voc_object("cat", (30, 4, 60, 25))
SPLITS = {"train": ["a", "b"], "val": ["c"]}


def boxes(folder, **policies):
    chosen = Policies({kind.replace("_", "-"): policy for kind, policy in policies.items()})
    data = read_labels(folder, policies=chosen).open("train")
    return {sample.image.stem: len(sample.boxes) for sample in data.samples}


@pytest.fixture
def folder(tmp_path):
    return write_voc(tmp_path, {"a": [GOOD, FLAT, OUT, GOOD], "b": [GOOD], "c": [GOOD]}, SPLITS)


def test_each_policy_does_what_it_says(folder):
    assert boxes(folder) == {"a": 3, "b": 1}
    assert boxes(folder, degenerate_box="drop-image") == {"b": 1}
    assert boxes(folder, box_outside="drop-box") == {"a": 2, "b": 1}
    assert boxes(folder, duplicate_box="drop-box") == {"a": 2, "b": 1}
    with pytest.raises(InputError, match=r"a\.xml object 1: box without area: mend it"):
        boxes(folder, degenerate_box="error")
    with pytest.raises(InputError, match="box-outside to clip or drop-box or drop-image"):
        boxes(folder, box_outside="error")


def test_a_bad_label_file_ends_the_reading_unless_its_picture_may_go(folder):
    (folder / "Annotations" / "b.xml").write_text("<annotation")
    with pytest.raises(InputError, match=r"b\.xml: not a readable XML file"):
        boxes(folder)
    assert boxes(folder, bad_label_file="drop-image") == {"a": 3}


def test_alike_names_can_be_an_error(folder):
    write_voc(folder, {"b": [voc_object("Cat", (1, 1, 9, 9))]}, {})
    assert boxes(folder) == {"a": 3, "b": 1}
    with pytest.raises(InputError, match="look alike"):
        boxes(folder, similar_class_names="error")


def test_pictures_of_both_splits_and_tiny_boxes(folder):
    train, val = open_data(folder, split="train"), open_data(folder, split="val")
    assert len(without_repeated(train, val, DEFAULT_POLICIES)) == 2
    with pytest.raises(InputError, match="same picture"):
        without_repeated(train, val, Policies({"duplicate-image": "error"}))
    assert without_tiny(train, (2, 2), DEFAULT_POLICIES) is train
    dropped = without_tiny(train, (2, 2), Policies({"tiny-box": "drop-box"}))
    assert sum(len(sample.boxes) for sample in dropped.samples) == 0
    assert len(without_tiny(train, (300, 300), Policies({"tiny-box": "drop-image"}))) == 2


def test_policies_as_text():
    policies = Policies.parse(["degenerate-box=error", " box-outside = drop-box"])
    assert policies.of("degenerate-box") == "error"
    assert policies.of("box-outside") == "drop-box"
    assert all(Policies().of(kind) == CHOICES[kind].default for kind in KINDS)
    with pytest.raises(InputError, match="did you mean tiny-box"):
        Policies.parse(["tinybox=error"])
    with pytest.raises(InputError, match="degenerate-box=clip: its policy is one of drop-box"):
        Policies.parse(["degenerate-box=clip"])
    with pytest.raises(InputError, match="KIND=POLICY"):
        Policies.parse(["degenerate-box"])
