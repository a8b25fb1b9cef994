"""Depthwise convolutions whose gradients are computed in two precisions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from multibox.training.depthwise import MixedDepthwise

CASES = [(3, 1, 1), (3, 2, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2)]  # kernel, stride, dilation


def results(layer: nn.Conv2d, x: Tensor, *, mixed: bool) -> list[Tensor]:
    """Output and the gradients of input and weights under autocast."""
    layer.zero_grad()
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        if mixed:
            with MixedDepthwise():
                y = layer(x)
        else:
            y = layer(x)
    y.float().square().sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None
    return [y, x.grad, layer.weight.grad]


@pytest.mark.parametrize(("kernel", "stride", "dilation"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients(kernel: int, stride: int, dilation: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    pad = kernel // 2 * dilation
    layer = nn.Conv2d(
        8, 8, kernel, stride, padding=pad, dilation=dilation, groups=8, bias=False
    ).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 12, 12).to(dtype).contiguous(memory_format=torch.channels_last)
    ours, torchs = results(layer, x, mixed=True), results(layer, x, mixed=False)
    assert torch.equal(ours[0], torchs[0])
    assert [each.dtype for each in ours] == [torch.bfloat16, dtype, torch.float32]
    # Against the same rounded numbers in float64, as near as torch's own, or within bf16's ulp.
    exact = nn.Conv2d(
        8, 8, kernel, stride, padding=pad, dilation=dilation, groups=8, bias=False
    ).double()
    exact.weight.data = layer.weight.data.bfloat16().double()
    exact_x = x.bfloat16().double().requires_grad_()
    y = exact(exact_x)
    y.backward(2 * torchs[0].double())
    for one, expected in zip(ours[1:], (exact_x.grad, exact.weight.grad), strict=True):
        error = (one.double() - expected).abs().max() / expected.abs().max()
        assert error < 2**-7


class Recorder(TorchDispatchMode):
    """Which gradient was computed in which precision: "input" and "weight"."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, torch.dtype] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution_backward.default:
            self.seen["input" if args[-1][0] else "weight"] = args[0].dtype
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kernel", "stride", "side", "full"),
    [
        (3, 1, 12, set()),
        (3, 2, 12, {"input"}),
        (5, 1, 12, {"weight"}),
        (5, 2, 12, {"input", "weight"}),
        # oneDNN's bf16 kernel gives NaN now and then, after what others left in the memory.
        (3, 2, 1, {"input", "weight"}),
        (3, 1, 2, {"weight"}),
    ],
)
def test_what_bf16_is_slow_or_wrong_at_is_done_in_float32(
    kernel: int, stride: int, side: int, full: set[str]
) -> None:
    layer = nn.Conv2d(8, 8, kernel, stride, padding=kernel // 2, groups=8, bias=False)
    with Recorder() as recorder:
        results(layer, torch.randn(2, 8, side, side), mixed=True)
    assert recorder.seen.keys() == {"input", "weight"}
    assert {name for name, dtype in recorder.seen.items() if dtype == torch.float32} == full


def test_gradients_that_are_not_asked_for_are_not_computed() -> None:
    layer = nn.Conv2d(4, 4, 3, groups=4, bias=False)
    x = torch.randn(1, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16), MixedDepthwise():
        layer(x).float().sum().backward()
    assert x.grad is None
    assert layer.weight.grad is not None


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 3, groups=2)]
)
def test_other_convolutions_are_torchs_own(layer: nn.Conv2d) -> None:
    x = torch.randn(1, 4, 6, 6)
    with MixedDepthwise():
        y = layer(x)
    assert torch.equal(y, layer(x))
    assert y.dtype == torch.float32
    assert type(y.grad_fn).__name__ == "ConvolutionBackward0"
