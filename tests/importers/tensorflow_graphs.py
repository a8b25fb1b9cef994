"""Frozen graphs shaped like those of TensorFlow's object detection API, made without TensorFlow.

The same operations and edges as an exported graph: pictures and suppression go through while loops,
BatchNorm is fused, default boxes are computed by the graph. Weights are pseudo-random.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tensorflow_suppression import TensorFlowSuppression
from tensorflow_writer import FLOAT, INT, UINT8, GraphWriter, Type


@dataclass(frozen=True)
class Form:
    """What a graph is to be like; the defaults are ssdlite_mobilenet_v2's."""

    backbone: str = "mobilenet_v2"
    lite: bool = True
    classes: int = 3
    image_size: tuple[int, int] = (128, 160)
    norm: str = "fused"
    """"fused", "folded" (a bias alone) or "written out" (a product and a sum)."""
    resize: dict[str, bool] = field(default_factory=dict)
    scores: str = "Sigmoid"
    head_size: int = 1
    suppression: str = "NonMaxSuppressionV3"
    clip: str = "after"
    width: float = 1.0
    asks_shapes: bool = False
    """Default boxes from the shapes of the feature maps, not from constants."""
    splat: bool = False
    """Every weight of a layer equal: a file of kilobytes."""
    seed: int = 0


SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)


RECORDED = {
    "ssd_mobilenet_v1": Form(backbone="mobilenet_v1", lite=False, classes=90),
    "ssd_mobilenet_v2": Form(lite=False, classes=1, image_size=(128, 128), seed=1),
    "ssdlite_mobilenet_v2": Form(seed=2),
}
"""The graphs whose answers TensorFlow gave once: recorded_tensorflow/NAME.json."""


def pictures(form: Form) -> np.ndarray:
    """Two pictures, uint8 RGB: noise, and a slope with noise in it."""
    height, width = form.image_size
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (height, width, 3))
    slope = np.linspace(0, 200, height)[:, None, None] + np.linspace(0, 40, width)[:, None]
    return np.stack([noise, slope + noise // 20]).astype(np.uint8)


def frozen_graph(form: Form) -> Any:
    """The message of a whole detector: picture in, detections out."""
    return _Detector(form).build()


class _Detector:
    def __init__(self, form: Form) -> None:
        self.form = form
        self.g = GraphWriter()
        self.rng = np.random.default_rng(form.seed)

    def build(self) -> Any:
        g, form = self.g, self.form
        x = self.preprocess()
        maps = self.v1(x) if form.backbone == "mobilenet_v1" else self.v2(x)
        for i, channels in enumerate((512, 256, 256, 128)):
            name = f"FeatureExtractor/layer_{i}"
            x, depth, size = maps[-1]
            x, depth, _ = self.conv(f"{name}_1x1", (x, depth, size), channels // 2)
            if form.lite:
                narrow = self.depthwise(f"{name}_depthwise", (x, depth, size), 2)
                maps.append(self.conv(f"{name}_3x3", narrow, channels))
            else:
                maps.append(self.conv(f"{name}_3x3", (x, depth, size), channels, 3, 2))
        counts = [3, 6, 6, 6, 6, 6]
        boxes = [
            self.head(i, "Box", m, k, 4) for i, (m, k) in enumerate(zip(maps, counts, strict=True))
        ]
        classes = [
            self.head(i, "Class", m, k, form.classes + 1)
            for i, (m, k) in enumerate(zip(maps, counts, strict=True))
        ]
        encodings = g.concat("concat", *boxes, axis=1)
        logits = g.concat("concat_1", *classes, axis=1)
        squeezed = g.op("Squeeze", "Squeeze", encodings, squeeze_dims=[2])
        anchors = self.anchors(maps)
        total = sum(r * c * k for (_, _, (r, c)), k in zip(maps, counts, strict=True))
        suppression = TensorFlowSuppression(
            g, form.classes, form.scores, form.suppression, form.clip
        )
        suppression.add(squeezed, logits, anchors, total)
        return g.message

    def preprocess(self) -> str:
        g, form = self.g, self.form
        g.add("Placeholder", "image_tensor", dtype=Type(UINT8))
        pixels = g.add("Cast", "ToFloat", "image_tensor", SrcT=Type(UINT8), DstT=Type(FLOAT))

        def resize(picture: str) -> list[str]:
            first = g.const("Preprocessor/map/dim", 0)
            batch = g.op(
                "ExpandDims", "Preprocessor/map/ExpandDims", picture, first, Tdim=Type(INT)
            )
            size = g.const("Preprocessor/map/size", np.array(form.image_size))
            resized = g.op("ResizeBilinear", "Preprocessor/map/Resize", batch, size, **form.resize)
            return [g.op("Squeeze", "Preprocessor/map/Squeeze", resized, squeeze_dims=[0])]

        (resized,) = g.map("Preprocessor/map", g.length("batch", pixels), [pixels], resize, 1)
        scale = g.const("Preprocessor/mul/x", np.float32(2 / 255))
        scaled = g.op("Mul", "Preprocessor/mul", scale, resized)
        return g.binary("Sub", "Preprocessor/sub", scaled, 1.0)

    def weights(self, name: str, shape: tuple[int, ...], fan_in: int) -> str:
        if self.form.splat:
            return self.g.const(name, np.full(shape, 0.5 / fan_in), splat=True)
        values = (self.rng.random(shape, np.float32) - 0.5) * (24 / fan_in) ** 0.5
        self.g.const(f"{name}", values.astype(np.float32))
        return self.g.op("Identity", f"{name}/read", name)

    def vector(self, name: str, count: int, low: float, high: float) -> str:
        values = self.rng.random(count, np.float32) * (high - low) + low
        return self.g.const(name, values.astype(np.float32), splat=self.form.splat)

    def finish(self, name: str, x: str, count: int, active: bool) -> str:
        """BatchNorm and Relu6."""
        g, norm = self.g, f"{name}/BatchNorm"
        gamma = self.vector(f"{norm}/gamma", count, 0.5, 1.0)
        beta = self.vector(f"{norm}/beta", count, -0.3, 0.5)
        mean = self.vector(f"{norm}/moving_mean", count, -0.2, 0.2)
        variance = self.vector(f"{norm}/moving_variance", count, 0.6, 1.4)
        if self.form.norm == "fused":
            x = g.op(
                "FusedBatchNorm", f"{norm}/FusedBatchNorm", x, gamma, beta, mean, variance,
                epsilon=0.001, is_training=False,
            )  # fmt: skip
        elif self.form.norm == "folded":
            x = g.op("BiasAdd", f"{name}/BiasAdd", x, beta)
        else:
            deviation = g.binary("Add", f"{norm}/add", variance, 0.001)
            scale = g.binary("Mul", f"{norm}/mul", g.op("Rsqrt", f"{norm}/Rsqrt", deviation), gamma)
            shift = g.op("Sub", f"{norm}/sub", beta, g.op("Mul", f"{norm}/mul_2", mean, scale))
            x = g.op("Add", f"{norm}/add_1", g.op("Mul", f"{norm}/mul_1", x, scale), shift)
        return (
            g.op("Relu6", f"{name}/Relu6", x) if active else g.op("Identity", f"{name}/Identity", x)
        )

    def conv(
        self,
        name: str,
        source: Any,
        count: int,
        size: int = 1,
        stride: int = 1,
        *,
        active: bool = True,
    ) -> Any:
        x, depth, grid = source
        weights = self.weights(f"{name}/weights", (size, size, depth, count), size * size * depth)
        x = self.g.op(
            "Conv2D", f"{name}/Conv2D", x, weights, strides=[1, stride, stride, 1], padding="SAME"
        )
        return self.finish(name, x, count, active), count, _halved(grid, stride)

    def depthwise(self, name: str, source: Any, stride: int = 1) -> Any:
        x, depth, grid = source
        weights = self.weights(f"{name}/depthwise_weights", (3, 3, depth, 1), 9)
        x = self.g.op(
            "DepthwiseConv2dNative", f"{name}/depthwise", x, weights,
            strides=[1, stride, stride, 1], padding="SAME",
        )  # fmt: skip
        return self.finish(name, x, depth, active=True), depth, _halved(grid, stride)

    def v1(self, x: str) -> list[Any]:
        scope = "FeatureExtractor/MobilenetV1/MobilenetV1/Conv2d_"
        wide = self.form.width
        layer = self.conv(f"{scope}0", (x, 3, self.form.image_size), int(32 * wide), 3, 2)
        maps = []
        blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5
        for i, (channels, stride) in enumerate([*blocks, (1024, 2), (1024, 1)], 1):
            layer = self.depthwise(f"{scope}{i}_depthwise", layer, stride)
            layer = self.conv(f"{scope}{i}_pointwise", layer, int(channels * wide))
            if i in (11, 13):
                maps.append(layer)
        return maps

    def v2(self, x: str) -> list[Any]:
        scope = "FeatureExtractor/MobilenetV2/"
        groups = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1)]
        layer = self.conv(f"{scope}Conv", (x, 3, self.form.image_size), 32, 3, 2)
        maps = []
        index = 0
        for expansion, channels, repeats, first in [*groups, (6, 160, 3, 2), (6, 320, 1, 1)]:
            for repeat in range(repeats):
                name, entry = f"{scope}expanded_conv_{index}", layer
                if expansion > 1:
                    layer = self.conv(f"{name}/expand", layer, layer[1] * expansion)
                if index == 13:
                    maps.append(layer)
                layer = self.depthwise(f"{name}/depthwise", layer, first if repeat == 0 else 1)
                layer = self.conv(f"{name}/project", layer, channels, active=False)
                if repeat > 0:
                    joined = self.g.op("Add", f"{name}/add", layer[0], entry[0])
                    layer = (joined, *layer[1:])
                index += 1
        maps.append(self.conv(f"{scope}Conv_1", layer, 1280))
        return maps

    def head(self, level: int, what: str, source: Any, boxes: int, values: int) -> str:
        g, form = self.g, self.form
        name = f"BoxPredictor_{level}/{what}Predictor"
        if form.lite:
            source = self.depthwise(f"{name}_depthwise", source)
        x, depth, _ = source
        count, size = boxes * values, form.head_size
        weights = self.weights(f"{name}/weights", (size, size, depth, count), depth * size * size)
        x = g.op("Conv2D", f"{name}/Conv2D", x, weights, strides=[1, 1, 1, 1], padding="SAME")
        x = g.op("BiasAdd", f"{name}/BiasAdd", x, self.vector(f"{name}/biases", count, -1.5, 1.0))
        sides = [-1, 1, 4] if what == "Box" else [-1, values]
        batch = g.length(f"{name}/batch", source[0])
        shape = [batch, *(g.const(f"{name}/side_{i}", side) for i, side in enumerate(sides))]
        return g.reshape(f"{name}/Reshape", x, g.pack(f"{name}/shape", *shape, kind=INT))

    def anchors(self, maps: Sequence[Any]) -> str:
        """Default boxes (y0, x0, y1, x1): a grid of centres, each with the shapes of its level."""
        g = self.g
        height, width = self.form.image_size
        levels = []
        for i, (features, _, (rows, columns)) in enumerate(maps):
            name = f"MultipleGridAnchorGenerator/{i}"
            if i == 0:
                scales, ratios = [0.1, SCALES[0], SCALES[0]], [1.0, 2.0, 0.5]
            else:
                scales = [SCALES[i]] * 5 + [(SCALES[i] * SCALES[i + 1]) ** 0.5]
                ratios = [*RATIOS, 1.0]
            root = g.op("Sqrt", f"{name}/Sqrt", g.const(f"{name}/ratios", np.array(ratios)))
            least = min(height, width)
            tall = g.op("RealDiv", f"{name}/h", g.const(f"{name}/s", np.array(scales)), root)
            tall = g.binary("Mul", f"{name}/heights", tall, least / height)
            wide = g.op("Mul", f"{name}/w", g.const(f"{name}/t", np.array(scales)), root)
            wide = g.binary("Mul", f"{name}/widths", wide, least / width)
            centres = []
            for j, (axis, count) in enumerate((("y", rows), ("x", columns))):
                cells: str | int = count
                if self.form.asks_shapes:
                    cells = g.length(f"{name}/{axis}/cells", features, 1 + j)
                steps = g.add(
                    "Cast", f"{name}/{axis}/Cast", g.span(f"{name}/{axis}/range", cells),
                    SrcT=Type(INT), DstT=Type(FLOAT),
                )  # fmt: skip
                scaled = g.binary("Mul", f"{name}/{axis}/mul", steps, 1 / count)
                centres.append(g.binary("Add", f"{name}/{axis}/add", scaled, 0.5 / count))
            zeros = g.const(f"{name}/zeros", np.zeros((rows, columns, len(ratios))))
            y = g.reshape(f"{name}/y", centres[0], [rows, 1, 1])
            x = g.reshape(f"{name}/x", centres[1], [1, columns, 1])
            full = [
                g.reshape(f"{name}/flat_{j}", g.op("Add", f"{name}/full_{j}", zeros, part), [-1])
                for j, part in enumerate((y, x, tall, wide))
            ]
            y, x, tall, wide = full
            half_tall = g.binary("Mul", f"{name}/half_h", tall, 0.5)
            half_wide = g.binary("Mul", f"{name}/half_w", wide, 0.5)
            corners = [
                g.op(op, f"{name}/corner_{j}", centre, half)
                for j, (op, centre, half) in enumerate(
                    (
                        ("Sub", y, half_tall),
                        ("Sub", x, half_wide),
                        ("Add", y, half_tall),
                        ("Add", x, half_wide),
                    )
                )
            ]
            levels.append(g.pack(f"{name}/stack", *corners, axis=1))
        return g.concat("Concatenate/concat", *levels, axis=0)


def _halved(grid: tuple[int, int], stride: int) -> tuple[int, int]:
    return -(-grid[0] // stride), -(-grid[1] // stride)
