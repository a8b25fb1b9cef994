"""docs/faithfulness.md says what the code does."""

import re
from pathlib import Path
from typing import Any

import pytest

from multibox.training.recipes import Recipe, modern, paper
from multibox.zoo import new_card

DOCUMENT = Path(__file__).parents[2] / "docs" / "faithfulness.md"
COLUMNS = ["what", "switch", "Caffe SSD", "torchvision", "`paper`", "`modern`", "why"]
CODE = re.compile(r"`([^`]+)`")


def table() -> list[list[str]]:
    lines = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == COLUMNS
    assert all(len(row) == len(COLUMNS) for row in rows)
    return rows[2:]


ROWS = {row[0]: row for row in table()}
SWITCHES = {what: row[1] for what, row in ROWS.items() if row[1] != "—"}
RECIPES = {"`paper`": paper(), "`modern`": modern()}


def shown(value: Any) -> str:
    """A value as the table prints it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(shown(each) for each in value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def card_field(path: str) -> Any:
    value: Any = new_card("ssd300_vgg16", ["object"])
    for name in path.split("."):
        value = getattr(value, name)
    return value


def test_every_row_is_about_something_else() -> None:
    assert len(ROWS) == len(table()) > 40


@pytest.mark.parametrize("what", SWITCHES)
def test_the_switch_exists_and_has_the_value(what: str) -> None:
    found = re.fullmatch(r"`([a-z0-9_.]+)`", SWITCHES[what])
    assert found is not None
    name = found[1]
    for column, recipe in RECIPES.items():
        printed = CODE.fullmatch(ROWS[what][COLUMNS.index(column)])
        if "." in name:
            value = card_field(name)
            assert printed is None or printed[1] == shown(value)
        else:
            assert printed is not None
            assert printed[1] == shown(getattr(recipe, name))


def test_every_key_in_which_the_profiles_differ_is_in_the_table() -> None:
    one, two = (recipe.model_dump(exclude={"name"}) for recipe in RECIPES.values())
    differing = {key for key in one if one[key] != two[key]}
    assert {f"`{key}`" for key in differing} <= set(SWITCHES.values())


def test_every_key_of_the_method_is_in_the_table() -> None:
    """All but what says how long, on what machine and with which data a run goes."""
    elsewhere = {
        *("name", "accumulate", "evaluate_every", "steps", "milestones", "precision", "metric"),
        *("augment", "workers", "cache_files", "skip_non_finite", "train_split", "val_split"),
    }
    keys = {key for key in Recipe.model_fields if key not in elsewhere}
    assert {f"`{key}`" for key in keys} <= set(SWITCHES.values())


@pytest.mark.parametrize("name", re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", DOCUMENT.read_text()))
def test_every_other_name_in_code_exists(name: str) -> None:
    if name.startswith("multibox."):
        module, _, attribute = name.rpartition(".")
        assert hasattr(__import__(module, fromlist=[attribute]), attribute)
    else:
        card_field(name)


def test_other_documents_lead_here() -> None:
    assert "(faithfulness.md)" in (DOCUMENT.parent / "training.md").read_text()
