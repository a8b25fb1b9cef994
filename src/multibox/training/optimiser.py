"""SGD with the paper's treatment of biases."""

import torch
from torch import nn

from multibox.training.recipes import Recipe


def build_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD over two groups: weights, and vectors (biases, norm layers, the L2Norm scale).

    Caffe's layers learn their biases at twice the rate and do not decay them. ``base_rate`` is
    each group's rate before the schedule.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    weights = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]
    rate = recipe.learning_rate
    groups = [
        {"params": weights, "base_rate": rate, "weight_decay": recipe.weight_decay},
        {
            "params": vectors,
            "base_rate": rate * recipe.bias_rate_factor,
            "weight_decay": recipe.weight_decay if recipe.decay_biases else 0.0,
        },
    ]
    return torch.optim.SGD(groups, lr=rate, momentum=recipe.momentum)


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to its base times ``factor``; returns the weights' rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_rate"] * factor
    rate: float = optimiser.param_groups[0]["lr"]
    return rate
