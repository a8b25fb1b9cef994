"""A caffemodel's blobs, joined to the prototxt's layers by name, as arrays for torch's layers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from multibox.errors import InputError
from multibox.importers.caffe.graph import Layer
from multibox.importers.caffe.layers import Convolution
from multibox.importers.imported import Array

Doubles = npt.NDArray[np.float64]
Norms = Sequence[Layer]

DEFAULT_EPSILON = 1e-5


class Weights:
    """Hands out every layer's blobs once; what is missing or of another shape names the file."""

    def __init__(self, blobs: Mapping[str, Sequence[Array]], path: Path) -> None:
        self._left = {
            (layer, i): array for layer, arrays in blobs.items() for i, array in enumerate(arrays)
        }
        self._layers = frozenset(blobs)
        self._path = path

    @property
    def unused(self) -> tuple[str, ...]:
        """The blobs not yet taken."""
        return tuple(f"{layer}[{i}]" for layer, i in self._left)

    def take(self, layer: Layer, index: int, shape: tuple[int, ...]) -> Array:
        """A blob of ``layer``; leading axes of 1, as old files have them, are dropped.

        Raises: InputError when it is missing, of another shape, or not finite.
        """
        where = f"{self._path}: layer {layer.name!r}"
        if layer.name not in self._layers:
            raise InputError(
                f"{where} is not there, but the prototxt has it: take the prototxt that these "
                "weights belong to"
            )
        found = self._left.pop((layer.name, index), None)
        if found is None:
            raise InputError(f"{where} has no blob {index}, which the prototxt's layer needs")
        if found.shape != (1,) * (found.ndim - len(shape)) + shape:
            raise InputError(
                f"{where}: blob {index} has the shape {found.shape}, but the prototxt's layer "
                f"needs {shape}"
            )
        if not np.isfinite(found).all():
            raise InputError(f"{where}: blob {index} has values that are not finite: damaged")
        return found.reshape(shape)

    def convolution(
        self, layer: Layer, read: Convolution, channels: int
    ) -> tuple[Array, Array | None]:
        """Kernel ``[outputs, channels / groups, h, w]`` and bias ``[outputs]``."""
        shape = (read.outputs, channels // read.groups, *read.kernel)
        kernel = self.take(layer, 0, shape)
        return kernel, self.take(layer, 1, (read.outputs,)) if read.bias else None

    def plain(
        self, layer: Layer, read: Convolution, norms: Norms, channels: int
    ) -> dict[str, Array]:
        """``weight`` and ``bias`` of a convolution into which its ``norms`` are multiplied."""
        kernel, bias = self.convolution(layer, read, channels)
        factor, shift = np.ones(read.outputs), np.zeros(read.outputs)
        if bias is not None:
            shift += bias
        for norm in norms:
            by, plus = self._affine(norm, read.outputs)
            factor, shift = factor * by, shift * by + plus
        if norms:
            kernel = (kernel * factor[:, None, None, None]).astype(np.float32)
        return {"weight": kernel, "bias": shift.astype(np.float32)}

    def normed(
        self, layer: Layer, read: Convolution, norms: Norms, channels: int, epsilon: float
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """A convolution without a bias, and a BatchNorm of that ``epsilon`` behind it.

        Without norms of its own (files whose norms were merged into the kernels) the BatchNorm
        only adds the bias. The epsilon of its own may be larger: the variance takes the rest.
        """
        if not norms or norms[0].type != "BatchNorm":
            plain = self.plain(layer, read, norms, channels)
            mean, variance = np.zeros(read.outputs), np.full(read.outputs, 1 - epsilon)
            gamma, beta = np.ones(read.outputs), plain["bias"].astype(np.float64)
            return {"weight": plain["weight"]}, _batch_norm(gamma, beta, mean, variance)
        kernel, bias = self.convolution(layer, read, channels)
        mean, variance = self._statistics(norms[0], read.outputs)
        if bias is not None:
            mean = mean - bias
        variance = variance + (norm_epsilon(norms[0]) - epsilon)
        gamma, beta = np.ones(read.outputs), np.zeros(read.outputs)
        for norm in norms[1:]:
            by, plus = self._affine(norm, read.outputs)
            gamma, beta = gamma * by, beta * by + plus
        return {"weight": kernel}, _batch_norm(gamma, beta, mean, variance)

    def _affine(self, norm: Layer, channels: int) -> tuple[Doubles, Doubles]:
        """What a layer multiplies every channel by and then adds."""
        if norm.type == "BatchNorm":
            mean, variance = self._statistics(norm, channels)
            by = 1 / np.sqrt(variance + norm_epsilon(norm))
            return by, -mean * by
        said = norm.parameters.scale_param if norm.type == "Scale" else norm.parameters.bias_param
        if said.axis != 1 or said.num_axes != 1:
            raise norm.refused("only one value a channel (axis 1, num_axes 1) is supported")
        first = self.take(norm, 0, (channels,)).astype(np.float64)
        if norm.type == "Bias":
            return np.ones(channels), first
        if not said.bias_term:
            return first, np.zeros(channels)
        return first, self.take(norm, 1, (channels,)).astype(np.float64)

    def _statistics(self, norm: Layer, channels: int) -> tuple[Doubles, Doubles]:
        """Mean and variance, which Caffe keeps as sums beside the number they are divided by."""
        mean = self.take(norm, 0, (channels,)).astype(np.float64)
        variance = self.take(norm, 1, (channels,)).astype(np.float64)
        count = float(self.take(norm, 2, ()))
        by = 0.0 if count == 0 else 1 / count
        if (variance * by + norm_epsilon(norm) <= 0).any():
            raise norm.refused("has variances below zero in the caffemodel: damaged")
        return mean * by, variance * by


def norm_epsilon(norm: Layer) -> float:
    """What a BatchNorm layer adds to the variance.

    Raises: InputError when that makes no sense.
    """
    epsilon = float(str(np.float32(norm.parameters.batch_norm_param.eps)))
    if not 0 < epsilon < 1:
        raise norm.refused(f"eps {epsilon:g} is not possible")
    return epsilon


def _batch_norm(
    gamma: Doubles, beta: Doubles, mean: Doubles, variance: Doubles
) -> dict[str, Array]:
    return {
        "weight": gamma.astype(np.float32),
        "bias": beta.astype(np.float32),
        "running_mean": mean.astype(np.float32),
        "running_var": variance.astype(np.float32),
        "num_batches_tracked": np.array(0, np.int64),
    }
