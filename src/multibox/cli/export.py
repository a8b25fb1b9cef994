"""``multibox export``: a detector as an ONNX or OpenVINO file."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from multibox.exporting.export import FilePrecision, Format
from multibox.exporting.export import export as export_file


def export(
    model: str,
    /,
    *,
    out: Path,
    format: Format = "onnx",
    precision: FilePrecision = "fp32",
    calibrate: str | None = None,
    nms: Annotated[bool, Parameter(negative="--no-nms")] = True,
) -> None:
    """Write a detector as a file that runs without PyTorch, and compare the two.

    Parameters
    ----------
    model
        A checkpoint file, or a published name such as torchvision:ssd300_vgg16.
    out
        The file to write: .onnx, or .xml for OpenVINO (a .bin is put beside it).
    format
        ONNX, which most tools read, or OpenVINO's own format.
    precision
        Of the weights; int8 computes in 8 bits too.
    calibrate
        Labelled pictures for int8: to set its ranges, and to measure accuracy before and after.
    nms
        Detections as output; with --no-nms the network's raw ones, for accelerators.
    """
    console = Console(soft_wrap=True, markup=False, highlight=False)
    result = export_file(
        model, out=out, format=format, precision=precision, calibrate=calibrate, nms=nms
    )
    card, files = result.card, [result.file]
    if format == "openvino":
        files.append(result.file.with_suffix(".bin"))
    height, width = card.preprocessing.image_size
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    console.print(
        f"{' and '.join(map(str, files))}: {card.model}, {precision}, {megabytes:.1f} MB; takes "
        f"uint8 RGB [batch, {height}, {width}, 3], gives "
        + ("detections" if nms else "class_logits and box_offsets")
    )
    for line in result.parity.lines():
        console.print(line)
    if result.accuracy is not None:
        for line in result.accuracy.lines():
            console.print(line)
    elif calibrate is not None:
        console.print("accuracy not measured: no object of a known class in the pictures")
