"""The network as an ONNX graph, from uint8 pictures to raw outputs."""

import contextlib
import io
import logging
import warnings
from copy import deepcopy
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from multibox.errors import MultiboxError
from multibox.ssd.model import SSD

OPSET = 18
"""What onnxruntime, OpenVINO and OpenCV all read, and the lowest that torch's exporter writes."""

# Written out by torch's exporter although it is ONNX's default; OpenCV's importer trips over it.
_NEEDLESS = {("HardSigmoid", "beta"): 0.5}


class _MeanOfMap(nn.Module):
    """Average pooling to one cell over a map of known size.

    The adaptive layer decomposes into index arithmetic for channels-last maps when exported.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, (x.shape[2], x.shape[3]))


def network_graph(model: SSD) -> onnx.ModelProto:
    """``model`` in float32, of standard operators, with a dynamic batch.

    Input ``images`` uint8 ``[batch, h, w, 3]``, outputs ``class_logits [batch, n, classes + 1]``
    and ``box_offsets [batch, n, 4]``; normalisation is inside and BatchNorm folded.

    Raises: MultiboxError when torch's exporter cannot translate a layer.
    """
    model = _for_export(model)
    height, width = model.card.preprocessing.image_size
    example = torch.zeros((2, height, width, 3), dtype=torch.uint8)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["class_logits", "box_offsets"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=65536)}},
            )
    except torch.onnx.OnnxExporterError as error:
        # The exporter reports at length; what it stumbled over is the error that it ends with.
        cause = error.__cause__ or error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise MultiboxError(
            f"{model.card.model} on {model.card.architecture.backbone} cannot be exported to ONNX: "
            f"{reason}"
        ) from error
    graph: onnx.ModelProto = program.model_proto
    _simplify(graph)
    return graph


def _for_export(model: SSD) -> SSD:
    """A copy that gives the same answers and takes the exporter a third of the time."""
    model = deepcopy(model).cpu().float().eval().to(memory_format=torch.contiguous_format)
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            _fold_norms(module)
        if hasattr(module, "inplace"):
            # The exporter takes an activation as it is, but one in place apart into its arithmetic.
            setattr(module, "inplace", False)  # noqa: B010 - the type of a Module's attributes is a guess
        for name, layer in module.named_children():
            if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
                setattr(module, name, _MeanOfMap())
    return model


def _fold_norms(layers: nn.Sequential) -> None:
    for i in range(len(layers) - 1):
        first, norm = layers[i], layers[i + 1]
        # Not those of other types that are derived from it: timm's have an activation inside.
        if type(first) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
            layers[i], layers[i + 1] = fuse_conv_bn_eval(first, norm), nn.Identity()


def _simplify(model: onnx.ModelProto) -> None:
    """Drop what only the exporter needed: inner shapes, traces of the source, odd attributes."""
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        kept = [
            attribute
            for attribute in node.attribute
            if _NEEDLESS.get((node.op_type, attribute.name)) != attribute.f
        ]
        del node.attribute[:]
        node.attribute.extend(kept)


@contextlib.contextmanager
def _quiet() -> Any:
    """Without the exporter's progress report and its advice to itself."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
