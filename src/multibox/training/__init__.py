"""Training: recipes, the loop, resuming, and the run folder."""

from multibox.training.recipes import RECIPES, Recipe, find_recipe
from multibox.training.train import TrainResult, train

__all__ = ["RECIPES", "Recipe", "TrainResult", "find_recipe", "train"]
