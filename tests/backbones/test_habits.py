"""Padding, activation and norm epsilon of other frameworks, put into a built network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from multibox.backbones.habits import (
    TensorflowConv2d,
    pad_as_tensorflow,
    set_activation,
    set_norm_epsilon,
)


def tensorflow_same(
    image: np.ndarray, weight: np.ndarray, stride: tuple[int, int], dilation: tuple[int, int]
) -> np.ndarray:
    """TensorFlow's SAME, tap by tap: output o reads input o * stride + tap * dilation - before.

    ceil(n / stride) outputs; (outputs - 1) * stride + field - n zeros, the odd one at the end.
    ``image [c, h, w]``, ``weight [out, c, kh, kw]``.
    """
    _, height, width = image.shape
    outputs, _, kh, kw = weight.shape
    rows, columns = -(-height // stride[0]), -(-width // stride[1])
    before = [
        max((count - 1) * s + (k - 1) * d + 1 - n, 0) // 2
        for count, s, k, d, n in zip(
            (rows, columns), stride, (kh, kw), dilation, (height, width), strict=True
        )
    ]
    result = np.zeros((outputs, rows, columns))
    for r in range(rows):
        for c in range(columns):
            for i in range(kh):
                for j in range(kw):
                    y = r * stride[0] + i * dilation[0] - before[0]
                    x = c * stride[1] + j * dilation[1] - before[1]
                    if 0 <= y < height and 0 <= x < width:
                        result[:, r, c] += weight[:, :, i, j] @ image[:, y, x]
    return result


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=pairs,
    dilation=pairs,
)
@settings(max_examples=60)
def test_same_padding_by_its_definition(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    layer = TensorflowConv2d(2, 3, kernel, stride=stride, dilation=dilation, bias=False).double()
    image = torch.randn(2, *size, dtype=torch.float64)
    with torch.no_grad():
        ours = layer(image[None])[0].numpy()
        expected = tensorflow_same(image.numpy(), layer.weight.numpy(), stride, dilation)
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_an_even_picture_is_padded_at_the_end_only() -> None:
    layer = TensorflowConv2d(1, 1, 3, stride=2, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1)
        even, odd = layer(torch.ones(1, 1, 4, 4)), layer(torch.ones(1, 1, 5, 5))
    assert even[0, 0].tolist() == [[9, 6], [6, 4]]
    assert odd[0, 0].tolist() == [[4, 6, 4], [6, 9, 6], [4, 6, 4]]


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6()),
        nn.Hardswish(),
    )


def test_only_layers_with_a_stride_are_padded_and_keep_their_weights() -> None:
    net = network()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    pad_as_tensorflow(net)
    assert type(net[0]) is TensorflowConv2d
    assert type(net[3][0]) is nn.Conv2d
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net(torch.zeros(1, 3, 7, 8)).shape == (1, 8, 4, 4)


@pytest.mark.parametrize(("name", "kind"), [("relu", nn.ReLU), ("relu6", nn.ReLU6)])
def test_every_relu_becomes_the_same(name: str, kind: type[nn.Module]) -> None:
    net = network()
    set_activation(net, name)  # type: ignore[arg-type]
    assert type(net[2]) is type(net[3][2]) is kind
    assert type(net[4]) is nn.Hardswish


def test_none_leaves_all_as_it_was() -> None:
    net = network()
    set_activation(net, None)
    set_norm_epsilon(net, None)
    assert [type(net[2]), type(net[3][2])] == [nn.ReLU, nn.ReLU6]
    assert net[1].eps == net[3][1].eps == 1e-5


def test_every_norm_has_the_epsilon() -> None:
    net = network()
    set_norm_epsilon(net, 0.25)
    assert net[1].eps == net[3][1].eps == 0.25
