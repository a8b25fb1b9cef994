import numpy as np
import torch
from torch import nn

from multibox.training.ema import WeightAverage


def shift(model: nn.Module, rng: np.random.Generator) -> None:
    """Change every tensor of the model, as a training step does."""
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.from_numpy(rng.normal(size=tuple(value.shape))))
        else:
            value.add_(1)


def test_it_is_the_average_of_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)).double()
    steps, share = 400, 0.05  # a memory of 20 steps, reached at step 190
    average = WeightAverage(model, share, steps)
    slow = {name: value.numpy().copy() for name, value in model.state_dict().items()}
    for step in range(steps):
        shift(model, rng)
        average.update(model, step)
        memory = 20.0 if step >= 190 else (10 + step) / 10
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                slow[name] = slow[name] + (value.numpy() - slow[name]) / memory
            else:
                slow[name] = value.numpy().copy()
    kept = average.average.state_dict()
    assert kept.keys() == slow.keys()
    for name, value in slow.items():
        np.testing.assert_allclose(kept[name].numpy(), value, rtol=1e-9, atol=1e-12)
    assert kept["1.num_batches_tracked"] == steps


def test_the_random_start_is_forgotten_at_once() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, 0.5, 1000)
    shift(model, np.random.default_rng(0))
    average.update(model, 0)
    torch.testing.assert_close(average.average.weight, model.weight, rtol=0, atol=0)


def test_it_neither_learns_nor_touches_the_model() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model, 0.1, 10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    average.update(model, 3)
    assert not any(parameter.requires_grad for parameter in average.average.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not average.average.training
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
