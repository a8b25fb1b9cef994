"""State dicts whose answers look like a trained net's: scores that spread, boxes that move."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


def pictures(count: int, height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """RGB pictures ``[count, height, width, 3]`` with something large and something small."""
    rng = np.random.default_rng(seed)
    sheets = np.zeros((count, height, width, 3), np.float32)
    for cells in (4, 9, 20, 60):
        for sheet in sheets:
            noise = rng.normal(size=(cells, cells, 3)).astype(np.float32)
            sheet += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (128 + 45 * sheets).clip(0, 255).astype(np.uint8)


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Every convolution keeps its input's scale, and every norm has statistics of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                inputs = layer.weight[0].numel()
                layer.weight.normal_(0, (2 / inputs) ** 0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None
                assert layer.running_var is not None
                layer.weight.uniform_(0.7, 1.3, generator=generator)
                layer.bias.normal_(0, 0.2, generator=generator)
                layer.running_mean.normal_(0, 0.2, generator=generator)
                layer.running_var.uniform_(0.5, 1.5, generator=generator)


def settle_norms(network: nn.Module, run: Callable[[], object]) -> None:
    """Give every norm the statistics of what ``run()`` brings it, as a training would have.

    Takes a few pictures at once, because the last maps have one cell a picture. The network is
    in evaluation mode afterwards.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    network.train()
    with torch.no_grad():
        run()
    network.eval()
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        # A few single cells say little about a variance; a small one would enlarge rounding.
        assert layer.running_var is not None
        layer.running_var.clamp_(min=0.5)


def spread_heads(
    class_heads: Sequence[nn.Conv2d],
    box_heads: Sequence[nn.Conv2d],
    outputs: int,
    run: Callable[[], object],
    *,
    background: float,
) -> None:
    """Rescale the last convolutions of the heads in place, by what ``run()`` puts out.

    Afterwards every class score has mean 0 and a deviation of 2 over the picture, the background
    (the first of each box's ``outputs``) lies ``background`` higher, and offsets have mean 0 and a
    deviation of 1.
    """
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        head.register_forward_hook(lambda module, _, output: seen.update({module: output}))
        for head in (*class_heads, *box_heads)
    ]
    with torch.no_grad():
        run()
        for hook in hooks:
            hook.remove()
        for head in class_heads:
            _standardise(head, seen[head], 2.0)
            assert head.bias is not None
            head.bias[::outputs] += background
        for head in box_heads:
            _standardise(head, seen[head], 1.0)


def _standardise(head: nn.Conv2d, output: Tensor, deviation: float) -> None:
    values = output.transpose(0, 1).flatten(1)
    # The last maps have too few cells for a mean of their own: their channels share one.
    few = values.shape[1] < 10
    mean = values.mean() if few else values.mean(dim=1)
    spread = values.std() if few else (values - mean[:, None]).std()
    assert head.bias is not None
    head.weight *= deviation / spread
    head.bias.copy_((head.bias - mean) * deviation / spread)
