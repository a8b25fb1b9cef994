"""The layers of backbones under the names that PyTorch projects give them."""

from collections.abc import Sequence
from itertools import pairwise

from multibox.importers.layers import Layers

# Where torchvision's `features` has VGG-16's 3x3 convolutions, and their depths.
_VGG_CONVOLUTIONS = {
    0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256,
    17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512,
}  # fmt: skip
_FC_CHANNELS = 1024

# Behind MobileNetV1's first convolution and its thirteen blocks.
_V1_CHANNELS = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)

# Behind MobileNetV2's first convolution and its seventeen blocks (Sandler 2018, table 2).
_V2_CHANNELS = (32, 16, 24, 24, *(32,) * 3, *(64,) * 4, *(96,) * 3, *(160,) * 3, 320)
_V2_LAST = 1280

# Of the three stages that SSD300 keeps of a ResNet: blocks and width.
_RESNET_STAGES = ((3, 64), (4, 128), (6, 256))


def vgg16(layers: Layers, theirs: str) -> None:
    """VGG-16 with fc6 and fc7 in one list, which counts on where torchvision's features end."""
    depth = 3
    for index, outputs in _VGG_CONVOLUTIONS.items():
        ours = f"backbone.features.{index}"
        layers.conv(ours, f"{theirs}.{index}", outputs, depth, 3, bias=True)
        depth = outputs
    layers.conv("backbone.fc6", f"{theirs}.31", _FC_CHANNELS, depth, 3, bias=True)
    layers.conv("backbone.fc7", f"{theirs}.33", _FC_CHANNELS, _FC_CHANNELS, 1, bias=True)


def mobilenet_v1(layers: Layers, theirs: str) -> None:
    """MobileNetV1 in blocks of convolution, norm and activation, twice."""
    _conv_norm(layers, "backbone.features.0", f"{theirs}.0", ("0", "1"), (32, 3, 3))
    for i, (depth, outputs) in enumerate(pairwise(_V1_CHANNELS), start=1):
        ours, block = f"backbone.features.{i}", f"{theirs}.{i}"
        _conv_norm(layers, ours, block, ("0", "1"), (depth, 1, 3))
        _conv_norm(layers, ours, block, ("3", "4"), (outputs, depth, 1))


def mobilenet_v2(layers: Layers, theirs: str, *, nested: bool) -> None:
    """MobileNetV2, its blocks ``nested`` as torchvision's, or each a plain list of layers."""
    _conv_norm(layers, "backbone.features.0", f"{theirs}.0", ("0", "1"), (32, 3, 3))
    for i, (depth, outputs) in enumerate(pairwise(_V2_CHANNELS), start=1):
        inner = depth if i == 1 else 6 * depth
        expansion = [] if i == 1 else [(inner, depth, 1)]
        shapes = [*expansion, (inner, 1, 3), (outputs, inner, 1)]
        for part, shape in enumerate(shapes):
            # The last convolution has no activation, and no module around it and its norm.
            last = shape is shapes[-1]
            pair = (f"{part}", f"{part + 1}") if last else (f"{part}.0", f"{part}.1")
            in_list = (f"{3 * part}", f"{3 * part + 1}")
            ours, block = f"backbone.features.{i}.conv", f"{theirs}.{i}.conv"
            _conv_norm(layers, ours, block, pair, shape, pair if nested else in_list)
    last_shape = (_V2_LAST, _V2_CHANNELS[-1], 1)
    _conv_norm(layers, "backbone.features.18", f"{theirs}.18", ("0", "1"), last_shape)


def resnet(layers: Layers, stem: str, stages: Sequence[str], *, bottleneck: bool) -> int:
    """Stem (its convolution is number 0) and three stages; returns the last one's channels.

    ``bottleneck`` is ResNet-50's block of three convolutions, else ResNet-34's of two.
    """
    layers.conv("backbone.conv1", f"{stem}.0", 64, 3, 7)
    layers.norm("backbone.bn1", f"{stem}.1", 64)
    depth = 64
    for number, (theirs, (blocks, width)) in enumerate(
        zip(stages, _RESNET_STAGES, strict=True), start=1
    ):
        outputs = 4 * width if bottleneck else width
        for block in range(blocks):
            shapes = [(width, depth, 3), (width, width, 3)]
            if bottleneck:
                shapes = [(width, depth, 1), (width, width, 3), (outputs, width, 1)]
            ours, block_name = f"backbone.layer{number}.{block}", f"{theirs}.{block}"
            for i, shape in enumerate(shapes, start=1):
                _conv_norm(layers, ours, block_name, (f"conv{i}", f"bn{i}"), shape)
            if depth != outputs:
                pair = ("downsample.0", "downsample.1")
                _conv_norm(layers, ours, block_name, pair, (outputs, depth, 1))
            depth = outputs
    return depth


def _conv_norm(
    layers: Layers,
    ours: str,
    theirs: str,
    pair: tuple[str, str],
    shape: tuple[int, int, int],
    their_pair: tuple[str, str] | None = None,
) -> None:
    """A convolution of ``shape`` (outputs, inputs, kernel) and its norm, the ``pair`` below both.

    ``their_pair`` where they are called otherwise in the file.
    """
    conv, norm = pair
    their_conv, their_norm = their_pair or pair
    layers.conv(f"{ours}.{conv}", f"{theirs}.{their_conv}", *shape)
    layers.norm(f"{ours}.{norm}", f"{theirs}.{their_norm}", shape[0])
