"""OpenVINO as an engine: the fastest on Intel's and AMD's processors, for exported files."""

import os
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import openvino

from multibox.card import ModelCard
from multibox.engines.exported import ExportedModel, damaged
from multibox.engines.graph import (
    Goal,
    GraphEngine,
    Outputs,
    Precision,
    available_threads,
    where_to_cut,
)
from multibox.engines.openvino_core import openvino_core
from multibox.errors import InputError
from multibox.importers.download import cache_folder

_T = TypeVar("_T")


class OpenVinoEngine(GraphEngine):
    """Runs an exported file up to its scores and boxes; the rest is NumPy's."""

    name = "openvino"

    def __init__(
        self, compiled: Any, card: ModelCard, outputs: tuple[str, ...], workers: int
    ) -> None:
        super().__init__(card, outputs, workers)
        self._ports = [compiled.output(name) for name in outputs]
        # A request serves one picture at a time; there are as many as there are workers.
        self._free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(workers):
            self._free.put(compiled.create_infer_request())

    @classmethod
    def from_exported(
        cls,
        model: ExportedModel,
        goal: Goal = "latency",
        threads: int | None = None,
        precision: Precision = "fp32",
    ) -> Self:
        """Compile an ONNX file or an IR; where it can, what is compiled is kept in the cache.

        ``precision`` is what the layers compute in that the file has in float32.

        Raises: InputError when the file is damaged or has not the outputs of a detector.
        """
        threads = threads or available_threads()
        core = openvino_core()
        try:
            network = core.read_model(model.path)
        except Exception as error:  # the reader's own, and whatever its parts let through
            raise damaged(model.path, error) from error
        network, outputs = _cut(network, model)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "PERFORMANCE_HINT": goal.upper(),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads if goal == "throughput" else 1,
        }
        folder = _writable(cache_folder() / "openvino")
        if folder is not None:
            settings["CACHE_DIR"] = str(folder)
        try:
            compiled = core.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            raise damaged(model.path, error) from error
        return cls(compiled, model.card, outputs, threads if goal == "throughput" else 1)

    def _run(self, image: npt.NDArray[np.uint8], use: Callable[[Outputs], _T]) -> _T:
        request = self._free.get()
        try:
            found = request.infer({0: image}, share_inputs=True, share_outputs=True)
            return use(tuple(found[port] for port in self._ports))
        finally:
            self._free.put(request)


def _cut(network: Any, model: ExportedModel) -> tuple[Any, tuple[str, ...]]:
    """``network`` for one picture, up to the wanted tensors, and their names."""
    ports = {
        name: port for node in network.get_ops() for port in node.outputs() for name in port.names
    }
    outputs = where_to_cut(ports, model.path)
    inputs = network.get_parameters()
    if len(inputs) != 1:
        raise InputError(f"{model.path}: has {len(inputs)} inputs, not one: export it again")
    cut = openvino.Model([ports[name] for name in outputs], inputs, "detector")
    try:
        cut.reshape([1, *model.card.preprocessing.image_size, 3])
    except RuntimeError as error:
        raise damaged(model.path, error) from error
    return cut, outputs


def _writable(folder: Path) -> Path | None:
    """``folder`` where it is there or can be made; OpenVINO ends the work where it cannot write."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
