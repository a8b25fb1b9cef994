"""A prototxt as a graph: layers joined by their blobs, for one phase, as Caffe's Net joins them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from multibox.errors import InputError
from multibox.importers.caffe.schema import message

Phase = Literal["TRAIN", "TEST"]

CONVOLUTIONS = frozenset(("Convolution", "DepthwiseConvolution", "ConvolutionDepthwise"))
NORMS = frozenset(("BatchNorm", "Scale", "Bias"))
WITH_WEIGHTS = CONVOLUTIONS | NORMS | {"Normalize"}

# What leaves its input as it is when a network detects.
_TRANSPARENT = frozenset(("Dropout", "Split"))


@dataclass(frozen=True, eq=False, slots=True)
class Blob:
    """One value that flows through the network; a layer in place makes a new one of the same name.

    ``depth`` counts the layers on the longest way from an input.
    """

    name: str
    maker: "Layer"
    depth: int


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """A layer with the very blobs it reads, and all of its parameters as read from ``path``."""

    name: str
    type: str
    inputs: tuple[Blob, ...] = field(repr=False)
    tops: tuple[str, ...]
    parameters: Any = field(repr=False)
    path: Path

    def refused(self, why: str) -> InputError:
        """The error that this layer cannot be imported."""
        return InputError(f"{self.path}: layer {self.name!r} ({self.type}): {why}")

    @property
    def input(self) -> Blob:
        """The only blob it reads.

        Raises: InputError when it reads another number.
        """
        if len(self.inputs) != 1 or len(self.tops) != 1:
            raise self.refused(
                f"has {len(self.inputs)} bottoms and {len(self.tops)} tops, expected one of each"
            )
        return self.inputs[0]


def build_graph(network: Any, phase: Phase, path: Path) -> tuple[Layer, ...]:
    """The layers of ``network`` that take part in ``phase``, in the file's order.

    Raises: InputError when a layer reads a blob that no layer before it makes, or two layers
    have one name.
    """
    known: dict[str, Blob] = {}
    layers: list[Layer] = []
    for declared in (*_declared_inputs(network, path), *network.layer):
        if not takes_part(declared, phase):
            continue
        missing = [name for name in declared.bottom if name not in known]
        if missing:
            raise InputError(
                f"{path}: layer {declared.name!r} ({declared.type}): reads the blob "
                f"{missing[0]!r}, which no layer before it makes: Caffe takes layers in the order "
                "of the file"
            )
        inputs = tuple(known[name] for name in declared.bottom)
        layer = Layer(declared.name, declared.type, inputs, tuple(declared.top), declared, path)
        if layer.type in _TRANSPARENT and len(inputs) == 1:
            known.update((top, inputs[0]) for top in layer.tops)
            continue
        depth = 1 + max((blob.depth for blob in inputs), default=0)
        known.update((top, Blob(top, layer, depth)) for top in layer.tops)
        layers.append(layer)
    _check_names(layers)
    return tuple(layers)


def _declared_inputs(network: Any, path: Path) -> Iterable[Any]:
    """Inputs named at the head of the file, as the Input layers that Caffe makes of them."""
    shapes = [list(shape.dim) for shape in network.input_shape]
    if not shapes and len(network.input_dim) == 4 * len(network.input):
        dims = list(network.input_dim)
        shapes = [dims[i : i + 4] for i in range(0, len(dims), 4)]
    if len(shapes) != len(network.input):
        raise InputError(
            f"{path}: has {len(network.input)} inputs, but {len(shapes)} shapes of inputs"
        )
    for name, shape in zip(network.input, shapes, strict=True):
        layer = message("LayerParameter")(name=name, type="Input", top=[name])
        layer.input_param.shape.add(dim=shape)
        yield layer


def takes_part(layer: Any, phase: Phase) -> bool:
    """Whether a layer of the file is there in ``phase``, by its include and exclude rules."""
    if layer.include:
        return any(_holds(rule, phase) for rule in layer.include)
    return not any(_holds(rule, phase) for rule in layer.exclude)


def _holds(rule: Any, phase: Phase) -> bool:
    """Whether a rule is met by a network at level 0 and without stages."""
    wanted = {"TRAIN": 0, "TEST": 1}[phase]
    return (
        (not rule.HasField("phase") or rule.phase == wanted)
        and rule.min_level <= 0
        and (not rule.HasField("max_level") or rule.max_level >= 0)
        and not rule.stage
    )


def _check_names(layers: Iterable[Layer]) -> None:
    names: set[str] = set()
    for layer in layers:
        if layer.type not in WITH_WEIGHTS:
            continue
        if layer.name in names:
            raise layer.refused("another layer has this name, so its weights cannot be told apart")
        names.add(layer.name)
