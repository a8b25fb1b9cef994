"""Every recipe card by its name."""

from multibox.training.recipe_cards.animals import ANIMALS_CARD
from multibox.training.recipe_cards.published import PUBLISHED

CARDS = {card.name: card for card in (*PUBLISHED, ANIMALS_CARD)}
