"""Matplotlib figures without pyplot, written whole or not at all."""

import warnings
from pathlib import Path
from typing import Any

from multibox.checkpoints import atomic_write
from multibox.errors import InputError


def new_figure(width: float, height: float) -> Any:
    """An empty Matplotlib figure of ``width`` x ``height`` inches.

    Raises: InputError when Matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError('plots need Matplotlib: pip install "multibox[train]"') from error

    # No pyplot: it would choose a backend and keep state for the whole process.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, path: Path, *, dpi: int) -> None:
    """Write ``figure`` in the format that the suffix of ``path`` names, PNG without one.

    Raises: InputError when the file cannot be written or the format is unknown.
    """
    try:
        with atomic_write(path) as temporary, warnings.catch_warnings():
            # A script the font lacks is drawn as boxes; that is no reason to bother the user.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(temporary, dpi=dpi, format=path.suffix.removeprefix(".") or "png")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the plot cannot be written ({error})") from error
