"""Engines: what can run a detector's network, one small file each, one protocol."""

from typing import Literal, get_args

from multibox.checkpoints import Checkpoint
from multibox.engines.base import Engine, RawDetections
from multibox.errors import InputError

EngineName = Literal["auto", "onnxruntime", "openvino", "torch"]

__all__ = ["Engine", "EngineName", "RawDetections", "open_engine"]


def open_engine(checkpoint: Checkpoint, kind: EngineName = "auto") -> Engine:
    """The engine that runs ``checkpoint``: PyTorch, whose layers its arrays are.

    Raises: InputError when ``kind`` cannot run a checkpoint, PyTorch is not installed, or the
    arrays do not fit the card.
    """
    if kind not in get_args(EngineName):
        raise InputError(f"no engine {kind!r}: choose one of {', '.join(get_args(EngineName))}")
    if kind not in ("auto", "torch"):
        raise InputError(
            f"{checkpoint.path}: a checkpoint, which {kind} cannot run: use --engine torch"
        )
    try:
        from multibox.engines.torch import TorchEngine
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in ("torch", "torchvision"):
            raise
        raise InputError(
            f'{checkpoint.path}: running a checkpoint needs PyTorch: pip install "multibox[train]"'
        ) from error
    return TorchEngine.from_checkpoint(checkpoint)
