"""The box coder against its inverse, numbers worked by hand, and torchvision's."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder

from multibox.ssd.box_coder import decode, encode

VARIANCES = (0.1, 0.1, 0.2, 0.2)

fractions = st.floats(0, 1, width=32)
side = st.floats(1 / 1024, 1, width=32)
variances = st.tuples(*[st.floats(0.05, 1)] * 4)


def corners(boxes: Tensor) -> Tensor:
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], dim=1)


def random_boxes(n: int, seed: int) -> Tensor:
    """(cx, cy, w, h) in fractions, sides from 5 % to 95 %."""
    draw = torch.rand(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    draw[:, 2:] = 0.05 + 0.9 * draw[:, 2:]
    return draw


def test_by_hand() -> None:
    default = torch.tensor([[0.5, 0.5, 0.2, 0.4]])
    # Centre (0.52, 0.46), sides 0.4 and 0.2: offsets 0.02/0.2, -0.04/0.4, log 2, log 0.5.
    box = torch.tensor([[0.32, 0.36, 0.72, 0.56]])
    coded = torch.tensor([[1.0, -1.0, math.log(2) / 0.2, -math.log(2) / 0.2]])
    torch.testing.assert_close(encode(box, default, VARIANCES), coded, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(decode(coded, default, VARIANCES), box)


def test_no_offset_is_the_default_box_itself() -> None:
    default = random_boxes(5, seed=0)
    decoded = decode(torch.zeros(5, 4, dtype=torch.float64), default, VARIANCES)
    torch.testing.assert_close(decoded, corners(default))


@given(
    st.tuples(fractions, fractions, side, side),
    st.tuples(fractions, fractions, side, side),
    variances,
)
def test_round_trip(
    box: tuple[float, ...], default: tuple[float, ...], variances: tuple[float, ...]
) -> None:
    original = corners(torch.tensor([box], dtype=torch.float64))
    default_box = torch.tensor([default], dtype=torch.float64)
    decoded = decode(encode(original, default_box, variances), default_box, variances)
    torch.testing.assert_close(decoded, original, rtol=1e-9, atol=1e-9)


def test_equals_torchvision() -> None:
    coder = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))  # the reciprocals of the variances
    default, boxes = random_boxes(200, seed=1), corners(random_boxes(200, seed=2))
    offsets = encode(boxes, default, VARIANCES)
    torch.testing.assert_close(offsets, coder.encode_single(boxes, corners(default)))
    # torchvision clamps log sizes at log(1000 / 16), beyond a ratio of 19.
    torch.testing.assert_close(
        decode(offsets, default, VARIANCES), coder.decode_single(offsets, corners(default))
    )


def test_decode_takes_a_batch() -> None:
    default = random_boxes(7, seed=3)
    offsets = torch.randn(2, 7, 4, dtype=torch.float64)
    both = decode(offsets, default, VARIANCES)
    assert both.shape == (2, 7, 4)
    torch.testing.assert_close(both[1], decode(offsets[1], default, VARIANCES))
