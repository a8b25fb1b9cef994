"""The shapes of all blobs, computed from the layers as Caffe does when it sets a network up."""

import math
from collections.abc import Callable, Iterable

from multibox.importers.caffe.graph import CONVOLUTIONS, Blob, Layer
from multibox.importers.caffe.layers import convolution, pooling
from multibox.importers.caffe.priors import boxes_per_cell

Shape = tuple[int, ...]

# Pixels or channels; more would be a slip of the pen or an attack on memory.
_LARGEST_SIDE = 8192

_SAME_SHAPE = frozenset(
    ("BatchNorm", "Bias", "Normalize", "ReLU", "Scale", "Sigmoid", "Softmax")
)  # fmt: skip


class Shapes:
    """The shape of every blob that the known layers lead to."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._known: dict[tuple[Layer, str], Shape] = {}
        self._first_unknown: dict[Layer, Layer] = {}
        for layer in layers:
            unknown = [
                blob.maker for blob in layer.inputs if (blob.maker, blob.name) not in self._known
            ]
            if unknown:
                self._first_unknown[layer] = self._first_unknown.get(unknown[0], unknown[0])
            else:
                self._add(layer, [self._known[blob.maker, blob.name] for blob in layer.inputs])

    def __getitem__(self, blob: Blob) -> Shape:
        """Raises: InputError when the shape is not known."""
        shape = self._known.get((blob.maker, blob.name))
        if shape is None:
            culprit = self._first_unknown.get(blob.maker, blob.maker)
            raise culprit.refused(
                "what it gives is not known: "
                + (
                    "a layer of this type or form is not supported"
                    if culprit.inputs
                    else "it has no shape"
                )
            )
        return shape

    def map(self, blob: Blob) -> tuple[int, int, int]:
        """Channels, rows and columns of a feature map."""
        shape = self[blob]
        if len(shape) != 4:
            raise blob.maker.refused(f"gives the shape {shape}, not a feature map")
        return shape[1], shape[2], shape[3]

    def _add(self, layer: Layer, inputs: list[Shape]) -> None:
        if layer.type == "Input" or not inputs:
            for top, shape in zip(layer.tops, _input_shapes(layer), strict=False):
                self._known[layer, top] = shape
        elif layer.type in _SAME_SHAPE:
            self._known.update(((layer, top), inputs[0]) for top in layer.tops)
        elif layer.type in _RULES and layer.tops:
            shape = _RULES[layer.type](layer, inputs)
            if min(shape, default=1) < 1:
                raise layer.refused(f"gives the shape {shape} from {inputs[0]}")
            self._known[layer, layer.tops[0]] = shape


def _input_shapes(layer: Layer) -> list[Shape]:
    """Of an Input layer as declared; of a data layer the pictures' that it resizes to."""
    if layer.type == "Input":
        shapes = [tuple(shape.dim) for shape in layer.parameters.input_param.shape]
        return shapes * len(layer.tops) if len(shapes) == 1 else shapes
    resize = layer.parameters.transform_param.resize_param
    return [(1, 3, resize.height, resize.width)] if resize.height and resize.width else []


def _window(side: int, kernel: int, stride: int, pad: int, dilation: int) -> int:
    return (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1


def _convolution(layer: Layer, inputs: list[Shape]) -> Shape:
    batch, channels, rows, columns = _four(layer, inputs[0])
    read = convolution(layer, channels)
    sides = zip((rows, columns), read.kernel, read.stride, read.pad, read.dilation, strict=True)
    return (batch, read.outputs, *(_window(*side) for side in sides))


def _pooling(layer: Layer, inputs: list[Shape]) -> Shape:
    batch, channels, rows, columns = _four(layer, inputs[0])
    read = pooling(layer)
    sides = zip((rows, columns), read.kernel, read.stride, read.pad, strict=True)
    return (batch, channels, *(pooled_side(*side) for side in sides))


def pooled_side(side: int, kernel: int, stride: int, pad: int) -> int:
    """Caffe rounds up, but drops a last window that would begin in the padding."""
    cells = -(-(side + 2 * pad - kernel) // stride) + 1
    if pad and (cells - 1) * stride >= side + pad:
        cells -= 1
    return cells


def _permute(layer: Layer, inputs: list[Shape]) -> Shape:
    order = list(layer.parameters.permute_param.order)
    order += [axis for axis in range(len(inputs[0])) if axis not in order]
    if sorted(order) != list(range(len(inputs[0]))):
        raise layer.refused(f"order {order} is no permutation of {len(inputs[0])} axes")
    return tuple(inputs[0][axis] for axis in order)


def _flatten(layer: Layer, inputs: list[Shape]) -> Shape:
    said = layer.parameters.flatten_param
    first, last = (axis_of(layer, axis, inputs[0]) for axis in (said.axis, said.end_axis))
    if first > last:
        raise layer.refused(f"flattens from axis {first} to axis {last}")
    return (*inputs[0][:first], math.prod(inputs[0][first : last + 1]), *inputs[0][last + 1 :])


def _reshape(layer: Layer, inputs: list[Shape]) -> Shape:
    said, old = layer.parameters.reshape_param, inputs[0]
    start = said.axis if said.axis >= 0 else len(old) + said.axis + 1
    end = len(old) if said.num_axes == -1 else start + said.num_axes
    dims = list(said.shape.dim)
    if not 0 <= start <= end <= len(old) or dims.count(-1) > 1:
        raise layer.refused(f"its reshape_param does not fit the shape {old}")
    for i, dim in enumerate(dims):
        if dim == 0:
            if start + i >= len(old):
                raise layer.refused(f"its reshape_param does not fit the shape {old}")
            dims[i] = old[start + i]
    new = [*old[:start], *dims, *old[end:]]
    if -1 in new:
        rest = math.prod(side for side in new if side != -1)
        new[new.index(-1)] = math.prod(old) // rest if rest else 0
    if math.prod(new) != math.prod(old):
        raise layer.refused(f"cannot bring the shape {old} to {tuple(new)}")
    return tuple(new)


def _concat(layer: Layer, inputs: list[Shape]) -> Shape:
    said = layer.parameters.concat_param
    by_axis = said.HasField("axis") or not said.HasField("concat_dim")
    axis = axis_of(layer, said.axis if by_axis else said.concat_dim, inputs[0])
    others = {(*shape[:axis], *shape[axis + 1 :], len(shape)) for shape in inputs}
    if len(others) != 1:
        raise layer.refused(f"cannot join the shapes {', '.join(map(str, inputs[:8]))}")
    joined = sum(shape[axis] for shape in inputs)
    return (*inputs[0][:axis], joined, *inputs[0][axis + 1 :])


def axis_of(layer: Layer, axis: int, shape: Shape) -> int:
    """The axis counted from the front; negative ones count from the end.

    Raises: InputError when there is no such axis.
    """
    if not -len(shape) <= axis < len(shape):
        raise layer.refused(f"axis {axis} is not one of the shape {shape}")
    return axis % len(shape)


def _prior_box(layer: Layer, inputs: list[Shape]) -> Shape:
    _, _, rows, columns = _four(layer, inputs[0])
    return 1, 2, 4 * rows * columns * boxes_per_cell(layer)


def _four(layer: Layer, shape: Shape) -> tuple[int, int, int, int]:
    if len(shape) != 4 or max(shape) > _LARGEST_SIDE or min(shape) < 1:
        raise layer.refused(f"reads the shape {shape}, which is not a feature map of usual size")
    batch, channels, rows, columns = shape
    return batch, channels, rows, columns


_RULES: dict[str, Callable[[Layer, list[Shape]], Shape]] = {
    **dict.fromkeys(CONVOLUTIONS, _convolution),
    "Pooling": _pooling,
    "Permute": _permute,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Concat": _concat,
    "PriorBox": _prior_box,
}
