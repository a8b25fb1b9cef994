"""What training does about each finding of the doctor, under every policy that its kind has."""

from collections.abc import Callable

import damaged_sets
import pytest
from damaged_sets import FAULTS, FORMATS, CleanSet, encode, pixels
from findings_of import SPEC

from multibox.data.enforcement import without_tiny
from multibox.data.policies import CHOICES, Policies
from multibox.errors import InputError

# Whose picture or label each fault is planted in; of two that are the same the learned one goes.
PLANTED_IN = {
    "unreadable": "a", "empty": "a", "truncated": "b", "oversized": "a", "alpha": "a",
    "sixteen_bits_unused": "c", "turned": "c", "turned_raw_labels": "c", "without_image": "b",
    "bad_file": "c", "zero_width": "a", "inverted": "b", "partly_outside": "c",
    "wholly_outside": "c", "repeated": "b", "tiny": "b", "unknown_class": "c", "wrong_size": "a",
    "similar_names": "a", "across_splits": "a",
}  # fmt: skip


NOT_FOR_TRAINING = {
    ("yolo", "wrong_size"),  # no size is stated
    ("voc", "unknown_class"),  # no list of classes counts
    ("yolo", "without_image"),  # labels are looked for by picture
}


def opened(data: CleanSet, policies: Policies) -> dict[str, int]:
    """The pictures that a training would use, by name, with their number of boxes."""
    from multibox.training.data_splits import open_parts

    parts = open_parts(data.root, None, None, None, policies=policies)
    return {
        sample.image.stem: len(sample.boxes)
        for part in parts
        for sample in without_tiny(part, SPEC.image_size, policies).samples
    }


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "fault", [f for f in FAULTS if f.__name__ in PLANTED_IN], ids=lambda f: f.__name__
)
def test_training_does_what_the_policy_of_a_finding_says(
    tmp_path, monkeypatch: pytest.MonkeyPatch, kind: str, fault: Callable
) -> None:
    # So that no split is empty when a picture is left out.
    monkeypatch.setitem(damaged_sets.PICTURES, "d", "val")
    data = CleanSet(tmp_path, kind)
    planted = fault(data)
    name = PLANTED_IN[fault.__name__]
    if (kind, fault.__name__) in NOT_FOR_TRAINING:
        return
    found = planted[0][0]
    boxes = len(data.objects[name])
    for policy in (CHOICES[found].default, *CHOICES[found].others):
        chosen = Policies({found: policy})
        if policy == "error":
            with pytest.raises(InputError) as caught:
                opened(data, chosen)
            assert "\n" not in str(caught.value)
            continue
        left = opened(data, chosen)
        if policy == "drop-image":
            assert name not in left
        elif policy == "drop-box" or fault.__name__ == "wholly_outside":
            assert left[name] == boxes - 1
        else:
            assert left[name] == boxes


@pytest.mark.parametrize("kind", FORMATS)
def test_a_clean_set_opens_whole_when_every_fault_is_an_error(tmp_path, kind):
    data = CleanSet(tmp_path, kind)
    strict = {
        kind: "error"
        for kind, choice in CHOICES.items()
        if "error" in (choice.default, *choice.others)
    }
    assert opened(data, Policies(strict)) == {"a": 2, "b": 2, "c": 2}


def test_errors_name_the_file_and_what_else_can_be_done(tmp_path):
    data = CleanSet(tmp_path, "voc")
    data.image("a").write_bytes(encode(".jpg", pixels("a"))[:-200])
    with pytest.raises(InputError, match=r"a\.jpg: .*truncated-image to drop-image"):
        opened(data, Policies({"truncated-image": "error"}))
    data.objects["b"].append(("dog", (40, 9, 12, 30)))
    data.write()
    with pytest.raises(InputError, match=r"b\.xml object 2: box inverted.* degenerate-box to drop"):
        opened(data, Policies({"degenerate-box": "error"}))
