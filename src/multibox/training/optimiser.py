"""SGD with the paper's treatment of biases."""

from typing import Any

import torch
from torch import nn

from multibox.training.recipes import Recipe


def build_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD over three groups: weights (the L2Norm scale with them), norm factors, and biases.

    Caffe's layers learn their biases at twice the rate and do not decay them; norm layers, which
    the original has not, keep the common rate and do not decay either. The same three again for
    the backbone where ``recipe.backbone_rate`` gives it another rate. ``base_rate`` is each
    group's rate before the schedule. Both rates of ``recipe`` must be set.
    """
    rate, share = recipe.learning_rate, recipe.backbone_rate
    assert rate is not None
    assert share is not None
    decay_of_others = recipe.weight_decay if recipe.decay_biases else 0.0
    weights = {"base_rate": rate, "weight_decay": recipe.weight_decay}
    factors = {"base_rate": rate, "weight_decay": decay_of_others}
    biases = {"base_rate": rate * recipe.bias_rate_factor, "weight_decay": decay_of_others}
    groups: list[dict[str, Any]] = [{**each, "params": []} for each in (weights, factors, biases)]
    if share != 1:
        groups += [
            {**each, "params": [], "base_rate": each["base_rate"] * share}
            for each in (weights, factors, biases)
        ]
    for owner, module in model.named_modules():
        first = 3 if share != 1 and owner.startswith("backbone") else 0
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            if name == "bias":
                groups[first + 2]["params"].append(parameter)
            elif isinstance(module, nn.BatchNorm2d):
                groups[first + 1]["params"].append(parameter)
            else:
                groups[first]["params"].append(parameter)
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
