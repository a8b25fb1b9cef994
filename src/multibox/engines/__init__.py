"""Engines: what can run a detector's network, one small file each, one interface."""

from importlib.util import find_spec
from typing import Literal, get_args

from multibox.checkpoints import Checkpoint
from multibox.engines.base import Engine, RawDetections
from multibox.engines.exported import ExportedModel, is_exported, read_exported
from multibox.engines.graph import Goal, Precision
from multibox.errors import InputError

EngineName = Literal["auto", "onnxruntime", "openvino", "torch"]

__all__ = [
    "Engine",
    "EngineName",
    "ExportedModel",
    "Goal",
    "Precision",
    "RawDetections",
    "is_exported",
    "open_engine",
    "read_exported",
]

# OpenVINO takes 1.3 to 2.2 seconds more than ONNX Runtime to load an SSDLite in 8 bits, 0.5 to 0.8
# where it finds it compiled in the cache, and wins 2 to 3.6 milliseconds with each picture.
_PICTURES_TO_REPAY_OPENVINO = 600


def open_engine(
    model: Checkpoint | ExportedModel,
    kind: EngineName = "auto",
    *,
    goal: Goal = "latency",
    threads: int | None = None,
    precision: Precision = "fp32",
    pictures: int | None = None,
) -> Engine:
    """The engine that runs ``model``.

    A checkpoint runs in PyTorch, on a GPU where there is one. An exported file runs in ONNX Runtime
    or OpenVINO: "auto" takes OpenVINO where it is installed and faster, its loading included, which
    ``pictures`` (None: many) have to repay.

    ``goal`` is whether one picture has all ``threads`` (by default as many as there are
    processors) or each has one. "bf16" lets OpenVINO and PyTorch compute float32 layers with 8 bits
    of precision, where that is faster; "fp16", with 11, is for PyTorch on a GPU.

    Raises: InputError when ``kind`` cannot run the model so, is not installed, or the file is
    damaged.
    """
    for what, value, type in (
        ("engine", kind, EngineName),
        ("goal", goal, Goal),
        ("precision", precision, Precision),
    ):
        if value not in get_args(type):
            raise InputError(f"no {what} {value!r}: choose one of {', '.join(get_args(type))}")
    if threads is not None and threads < 1:
        raise InputError(f"{threads} threads cannot run anything: give 1 or more")
    if isinstance(model, Checkpoint):
        return _open_torch(model, kind, threads, precision)
    if kind == "torch":
        raise InputError(
            f"{model.path}: an exported file, which torch cannot run: use --engine onnxruntime or "
            "openvino, or give the checkpoint"
        )
    if precision == "fp16":
        raise InputError(
            f"--precision fp16: is for checkpoints; {model.path} runs in the precision that it was "
            "exported with, or in bf16"
        )
    if kind == "auto":
        kind = _best_for(model, precision, pictures)
    if kind == "openvino":
        return _open_openvino(model, goal, threads, precision)
    if model.is_openvino:
        raise InputError(
            f"{model.path}: an OpenVINO file, which {kind} cannot run: use --engine openvino"
        )
    if precision != "fp32":
        raise InputError(f"--precision {precision}: {kind} cannot: use --engine openvino")
    from multibox.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine.from_exported(model, goal, threads)


def _best_for(model: ExportedModel, precision: Precision, pictures: int | None) -> EngineName:
    """What docs/running.md has the measurements for."""
    if model.is_openvino or precision != "fp32":
        return "openvino"
    eight_bits = (model.card.export or {}).get("precision") == "int8"
    many = pictures is None or pictures >= _PICTURES_TO_REPAY_OPENVINO
    return "openvino" if eight_bits and many and find_spec("openvino") else "onnxruntime"


def _open_openvino(
    model: ExportedModel, goal: Goal, threads: int | None, precision: Precision
) -> Engine:
    try:
        from multibox.engines.openvino import OpenVinoEngine
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] != "openvino":
            raise
        raise InputError(
            f'{model.path}: OpenVINO is not installed: pip install "multibox[openvino]"'
        ) from error
    return OpenVinoEngine.from_exported(model, goal, threads, precision)


def _open_torch(
    checkpoint: Checkpoint, kind: EngineName, threads: int | None, precision: Precision
) -> Engine:
    if kind not in ("auto", "torch"):
        raise InputError(
            f"{checkpoint.path}: a checkpoint, which {kind} cannot run: use --engine torch, or "
            f"multibox export {checkpoint.path} first"
        )
    try:
        from multibox.engines.torch import TorchEngine
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in ("torch", "torchvision"):
            raise
        raise InputError(
            f"{checkpoint.path}: running a checkpoint needs PyTorch: pip install "
            '"multibox[train]", or multibox export it where PyTorch is and give that file'
        ) from error
    return TorchEngine.from_checkpoint(checkpoint, threads=threads, precision=precision)
