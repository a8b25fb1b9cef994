"""The MobileNets a graph may hold: their layers in order, and ours of the same place."""

from collections.abc import Sequence
from typing import NamedTuple

from multibox.importers.tensorflow.graph import Graph
from multibox.importers.tensorflow.layers import Layer


class Place(NamedTuple):
    """Where a layer's arrays go, and what the layer must be."""

    convolution: str
    norm: str
    channels: int
    size: int
    stride: int = 1
    depthwise: bool = False
    active: bool = True
    shortcut: bool = False


class MobileNet(NamedTuple):
    """A backbone by our name; its first ``tap`` layers make the first feature map."""

    name: str
    title: str
    places: tuple[Place, ...]
    tap: int


def _mobilenet_v1() -> MobileNet:
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    blocks += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
    places = [_stem()]
    depth = 32
    for i, (channels, stride) in enumerate(blocks, 1):
        part = f"backbone.features.{i}."
        places.append(Place(part + "0", part + "1", depth, 3, stride, depthwise=True))
        places.append(Place(part + "3", part + "4", channels, 1))
        depth = channels
    # Conv2d_11_pointwise.
    return MobileNet("mobilenet_v1", "MobileNetV1", tuple(places), tap=1 + 2 * 11)


def _mobilenet_v2() -> MobileNet:
    # Expansion, channels, repeats, stride (Sandler 2018, table 2).
    groups = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
    groups += [(6, 160, 3, 2), (6, 320, 1, 1)]
    blocks = [(t, c, s if i == 0 else 1) for t, c, n, s in groups for i in range(n)]
    places = [_stem()]
    depth, tap = 32, 0
    for i, (expansion, channels, stride) in enumerate(blocks, 1):
        part = f"backbone.features.{i}.conv."
        wide, step = depth * expansion, int(expansion > 1)
        if expansion > 1:
            places.append(Place(part + "0.0", part + "0.1", wide, 1))
        if i == 14:
            tap = len(places)
        places += [
            Place(part + f"{step}.0", part + f"{step}.1", wide, 3, stride, depthwise=True),
            Place(
                part + f"{step + 1}",
                part + f"{step + 2}",
                channels,
                1,
                active=False,
                shortcut=stride == 1 and channels == depth,
            ),
        ]
        depth = channels
    places.append(Place("backbone.features.18.0", "backbone.features.18.1", 1280, 1))
    return MobileNet("mobilenet_v2", "MobileNetV2", tuple(places), tap)


def _stem() -> Place:
    return Place("backbone.features.0.0", "backbone.features.0.1", 32, 3, 2)


def recognise(graph: Graph, fine: Sequence[Layer], coarse: Sequence[Layer]) -> MobileNet:
    """The MobileNet whose layers make the first feature map (``fine``) and the second from it.

    Raises: InputError naming the first layer that differs from the MobileNet of that length.
    """
    for network in (_mobilenet_v1(), _mobilenet_v2()):
        if (len(fine), len(coarse)) == (network.tap, len(network.places) - network.tap):
            for layer, place in zip((*fine, *coarse), network.places, strict=True):
                check_place(graph, layer, place, network.title)
            return network
    before = graph.nodes[fine[0].source.node]
    raise graph.refusal(
        f"has {len(fine)} and {len(coarse)} layers between {before.name!r} ({before.op}) and its "
        "first two feature maps: neither MobileNetV1 nor MobileNetV2"
    )


def check_place(graph: Graph, layer: Layer, place: Place, title: str) -> None:
    """Raise InputError where a layer is not what ``title`` has at that place."""
    theirs = (
        layer.channels,
        layer.kernel.shape[2:],
        layer.stride,
        layer.depthwise,
        layer.activation is not None,
        layer.shortcut is not None,
    )
    expected = (
        place.channels,
        (place.size, place.size),
        place.stride,
        place.depthwise,
        place.active,
        place.shortcut,
    )
    if theirs != expected:
        depthwise = "depthwise " if place.depthwise else ""
        raise graph.refusal(
            f"{layer.name!r} is a {layer.kind}, where {title} of full width has a {depthwise}"
            f"{place.size}x{place.size} to {place.channels} channels, stride {place.stride}"
        )
