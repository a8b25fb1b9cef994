"""A checkpoint outlives the version of multibox that wrote it."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from multibox import checkpoints
from multibox.card import CARD_KEY, SCHEMA_VERSION, ModelCard
from multibox.checkpoints.migrations import STEPS, Fields, migrate

RELEASED = Path(__file__).parent / "released"


@pytest.fixture(scope="module")
def first() -> Fields:
    """What was written as version 1: the card and the arrays."""
    return runpy.run_path(str(RELEASED / "write.py"))


def test_there_is_a_checkpoint_and_a_way_for_every_released_version() -> None:
    versions = range(1, SCHEMA_VERSION + 1)
    assert sorted(p.name for p in RELEASED.glob("*.safetensors")) == [
        f"v{version}.safetensors" for version in versions
    ]
    assert sorted(STEPS) == list(versions)[:-1]


@pytest.mark.parametrize("path", sorted(RELEASED.glob("*.safetensors")), ids=lambda p: p.stem)
def test_a_released_checkpoint_can_be_loaded(path: Path, first: Fields) -> None:
    loaded = checkpoints.load(path)
    assert loaded.card == first["CARD"]
    assert checkpoints.read_card(path) == loaded.card
    assert loaded.arrays.keys() == first["ARRAYS"].keys()
    for name, array in first["ARRAYS"].items():
        assert loaded.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.arrays[name], array)


@pytest.mark.parametrize("path", sorted(RELEASED.glob("*.safetensors")), ids=lambda p: p.stem)
def test_what_was_released_has_not_been_written_anew(path: Path) -> None:
    with safe_open(path, "np") as file:
        fields = json.loads(file.metadata()[CARD_KEY])
    assert fields["schema_version"] == int(path.stem.removeprefix("v"))
    assert path.stat().st_size < 10_000


def set_fields(card: object) -> set[str]:
    """Every field of a card and its parts that has another value than its default."""
    found = set()
    for name, field in type(card).model_fields.items():  # type: ignore[attr-defined]
        value = getattr(card, name)
        if value != field.get_default(call_default_factory=True):
            found.add(f"{type(card).__name__}.{name}")
        for part in value if isinstance(value, tuple) else [value]:
            if hasattr(type(part), "model_fields"):
                found |= set_fields(part)
    return found


def test_the_newest_one_has_every_field_of_a_card() -> None:
    """A field that is added to the card and not to a released checkpoint is found here."""
    card = checkpoints.read_card(RELEASED / f"v{SCHEMA_VERSION}.safetensors")
    models, every = [ModelCard], set()
    while models:
        model = models.pop()
        every |= {f"{model.__name__}.{name}" for name in model.model_fields}
        models += model_parts(model)
    defaults = {
        "ModelCard.schema_version",
        *(f"ExtraLayer.{n}" for n in ("kernel", "stride", "padding")),
    }
    assert every - set_fields(card) == defaults


def model_parts(model: type[ModelCard]) -> list[type[ModelCard]]:
    from multibox import card

    parts = [part for part in vars(card).values() if hasattr(part, "model_fields")]
    return [
        part
        for part in parts
        if any(part.__name__ in str(field.annotation) for field in model.model_fields.values())
    ]


def renamed(fields: Fields) -> Fields:
    return {("names" if key == "classes" else key): value for key, value in fields.items()}


def doubled(fields: Fields) -> Fields:
    return fields | {"number": fields["number"] * 2}


def test_steps_are_taken_in_order() -> None:
    steps = {1: renamed, 2: doubled}
    old = {"schema_version": 1, "classes": ["a"], "number": 3}
    assert migrate(old, steps, 3) == {"schema_version": 3, "names": ["a"], "number": 6}
    newer = {"schema_version": 2, "names": ["a"], "number": 3}
    assert migrate(newer, steps, 3) == {"schema_version": 3, "names": ["a"], "number": 6}
    assert migrate(old, steps, 2) == {"schema_version": 2, "names": ["a"], "number": 3}
    assert old == {"schema_version": 1, "classes": ["a"], "number": 3}


@pytest.mark.parametrize("version", [None, "1", 0, -1, 1.5, True, SCHEMA_VERSION])
def test_what_no_step_leads_on_from_is_left_alone(version: object) -> None:
    fields = {"schema_version": version, "names": []}
    assert migrate(fields, {}, SCHEMA_VERSION) == fields
