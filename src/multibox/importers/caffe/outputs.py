"""Where a network ends: its detection layer, and the heads and default boxes that lead to it."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from multibox.importers.caffe.graph import CONVOLUTIONS, NORMS, Blob, Layer
from multibox.importers.caffe.shapes import Shapes, axis_of

# They change how an array is written down, but neither its values nor their order.
_SAME_ORDER = frozenset(("Flatten", "Reshape"))
_SCORES: dict[str, Literal["softmax", "sigmoid"]] = {"Softmax": "softmax", "Sigmoid": "sigmoid"}

_MOST_PARTS = 100


class Head(NamedTuple):
    """One convolution that predicts, and the layers of a norm behind it."""

    convolution: Layer
    norms: tuple[Layer, ...]

    @property
    def map(self) -> Blob:
        """The feature map it reads."""
        return self.convolution.input


class Outputs(NamedTuple):
    """The detection layer, and for every feature map its heads and its default boxes."""

    layer: Layer
    classes: int
    scores: Literal["softmax", "sigmoid"]
    class_heads: tuple[Head, ...]
    box_heads: tuple[Head, ...]
    priors: tuple[Layer, ...]


def find_outputs(layer: Layer, shapes: Shapes) -> Outputs:
    """Follow a DetectionOutput or MultiBoxLoss ``layer`` back to the heads.

    Raises: InputError when anything but heads, their rearrangement and default boxes is there.
    """
    training = layer.type == "MultiBoxLoss"
    if len(layer.inputs) != (4 if training else 3):
        raise layer.refused(
            f"has {len(layer.inputs)} bottoms, expected boxes, scores and default boxes"
            + (" and objects" if training else "")
        )
    boxes, scores, priors = layer.inputs[:3]
    said = _checked(layer)
    classes = said.num_classes
    score_kinds: list[Layer] = []

    def leave_scores(blob: Blob) -> bool:
        if blob.maker.type not in _SCORES:
            return False
        score_kinds.append(blob.maker)
        if blob.maker.type == "Softmax":
            _check_softmax(blob.maker, classes, shapes)
        return True

    class_ends = _parts(scores, shapes, axis=1, through=leave_scores)
    box_ends = _parts(boxes, shapes, axis=1)
    prior_layers = [blob.maker for blob in _parts(priors, shapes, axis=2, reshaped=False)]
    for prior in prior_layers:
        if prior.type != "PriorBox":
            raise prior.refused(f"stands where {layer.name!r} expects PriorBox layers")
    return Outputs(
        layer=layer,
        classes=classes,
        scores=_score_kind(layer, said, score_kinds, len(class_ends)),
        class_heads=tuple(_head(end, shapes) for end in class_ends),
        box_heads=tuple(_head(end, shapes) for end in box_ends),
        priors=tuple(prior_layers),
    )


def _checked(layer: Layer) -> Any:
    """The layer's parameters, whose switches have the one setting that is supported."""
    training = layer.type == "MultiBoxLoss"
    parameters = layer.parameters
    said = parameters.multibox_loss_param if training else parameters.detection_output_param
    encoded = "encode_variance_in_target" if training else "variance_encoded_in_target"
    if said.code_type != 2:
        told = {1: "CORNER", 3: "CORNER_SIZE"}[said.code_type]
        unsaid = "" if said.HasField("code_type") else " (its default)"
        raise layer.refused(f"code_type {told}{unsaid} is not supported, only CENTER_SIZE")
    if not said.share_location:
        raise layer.refused("share_location false (boxes for every class) is not supported")
    if getattr(said, encoded):
        raise layer.refused(f"{encoded} true is not supported")
    if said.background_label_id != 0:
        raise layer.refused(
            f"background_label_id {said.background_label_id} is not supported, only 0"
        )
    if said.num_classes < 2:
        raise layer.refused(
            f"num_classes {said.num_classes}: expected the background and at least one class"
        )
    return said


def _score_kind(
    layer: Layer, said: Any, found: Sequence[Layer], heads: int
) -> Literal["softmax", "sigmoid"]:
    """How logits become scores: once for all heads, or for each of them alike."""
    if layer.type == "MultiBoxLoss":
        if found:
            raise found[0].refused(f"{layer.name!r} takes scores before it")
        return "sigmoid" if said.conf_loss_type == 1 else "softmax"
    kinds = {_SCORES[one.type] for one in found}
    if len(kinds) != 1 or len(found) not in (1, heads):
        raise layer.refused(
            "its scores must have passed one Softmax (or one Sigmoid), "
            + (
                f"not {', '.join(repr(one.name) for one in found[:8])}"
                if found
                else "but none is there"
            )
        )
    return kinds.pop()


def _check_softmax(layer: Layer, classes: int, shapes: Shapes) -> None:
    shape = shapes[layer.input]
    axis = axis_of(layer, layer.parameters.softmax_param.axis, shape)
    if axis != len(shape) - 1 or shape[axis] != classes:
        raise layer.refused(
            f"axis {axis} of the shape {shape} is not that of the {classes} classes of a box"
        )


def _parts(
    blob: Blob,
    shapes: Shapes,
    *,
    axis: int,
    reshaped: bool = True,
    through: Callable[[Blob], bool] = lambda _: False,
) -> list[Blob]:
    """The blobs that Concat layers along ``axis`` join to ``blob``, in their order.

    Layers that only reshape are stepped over where ``reshaped`` allows them, and those that
    ``through`` says yes to.
    """
    found: list[Blob] = []
    waiting = [blob]
    while waiting:
        blob = waiting.pop()
        layer = blob.maker
        if len(found) + len(waiting) > _MOST_PARTS:
            raise layer.refused(f"joins more than {_MOST_PARTS} parts")
        if layer.type == "Concat":
            shape = shapes[blob]
            said = layer.parameters.concat_param
            by_axis = said.HasField("axis") or not said.HasField("concat_dim")
            joined = axis_of(layer, said.axis if by_axis else said.concat_dim, shape)
            if joined != axis:
                raise layer.refused(f"joins axis {joined}, expected {axis}")
            waiting += reversed(layer.inputs)
        elif reshaped and layer.type in _SAME_ORDER:
            if shapes[blob][0] != shapes[layer.input][0]:
                raise layer.refused(
                    f"brings the shape {shapes[layer.input]} to {shapes[blob]}: the pictures of a "
                    "batch must stay apart"
                )
            waiting.append(layer.input)
        elif through(blob):
            waiting.append(layer.input)
        else:
            found.append(blob)
    return found


def _head(end: Blob, shapes: Shapes) -> Head:
    """The convolution before a Permute that brings channels to the end."""
    layer = end.maker
    if layer.type != "Permute":
        raise layer.refused("stands where a Permute layer behind a head is expected")
    order = list(layer.parameters.permute_param.order)
    # Caffe appends the axes that are left out.
    if order not in ([0, 2, 3, 1], [0, 2, 3]):
        raise layer.refused(f"order {order} is not supported, only 0 2 3 1")
    norms: list[Layer] = []
    layer = layer.input.maker
    while layer.type in NORMS:
        norms.append(layer)
        layer = layer.input.maker
    if layer.type not in CONVOLUTIONS:
        raise layer.refused("stands where the convolution of a head is expected")
    shapes.map(layer.input)
    return Head(layer, tuple(reversed(norms)))
