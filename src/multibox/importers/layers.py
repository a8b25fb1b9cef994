"""Convolutions and norms of a PyTorch state dict, checked by shape and put under our names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from multibox.card import Architecture, ExtraLayer, ModelCard
from multibox.errors import InputError
from multibox.importers.imported import Array, Foreign


class Layers:
    """Takes layers out of a foreign file; ``arrays`` are those taken so far, under our names."""

    def __init__(self, foreign: Foreign) -> None:
        self.foreign = foreign
        self.arrays: dict[str, Array] = {}

    def conv(
        self, ours: str, theirs: str, outputs: int, inputs: int, kernel: int, *, bias: bool = False
    ) -> None:
        """A square convolution; ``inputs`` are those of one group (1 for a depthwise one)."""
        shape = (outputs, inputs, kernel, kernel)
        self.arrays[f"{ours}.weight"] = self.foreign.take(f"{theirs}.weight", shape)
        if bias:
            self.arrays[f"{ours}.bias"] = self.foreign.take(f"{theirs}.bias", (outputs,))

    def norm(
        self, ours: str, theirs: str, channels: int, *, after_bias_of: str | None = None
    ) -> None:
        """A BatchNorm, and into its mean the bias that ``after_bias_of`` may have.

        A norm subtracts its mean from what the convolution gives: a bias b there is a mean of
        ``mean - b`` here.
        """
        for part in ("weight", "bias", "running_mean", "running_var"):
            self.arrays[f"{ours}.{part}"] = self.foreign.take(f"{theirs}.{part}", (channels,))
        if after_bias_of is not None and f"{after_bias_of}.bias" in self.foreign:
            bias = self.foreign.take(f"{after_bias_of}.bias", (channels,))
            self.arrays[f"{ours}.running_mean"] = self.arrays[f"{ours}.running_mean"] - bias
        # Only training with a moving average of equal weights reads the count: it starts anew.
        self.arrays[f"{ours}.num_batches_tracked"] = np.zeros((), np.int64)
        if f"{theirs}.num_batches_tracked" in self.foreign:
            self.foreign.take(f"{theirs}.num_batches_tracked")

    def plain_extras(
        self, architecture: Architecture, depth: int, theirs: Sequence[tuple[str, str]]
    ) -> None:
        """Extra layers of two convolutions each, ``theirs`` by name, behind ``depth`` channels."""
        for i, (layer, (first, second)) in enumerate(zip(architecture.extras, theirs, strict=True)):
            self.conv(f"extras.{i}.0", first, layer.squeeze, depth, 1, bias=True)
            self.conv(
                f"extras.{i}.2", second, layer.channels, layer.squeeze, layer.kernel, bias=True
            )
            depth = layer.channels

    def inverted_residual(
        self, ours: str, theirs: str, depth: int, layer: ExtraLayer, *, nested: bool
    ) -> None:
        """1x1, depthwise, 1x1, each with its norm, behind ``depth`` channels.

        ``nested`` where they wrap the first two with their norm and activation, else in one list.
        """
        pairs = [("0.0", "0.1"), ("1.0", "1.1"), ("2", "3")]
        in_list = [("0", "1"), ("3", "4"), ("6", "7")]
        shapes = [
            (layer.squeeze, depth, 1),
            (layer.squeeze, 1, layer.kernel),
            (layer.channels, layer.squeeze, 1),
        ]
        for shape, (conv, norm), their_pair in zip(shapes, in_list, pairs, strict=True):
            their_conv, their_norm = their_pair if nested else (conv, norm)
            self.conv(f"{ours}.{conv}", f"{theirs}.{their_conv}", *shape)
            self.norm(f"{ours}.{norm}", f"{theirs}.{their_norm}", shape[0])

    def heads(
        self,
        card: ModelCard,
        depths: Sequence[int],
        classes: str,
        boxes: str,
        *,
        separable_part: str = "",
    ) -> None:
        """All heads of ``card`` over maps of ``depths``: ``classes`` and ``boxes`` name theirs.

        ``{}`` in those stands for the map's number; the layers of a separable head have
        ``separable_part`` before their own numbers.
        """
        for i, (kind, depth, level) in enumerate(
            zip(card.architecture.heads, depths, card.default_boxes.levels, strict=True)
        ):
            for ours, theirs, values in (
                (f"heads.classes.{i}", classes.format(i), len(card.names) + 1),
                (f"heads.boxes.{i}", boxes.format(i), 4),
            ):
                outputs = level.boxes_per_cell * values
                if kind != "separable":
                    self.conv(
                        ours, theirs, outputs, depth, 3 if kind == "conv3x3" else 1, bias=True
                    )
                    continue
                inner = theirs + separable_part
                self.conv(f"{ours}.0", f"{inner}.0", depth, 1, 3)
                self.norm(f"{ours}.1", f"{inner}.1", depth, after_bias_of=f"{inner}.0")
                self.conv(f"{ours}.3", f"{inner}.3", outputs, depth, 1, bias=True)


def expect(
    arrays: Mapping[str, Array], present: Sequence[str], path: Path, project: str, supported: str
) -> None:
    """Raise InputError, naming what is ``supported``, unless all of ``present`` are there."""
    missing = next((name for name in present if name not in arrays), None)
    if missing is not None:
        found = ", ".join(list(arrays)[:3]) or "nothing"
        raise InputError(
            f"{path}: not a detector of {project} that can be imported ({supported}): expected an "
            f"array named {missing}, found {found}{', ...' if len(arrays) > 3 else ''}"
        )


def foreground_classes(
    arrays: Mapping[str, Array], head: str, boxes_per_cell: int, path: Path
) -> int:
    """The number of classes beside the background, from the channels of the first ``head``.

    Raises: InputError when the channels are not that of whole boxes with two outputs or more.
    """
    shape = arrays[head].shape
    outputs, rest = divmod(shape[0] if shape else 0, boxes_per_cell)
    if rest or outputs < 2:
        raise InputError(
            f"{path}: {head!r} has the shape {tuple(shape)}, expected {boxes_per_cell} times the "
            "classes and the background as its first number"
        )
    return outputs - 1
