"""What a call to ``train`` comes to: its recipe or card, with what it leaves to them."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multibox.errors import InputError
from multibox.training.recipe_cards.card import DefaultBoxChoice, RecipeCard
from multibox.training.recipe_cards.cards import CARDS
from multibox.training.recipes import RECIPES, Recipe, find_recipe


@dataclass(frozen=True, slots=True)
class Choice:
    """The recipe with its changed keys, the detector, its weights and default boxes.

    ``classes`` are those of the data's to train on, None for all; ``splits`` are the pairs
    (training, validation) to look for, the first that the data has.
    """

    recipe: Recipe
    model: str
    weights: str
    default_boxes: DefaultBoxChoice
    card: RecipeCard | None
    classes: tuple[str, ...] | None
    splits: tuple[tuple[str, str], ...]


def choose(
    recipe: str | Recipe | RecipeCard,
    model: str | None,
    weights: str | Path | None,
    default_boxes: DefaultBoxChoice,
    options: Mapping[str, Any],
) -> Choice:
    """Bring together what was asked for; a card says what is left out, ``"zoo"`` included.

    Raises: InputError for an unknown recipe or key, without a model, and for another model than
    the card's.
    """
    found = find(recipe) if isinstance(recipe, str) else recipe
    if isinstance(found, Recipe):
        if model is None:
            raise InputError(
                "which detector? name one with --model (multibox models lists them), or take a "
                f"recipe that has one: {', '.join(CARDS)}"
            )
        chosen = found.changed(options)
        return Choice(
            recipe=chosen,
            model=model,
            weights=str(weights or "backbone"),
            default_boxes=default_boxes,
            card=None,
            classes=None,
            splits=(_splits(chosen),),
        )
    if model is not None and model != found.model:
        raise InputError(
            f"recipe {found.name} trains {found.model}, not {model}: leave the model out, or take "
            "--recipe paper"
        )
    chosen = found.recipe.changed(options)
    # Data of one's own rarely has the card's splits; only what is asked for by name must be there.
    usual = options.get("train_split", "train"), options.get("val_split", "val")
    start = str(weights or found.weights)
    # A checkpoint brings its own.
    untrained = start.partition(":")[0] in ("none", "backbone")
    if default_boxes == "zoo" and untrained:
        default_boxes = found.default_boxes
    return Choice(
        recipe=chosen,
        model=found.model,
        weights=start,
        default_boxes=default_boxes,
        card=found,
        classes=found.data.classes if found.chosen_classes else None,
        splits=tuple(dict.fromkeys((_splits(chosen), usual))),
    )


def find(name: str) -> Recipe | RecipeCard:
    """A recipe or a card by name; InputError with the nearest name otherwise."""
    if name in RECIPES:
        return find_recipe(name)
    try:
        return CARDS[name]
    except KeyError:
        known = [*RECIPES, *CARDS]
        near = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}"
        raise InputError(f"there is no recipe named {name}; {hint}") from None


def _splits(recipe: Recipe) -> tuple[str, str]:
    return recipe.train_split, recipe.val_split
