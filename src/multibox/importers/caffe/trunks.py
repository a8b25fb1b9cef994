"""Which backbone a chain of layers is, and the arrays of that backbone and of the extra layers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from multibox.card import ExtraKind, ExtraLayer
from multibox.importers.caffe.chain import (
    ConvolutionStep,
    PoolingStep,
    Step,
    expect_convolution,
    wanted_convolution,
)
from multibox.importers.caffe.graph import Blob, Layer
from multibox.importers.caffe.shapes import Shapes
from multibox.importers.caffe.weights import DEFAULT_EPSILON, Weights, norm_epsilon
from multibox.importers.imported import Array

_VGG_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Channels and stride of MobileNetV1's depthwise separable blocks.
_MOBILENET_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2),
    (1024, 1),
)  # fmt: skip


class Trunk(NamedTuple):
    """A recognised network below the heads.

    ``taps`` are the maps that heads read, finest first; ``places`` name our module for each step
    of the backbone, ``norm_places`` the BatchNorm behind it, if it has one.
    """

    backbone: str
    taps: tuple[Blob, ...]
    places: Mapping[ConvolutionStep, str]
    norm_places: Mapping[ConvolutionStep, str]
    extras: tuple[tuple[ConvolutionStep, ConvolutionStep], ...]


def recognise(steps: Sequence[Step], shapes: Shapes) -> Trunk:
    """VGG-16 or MobileNetV1, with extra layers behind it.

    Raises: InputError when it is neither; the line names the first layer that differs.
    """
    second = steps[1] if len(steps) > 1 else None
    grouped = isinstance(second, ConvolutionStep) and second.parameters.groups > 1
    return _mobilenet(steps) if grouped else _vgg(steps, shapes)


def _vgg(steps: Sequence[Step], shapes: Shapes) -> Trunk:
    places: dict[ConvolutionStep, str] = {}
    position = place = 0
    for stage, widths in enumerate(_VGG_STAGES, start=1):
        for i, width in enumerate(widths, start=1):
            what = f"VGG-16's conv{stage}_{i}"
            expect_convolution(steps, position, wanted_convolution(width, 3, pad=1), what)
            places[_convolution(steps[position])] = f"features.{place}"
            position, place = position + 1, place + 2
        if stage == 4:
            fine = steps[position - 1].output
        _expect_pool(steps, position, stage, shapes)
        position, place = position + 1, place + 1
    fc6 = wanted_convolution(1024, 3, pad=6, dilation=6)
    for name, wanted in (("fc6", fc6), ("fc7", wanted_convolution(1024, 1))):
        expect_convolution(steps, position, wanted, f"VGG-16's {name}")
        places[_convolution(steps[position])] = name
        position += 1
    extras = _extras(steps[position:])
    taps = (fine, steps[position - 1].output, *(pair[1].output for pair in extras))
    return Trunk("vgg16", taps, places, {}, extras)


def _expect_pool(steps: Sequence[Step], index: int, stage: int, shapes: Shapes) -> None:
    what = f"VGG-16's pool{stage}"
    if index >= len(steps):
        raise steps[-1].layer.refused(f"is the last layer of the chain, but {what} is missing")
    step = steps[index]
    if not isinstance(step, PoolingStep):
        raise step.layer.refused(f"stands where {what} is expected")
    side, stride, pad = (3, 1, 1) if stage == 5 else (2, 2, 0)
    if step.parameters != ((side, side), (stride, stride), (pad, pad)):
        raise step.layer.refused(
            f"{what} has kernel_size {side}, stride {stride} and pad {pad}, this has not"
        )
    before, after = shapes.map(step.layer.input)[1:], shapes.map(step.output)[1:]
    if stage in (1, 2, 4) and any(side % 2 for side in before):
        raise step.layer.refused(
            f"brings {before[0]}x{before[1]} to {after[0]}x{after[1]} cells, as Caffe rounds up, "
            "where multibox rounds down: this input size is not supported"
        )


def _mobilenet(steps: Sequence[Step]) -> Trunk:
    wanted = [("conv0", wanted_convolution(32, 3, stride=2, pad=1))]
    places, norm_places = ["features.0.0"], ["features.0.1"]
    depth = 32
    for block, (width, stride) in enumerate(_MOBILENET_BLOCKS, start=1):
        depthwise = wanted_convolution(depth, 3, stride=stride, pad=1, groups=depth)
        wanted += [(f"conv{block}/dw", depthwise), (f"conv{block}", wanted_convolution(width, 1))]
        places += [f"features.{block}.0", f"features.{block}.3"]
        norm_places += [f"features.{block}.1", f"features.{block}.4"]
        depth = width
    for index, (name, parameters) in enumerate(wanted):
        expect_convolution(steps, index, parameters, f"MobileNetV1's {name}")
    extras = _extras(steps[len(wanted) :])
    taps = (steps[22].output, steps[26].output, *(pair[1].output for pair in extras))
    trunk = [_convolution(step) for step in steps[: len(wanted)]]
    return Trunk(
        "mobilenet_v1",
        taps,
        dict(zip(trunk, places, strict=True)),
        dict(zip(trunk, norm_places, strict=True)),
        extras,
    )


def _extras(steps: Sequence[Step]) -> tuple[tuple[ConvolutionStep, ConvolutionStep], ...]:
    """Pairs of a 1x1 convolution and one that makes the map smaller."""
    for i, step in enumerate(steps):
        if isinstance(step, PoolingStep):
            raise step.layer.refused("stands where a convolution of an extra layer is expected")
        read = step.parameters
        square = all(a == b for a, b in (read.kernel, read.stride, read.pad))
        if not square or read.dilation != (1, 1) or read.groups != 1:
            raise step.layer.refused(
                "an extra layer is a square convolution without dilation and groups"
            )
        if i % 2 == 0 and (read.kernel, read.stride, read.pad) != ((1, 1), (1, 1), (0, 0)):
            raise step.layer.refused(
                "an extra layer begins with a convolution of kernel_size 1, stride 1 and pad 0"
            )
        if not step.activated:
            raise step.layer.refused("has no ReLU behind it before its feature map is read")
    if len(steps) % 2:
        raise steps[-1].layer.refused(
            "an extra layer is two convolutions, and the heads read the second"
        )
    pairs = zip(steps[::2], steps[1::2], strict=True)
    return tuple((_convolution(first), _convolution(second)) for first, second in pairs)


def _convolution(step: Step) -> ConvolutionStep:
    assert isinstance(step, ConvolutionStep)
    return step


def extra_card(trunk: Trunk) -> tuple[ExtraKind, tuple[ExtraLayer, ...]]:
    """The extra layers for the card."""
    with_norms = any(step.norms for pair in trunk.extras for step in pair)
    kind: ExtraKind = "conv-norm" if with_norms or trunk.norm_places else "conv"
    return kind, tuple(
        ExtraLayer(
            squeeze=first.parameters.outputs,
            channels=second.parameters.outputs,
            kernel=second.parameters.kernel[0],
            stride=second.parameters.stride[0],
            padding=second.parameters.pad[0],
        )
        for first, second in trunk.extras
    )


def common_epsilon(trunk: Trunk) -> float:
    """The least epsilon of all BatchNorms, which the others' variances are brought to."""
    steps = [*trunk.places, *(step for pair in trunk.extras for step in pair)]
    norms: list[Layer] = [norm for step in steps for norm in step.norms]
    return min(
        (norm_epsilon(norm) for norm in norms if norm.type == "BatchNorm"), default=DEFAULT_EPSILON
    )


def trunk_arrays(
    trunk: Trunk, weights: Weights, shapes: Shapes, epsilon: float
) -> dict[str, Array]:
    """Arrays of the backbone (but its L2 norm) and of the extra layers under our names.

    Raises: InputError when a blob is missing or of another shape.
    """
    arrays: dict[str, Array] = {}

    def add(step: ConvolutionStep, place: str, norm_place: str | None) -> None:
        channels, _, _ = shapes.map(step.layer.input)
        given = (step.layer, step.parameters, step.norms, channels)
        if norm_place is None:
            parts = {place: weights.plain(*given)}
        else:
            kernel, norm = weights.normed(*given, epsilon)
            parts = {place: kernel, norm_place: norm}
        arrays.update(
            (f"{where}.{name}", array)
            for where, named in parts.items()
            for name, array in named.items()
        )

    for step, place in trunk.places.items():
        norm_place = trunk.norm_places.get(step)
        add(step, f"backbone.{place}", norm_place and f"backbone.{norm_place}")
    with_norms = extra_card(trunk)[0] == "conv-norm"
    for i, pair in enumerate(trunk.extras):
        for step, at in zip(pair, (0, 3) if with_norms else (0, 2), strict=True):
            add(step, f"extras.{i}.{at}", f"extras.{i}.{at + 1}" if with_norms else None)
    return arrays
