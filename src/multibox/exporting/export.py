"""``multibox.export``: a detector becomes a file that needs no PyTorch, compared with PyTorch."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from multibox import checkpoints
from multibox.card import ModelCard
from multibox.detector import model_file
from multibox.engines.exported import EXPORTED_SUFFIXES
from multibox.errors import InputError, MultiboxError

if TYPE_CHECKING:
    import onnx

    from multibox.data.merging import DataPath
    from multibox.engines.torch import TorchEngine
    from multibox.exporting.accuracy import Accuracy
    from multibox.exporting.onnx_file import OnnxFile
    from multibox.exporting.openvino import IrFile
    from multibox.parity.compare import Parity
    from multibox.ssd.model import SSD

Format = Literal["onnx", "openvino"]
FilePrecision = Literal["fp32", "fp16", "int8"]

_SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml"}
_PACKAGES = {"torch": "export", "onnx": "export", "onnxscript": "export", "openvino": "openvino"}


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The file that was written, its card, and how it compares with PyTorch.

    ``accuracy`` is measured for int8 alone: on labelled pictures, before and after quantisation.
    """

    file: Path
    card: ModelCard
    parity: "Parity"
    accuracy: "Accuracy | None"


def export(
    model: str | Path,
    *,
    out: str | Path,
    format: Format = "onnx",
    precision: FilePrecision = "fp32",
    calibrate: "DataPath | None" = None,
    nms: bool = True,
) -> ExportResult:
    """Write ``model`` as an ONNX file, or as OpenVINO's .xml with a .bin beside it.

    ``model`` is a checkpoint or a published name. The file takes uint8 RGB pictures ``[batch, h, w,
    3]`` and gives detections; without ``nms`` the network's raw outputs. ``precision`` is that of
    the weights; "int8" computes in 8 bits too and needs labelled pictures, ``calibrate``: those
    for training set the ranges, the others measure what is lost.

    Raises: InputError when the model, ``out`` or the pictures cannot be used, or a package is
    missing; MultiboxError when the network cannot be exported, or the file that was made does not
    do what the checkpoint does: existing files are left as they are then.
    """
    out = Path(out)
    _check_choices(format, precision, calibrate)
    _check_out(out, format)
    _check_packages(format)
    engine = _open(model)
    card = engine.card
    from multibox.exporting.accuracy import FAR_TOO_MUCH, calibration_pictures, measure
    from multibox.exporting.check import check
    from multibox.exporting.network import network_graph

    # Read before the export, which takes half a minute: wrong labels are said at once.
    pictures = None if calibrate is None else calibration_pictures(calibrate, card)
    graph = network_graph(cast("SSD", engine.module))
    with tempfile.TemporaryDirectory(prefix="multibox-export-") as folder:
        file, floats = Path(folder) / f"model{_SUFFIXES[format]}", Path(folder) / "floats.onnx"
        if pictures is not None:
            from multibox.exporting.quantise import quantise

            _write(graph, floats, card, "fp32", nms)
            graph = quantise(graph, pictures)
        written = _write(graph, file, card, precision, nms)
        parity, faults = check(file, engine, precision, nms)
        if faults:
            raise MultiboxError(
                f"{model}: exported, but the file differs from {parity.reference}: "
                f"{'; '.join(faults)}; nothing was written"
            )
        accuracy = None if calibrate is None else measure(floats, file, card, calibrate)
        if accuracy is not None and accuracy.lost > FAR_TOO_MUCH:
            raise MultiboxError(
                f"{model}: in 8 bits mAP falls from {accuracy.before:.4f} to {accuracy.after:.4f} "
                f"on {accuracy.pictures} pictures of {calibrate}; nothing was written: take fp16"
            )
        about: dict[str, Any] = {
            "format": format,
            "precision": precision,
            "nms": nms,
            "multibox": version("multibox"),
            "parity": parity.model_dump(),
            "accuracy": None if accuracy is None else accuracy.model_dump(),
        }
        card = card.model_copy(update={"export": about})
        written.add_card(card)
        _move(file, out)
    return ExportResult(out, card, parity, accuracy)


def _check_choices(format: str, precision: str, calibrate: "DataPath | None") -> None:
    for what, value, choices in (
        ("format", format, get_args(Format)),
        ("precision", precision, get_args(FilePrecision)),
    ):
        if value not in choices:
            raise InputError(f"no {what} {value!r}: choose one of {', '.join(choices)}")
    if precision == "int8" and calibrate is None:
        raise InputError("int8 needs labelled pictures to measure ranges on: give --calibrate DATA")
    if precision != "int8" and calibrate is not None:
        raise InputError(f"--calibrate is for --precision int8, not for {precision}")


def _check_out(out: Path, format: Format) -> None:
    suffix = _SUFFIXES[format]
    if out.is_dir():
        raise InputError(f"{out}: is a folder: name the file to write, such as {out}/model{suffix}")
    if out.suffix.lower() != suffix:
        raise InputError(f"{out}: an {format} file ends with {suffix}: --out {out.stem}{suffix}")
    folder = next(parent for parent in out.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"{out}: {folder} is not a folder to write to: choose another --out")


def _check_packages(format: Format) -> None:
    for package, extra in _PACKAGES.items():
        if package == "openvino" and format != "openvino":
            continue
        if find_spec(package) is None:
            raise InputError(
                f'exporting to {format} needs {package}: pip install "multibox[{extra}]"'
            )


def _open(model: str | Path) -> "TorchEngine":
    path = model_file(model)
    if path.suffix.lower() in EXPORTED_SUFFIXES:
        raise InputError(f"{path}: is exported already: give the checkpoint that it was made from")
    checkpoint = checkpoints.load(path)
    from multibox.engines.torch import TorchEngine

    return TorchEngine.from_checkpoint(checkpoint, "cpu")


def _write(
    network: "onnx.ModelProto",
    file: Path,
    card: ModelCard,
    precision: FilePrecision,
    nms: bool,
) -> "OnnxFile | IrFile":
    import onnx

    graph = onnx.ModelProto()
    graph.CopyFrom(network)
    if precision == "fp16":
        from multibox.exporting.half import store_half

        store_half(graph)
    if nms:
        from multibox.exporting.detection_graph import add_detection

        add_detection(graph, card)
    if file.suffix == ".xml":
        from multibox.exporting.openvino import IrFile

        # OpenVINO 2026.4 computes 8-bit networks of a dynamic batch wrongly.
        return IrFile(graph, file, any_batch=precision != "int8")
    from multibox.exporting.onnx_file import OnnxFile

    return OnnxFile(graph, file)


def _move(file: Path, out: Path) -> None:
    """Put what was made in its place; the weights of an IR come before the graph."""
    parts = [(file, out)]
    if file.suffix == ".xml":
        parts.insert(0, (file.with_suffix(".bin"), out.with_suffix(".bin")))
    try:
        for made, place in parts:
            with checkpoints.atomic_write(place) as temporary:
                shutil.copyfile(made, temporary)
    except OSError as error:
        raise MultiboxError(f"{out}: cannot be written: {error.strerror or error}") from error
