"""How many multiply-adds a network does for one picture, counted layer by layer.

Convolutions and matrix products count, as everybody counts them; elementwise layers do not.
"""

import json
import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from multibox.engines import Engine
from multibox.engines.openvino_core import openvino_core
from multibox.imaging import Image

# Which input of an ONNX operator holds its weights.
_WEIGHTS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_PRODUCTS = ("MatMul", "Gemm")


def of_onnx(path: Path, example: Image) -> int:
    """Of an ONNX file, from the shapes that onnxruntime notes down when it runs ``example``.

    ``example`` is one picture as the network takes it, uint8 ``[1, h, w, 3]``.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "shapes")
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        session.run(None, {session.get_inputs()[0].name: example})
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event["args"] for event in events if event.get("cat") == "Node"]
    return sum(_of_node(node) for node in nodes)


def _of_node(node: dict[str, Any]) -> int:
    operator = node.get("op_name", "")
    if operator not in _WEIGHTS and operator not in _PRODUCTS:
        return 0
    inputs, outputs = (  # shapes
        [shape for each in node[key] for shape in each.values()]
        for key in ("input_type_shape", "output_type_shape")
    )
    if operator in _PRODUCTS:
        return int(prod(outputs[0]) * inputs[0][-1])
    return int(prod(inputs[_WEIGHTS[operator]]) * prod(outputs[0][2:]))


def of_openvino(path: Path) -> int:
    """Of an OpenVINO file, from the shapes that it states."""
    model = openvino_core().read_model(path)
    model.reshape([1, *list(model.input().partial_shape)[1:]])
    total = 0
    for layer in model.get_ordered_ops():
        kind = layer.get_type_name()
        if kind in ("Convolution", "GroupConvolution"):
            weights, output = layer.input(1).get_shape(), layer.output(0).get_shape()
            total += prod(weights) * prod(list(output)[2:])
        elif kind == "MatMul":
            total += prod(layer.output(0).get_shape()) * int(layer.input(0).get_shape()[-1])
    return total


def of_torch(engine: Engine, example: Image) -> int:
    """Of the torch engine's module, from what each layer puts out for ``example``."""
    return of_module(engine.module, lambda: engine.network(example))  # type: ignore[attr-defined]


def of_module(module: Any, run: Callable[[], object]) -> int:
    """Of a ``torch.nn.Module``, from what each layer puts out during ``run()``."""
    total = 0

    def count(layer: Any, _: Any, output: Any) -> None:
        nonlocal total
        weight = layer.weight
        positions = prod(output.shape[2:]) if weight.ndim == 4 else prod(output.shape[:-1])
        total += weight.numel() * positions

    layers = [
        layer for layer in module.modules() if getattr(layer, "weight", None) is not None
        and layer.weight.ndim in (2, 4)
    ]  # fmt: skip
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return total
