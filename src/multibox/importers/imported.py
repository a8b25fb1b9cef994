"""What an importer returns, and what every importer needs to make it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from multibox.card import ModelCard
from multibox.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """Foreign weights under our names, the card that explains them, and what was left over.

    ``arrays`` are what ``multibox.ssd.model.SSD(card)`` calls its state dict. ``unused`` names the
    file's arrays that detecting does not need (optimiser state, classification layers).
    """

    arrays: Mapping[str, Array]
    card: ModelCard
    unused: tuple[str, ...] = ()


class Foreign:
    """The arrays of a foreign file, each to be taken once; what is missing names the file."""

    def __init__(self, arrays: Mapping[str, Array], path: Path, project: str) -> None:
        self._left = dict(arrays)
        self._path = path
        self._project = project

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, shape: Sequence[int] | None = None) -> Array:
        """An array by its foreign name.

        Raises: InputError when it is not there, has another shape, or is not finite.
        """
        if name not in self._left:
            raise InputError(
                f"{self._path}: has no array {name!r}: not weights of {self._project}, or of a "
                "variant that is not supported"
            )
        array = self._left.pop(name)
        if shape is not None and tuple(array.shape) != tuple(shape):
            raise InputError(
                f"{self._path}: {name!r} has the shape {tuple(array.shape)}, expected "
                f"{tuple(shape)}: not weights of {self._project}, or of a variant that is not "
                "supported"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{self._path}: {name!r} has values that are not finite: damaged")
        return np.ascontiguousarray(array, np.float32)

    @property
    def unused(self) -> tuple[str, ...]:
        """The names not yet taken."""
        return tuple(self._left)
