"""Exported files: their model card, read with neither onnx nor openvino."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from google.protobuf.message import DecodeError

from multibox import limits
from multibox.card import CARD_KEY, ModelCard
from multibox.checkpoints.native import parse_card
from multibox.errors import InputError
from multibox.protobuf_schema import Schema

EXPORTED_SUFFIXES = frozenset({".onnx", ".xml"})
"""Endings of the files that ``read_exported`` reads: ONNX and OpenVINO's IR."""

# The graph is not listed: it stays as bytes, which costs nothing.
_ONNX = Schema(
    "onnx_metadata",
    {
        "Model": ("ir_version 1 int64", "graph 7 bytes", "metadata_props 14 Property*"),
        "Property": ("key 1 string", "value 2 string"),
    },
)


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """A file that ``multibox export`` wrote, and the card in it."""

    path: Path
    card: ModelCard

    @property
    def is_openvino(self) -> bool:
        """Whether it is OpenVINO's own format, which onnxruntime does not read."""
        return self.path.suffix.lower() == ".xml"


def is_exported(path: Path) -> bool:
    """Whether ``path`` is named like an exported file rather than like a checkpoint."""
    return path.suffix.lower() in EXPORTED_SUFFIXES


def read_exported(path: Path | str) -> ExportedModel:
    """Find the card in an ONNX file or an OpenVINO IR (.xml); the network is not looked at.

    Raises: InputError, which names the file and the remedy, when it is missing, damaged, not
    written by multibox or written by a newer one.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder: give the exported file in it")
    if not path.exists():
        raise InputError(f"{path}: no such file: check the path of the exported model")
    data = read_bytes(path)
    text = _from_xml(path, data) if path.suffix.lower() == ".xml" else _from_onnx(path, data)
    if text is None:
        raise InputError(
            f"{path}: a model of another project (it has no '{CARD_KEY}' metadata): give a file "
            "that multibox export wrote"
        )
    model = ExportedModel(path, parse_card(path, text))
    if model.is_openvino and not path.with_suffix(".bin").is_file():
        raise InputError(f"{path.with_suffix('.bin')}: no such file: the weights of {path}")
    return model


def read_bytes(path: Path) -> bytes:
    """The content of ``path``; raises InputError when it cannot be read."""
    try:
        if (size := path.stat().st_size) > limits.CHECKPOINT_BYTES:
            what = limits.too_large("an exported model", size, limits.CHECKPOINT_BYTES)
            raise InputError(f"{path}: {what}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def damaged(path: Path, reason: object) -> InputError:
    """The error for a file that is not what its name says; ``reason`` is cut to one line."""
    words = " ".join(str(reason).split())[:200]
    kind = "an OpenVINO IR" if path.suffix.lower() == ".xml" else "an ONNX file"
    return InputError(
        f"{path}: damaged or not {kind} ({words}): copy it again, or export it again with "
        "multibox export"
    )


def _from_onnx(path: Path, data: bytes) -> str | None:
    try:
        model: Any = _ONNX.message("Model").FromString(data)
    except DecodeError:
        raise damaged(path, "its messages do not end where they should") from None
    if not (model.ir_version and model.HasField("graph")):
        raise damaged(path, "it has no graph")
    return next((p.value for p in model.metadata_props if p.key == CARD_KEY), None)


class _Refused(Exception):
    """XML that no OpenVINO writes."""


def _from_xml(path: Path, data: bytes) -> str | None:
    found: list[str] = []
    inside: list[str] = []

    def refuse(*_: object) -> None:
        # Entities could make the file arbitrarily large.
        raise _Refused("it has a document type")

    def start(name: str, attributes: dict[str, str]) -> None:
        if not inside and name != "net":
            raise _Refused(f"it begins with <{name[:40]}>, not <net>")
        if inside[:2] == ["net", "rt_info"] and name == CARD_KEY and "value" in attributes:
            found.append(attributes["value"])
        inside.append(name)
        if len(inside) > limits.XML_DEPTH:
            raise _Refused(f"more than {limits.XML_DEPTH} elements in each other")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: inside.pop()
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, _Refused, ValueError, LookupError) as error:
        raise damaged(path, error) from None
    return found[0] if found else None
