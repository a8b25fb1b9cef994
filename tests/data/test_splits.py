from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibox.data.splits import UNSPLIT, canonical, complete, find_split, hold_out, split_of
from multibox.errors import InputError


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("train2017", "train"), ("Training", "train"), ("val2014", "val"), ("valid", "val"),
        ("validation", "val"), ("Test", "test"), ("test-2012", "test"), ("trainval", "trainval"),
        ("minival2014", "minival"), ("2007", "2007"), ("train12", "train12"),
    ],
)  # fmt: skip
def test_canonical(name, usual):
    assert canonical(name) == usual


def test_find_split_takes_the_name_then_its_only_synonym():
    assert find_split("val", ["train2017", "val2017"], "d") == "val2017"
    assert find_split("validation", ["train", "valid"], "d") == "valid"
    assert find_split("val", ["valid", "val"], "d") == "val"
    with pytest.raises(InputError, match="'train2014', 'train2017'"):
        find_split("train", ["train2014", "train2017"], "d")
    with pytest.raises(InputError, match="has 'train', 'val'"):
        find_split("minival", ["train", "val"], "d")


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/images/a.jpg", "train"), ("images/valid/a.jpg", "valid"), ("a.jpg", None),
        ("images/train.jpg", None), ("test/train/a.xml", "train"),
    ],
)  # fmt: skip
def test_split_of_the_innermost_folder(path, split):
    assert split_of(PurePath(path)) == split


paths = st.lists(st.text("abcäé 123", min_size=1, max_size=6), unique=True, min_size=2, max_size=60)


@given(paths, st.integers(0, 99), st.randoms())
def test_seeded_split_parts_everything_whatever_the_order(names, seed, random):
    first, _ = complete({UNSPLIT: names}, str, seed)
    shuffled = random.sample(names, len(names))
    second, _ = complete({UNSPLIT: shuffled}, str, seed)
    assert {k: set(v) for k, v in first.items()} == {k: set(v) for k, v in second.items()}
    assert sorted(name for part in first.values() for name in part) == sorted(names)
    assert all(first.values())


def test_a_seed_and_a_place_in_the_tree():
    names = [f"{i}.jpg" for i in range(100)]
    val, train = hold_out(names, str, 0, 0.1)
    assert (len(val), len(train)) == (10, 90)
    assert val != hold_out(names, str, 1, 0.1)[0]
    moved = hold_out([f"elsewhere/{name}" for name in names], str, 0, 0.1)[0]
    assert moved == [f"elsewhere/{name}" for name in val]


def test_undivided_data_is_parted_80_10_10():
    splits, notes = complete({UNSPLIT: [str(i) for i in range(50)]}, str, 7)
    assert {name: len(part) for name, part in splits.items()} == {"train": 40, "val": 5, "test": 5}
    assert "seed 7" in notes[0]


def test_one_picture_serves_as_both():
    splits, _ = complete({UNSPLIT: ["a"]}, str, 0)
    assert splits == {"train": ["a"], "val": ["a"]}


def test_train_without_val_is_held_out_and_said():
    splits, notes = complete({"train2017": list("abcdefghij"), "test": ["z"]}, str, 0)
    assert (len(splits["train2017"]), len(splits["val"]), splits["test"]) == (9, 1, ["z"])
    assert "1 of the 10 pictures of train2017" in notes[0]


def test_trainval_alone_becomes_train_and_val_and_stays():
    splits, _ = complete({"trainval": list("abcdefghij")}, str, 0)
    assert {name: len(part) for name, part in splits.items()} == {
        "trainval": 10, "val": 1, "train": 9,
    }  # fmt: skip


@pytest.mark.parametrize("names", [("train", "valid"), ("test",), ("val",)])
def test_nothing_is_made_where_nothing_is_missing_or_to_be_had(names):
    given_splits = {name: ["a", "b"] for name in names}
    assert complete(given_splits, str, 0) == (given_splits, [])
