"""Resizing on the device, for pictures that are there already (from a GPU's decoder, a camera)."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from multibox.card import Preprocessing
from multibox.errors import InputError

# OpenCV's weights have 11 bits; of a sum of two weighted pixels 4 are dropped before the next.
_BITS, _DROPPED = 11, 4


def resize_on_device(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Upright RGB pictures ``[b, H, W, 3]`` of uint8 to the network's ``[b, h, w, 3]`` of uint8.

    In the whole numbers of OpenCV's linear resize: on x86 the same values as
    ``imaging.to_network_input``, elsewhere at most one level off.

    Raises: InputError for a model whose pictures are not resized linearly.
    """
    height, width = preprocessing.image_size
    if images.shape[1:3] == (height, width):
        return images
    if preprocessing.interpolation != "linear":
        raise InputError(
            f"pictures of this model are resized by {preprocessing.interpolation!r}, which is not "
            "done on the device: resize them with imaging.to_network_input"
        )
    top, bottom, upper, lower = _taps(images.shape[1], height, images.device)
    left, right, near, far = _taps(images.shape[2], width, images.device)
    near, far = near[:, None], far[:, None]

    def across(rows: Tensor) -> Tensor:
        return rows[:, :, left] * near + rows[:, :, right] * far >> _DROPPED

    above, below = across(images[:, top]), across(images[:, bottom])
    total = (upper[:, None, None] * above >> 16) + (lower[:, None, None] * below >> 16)
    return (total + 2 >> 2).to(torch.uint8)


@lru_cache(maxsize=64)
def _taps(old: int, new: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of ``new`` samples the two old ones around its centre, and their integer weights.

    Kept, so that only the first picture of a size waits for them to arrive.
    """
    position = ((np.arange(new) + 0.5) * (old / new) - 0.5).astype(np.float32)
    first = np.floor(position)
    share = position - first
    places = [(first.astype(np.int64) + i).clip(0, old - 1) for i in range(2)]
    weights = [np.rint(part * 2**_BITS).astype(np.int32) for part in (1 - share, share)]
    before, after, near, far = (torch.from_numpy(each).to(device) for each in places + weights)
    return before, after, near, far
