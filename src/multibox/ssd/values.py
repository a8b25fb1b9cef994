"""Where numbers can be looked at."""

from torch import Tensor


def at_hand(tensor: Tensor) -> bool:
    """Whether values may be asked for, as shapes that depend on them do: they are on a processor.

    An accelerator would have to finish all its work first. What follows has two ways then: one
    that computes only what is needed, and one whose shapes are always the same.
    """
    return tensor.device.type == "cpu"
