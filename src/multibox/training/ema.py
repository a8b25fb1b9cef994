"""A running average of the weights, which is what gets evaluated and saved."""

import copy

import torch
from torch import nn


class WeightAverage:
    """Keeps ``average``, a copy of a model that follows it slowly.

    The memory is ``share`` of the run's ``steps``: short and long runs average over the same part
    of themselves. Early on it is shorter still, so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, share: float, steps: int) -> None:
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self._memory = max(share * steps, 1.0)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the average towards ``model`` after optimiser step ``step``, counted from 0."""
        weight = 1 / min(self._memory, 1 + step / 10)
        ours, theirs = self.average.state_dict(), model.state_dict()
        floating = [name for name, tensor in ours.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [ours[name] for name in floating], [theirs[name] for name in floating], weight
        )
        for name in ours.keys() - set(floating):
            ours[name].copy_(theirs[name])
