"""The learning rate, step by step."""

import math

from multibox.training.recipes import Recipe

_WARMUP_START = 0.01


def rate_factor(step: int, steps: int, recipe: Recipe) -> float:
    """What the recipe's learning rate is multiplied by at ``step`` of ``steps``, counted from 0."""
    if recipe.schedule == "cosine":
        factor = (1 + math.cos(math.pi * step / steps)) / 2
    else:
        factor = 0.1 ** sum(step >= milestone * steps for milestone in recipe.milestones)
    # A short run must not spend all its steps on the way up.
    warmup = min(recipe.warmup_steps, steps // 5)
    if step < warmup:
        factor *= _WARMUP_START + (1 - _WARMUP_START) * step / warmup
    return factor
