"""From what a user named to opened engines: which model runs where, and what it computes."""

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

from multibox import checkpoints, zoo
from multibox.benchmarking import multiply_adds
from multibox.benchmarking.peak import Precision
from multibox.benchmarking.report import Model
from multibox.checkpoints import Checkpoint
from multibox.engines import (
    Engine,
    ExportedModel,
    Goal,
    is_exported,
    open_engine,
    read_exported,
)
from multibox.errors import InputError
from multibox.imaging import Image, to_network_input
from multibox.importers.published import is_published_name
from multibox.importing import local_checkpoint

EngineKind = Literal["onnxruntime", "openvino", "torch"]
FloatPrecision = Literal["fp32", "bf16"]
PASSING = 500
"""Boxes of a picture that pass the threshold in a network with made-up weights."""

_HINT = "engines are onnxruntime, openvino and torch, each with an optional :fp32 or :bf16"


@dataclass(frozen=True, eq=False)
class Contender:
    """A model opened on an engine, once for each goal.

    ``precision`` is what most of its arithmetic is done in.
    """

    model: Model
    engines: Mapping[Goal, Engine]
    precision: Precision


@dataclass(frozen=True)
class EngineChoice:
    """An engine, and the precision in which it is to run what is not quantised."""

    kind: EngineKind
    precision: FloatPrecision = "fp32"

    @classmethod
    def parse(cls, text: str) -> "EngineChoice":
        """From "openvino" or "openvino:bf16"; InputError for anything else."""
        kind, _, precision = text.strip().partition(":")
        precision = precision or "fp32"
        if kind not in get_args(EngineKind) or precision not in get_args(FloatPrecision):
            raise InputError(f"there is no engine {text.strip()!r}: {_HINT}")
        if (kind, precision) == ("onnxruntime", "bf16"):
            raise InputError("onnxruntime has no bf16 on processors: take openvino:bf16")
        return cls(kind, precision)  # type: ignore[arg-type]


@contextmanager
def open_contenders(
    models: Sequence[str | Path],
    engines: Sequence[str] | None,
    goals: Collection[Goal],
    threads: int,
    pixels: Image,
) -> Iterator[list[Contender]]:
    """Every model on every engine, in that order; what had to be exported is gone afterwards.

    Raises: InputError when a model or engine is unknown or the two do not go together.
    """
    choices = None if engines is None else [EngineChoice.parse(text) for text in engines]
    with tempfile.TemporaryDirectory() as folder:
        contenders = []
        for i, given in enumerate(models):
            files = _Files.find(str(given), pixels, Path(folder) / str(i))
            for choice in choices or files.default_choices():
                source = files.source(choice.kind)
                opened = {
                    goal: open_engine(
                        source, choice.kind, goal=goal, threads=threads, precision=choice.precision
                    )
                    for goal in goals
                }
                engine = next(iter(opened.values()))
                model = files.describe(source, engine, pixels)
                quantised = (source.card.export or {}).get("precision") == "int8"
                precision: Precision = "int8" if quantised else choice.precision
                contenders.append(Contender(model, opened, precision))
        yield contenders


@dataclass
class _Files:
    """A model as it was given, and the files that hold it for one engine or another."""

    given: str
    checkpoint: Path | None
    exported: Path | None
    folder: Path
    note: str = ""
    model: Model | None = None

    @classmethod
    def find(cls, given: str, pixels: Image, folder: Path) -> "_Files":
        path = Path(given)
        if is_published_name(given):
            path = local_checkpoint(given)
        elif not path.suffix and not path.exists():
            note = f"random weights with which about {PASSING} boxes pass the threshold"
            return cls(given, _make_up(given, pixels, folder), None, folder, note)
        exported = is_exported(path)
        return cls(given, None if exported else path, path if exported else None, folder)

    def default_choices(self) -> list[EngineChoice]:
        if self.exported is None:
            kinds = get_args(EngineKind) if self.note else ("torch",)
        else:
            xml = self.exported.suffix.lower() == ".xml"
            kinds = ("openvino",) if xml else ("onnxruntime", "openvino")
        return [EngineChoice(kind) for kind in kinds if len(kinds) == 1 or find_spec(kind)]

    def source(self, kind: EngineKind) -> Checkpoint | ExportedModel:
        """What an engine of that kind opens; a checkpoint is exported when one needs it."""
        if kind == "torch" and self.checkpoint is not None:
            return checkpoints.load(self.checkpoint)
        if self.exported is None:
            assert self.checkpoint is not None
            self.exported = _export(self.checkpoint, self.folder)
        return read_exported(self.exported)

    def describe(self, source: Checkpoint | ExportedModel, engine: Engine, pixels: Image) -> Model:
        """The same for each engine: whichever comes first counts."""
        if self.model is None:
            card = source.card
            self.model = Model(
                file=self.given,
                name=card.model,
                image_size=card.preprocessing.image_size,
                classes=len(card.names),
                default_boxes=card.default_boxes.count,
                multiply_adds=_count(source, engine, pixels),
                note=self.note,
            )
        return self.model


def _count(source: Checkpoint | ExportedModel, engine: Engine, pixels: Image) -> int:
    example = to_network_input(pixels, source.card.preprocessing)[None]
    if isinstance(source, Checkpoint):
        return multiply_adds.of_torch(engine, example)
    if source.is_openvino:
        return multiply_adds.of_openvino(source.path)
    return multiply_adds.of_onnx(source.path, example)


def _make_up(name: str, pixels: Image, folder: Path) -> Path:
    """A checkpoint of the zoo's detector ``name`` with random weights."""
    card = zoo.new_card(name, [f"class_{i}" for i in range(20)])
    try:
        from multibox.benchmarking.spread_weights import spread_checkpoint
    except ImportError as error:
        if error.name is None or error.name.split(".")[0] not in ("torch", "torchvision"):
            raise
        raise InputError(
            f'{name}: making a network up needs PyTorch: pip install "multibox[train]", or give '
            "an exported file"
        ) from error
    path = folder / f"{name}.safetensors"
    spread_checkpoint(card, to_network_input(pixels, card.preprocessing), path, PASSING)
    return path


def _export(path: Path, folder: Path) -> Path:
    from multibox.exporting.export import export

    return export(path, out=folder / f"{path.stem}.onnx").file
