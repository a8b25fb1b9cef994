"""SGD with the paper's treatment of biases."""

import torch
from torch import nn

from multibox.training.recipes import Recipe


def build_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD over three groups: weights (the L2Norm scale with them), norm factors, and biases.

    Caffe's layers learn their biases at twice the rate and do not decay them; norm layers, which
    the original has not, keep the common rate and do not decay either. ``base_rate`` is each
    group's rate before the schedule. ``recipe.learning_rate`` must be set.
    """
    weights, factors, biases = [], [], []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name == "bias":
                biases.append(parameter)
            elif isinstance(module, nn.BatchNorm2d):
                factors.append(parameter)
            else:
                weights.append(parameter)
    rate = recipe.learning_rate
    assert rate is not None
    decay_of_others = recipe.weight_decay if recipe.decay_biases else 0.0
    groups = [
        {"params": weights, "base_rate": rate, "weight_decay": recipe.weight_decay},
        {"params": factors, "base_rate": rate, "weight_decay": decay_of_others},
        {
            "params": biases,
            "base_rate": rate * recipe.bias_rate_factor,
            "weight_decay": decay_of_others,
        },
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=rate,
        momentum=recipe.momentum,
        fused=True,  # one pass over the memory for decay, momentum and update
    )


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Set every group's rate to its base times ``factor``; returns the weights' rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base_rate"] * factor
    rate: float = optimiser.param_groups[0]["lr"]
    return rate
