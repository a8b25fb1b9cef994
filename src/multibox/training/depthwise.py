"""Depthwise convolutions in bf16 on a CPU, their gradients included.

oneDNN has fast bf16 kernels for the forward pass, but not for every gradient: that of a strided
convolution's input and that of a large kernel's weights fall back to plain loops, 5 to 25 times as
slow as in float32. On a map smaller than its kernel (one cell, stride 2) its weight gradient was
seen to take in memory that nobody has written. These are computed in float32 here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_LARGEST_FAST_KERNEL = 3


class MixedDepthwise(TorchFunctionMode):
    """Within it, depthwise convolutions are bf16, each of their gradients as is fastest.

    For a network in training on a CPU under autocast to bf16; every other call is left as it is.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Torch's hook for every call of one of its functions."""
        # The seven arguments that torch.nn.Conv2d gives.
        if func is torch.conv2d and len(args) == 7:
            x, weight, bias, stride, padding, dilation, groups = args
            depthwise = bias is None and groups == x.shape[1] == weight.shape[0] > 1
            if depthwise and not isinstance(padding, str):
                geometry = map(_pair, (stride, padding, dilation))
                return _Depthwise.apply(x, weight, *geometry)
        return func(*args, **(kwargs or {}))


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


class _Depthwise(torch.autograd.Function):
    """``x [b, c, h, w]`` and ``weight [c, 1, k, k]``; what comes out is bf16."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        stride: list[int],
        padding: list[int],
        dilation: list[int],
    ) -> Tensor:
        half, half_weight = x.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(half, half_weight)
        ctx.geometry = stride, padding, dilation
        ctx.dtypes = x.dtype, weight.dtype
        with torch.autocast("cpu", enabled=False):
            return torch.conv2d(half, half_weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.geometry
        of_x, of_weight = ctx.dtypes

        def gradient(which: int, fast_in_bf16: bool) -> Tensor:
            dtype = torch.bfloat16 if fast_in_bf16 else torch.float32
            result: Tensor = torch.ops.aten.convolution_backward(
                *(each.to(dtype) for each in (gradients[0], x, weight)),
                None,
                stride,
                padding,
                dilation,
                False,
                [0, 0],
                len(weight),
                [which == 0, which == 1, False],
            )[which]
            return result

        needs_x, needs_weight, *_ = ctx.needs_input_grad
        safe = min(x.shape[2:]) >= max(weight.shape[2:])
        return (
            gradient(0, max(stride) == 1).to(of_x) if needs_x else None,
            gradient(1, safe and max(weight.shape[2:]) <= _LARGEST_FAST_KERNEL).to(of_weight)
            if needs_weight
            else None,
            None,
            None,
            None,
        )
