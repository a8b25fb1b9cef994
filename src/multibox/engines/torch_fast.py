"""A network made ready for nothing but inference: half the bits, fewer layers, or compiled."""

import warnings
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from multibox.engines.torch_graphs import Function
from multibox.ssd.model import SSD


def to_half(model: SSD, dtype: torch.dtype) -> SSD:
    """``model`` in ``dtype``, laid out channels-last, its norms folded; changed in place.

    Normalisation, default boxes and post-processing stay in float32.
    """
    fold_norms(model.eval())
    for part in (model.backbone, model.extras, model.heads):
        part.to(dtype).to(memory_format=torch.channels_last)
    return model


def fold_norms(network: nn.Module) -> None:
    """Put every BatchNorm that directly follows a convolution into that one's weights, in place.

    Those that follow are the next of a ``Sequential``, and ``bn1`` after ``conv1`` as torchvision's
    ResNets name them.
    """
    for parent in network.modules():
        for (name, layer), (next_name, norm) in pairwise(list(parent.named_children())):
            follows = isinstance(parent, nn.Sequential) or (
                name.startswith("conv") and next_name == name.replace("conv", "bn")
            )
            if follows and isinstance(layer, nn.Conv2d) and type(norm) is nn.BatchNorm2d:
                setattr(parent, name, fuse_conv_bn_eval(layer, norm))
                setattr(parent, next_name, nn.Identity())


def compiled_if_possible(function: Function) -> Function:
    """``function`` compiled for each shape; where that fails, as it does without a C compiler, not.

    The compiler's errors come at the first call and have no common base.
    """
    compiled = cast(Function, torch.compile(function, dynamic=False))
    works = True

    def call(images: Tensor) -> tuple[Tensor, ...]:
        nonlocal works
        if works:
            try:
                return compiled(images)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                works = False
                warnings.warn(
                    f"runs uncompiled, so somewhat slower: {type(error).__name__}: "
                    f"{str(error).splitlines()[0] if str(error) else ''}",
                    stacklevel=2,
                )
        return function(images)

    return call
