"""Weights that are random, but whose answers look like a trained network's.

A freshly initialised detector lets nearly every box pass the score threshold, which no trained one
does; its postprocessing would be timed at its worst.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from multibox import checkpoints
from multibox.card import ModelCard, PostProcessing
from multibox.imaging import Image
from multibox.ssd.model import SSD

_FEW = 10  # cells from which a channel's own mean cannot be told


def spread_model(card: ModelCard, images: Tensor, passing: int) -> SSD:
    """The detector of ``card`` with such weights, in evaluation mode.

    About ``passing`` default boxes of the first of ``images`` (uint8 ``[b, h, w, 3]``) pass the
    card's score threshold. Where there are norms their statistics want a few pictures.
    """
    model = SSD(card)
    randomise(model)
    settle_norms(model, lambda: model(images))
    class_heads = [last_convolution(head) for head in model.heads.classes]
    spread_heads(
        class_heads,
        [last_convolution(head) for head in model.heads.boxes],
        lambda: model(images[:1])[0][0],
        card.postprocessing,
        passing,
    )
    return model


def spread_checkpoint(card: ModelCard, image: Image, path: Path, passing: int) -> None:
    """Write such a detector as a checkpoint; ``image`` is as the network takes it ``[h, w, 3]``."""
    # Mirror images of one picture are several, for the statistics of norms.
    images = np.stack([image, image[:, ::-1], image[::-1], image[::-1, ::-1]])
    model = spread_model(card, torch.from_numpy(images), passing)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    checkpoints.save(path, arrays, card)


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Every convolution keeps its input's scale; the gains of norms differ a little."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):
                deviation = (2 / layer.weight[0].numel()) ** 0.5
                layer.weight.normal_(0, deviation, generator=generator)
                if layer.bias is not None:
                    layer.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.7, 1.3, generator=generator)
                layer.bias.normal_(0, 0.2, generator=generator)


def settle_norms(network: nn.Module, run: Callable[[], object]) -> None:
    """Give every BatchNorm the statistics of what ``run()`` brings it, as a training would have.

    Untouched ones would shrink a deep network's answers to nothing. Then: evaluation mode.
    """
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    network.train()
    if norms:
        with torch.no_grad():
            run()
    network.eval()
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
        assert layer.running_var is not None
        layer.running_var.clamp_(min=0.5)  # single cells say little about a variance


@torch.no_grad()
def spread_heads(
    class_heads: Sequence[nn.Conv2d],
    box_heads: Sequence[nn.Conv2d],
    run: Callable[[], Tensor],
    settings: PostProcessing,
    passing: int,
) -> None:
    """Rescale the last convolutions of the heads, in place, by what they put out during ``run()``.

    ``run`` returns one picture's class logits ``[n, classes + 1]``, background first. Afterwards
    logits have a deviation of 2 and offsets one of 1 over the picture, and the background's bias is
    such that ``passing`` boxes have a score above the threshold.
    """
    seen: dict[nn.Module, Tensor] = {}
    hooks = [
        head.register_forward_hook(lambda layer, _, output: seen.update({layer: output[:1]}))
        for head in (*class_heads, *box_heads)
    ]
    run()
    for hook in hooks:
        hook.remove()
    for head in class_heads:
        _standardise(head, seen[head], 2)
    for head in box_heads:
        _standardise(head, seen[head], 1)
    logits = run()
    margin = _background_margin(logits, settings, passing)
    for head in class_heads:
        assert head.bias is not None
        if settings.scores == "softmax":
            head.bias[:: logits.shape[1]] += margin
        else:
            head.bias -= margin


def last_convolution(head: nn.Module) -> nn.Conv2d:
    """The convolution that gives a head's outputs."""
    return [layer for layer in head.modules() if isinstance(layer, nn.Conv2d)][-1]


def _standardise(head: nn.Conv2d, output: Tensor, deviation: float) -> None:
    values = output.transpose(0, 1).flatten(1)
    mean = values.mean() if values.shape[1] < _FEW else values.mean(dim=1)
    spread = (values - mean.reshape(-1, 1)).std()
    assert head.bias is not None
    head.weight *= deviation / spread
    head.bias.copy_((head.bias - mean) * deviation / spread)


def _background_margin(logits: Tensor, settings: PostProcessing, passing: int) -> float:
    """How much the background must gain for ``passing`` boxes to stay above the threshold."""
    low, high = -50.0, 50.0
    while high - low > 1e-3:
        margin = (low + high) / 2
        if settings.scores == "softmax":
            shifted = logits.clone()
            shifted[:, 0] += margin
            scores = shifted.softmax(dim=1)[:, 1:]
        else:
            scores = (logits[:, 1:] - margin).sigmoid()
        count = int((scores > settings.score_threshold).any(dim=1).sum())
        low, high = (margin, high) if count > passing else (low, margin)
    return high
