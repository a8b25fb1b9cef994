"""Our checkpoint: one safetensors file, the arrays by name and the model card in its metadata.

Reading one never runs code: safetensors is a JSON header and raw numbers.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from multibox import limits
from multibox.card import CARD_KEY, SCHEMA_VERSION, ModelCard
from multibox.checkpoints.files import atomic_write
from multibox.checkpoints.migrations import migrate
from multibox.errors import InputError, MultiboxError

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """What a checkpoint file holds: the weights by name, and the card that explains them."""

    arrays: Arrays
    card: ModelCard
    path: Path


def save(path: Path | str, arrays: Arrays, card: ModelCard) -> None:
    """Write a checkpoint; an interrupted save leaves the old file as it was.

    Raises: MultiboxError when the file cannot be written.
    """
    path = Path(path)
    # safetensors writes an array's memory as it lies, so a transposed view must be laid out first.
    laid_out = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    try:
        with atomic_write(path) as temporary:
            save_file(laid_out, temporary, metadata={CARD_KEY: card.model_dump_json()})
    except (OSError, SafetensorError) as error:
        raise MultiboxError(f"{path}: the checkpoint cannot be written: {error}") from error


def load(path: Path | str) -> Checkpoint:
    """Read a checkpoint: its arrays (copies, not views of the file) and its card.

    Raises: InputError, which names the file and the remedy, when the file is missing, damaged,
    not a multibox checkpoint or written by a newer multibox.
    """
    path = Path(path)
    with _opened(path) as file:
        card = _card_of(path, file.metadata())
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, array in arrays.items():
            # A package that is loaded by chance (onnx) may have taught NumPy others.
            if array.dtype.kind not in "fiub":
                raise TypeError(f"{name} is of type {array.dtype}, which NumPy lacks")
    return Checkpoint(arrays, card, path)


def read_card(path: Path | str) -> ModelCard:
    """Read only the card of a checkpoint, from the file's header; raises as ``load`` does."""
    path = Path(path)
    with _opened(path) as file:
        return _card_of(path, file.metadata())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if path.is_dir():
        best = path / "best.safetensors"
        remedy = f"give {best}" if best.is_file() else "give the .safetensors file in it"
        raise InputError(f"{path}: is a folder, not a checkpoint: {remedy}")
    if not path.exists():
        raise InputError(f"{path}: no such file: check the path of the checkpoint")
    try:
        if (size := path.stat().st_size) > limits.CHECKPOINT_BYTES:
            what = limits.too_large("a checkpoint", size, limits.CHECKPOINT_BYTES)
            raise InputError(f"{path}: {what}")
        with safe_open(path, framework="np") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, TypeError, ValueError, KeyError, AttributeError) as error:
        # Beside SafetensorError: what safetensors' NumPy side raises for a dtype it lacks (bf16).
        raise InputError(
            f"{path}: damaged or not a safetensors file ({_one_line(error)}): "
            "copy or download it again, or give another checkpoint"
        ) from error


def _card_of(path: Path, metadata: Mapping[str, str] | None) -> ModelCard:
    text = (metadata or {}).get(CARD_KEY)
    if text is None:
        raise InputError(
            f"{path}: a safetensors file of another project (it has no '{CARD_KEY}' metadata): "
            "give a checkpoint that multibox wrote"
        )
    return parse_card(path, text)


def parse_card(path: Path, text: str) -> ModelCard:
    """The card in ``text``, the JSON that was found in ``path``.

    Raises: InputError when it is not a card, or was written by a newer multibox.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the model card is not valid JSON ({error})") from error
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise InputError(
            f"{path}: written by a newer multibox (card version {version}, this one reads up to "
            f"{SCHEMA_VERSION}): pip install --upgrade multibox"
        )
    try:
        # As JSON again: pydantic takes a list for a tuple only there.
        return ModelCard.model_validate_json(
            json.dumps(migrate(fields)) if isinstance(fields, dict) else text
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(f"{path}: the model card is wrong at {where}: {first['msg']}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
