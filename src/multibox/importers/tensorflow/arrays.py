"""A graph's layers as arrays under the names of our network."""

from collections.abc import Sequence

import numpy as np

from multibox.card import Architecture
from multibox.importers.imported import Array
from multibox.importers.tensorflow.detector import Heads
from multibox.importers.tensorflow.graph import Graph
from multibox.importers.tensorflow.layers import Layer
from multibox.importers.tensorflow.mobilenets import MobileNet


class Arrays:
    """Collects arrays in ``by_name``; every layer must fit the one before it.

    Raises: InputError where one does not.
    """

    def __init__(self, graph: Graph, architecture: Architecture) -> None:
        self.by_name: dict[str, Array] = {}
        self._graph = graph
        self._architecture = architecture
        self._depths: list[int] = []

    def add_backbone(self, network: MobileNet, layers: Sequence[Layer]) -> None:
        """All layers up to the second feature map."""
        epsilon = self._architecture.backbone_norm_epsilon
        assert epsilon is not None
        depth = 3
        for i, (layer, place) in enumerate(zip(layers, network.places, strict=True), 1):
            depth = self._add(layer, depth, place.convolution, place.norm, epsilon)
            if i in (network.tap, len(layers)):
                self._depths.append(depth)

    def add_extras(self, parts: Sequence[Sequence[Layer]]) -> None:
        """The extra feature layers, one part each: convolutions 0, 3, 6 of a sequence."""
        for i, part in enumerate(parts):
            depth = self._depths[-1]
            for step, layer in enumerate(part):
                place = f"extras.{i}."
                self._check_plain(layer, active=True)
                depth = self._add(
                    layer,
                    depth,
                    place + str(3 * step),
                    place + str(3 * step + 1),
                    self._architecture.norm_epsilon,
                )
            self._depths.append(depth)

    def add_heads(self, heads: Heads, channels: Sequence[int]) -> None:
        """What predicts classes, and boxes with a box's four ``channels`` in our order."""
        for i, (classes, boxes) in enumerate(zip(heads.classes, heads.boxes, strict=True)):
            self._add_head(classes, i, f"heads.classes.{i}", None)
            self._add_head(boxes, i, f"heads.boxes.{i}", channels)

    def _add_head(
        self, head: Sequence[Layer], level: int, name: str, channels: Sequence[int] | None
    ) -> None:
        depth = self._depths[level]
        *before, last = head
        for layer in before:
            self._check_plain(layer, active=True)
            if layer.stride != 1:
                raise self._graph.refusal(f"{layer.name!r} predicts with a stride")
            depth = self._add(
                layer, depth, f"{name}.0", f"{name}.1", self._architecture.norm_epsilon
            )
        self._check_plain(last, active=False)
        self._check_depth(last, depth)
        if last.norm is not None or last.stride != 1:
            raise self._graph.refusal(f"{last.name!r} predicts with a norm or a stride")
        kernel, bias = last.kernel, last.bias
        if channels is not None:
            order = np.arange(last.channels).reshape(-1, 4)[:, channels].ravel()
            kernel, bias = kernel[order], bias[order]
        place = f"{name}.3" if before else name
        self.by_name[f"{place}.weight"] = np.ascontiguousarray(kernel, np.float32)
        self.by_name[f"{place}.bias"] = np.ascontiguousarray(bias, np.float32)

    def _add(self, layer: Layer, depth: int, convolution: str, norm: str, epsilon: float) -> int:
        """Add a convolution and its norm; the number of channels that come out."""
        self._check_depth(layer, depth)
        ones, zeros = np.ones(layer.channels), np.zeros(layer.channels)
        gamma, beta, mean, variance = ones, layer.bias, zeros, ones - epsilon
        if layer.norm is not None:
            gamma, beta, mean, variance = layer.norm[:4]
            # One epsilon serves all layers; where theirs differs, the difference goes in here.
            variance = variance + (layer.norm.epsilon - epsilon)
        self.by_name[f"{convolution}.weight"] = layer.kernel
        for name, values in (
            ("weight", gamma),
            ("bias", beta),
            ("running_mean", mean),
            ("running_var", variance),
        ):
            self.by_name[f"{norm}.{name}"] = np.ascontiguousarray(values, np.float32)
        self.by_name[f"{norm}.num_batches_tracked"] = np.zeros((), np.int64)
        return layer.channels

    def _check_depth(self, layer: Layer, depth: int) -> None:
        takes = layer.channels if layer.depthwise else layer.kernel.shape[1]
        if takes != depth:
            raise self._graph.refusal(
                f"{layer.name!r} is for {takes} channels, but gets {depth}: damaged"
            )

    def _check_plain(self, layer: Layer, *, active: bool) -> None:
        if layer.shortcut is not None or (layer.activation is not None) != active:
            raise self._graph.refusal(
                f"{layer.name!r} has {'no' if active else 'an'} activation, or a shortcut, which "
                "no SSD on MobileNet has there"
            )
