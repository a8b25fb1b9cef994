import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibox.data.labels import Catalogue, LabelledObject, LabelledPicture
from multibox.data.lookalikes import look, named_twice, similar_names

BOX = (0.0, 0.0, 9.0, 9.0)
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "Nd", "Zs")), min_size=1, max_size=12)


def labelled(*names, listed=()):
    objects = [LabelledObject(i, name, BOX) for i, name in enumerate(names)]
    splits = {"train": [LabelledPicture(None, "a", "a.xml", objects)]}
    return Catalogue("", tuple(listed), splits, names_file="names.txt" if listed else "")


@given(NAMES)
def test_forms_spaces_and_case_do_not_change_what_a_name_looks_like(name):
    assert look(name) == look(unicodedata.normalize("NFD", name)) == look(f" {name} ")
    assert look(name.upper()) == look(name.upper().lower())
    assert look(look(name)) == look(name)


@pytest.mark.parametrize("one", ["traffic light", "Traffic-Light", "traffic_1ight", "TRAFFICLIGHT"])
def test_ways_to_write_a_name(one):
    assert look(one) == look("traffic light")


@pytest.mark.parametrize(
    ("one", "other"),
    [("0", "o"), ("10", "lo"), ("101", "lol"), ("C", "C#"), ("é", "e"), ("cat", "cats")],
)
def test_names_that_do_not_look_alike(one, other):
    assert look(one) != look(other)


def test_the_rarer_spelling_is_named_where_it_first_stands():
    (problem,) = similar_names(labelled("dog", "Dog", "dog", "cat", "Dog", "dog"))
    assert (problem.file, problem.object) == ("a.xml", 1)
    assert problem.value == "'Dog' (2 objects) and 'dog' (3)"
    assert problem.action == "kept as two classes"


def test_outer_spaces_are_another_spelling_of_one_class():
    (problem,) = similar_names(labelled("dog", "dog ", "dog"))
    assert (problem.object, problem.action) == (1, "taken as one class")
    assert similar_names(labelled("dog ", "dog ")) == []


def test_what_a_list_has_twice_is_told_by_its_reader_alone():
    assert similar_names(labelled("dog", listed=["dog", "dog "])) == []
    (problem,) = similar_names(labelled("dog", listed=["dog", "Dog"]))
    assert (problem.file, problem.object) == ("names.txt", None)
    assert problem.value == "'Dog' (0 objects) and 'dog' (1)"


def test_names_listed_twice():
    names = ["cat", "caf\u00e9", "cat", "cafe\u0301", "dog", "cat "]
    assert [p.value for p in named_twice("names.txt", names)] == [
        "'cat'",
        "'cafe\\u0301' and 'caf\\xe9'",
        "'cat ' and 'cat'",
    ]
