"""What a network's inner tensors hold on real pictures, and the ranges that bytes should span."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from multibox.errors import InputError

Doubles = npt.NDArray[np.float64]

LEVELS = 255
"""Steps between the lowest and the highest value of an unsigned byte."""

_SAMPLES = 512
# How much of the full range is tried, and kept where its mean squared error is least.
_SHARES = np.linspace(1, 0.2, 33)


class Observed:
    """One tensor over all pictures: its extremes, a sample of its values, its channels.

    ``low``, ``high`` and ``largest [c]`` include 0. ``largest`` and ``mean [c]`` are by channel,
    for maps ``[1, c, h, w]``.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.largest: Doubles = np.zeros(1)
        self._sum: Doubles = np.zeros(1)
        self._pictures = 0
        self._values: list[npt.NDArray[np.float32]] = []
        self._channels: list[npt.NDArray[np.int64]] = []

    def add(self, value: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
        """Take in the tensor for one picture."""
        chosen = rng.integers(0, value.size, _SAMPLES)
        self._values.append(value.reshape(-1)[chosen])
        self._channels.append(chosen // (value.size // value.shape[1]))
        by_channel = value.reshape(value.shape[1], -1)
        self._sum = self._sum + by_channel.mean(axis=1, dtype=np.float64)
        self.largest = np.maximum(self.largest, by_channel.max(axis=1))
        self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))
        self._pictures += 1

    @property
    def mean(self) -> Doubles:
        """The mean of every channel."""
        return self._sum / self._pictures

    def scale(self, factors: Doubles) -> None:
        """Go over to the tensor with its channels multiplied by ``factors [c]``.

        Its extremes must stay what they are.
        """
        self._values = [
            values * factors[channels].astype(np.float32)
            for values, channels in zip(self._values, self._channels, strict=True)
        ]
        self._sum = self._sum * factors
        self.largest = self.largest * factors

    def range(self, *, whole: bool) -> tuple[float, float]:
        """From 0 or below to 0 or above: all values if ``whole``, else what rounds them best.

        A narrower range has finer steps and cuts off what lies beyond it; of the shares tried, the
        one whose mean squared error is least on the sample.
        """
        if whole or self.low == self.high:
            return self.low, self.high
        values = np.concatenate(self._values)
        errors = [self._error(values, share) for share in _SHARES]
        share = float(_SHARES[int(np.argmin(errors))])
        return self.low * share, self.high * share

    def _error(self, values: npt.NDArray[np.float32], share: float) -> float:
        step = (self.high - self.low) * share / LEVELS
        zero = round(-self.low * share / step)
        rounded = (np.clip(np.rint(values / step), -zero, LEVELS - zero)) * step
        return float(np.square(rounded - values).mean())


def observe(
    model: onnx.ModelProto, tensors: Sequence[str], pictures: Iterable[npt.NDArray[np.uint8]]
) -> dict[str, Observed]:
    """Run ``model`` on ``pictures`` (uint8 ``[h, w, 3]`` each), watching inner maps by name.

    Raises: InputError without a picture.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors
    )
    session = ort.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    seen = {name: Observed() for name in tensors}
    rng = np.random.default_rng(0)
    anything = False
    for picture in pictures:
        anything = True
        values = session.run(list(tensors), {model.graph.input[0].name: picture[None]})
        for name, value in zip(tensors, values, strict=True):
            seen[name].add(value, rng)
    if not anything:
        raise InputError("no pictures to measure ranges on: give some labelled ones")
    return seen
