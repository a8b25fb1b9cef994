"""Caffe networks for tests: prototxts written as text, caffemodels encoded by hand.

Nothing of the importer is used. Weights come from PCG64's raw bits, whose stream NumPy promises to
keep, so that answers recorded from another program stay valid.
"""

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

Floats = np.ndarray
VGG_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
MOBILENET_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2),
    (1024, 1),
)  # fmt: skip
# Squeeze, channels, kernel, stride, pad.
EXTRAS_300 = ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 1, 0), (128, 256, 3, 1, 0))
EXTRAS_512 = (
    (256, 512, 3, 2, 1), *((128, 256, 3, 2, 1),) * 3, (128, 256, 4, 1, 1),
)  # fmt: skip
EXTRAS_80 = ((32, 64, 3, 2, 1), (32, 48, 3, 1, 0))
EXTRAS_MOBILENET = (
    (256, 512, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 3, 2, 1), (64, 128, 3, 2, 1),
)  # fmt: skip


@cache
def uniform(key: str, shape: tuple[int, ...], deviation: float) -> Floats:
    """Values of mean 0 and this deviation, the same for a key on every machine."""
    raw = np.random.PCG64(zlib.crc32(key.encode())).random_raw(int(np.prod(shape)))
    unit = (raw >> 40).astype(np.float32) * np.float32(2**-23) - 1
    return (unit * np.float32(deviation * 3**0.5)).reshape(shape)


@dataclass
class Layer:
    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    parameters: str = ""
    blobs: list[Floats] = field(default_factory=list)

    def text(self) -> str:
        lines = [f"name: {quoted(self.name)}", f"type: {quoted(self.type)}"]
        lines += [f"bottom: {quoted(bottom)}" for bottom in self.bottoms]
        lines += [f"top: {quoted(top)}" for top in self.tops]
        return "layer {\n  " + "\n  ".join([*lines, *self.parameters.split("\n")]) + "\n}\n"


def quoted(text: str) -> str:
    return f'"{text}"'


@dataclass
class Net:
    """Layers in a row, and the text in front of them."""

    head: str
    layers: list[Layer] = field(default_factory=list)

    def add(self, name: str, type: str, bottoms: str | Sequence[str], parameters: str = "", *,
            top: str | None = None, blobs: Sequence[Floats] = ()) -> str:  # fmt: skip
        bottoms = [bottoms] if isinstance(bottoms, str) else list(bottoms)
        self.layers.append(Layer(name, type, bottoms, [top or name], parameters, list(blobs)))
        return top or name

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def replace(self, name: str, old: str, new: str) -> "Net":
        """Change a layer's parameters."""
        assert old in self.layer(name).parameters
        self.layer(name).parameters = self.layer(name).parameters.replace(old, new)
        return self

    def prototxt(self) -> str:
        return self.head + "".join(layer.text() for layer in self.layers)

    def caffemodel(self, order: Callable[[list[Layer]], list[Layer]] = list) -> bytes:
        """NetParameter in protobuf's wire format: name 1, layer 100; a layer's name 1, blobs 7."""
        layers = b"".join(
            tagged(100, tagged(1, layer.name.encode()) + b"".join(map(blob, layer.blobs)))
            for layer in order(self.layers)
        )
        return tagged(1, b"generated") + layers

    def save(self, folder: Path, name: str = "net") -> tuple[Path, Path]:
        """Both files: the caffemodel and the prototxt."""
        model, text = folder / f"{name}.caffemodel", folder / f"{name}.prototxt"
        model.write_bytes(self.caffemodel())
        text.write_text(self.prototxt())
        return model, text

    def rename(self, new_name: Callable[[str], str]) -> "Net":
        """Other names for all layers and blobs."""
        for layer in self.layers:
            layer.name = new_name(layer.name)
            layer.bottoms = [b if b == "data" else new_name(b) for b in layer.bottoms]
            layer.tops = [new_name(top) for top in layer.tops]
        return self


def blob(values: Floats) -> bytes:
    """BlobProto as a field 7: data 5, shape 7 with dim 1."""
    shape = tagged(1, b"".join(map(varint, values.shape)))
    return tagged(7, tagged(5, values.astype("<f4").tobytes()) + tagged(7, shape))


def tagged(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def single(number: int, value: float) -> bytes:
    """A float as a field of its own."""
    return varint(number << 3 | 5) + struct.pack("<f", value)


def deploy_head(side: int) -> str:
    return f'name: "n"\ninput: "data"\ninput_shape {{ dim: 1 dim: 3 dim: {side} dim: {side} }}\n'


def convolve(net: Net, name: str, bottom: str, channels: int, outputs: int, kernel: int, *,
             stride: int = 1, pad: int = 0, more: str = "", groups: int = 1, bias: bool = True,
             deviation: float | None = None, gain: float = 1.0) -> str:  # fmt: skip
    """A convolution whose outputs have about the spread of its inputs behind a ReLU."""
    fan_in = channels // groups * kernel * kernel
    if deviation is None:
        deviation = (2 / fan_in) ** 0.5
    shape = (outputs, channels // groups, kernel, kernel)
    blobs = [uniform(f"{name} kernel", shape, deviation * gain)]
    if bias:
        blobs.append(uniform(f"{name} bias", (outputs,), 0.1))
    said = [f"num_output: {outputs}", f"kernel_size: {kernel}"]
    said += [f"pad: {pad}"] * (pad > 0) + [f"stride: {stride}"] * (stride > 1)
    said += [f"group: {groups}"] * (groups > 1) + ["bias_term: false"] * (not bias) + [more]
    return net.add(
        name, "Convolution", bottom, f"convolution_param {{ {' '.join(said)} }}", blobs=blobs
    )


def norm(net: Net, name: str, top: str, channels: int, more: str = "") -> None:
    """BatchNorm with sums over 4 updates, and Scale, both in place."""
    mean = uniform(f"{name} mean", (channels,), 0.3)
    variance = 1 + uniform(f"{name} variance", (channels,), 0.2)
    count = np.array([4], np.float32)
    net.add(f"{name}/bn", "BatchNorm", top, more, top=top, blobs=[mean * 4, variance * 4, count])
    gamma = 1 + uniform(f"{name} gamma", (channels,), 0.1)
    beta = uniform(f"{name} beta", (channels,), 0.2)
    net.add(f"{name}/scale", "Scale", top, "scale_param { bias_term: true }", top=top,
            blobs=[gamma, beta])  # fmt: skip


def relu(net: Net, top: str) -> str:
    return net.add(f"{top}/relu", "ReLU", top, top=top)


def detect(net: Net, classes: int, maps: Sequence[tuple[str, int, str]], *, kernel: int,
           spread: tuple[float, float] = (1.0, 2.5),
           output: str = "confidence_threshold: 0.01 keep_top_k: 200",
           nms: str = "nms_threshold: 0.45 top_k: 400") -> None:  # fmt: skip
    """Heads on ``maps`` (blob, channels, what PriorBox says), the three concats, the detection."""
    for name, channels, prior in maps:
        boxes = boxes_in(prior)
        for kind, outputs, deviation in (
            ("loc", 4 * boxes, spread[0]), ("conf", classes * boxes, spread[1])
        ):  # fmt: skip
            head = f"{name}_mbox_{kind}"
            deviation /= (channels * kernel * kernel) ** 0.5
            convolve(net, head, name, channels, outputs, kernel, pad=kernel // 2,
                     deviation=deviation)  # fmt: skip
            permute = "permute_param { order: 0 order: 2 order: 3 order: 1 }"
            net.add(f"{head}_perm", "Permute", head, permute)
            net.add(f"{head}_flat", "Flatten", f"{head}_perm", "flatten_param { axis: 1 }")
        net.add(f"{name}_mbox_priorbox", "PriorBox", [name, "data"],
                f"prior_box_param {{ {prior} }}")  # fmt: skip
    names = [name for name, _, _ in maps]
    for kind, end, axis in (("loc", "_flat", 1), ("conf", "_flat", 1), ("priorbox", "", 2)):
        net.add(f"mbox_{kind}", "Concat", [f"{name}_mbox_{kind}{end}" for name in names],
                f"concat_param {{ axis: {axis} }}")  # fmt: skip
    net.add("mbox_conf_reshape", "Reshape", "mbox_conf",
            f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {classes} }} }}")  # fmt: skip
    net.add("mbox_conf_softmax", "Softmax", "mbox_conf_reshape", "softmax_param { axis: 2 }")
    net.add("mbox_conf_flatten", "Flatten", "mbox_conf_softmax", "flatten_param { axis: 1 }")
    net.add("detection_out", "DetectionOutput", ["mbox_loc", "mbox_conf_flatten", "mbox_priorbox"],
            f"detection_output_param {{ num_classes: {classes} code_type: CENTER_SIZE "
            f"share_location: true background_label_id: 0 {output} nms_param {{ {nms} }} }}",
            )  # fmt: skip


def boxes_in(prior: str) -> int:
    """Boxes a cell, for distinct ratios."""
    words = prior.split()
    ratios = words.count("aspect_ratio:") * (1 if "flip: false" in prior else 2)
    return words.count("min_size:") * (1 + ratios) + words.count("max_size:")


def prior(least: float, greatest: float | None, ratios: Sequence[float], more: str = "") -> str:
    said = [f"min_size: {least}"] + [f"max_size: {greatest}"] * (greatest is not None)
    said += [f"aspect_ratio: {ratio}" for ratio in ratios]
    variances = " ".join(f"variance: {v}" for v in (0.1, 0.1, 0.2, 0.2))
    # OpenCV clips where nothing is said, Caffe does not.
    clip = "" if "clip:" in more else "clip: false"
    return " ".join([*said, variances, clip, more])


PRIORS_300 = tuple(
    prior(low, high, ratios, f"step: {step}")
    for low, high, ratios, step in (
        (30, 60, (2,), 8), (60, 111, (2, 3), 16), (111, 162, (2, 3), 32), (162, 213, (2, 3), 64),
        (213, 264, (2,), 100), (264, 315, (2,), 300),
    )
)  # fmt: skip
PRIORS_512 = tuple(
    prior(low, high, ratios, f"step: {step}")
    for low, high, ratios, step in (
        (35.84, 76.8, (2,), 8), (76.8, 153.6, (2, 3), 16), (153.6, 230.4, (2, 3), 32),
        (230.4, 307.2, (2, 3), 64), (307.2, 384, (2, 3), 128), (384, 460.8, (2,), 256),
        (460.8, 537.6, (2,), 512),
    )
)  # fmt: skip
PRIORS_80 = (
    prior(8, 16, (2,), "step: 8"), prior(16, 32, (2, 3), "step: 16"),
    prior(32, 56, (2,), "step: 27"), prior(56, 90, (2,), "step: 80"),
)  # fmt: skip
PRIORS_MOBILENET = (
    prior(60, None, (2,)),
    *(prior(low, high, (2, 3)) for low, high in ((105, 150), (150, 195), (195, 240), (240, 285),
                                                 (285, 300))),
)  # fmt: skip


def vgg_ssd(classes: int, side: int = 80, extras: Sequence[tuple[int, ...]] = EXTRAS_80,
            priors: Sequence[str] = PRIORS_80, head: str | None = None) -> Net:  # fmt: skip
    """VGG-16 SSD as its authors write it; at 80 pixels the maps have 10, 5, 3 and 1 cells."""
    net = Net(deploy_head(side) if head is None else head)
    blob, channels = "data", 3
    for stage, widths in enumerate(VGG_STAGES, start=1):
        for i, width in enumerate(widths, start=1):
            gain = 0.02 if blob == "data" else 1.0
            blob = convolve(net, f"conv{stage}_{i}", blob, channels, width, 3, pad=1, gain=gain)
            relu(net, blob)
            channels = width
        window = "kernel_size: 2 stride: 2" if stage < 5 else "kernel_size: 3 stride: 1 pad: 1"
        said = f"pooling_param {{ pool: MAX {window} }}"
        blob = net.add(f"pool{stage}", "Pooling", blob, said)
    relu(net, convolve(net, "fc6", blob, 512, 1024, 3, pad=6, more="dilation: 6"))
    blob = relu(net, convolve(net, "fc7", "fc6", 1024, 1024, 1))
    maps = [("conv4_3_norm", 512), ("fc7", 1024), *extra_layers(net, blob, 1024, extras, 6)]
    net.add("conv4_3_norm", "Normalize", "conv4_3",
            "norm_param { across_spatial: false channel_shared: false }",
            blobs=[20 + uniform("l2", (512,), 3.0)])  # fmt: skip
    levels = [(name, depth, said) for (name, depth), said in zip(maps, priors, strict=True)]
    # Maps behind dilated kernels vary more; logits of 10 would make scores of 1, all tied.
    detect(net, classes, levels, kernel=3, spread=(0.4, 0.9))
    return net


def extra_layers(net: Net, blob: str, channels: int, extras: Sequence[tuple[int, ...]], first: int,
                 norms: bool = False) -> list[tuple[str, int]]:  # fmt: skip
    maps = []
    for i, (squeeze, outputs, kernel, stride, pad) in enumerate(extras, start=first):
        for part, width, side, step, edge in (
            (1, squeeze, 1, 1, 0), (2, outputs, kernel, stride, pad),
        ):  # fmt: skip
            name = f"conv{i}_{part}"
            convolve(net, name, blob, channels, width, side, stride=step, pad=edge, bias=not norms)
            if norms:
                norm(net, name, name, width)
            blob, channels = relu(net, name), width
        maps.append((blob, channels))
    return maps


def mobilenet_ssd(classes: int, side: int = 300, *, norms: bool = True,
                  extras: Sequence[tuple[int, ...]] = EXTRAS_MOBILENET,
                  priors: Sequence[str] = PRIORS_MOBILENET, head: str | None = None,
                  ) -> Net:  # fmt: skip
    """MobileNet-SSD as its author writes it; without ``norms`` as after merge_bn."""
    net = Net(deploy_head(side) if head is None else head)

    def layer(name: str, bottom: str, channels: int, outputs: int, kernel: int, **more: int) -> str:
        gain = 1.4 if bottom == "data" else 1.0
        convolve(net, name, bottom, channels, outputs, kernel, bias=not norms, gain=gain, **more)
        if norms:
            norm(net, name, name, outputs)
        return relu(net, name)

    blob, depth = layer("conv0", "data", 3, 32, 3, stride=2, pad=1), 32
    for block, (width, stride) in enumerate(MOBILENET_BLOCKS, start=1):
        blob = layer(f"conv{block}/dw", blob, depth, depth, 3, stride=stride, pad=1, groups=depth)
        blob, depth = layer(f"conv{block}", blob, depth, width, 1), width
    maps = [("conv11", 512), ("conv13", 1024)]
    maps += extra_layers(net, blob, 1024, extras, 14, norms)
    levels = [(name, depth, said) for (name, depth), said in zip(maps, priors, strict=True)]
    detect(net, classes, levels, kernel=1)
    return net


def picture(side: int, count: int = 1) -> np.ndarray:
    """RGB noise over soft blocks, uint8 ``[count, side, side, 3]``."""
    cells = -(-side // 20)
    blocks = uniform("blocks", (count, cells, cells, 3), 50.0).repeat(20, 1).repeat(20, 2)
    noise = uniform("noise", (count, side, side, 3), 25.0)
    return (120 + blocks[:, :side, :side] + noise).clip(0, 255).astype(np.uint8)
