from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from multibox.benchmarking.spread_weights import randomise, settle_norms, spread_heads
from multibox.card import PostProcessing
from multibox.checkpoints import load
from multibox.ssd.model import SSD


class TwoHeads(nn.Module):
    """Three boxes of three classes and the background in each cell of a map, no more."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.classes, self.boxes = nn.Conv2d(8, 3 * 4, 3), nn.Conv2d(8, 3 * 4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.body(x)
        both = (
            head(maps).permute(0, 2, 3, 1).reshape(len(x), -1, 4)
            for head in (self.classes, self.boxes)
        )
        return next(both), next(both)


@pytest.mark.parametrize(
    "settings",
    [
        PostProcessing(),
        PostProcessing(score_threshold=0.2),
        PostProcessing(scores="sigmoid", score_threshold=1e-8),
    ],
)
def test_as_many_boxes_pass_as_were_asked_for(settings: PostProcessing) -> None:
    network = TwoHeads()
    randomise(network)
    x = torch.randn(4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    settle_norms(network, lambda: network(x))
    assert not network.training
    spread_heads([network.classes], [network.boxes], lambda: network(x)[0][0], settings, 60)
    with torch.inference_mode():
        logits, offsets = network(x[:1])
    softmax = settings.scores == "softmax"
    scores = logits[0].softmax(dim=1) if softmax else logits[0].sigmoid()
    passing = (scores[:, 1:] > settings.score_threshold).any(dim=1).sum().item()
    assert passing == pytest.approx(60, abs=2)
    assert offsets.std().item() == pytest.approx(1, abs=0.1)


def test_settled_norms_give_what_training_would_see() -> None:
    network = TwoHeads()
    randomise(network)
    x = 5 + 3 * torch.randn(4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    momentum = network.body[1].momentum
    settle_norms(network, lambda: network(x))
    with torch.inference_mode():
        conv, norm = network.body[0](x), network.body[1]
        settled = (norm(conv) - norm.bias[:, None, None]) / norm.weight[:, None, None]
    assert norm.momentum == momentum
    torch.testing.assert_close(settled.mean((0, 2, 3)), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(settled.std((0, 2, 3)), torch.ones(8), atol=1e-2, rtol=0)


def test_the_checkpoint_fits_its_card(checkpoint: Path) -> None:
    opened = load(checkpoint)
    assert opened.card.names == ("cat", "dog")
    assert set(opened.arrays) == set(SSD(opened.card).state_dict())
