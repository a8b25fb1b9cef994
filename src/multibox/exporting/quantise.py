"""A network in 8 bits, for every ONNX runtime: activations of unsigned, weights of signed bytes.

The scheme is that of Jacob et al. 2018 ("Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference"), with one scale a tensor for activations and one a channel for
weights, written as QuantizeLinear and DequantizeLinear (QDQ) around what shall run in integers.
Two steps of Nagel et al. 2019 ("Data-Free Quantization Through Weight Equalization and Bias
Correction"), here from real pictures, win back most of what depthwise networks lose.

What stays in float: normalisation, everything between convolutions that is no addition or maximum
(HardSwish, squeeze-and-excitation's product, L2 normalisation), and all that follows the heads.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from multibox.exporting.quantise_ranges import LEVELS, Doubles, Observed, observe

# Room left to channels that are scaled up to fill the range: other pictures may hold a bit more.
_HEADROOM = 1.2
_MOST_SCALED = 32.0
# A bias in steps of its channel must fit 32 bits, with room for the sum it is added to.
_LARGEST_BIAS = 2.0**30


@dataclass(slots=True, eq=False)
class _Convolution:
    node: onnx.NodeProto
    weight: Doubles
    bias: Doubles
    groups: int

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.weight.shape[:2] == (self.groups, 1)


@dataclass(slots=True)
class _Plan:
    """What becomes of a graph: its convolutions, and the tensors that are rounded to bytes.

    ``rounded`` maps each of these to the one whose range it shares, mostly itself; ``absorbed``
    maps the output of a Relu or Clip to that of the node before it.
    """

    convolutions: dict[str, _Convolution] = field(default_factory=dict)
    rounded: dict[str, str] = field(default_factory=dict)
    absorbed: dict[str, str] = field(default_factory=dict)
    readers: dict[str, list[onnx.NodeProto]] = field(default_factory=dict)


def quantise(graph: onnx.ModelProto, pictures: Iterable[npt.NDArray[np.uint8]]) -> onnx.ModelProto:
    """A copy of ``graph`` whose convolutions, additions and maxima run in 8 bits.

    ``graph`` is a network as ``network_graph`` gives it, before decoding is added. ``pictures`` are
    its inputs, uint8 ``[h, w, 3]`` each: some hundreds, like those to come but not those to be
    measured on.

    Raises: InputError without a picture.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    plan = _plan(model.graph)
    seen = observe(model, list(plan.rounded), pictures)
    _equalise(plan, seen)
    steps = {name: _step(plan, name, seen) for name in plan.rounded}
    _rewrite(model.graph, plan, steps, seen)
    onnx.checker.check_model(model)
    return model


def _plan(graph: onnx.GraphProto) -> _Plan:
    plan = _Plan()
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        for name in node.input:
            plan.readers.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type == "Conv" and _is_constant_map(node, constants):
            weight = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
            bias = np.zeros(len(weight))
            if len(node.input) > 2:
                bias = numpy_helper.to_array(constants[node.input[2]]).astype(np.float64)
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            plan.convolutions[node.output[0]] = _Convolution(node, weight, bias, groups)
            plan.rounded[node.input[0]] = node.input[0]
            result = _result(plan, node)
            if result not in outputs:
                plan.rounded[result] = result
    for node in graph.node:
        if not all(name in plan.rounded for name in node.input):
            continue
        if node.op_type == "Add":
            result = _result(plan, node)
            plan.rounded[result] = result
        elif node.op_type == "MaxPool":
            # The largest of some bytes: engines skip the rounding where the ranges are the same.
            plan.rounded[node.output[0]] = plan.rounded[node.input[0]]
    return plan


def _is_constant_map(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> bool:
    return all(name in constants for name in node.input[1:]) and (
        len(constants[node.input[1]].dims) == 4
    )


def _result(plan: _Plan, node: onnx.NodeProto) -> str:
    """What to round: the node's output, or that of the Relu or Clip behind it.

    Rounding to a range cuts off what lies beyond it, so that the activation itself can go.
    """
    output = node.output[0]
    readers = plan.readers.get(output, [])
    if len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
        plan.absorbed[readers[0].output[0]] = output
        return readers[0].output[0]
    return output


def _equalise(plan: _Plan, seen: Mapping[str, Observed]) -> None:
    """Scale the channels between a convolution and depthwise ones up to fill the common range.

    Both sides have one scale a channel for their weights, so that this costs nothing, and quiet
    channels get as many steps as loud ones. It needs an activation that is linear up to where it
    cuts off; the cut then comes with the range, for a channel scaled by 2 at half the value.
    """
    for name, before in plan.absorbed.items():
        source = plan.convolutions.get(before)
        readers = [plan.convolutions.get(node.output[0]) for node in plan.readers.get(name, [])]
        depthwise = [reader for reader in readers if reader is not None and reader.depthwise]
        if source is None or not depthwise or len(depthwise) < len(readers) or seen[name].low < 0:
            continue
        largest = np.maximum(seen[name].largest * _HEADROOM, 1e-6)
        factors = np.clip(seen[name].high / largest, 1, _MOST_SCALED)
        source.weight *= factors[:, None, None, None]
        source.bias *= factors
        for reader in depthwise:
            reader.weight /= np.repeat(factors, len(reader.weight) // len(factors))[
                :, None, None, None
            ]
        seen[name].scale(factors)


def _step(plan: _Plan, name: str, seen: Mapping[str, Observed]) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of a tensor."""
    like = plan.rounded[name]
    inner = any(node.output[0] in plan.convolutions for node in plan.readers.get(like, []))
    # Of the heads' outputs, which no convolution reads, nothing may be cut off: their rare large
    # values are the objects.
    low, high = seen[like].range(whole=not inner)
    scale = (high - low) / LEVELS or 1.0
    return np.float32(scale), np.uint8(round(-low / scale))


def _rewrite(
    graph: onnx.GraphProto,
    plan: _Plan,
    steps: Mapping[str, tuple[np.float32, np.uint8]],
    seen: Mapping[str, Observed],
) -> None:
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}

    def constant(name: str, value: npt.NDArray[np.generic] | np.generic) -> str:
        constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def dequantised(name: str, value: str, scale: str, zero: str) -> str:
        output = f"{name}/dequantised"
        node = helper.make_node("DequantizeLinear", [value, scale, zero], [output], output)
        if name not in steps:
            node.attribute.append(helper.make_attribute("axis", 0))
        nodes.append(node)
        return output

    for convolution in plan.convolutions.values():
        node = convolution.node
        x = node.input[0]
        scales, weight, bias = _to_integers(convolution, float(steps[x][0]), seen[x].mean)
        inputs = [x]
        for part, value, scale in (
            ("weight", weight, scales),
            ("bias", bias, (scales * steps[x][0]).astype(np.float32)),
        ):
            name = f"{node.output[0]}/{part}"
            zero = constant(f"{name}/zero", np.zeros(len(value), value.dtype))
            inputs.append(
                dequantised(name, constant(name, value), constant(f"{name}/scale", scale), zero)
            )
        del node.input[:]
        node.input.extend(inputs)

    def add_rounded(name: str) -> None:
        scale, zero = steps[name]
        step = [constant(f"{name}/scale", scale), constant(f"{name}/zero", zero)]
        rounded = f"{name}/rounded"
        nodes.append(helper.make_node("QuantizeLinear", [name, *step], [rounded], rounded))
        dequantised(name, rounded, *step)

    after = {before: name for name, before in plan.absorbed.items()}
    for node in graph.node:
        if node.output[0] in plan.absorbed:
            continue
        for i, name in enumerate(node.input):
            if name in steps:
                node.input[i] = f"{name}/dequantised"
        node.output[0] = after.get(node.output[0], node.output[0])
        nodes.append(node)
        for name in node.output:
            if name in steps:
                add_rounded(name)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    used = {name for node in copies for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(copies)
    graph.initializer.extend(tensor for name, tensor in constants.items() if name in used)


def _to_integers(
    convolution: _Convolution, step: float, mean: Doubles
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """A scale for every output channel, the weights and the bias in its steps.

    The mean error that rounding the weights makes, given the mean of every input channel, goes into
    the bias.
    """
    weight, bias = convolution.weight, convolution.bias
    top = np.abs(weight).max(axis=(1, 2, 3))
    scales = np.maximum(top / 127, np.abs(bias) / (step * _LARGEST_BIAS))
    scales = np.maximum(scales, 1e-12).astype(np.float32)
    by_channel = scales.astype(np.float64)[:, None, None, None]
    integers = np.clip(np.rint(weight / by_channel), -127, 127)
    error = (weight - integers * by_channel).sum(axis=(2, 3))
    # Group by group: [groups, outputs of a group, inputs of a group].
    error = error.reshape(convolution.groups, -1, error.shape[1])
    means = mean.reshape(convolution.groups, 1, -1)
    corrected = bias + (error * means).sum(axis=2).reshape(-1)
    in_steps = np.rint(corrected / (scales.astype(np.float64) * step))
    return scales, integers.astype(np.int8), in_steps.astype(np.int32)
