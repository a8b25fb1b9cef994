"""A small SSDLite and a small VGG-like network in 8 bits: structure, and the same answers."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from multibox.engines.openvino_core import openvino_core
from multibox.errors import InputError
from multibox.exporting.quantise import quantise
from multibox.exporting.quantise_ranges import Observed, observe

SIZE = 32
Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def pictures(count: int, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, 3))
    smooth = coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)
    return list((smooth + rng.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8))


def network(*, bias: bool = True) -> onnx.ModelProto:
    """Strided, expanding, depthwise, projecting and residual convolutions, pooling, a head.

    The depthwise channels differ a hundredfold in size, which is what makes such networks hard.
    """
    rng = np.random.default_rng(1)
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def constant(name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(kind: str, *inputs: str, **attributes: object) -> str:
        output = str(attributes.pop("output", f"{kind}{len(nodes)}"))
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(
        x: str, shape: tuple[int, ...], sizes: npt.ArrayLike = 1.0, **attributes: object
    ) -> str:
        n = len(constants)
        weight = rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5
        weight *= np.broadcast_to(np.asarray(sizes), shape[0])[:, None, None, None]
        inputs = [x, constant(f"weight{n}", weight)]
        if bias:
            inputs.append(constant(f"bias{n}", rng.normal(size=shape[0]) * 0.1 * np.asarray(sizes)))
        return node("Conv", *inputs, **attributes)

    def relu6(x: str) -> str:
        return node("Clip", x, "zero", "six")

    constant("zero", 0)
    constant("six", 6)
    x = node("Cast", "images", to=TensorProto.FLOAT)
    x = node("Div", node("Sub", x, constant("mean", [127.5] * 3)), constant("std", [60.0] * 3))
    x = node("Transpose", x, perm=[0, 3, 1, 2])
    x = relu6(convolution(x, (8, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1]))
    trunk = convolution(node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), (8, 8, 1, 1))
    sizes = np.geomspace(0.02, 2, 24)
    x = relu6(convolution(trunk, (24, 8, 1, 1), sizes))
    x = relu6(convolution(x, (24, 1, 3, 3), 1 / sizes, group=24, pads=[1, 1, 1, 1]))
    x = node("Add", trunk, convolution(x, (8, 24, 1, 1)))
    x = node("HardSwish", convolution(x, (16, 8, 1, 1)))
    x = node("Transpose", convolution(x, (12, 16, 1, 1)), perm=[0, 2, 3, 1])
    node("Reshape", x, constant("shape", [-1, 64 * 3, 4], np.int64), output="box_offsets")
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("box_offsets", TensorProto.FLOAT, ["batch", 192, 4])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def in_onnxruntime(model: onnx.ModelProto) -> Run:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def in_openvino(model: onnx.ModelProto) -> Run:
    core = openvino_core()
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", hints)
    return lambda images: compiled(images)[0]


def relative_error(
    model: onnx.ModelProto, run: Callable[[onnx.ModelProto], Run] = in_onnxruntime
) -> float:
    images = np.stack(pictures(6, seed=7))
    wanted, got = in_onnxruntime(network())(images), run(model)(images)
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted - wanted.mean()))


@pytest.fixture(scope="module")
def quantised() -> onnx.ModelProto:
    return quantise(network(), pictures(40))


@pytest.mark.parametrize("run", [in_onnxruntime, in_openvino])
def test_the_answers_stay(
    quantised: onnx.ModelProto, run: Callable[[onnx.ModelProto], Run]
) -> None:
    assert 1e-4 < relative_error(quantised, run) < 0.04


def test_better_than_the_usual_recipe(quantised: onnx.ModelProto, tmp_path: object) -> None:
    """onnxruntime's own quantiser, without equalisation and correction of biases, is the oracle."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Pictures(CalibrationDataReader):
        def __init__(self) -> None:
            self._rest = iter(pictures(40))

        def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
            picture = next(self._rest, None)
            return None if picture is None else {"images": picture[None]}

    file = f"{tmp_path}/usual.onnx"
    quantize_static(
        network(), file, Pictures(), per_channel=True, op_types_to_quantize=["Conv", "Clip", "Add"],
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    assert relative_error(quantised) < relative_error(onnx.load(file))


def test_every_convolution_reads_and_leaves_bytes(quantised: onnx.ModelProto) -> None:
    graph = quantised.graph
    source = {node.output[0]: node for node in graph.node}
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 7
    for node in convolutions:
        x, weight, bias = (source[name] for name in node.input)
        assert {x.op_type, weight.op_type, bias.op_type} == {"DequantizeLinear"}
        integers, scales, zero = (arrays[name] for name in weight.input)
        assert (integers.dtype, arrays[bias.input[0]].dtype) == (np.int8, np.int32)
        assert scales.shape == zero.shape == integers.shape[:1]
        assert not zero.any()
        assert np.abs(integers).max() == 127
        scale, zero = (arrays[name] for name in x.input[1:])
        assert (zero.dtype, scale.shape) == (np.uint8, ())
        np.testing.assert_allclose(arrays[bias.input[1]], scales * scale, rtol=1e-6)
        readers = [other for other in graph.node if node.output[0] in other.input]
        assert [reader.op_type for reader in readers] == ["QuantizeLinear"]
    assert not any(node.op_type == "Clip" for node in graph.node)


def test_pooling_and_its_input_have_one_range(quantised: onnx.ModelProto) -> None:
    pool = next(node for node in quantised.graph.node if node.op_type == "MaxPool")
    before = next(n for n in quantised.graph.node if n.output[0] == pool.input[0])
    after = next(n for n in quantised.graph.node if n.input[0] == pool.output[0])
    arrays = {t.name: numpy_helper.to_array(t) for t in quantised.graph.initializer}
    for a, b in zip(before.input[1:], after.input[1:], strict=True):
        assert arrays[a] == arrays[b]


def test_onnxruntime_computes_in_integers(quantised: onnx.ModelProto, tmp_path: object) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = f"{tmp_path}/optimised.onnx"
    ort.InferenceSession(quantised.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
    assert kinds.count("QLinearConv") == 7
    assert kinds.count("QLinearAdd") == 1
    assert not {"Conv", "FusedConv", "Clip", "Add"} & set(kinds)


def test_without_biases_and_with_dead_channels() -> None:
    model = network(bias=False)
    weight = next(t for t in model.graph.initializer if list(t.dims) == [24, 1, 3, 3])
    array = numpy_helper.to_array(weight).copy()
    array[:3] = 0
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    images = np.stack(pictures(3, seed=7))
    got = in_onnxruntime(quantise(model, pictures(20)))(images)
    wanted = in_onnxruntime(model)(images)
    assert np.linalg.norm(got - wanted) < 0.06 * np.linalg.norm(wanted - wanted.mean())


def test_rounded_weights_do_not_shift_the_mean() -> None:
    """With inputs far from 0, as after a ReLU, each weight's rounding shifts its whole channel."""
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(8, 3, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["maps"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["maps", "weight"], ["convolved"]),
        helper.make_node("Transpose", ["convolved"], ["box_offsets"], perm=[0, 2, 3, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("box_offsets", TensorProto.FLOAT, ["batch", SIZE, SIZE, 8])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    images = [(picture // 4 + 180).astype(np.uint8) for picture in pictures(10)]
    got = in_onnxruntime(quantise(model, images))(np.stack(images))
    wanted = in_onnxruntime(model)(np.stack(images))
    shift = np.abs((got - wanted).mean(axis=(0, 1, 2)))

    steps = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127
    rounding = (np.rint(weight / steps) * steps - weight)[:, :, 0, 0]
    uncorrected = np.abs(rounding @ np.stack(images).mean(axis=(0, 1, 2)))
    assert np.linalg.norm(shift) < 0.2 * np.linalg.norm(uncorrected)


def test_the_given_graph_is_left_alone() -> None:
    model = network()
    before = model.SerializeToString(deterministic=True)
    quantise(model, pictures(2))
    assert model.SerializeToString(deterministic=True) == before


def test_no_pictures() -> None:
    with pytest.raises(InputError, match="no pictures"):
        quantise(network(), [])


def test_observed_extremes_and_means() -> None:
    model, images = network(), pictures(5)
    name = next(node.output[0] for node in model.graph.node if node.op_type == "Add")
    seen = observe(model, [name], images)[name]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output[0].name = name
    del watched.graph.output[0].type.tensor_type.shape.dim[:]
    for _ in range(4):
        watched.graph.output[0].type.tensor_type.shape.dim.add()
    values = in_onnxruntime(watched)(np.stack(images))
    assert seen.low == pytest.approx(values.min(), rel=1e-5)
    assert seen.high == pytest.approx(values.max(), rel=1e-5)
    np.testing.assert_allclose(seen.mean, values.mean(axis=(0, 2, 3)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(seen.largest, values.max(axis=(0, 2, 3)).clip(min=0), rtol=1e-5)


@given(st.floats(-100, 0), st.floats(0, 100), st.integers(0, 2**32 - 1))
def test_a_range_holds_zero_and_lies_within_the_extremes(
    low: float, high: float, seed: int
) -> None:
    seen = Observed()
    rng = np.random.default_rng(seed)
    seen.add(rng.uniform(low, max(high, low), (1, 2, 5, 5)).astype(np.float32), rng)
    for whole in (True, False):
        first, last = seen.range(whole=whole)
        assert seen.low <= first <= 0 <= last <= seen.high
