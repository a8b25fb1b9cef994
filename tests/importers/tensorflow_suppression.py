"""What follows the heads in a graph of TensorFlow's object detection API: decoding, suppression."""

import numpy as np
from tensorflow_writer import FLOAT, INT, GraphWriter, Type


class TensorFlowSuppression:
    """Adds the post-processing of ``classes`` classes to a graph.

    ``scores`` and ``operation`` are TensorFlow's names; ``clip_at`` is "before" or "after" it.
    """

    def __init__(
        self, g: GraphWriter, classes: int, scores: str, operation: str, clip_at: str
    ) -> None:
        self.g, self.classes, self.scores = g, classes, scores
        self.operation, self.clip_at = operation, clip_at

    def add(self, encodings: str, logits: str, anchors: str, total: int) -> None:
        """From raw outputs for ``total`` default boxes to the four results of a detector."""
        g, scope = self.g, "Postprocessor"
        batch = g.length(f"{scope}/batch", encodings)
        one = g.const(f"{scope}/one", 1)
        first = g.const(f"{scope}/first", 0)
        rows = g.op("ExpandDims", f"{scope}/ExpandDims", anchors, first, Tdim=Type(INT))
        times = g.pack(f"{scope}/times", batch, one, one, kind=INT)
        tiled = g.op("Tile", f"{scope}/Tile", rows, times, Tmultiples=Type(INT))
        decoded = self.decode(
            g.reshape(f"{scope}/Reshape", tiled, [-1, 4]),
            g.reshape(f"{scope}/Reshape_1", encodings, [-1, 4]),
        )
        boxes = g.reshape(f"{scope}/Reshape_2", decoded, [-1, total, 4])
        if self.clip_at == "before":
            boxes = self.clip(f"{scope}/Clip", boxes)
        scaled = g.binary("RealDiv", f"{scope}/scale_logits", logits, 1.0)
        scores = g.op(self.scores, f"{scope}/convert_scores", scaled)
        scores = g.slice(f"{scope}/Slice", scores, [0, 0, 1], [-1, -1, -1])
        found = g.map(f"{scope}/map", batch, [boxes, scores], self.suppress, 4)
        names = ("detection_boxes", "detection_scores", "num_detections")
        for name, x in zip(names, (found[0], found[1], found[3]), strict=True):
            g.op("Identity", name, x)
        g.binary("Add", "detection_classes", found[2], 1.0)

    def decode(self, anchors: str, encodings: str) -> str:
        g, scope = self.g, "Postprocessor/Decode"
        perm = g.const(f"{scope}/perm", np.array([1, 0]))
        parts = []
        for name, x in (("anchors", anchors), ("encodings", encodings)):
            turned = g.op("Transpose", f"{scope}/{name}/transpose", x, perm, Tperm=Type(INT))
            columns = g.op("Unpack", f"{scope}/{name}/unstack", turned, num=4, axis=0)
            parts.append([columns, *(f"{columns}:{i}" for i in range(1, 4))])
        (y0, x0, y1, x1), coded = parts
        ty, tx, th, tw = (
            g.binary("RealDiv", f"{scope}/truediv_{i}", x, scale)
            for i, (x, scale) in enumerate(zip(coded, (10.0, 10.0, 5.0, 5.0), strict=True))
        )
        corners: dict[str, list[str]] = {"y": [], "x": []}
        for axis, low, high, shift, growth in (("y", y0, y1, ty, th), ("x", x0, x1, tx, tw)):
            name = f"{scope}/{axis}"
            side = g.op("Sub", f"{name}/side", high, low)
            middle = g.op(
                "Add", f"{name}/middle", low, g.binary("RealDiv", f"{name}/half", side, 2.0)
            )
            centre = g.op(
                "Add", f"{name}/centre", g.op("Mul", f"{name}/shift", shift, side), middle
            )
            grown = g.op("Mul", f"{name}/grown", g.op("Exp", f"{name}/Exp", growth), side)
            half = g.binary("RealDiv", f"{name}/half_grown", grown, 2.0)
            corners[axis] = [g.op(op, f"{name}/{op}", centre, half) for op in ("Sub", "Add")]
        (top, bottom), (left, right) = corners["y"], corners["x"]
        stack = g.pack(f"{scope}/stack", top, left, bottom, right)
        return g.op("Transpose", f"{scope}/transpose", stack, perm, Tperm=Type(INT))

    def clip(self, name: str, boxes: str) -> str:
        inside = self.g.binary("Minimum", f"{name}/Minimum", boxes, 1.0)
        return self.g.binary("Maximum", f"{name}/Maximum", inside, 0.0)

    def suppress(self, boxes: str, scores: str) -> list[str]:
        """One picture's boxes ``[n, 4]`` and scores ``[n, classes]`` to at most 100 detections."""
        g, name = self.g, "Postprocessor/map/while/MultiClassNonMaxSuppression"
        g.op("Unpack", f"{name}/unstack", scores, num=self.classes, axis=1)
        of_classes = []
        for i in range(self.classes):
            part = f"{name}/{i}"
            column = f"{name}/unstack:{i}"
            most, n = g.const(f"{part}/most", 100), g.length(f"{part}/n", boxes)
            most = g.op("Minimum", f"{part}/Minimum", most, n, kind=INT)
            limits = [g.const(f"{part}/iou_threshold", 0.6)]
            if self.operation == "NonMaxSuppressionV3":
                limits.append(g.const(f"{part}/score_threshold", 1e-8))
            kept = g.add(self.operation, part, boxes, column, most, *limits)
            one = g.gather(f"{part}/scores", column, kept)
            zeros = g.op("ZerosLike", f"{part}/zeros", one)
            label = g.binary("Add", f"{part}/label", zeros, float(i))
            of_classes.append((g.gather(f"{part}/boxes", boxes, kept), one, label))
        columns = []
        for i, column in enumerate(zip(*of_classes, strict=True)):
            joined = column[0]
            if len(column) > 1:
                joined = g.concat(f"{name}/concat_{i}", *column, axis=0)
            columns.append(joined)
        size = g.op("Size", f"{name}/Size", columns[1], out_type=Type(INT))
        best = g.op("TopKV2", f"{name}/TopKV2", columns[1], size, sorted=True)
        boxes, scores, labels = (
            g.gather(f"{name}/sorted_{i}", x, f"{best}:1") for i, x in enumerate(columns)
        )
        if self.clip_at == "after":
            boxes = self.clip(f"{name}/ClipToWindow", boxes)
        total = g.const(f"{name}/total", 100)
        count = g.op("Minimum", f"{name}/Minimum_1", total, size, kind=INT)
        first = g.span(f"{name}/first", count)
        missing = g.op("Sub", f"{name}/missing", total, count, kind=INT)
        zero = g.const(f"{name}/zero", 0)
        padded = []
        for i, x in enumerate((boxes, scores, labels)):
            part = g.gather(f"{name}/best_{i}", x, first)
            rows = [g.pack(f"{name}/pad_{i}", zero, missing, kind=INT)]
            if i == 0:
                rows.append(g.pack(f"{name}/pad_sides", zero, zero, kind=INT))
            pads = g.pack(f"{name}/pads_{i}", *rows, kind=INT)
            padded.append(g.op("Pad", f"{name}/Pad_{i}", part, pads, Tpaddings=Type(INT)))
        number = g.add("Cast", f"{name}/number", count, SrcT=Type(INT), DstT=Type(FLOAT))
        return [*padded, number]
