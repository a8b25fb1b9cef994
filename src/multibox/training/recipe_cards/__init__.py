"""Recipe cards: published trainings with their data, cost and figures, each one command."""

from multibox.training.recipe_cards.card import ExpectedData, Pace, RecipeCard, Split
from multibox.training.recipe_cards.cards import CARDS
from multibox.training.recipe_cards.check import differences
from multibox.training.recipe_cards.choice import Choice, choose, find

__all__ = [
    "CARDS",
    "Choice",
    "ExpectedData",
    "Pace",
    "RecipeCard",
    "Split",
    "choose",
    "differences",
    "find",
]
