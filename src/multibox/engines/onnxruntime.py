"""ONNX Runtime as an engine: the base install's, for exported ONNX files.

On processors, or where ``onnxruntime-gpu`` takes its place on an NVIDIA GPU.
"""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime
from google.protobuf.message import DecodeError

from multibox.card import ModelCard
from multibox.engines.exported import ExportedModel, damaged, read_bytes
from multibox.engines.graph import Goal, GraphEngine, Outputs, available_threads, where_to_cut
from multibox.errors import InputError
from multibox.protobuf_schema import Schema

# Weights are in fields that are not listed, which keeps them as they are and out of Python's hands.
_ONNX = Schema(
    "onnx_outputs",
    {
        "Model": ("graph 7 Graph",),
        "Graph": ("node 1 Node*", "input 11 Value*", "output 12 Value*"),
        "Node": ("input 1 string*", "output 2 string*"),
        "Value": ("name 1 string",),
    },
)
_ERRORS_ONLY = 3
_CPU, _CUDA, _TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
_T = TypeVar("_T")


class OnnxRuntimeEngine(GraphEngine):
    """Runs an exported ONNX file up to its scores and boxes; the rest is NumPy's."""

    name = "onnxruntime"

    def __init__(
        self, session: Any, card: ModelCard, outputs: tuple[str, ...], workers: int
    ) -> None:
        super().__init__(card, outputs, workers)
        self._session = session
        self._whole_batches = session.get_providers()[0] != _CPU

    @classmethod
    def from_exported(
        cls, model: ExportedModel, goal: Goal = "latency", threads: int | None = None
    ) -> Self:
        """Open an ONNX file with ``threads`` threads, by default one for each core.

        It runs in TensorRT or CUDA where the installed ONNX Runtime has them and finds a GPU.

        Raises: InputError when the file is damaged or has not the outputs of a detector.
        """
        threads = threads or available_threads()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.intra_op_num_threads = threads if goal == "latency" else 1
        data, outputs = _cut(model.path)
        try:
            session = onnxruntime.InferenceSession(data, options, providers=_providers())
        except Exception as error:  # onnxruntime's own have no common base
            raise damaged(model.path, error) from error
        return cls(session, model.card, outputs, threads if goal == "throughput" else 1)

    def _run(self, image: npt.NDArray[np.uint8], use: Callable[[Outputs], _T]) -> _T:
        return use(tuple(self._session.run(self._outputs, {"images": image})))


def _providers() -> list[str | tuple[str, dict[str, Any]]]:
    """What may run the graph, best first; ONNX Runtime passes over what does not start.

    It lists TensorRT wherever it was built with it; the libraries are a package of their own. What
    TensorRT builds from a network in a minute is kept.
    """
    installed = onnxruntime.get_available_providers()
    found: list[str | tuple[str, dict[str, Any]]] = []
    if _TENSORRT in installed and find_spec("tensorrt"):
        from multibox.importers.download import cache_folder  # what else it imports takes long

        folder = str(cache_folder() / "tensorrt")
        kept = {"trt_engine_cache_enable": True, "trt_engine_cache_path": folder}
        found.append((_TENSORRT, kept))
    if _CUDA in installed:
        found.append(_CUDA)
        # From pip's packages of NVIDIA's libraries, which lie where no loader looks. What it misses
        # it prints, and standard output is not for that.
        if hasattr(onnxruntime, "preload_dlls"):  # from 1.21 on
            with redirect_stdout(sys.stderr):
                onnxruntime.preload_dlls()
    return [*found, _CPU]


def _cut(path: Path) -> tuple[bytes, tuple[str, ...]]:
    """The model in ``path`` with the outputs that are wanted, and their names.

    An inner tensor may become an output without a declared type, which onnxruntime works out. What
    is behind it has to go: onnxruntime runs nodes that lead nowhere too.
    """
    try:
        model: Any = _ONNX.message("Model").FromString(read_bytes(path))
    except DecodeError:
        raise damaged(path, "its messages do not end where they should") from None
    graph = model.graph
    if [value.name for value in graph.input] != ["images"]:
        raise InputError(f"{path}: its input is not called images: export it with multibox export")
    declared = {value.name for value in graph.output}
    inner = {name for node in graph.node for name in node.output}
    outputs = where_to_cut(declared | inner, path)
    if set(outputs) != declared:
        del graph.output[:]
        for name in outputs:
            graph.output.add(name=name)
        _drop_unused_nodes(graph)
    return model.SerializeToString(), outputs


def _drop_unused_nodes(graph: Any) -> None:
    """Leave the nodes that the outputs of ``graph`` depend on; ONNX has them in order of use."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
