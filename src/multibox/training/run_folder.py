"""The run folder: configuration, metrics, events and pictures."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multibox.checkpoints import atomic_write, write_json
from multibox.errors import InputError
from multibox.evaluation.plots import new_figure, save_figure
from multibox.training.state import has_state

Row = Mapping[str, float | int | None]

# Keys that may differ between a run and its continuation.
_FREE = ("multibox", "workers", "cache_files", "skip_non_finite")

# What keys stood for before there were such.
_OLDER = {"recipe.exact_pixels": True}


def claim_folder(
    folder: Path,
    config: Mapping[str, Any],
    *,
    resume: bool,
    data: Path | None = None,
    write: bool = True,
) -> bool:
    """Make the run folder, or check that what is in it can be continued; True when continuing.

    ``data`` is the folder of the labelled pictures, if they are in one. Only one of several ranks
    is to ``write``.

    Raises: InputError when the folder holds another run, naming what differs, or something else
    that is not to be written into.
    """
    file = folder / "config.json"
    if not has_state(folder):
        _check_free(folder, data)
        if file.exists() and not resume and (folder / "best.safetensors").exists():
            raise InputError(f"{folder} already holds a run: choose another --out")
        if write:
            write_json(file, config)
        return False
    if not resume:
        raise InputError(
            f"{folder} already holds a run: continue it with --resume or choose another --out"
        )
    before = _config(folder)
    if before is None:
        raise InputError(f"{file} is missing or damaged: train anew with another --out")
    for key, value in _flat(json.loads(json.dumps(config))).items():
        old = _flat(before).get(key, _OLDER.get(key))
        if old != value and key.rpartition(".")[2] not in _FREE:
            raise InputError(
                f"{folder} was begun with {key} = {old!r}, not {value!r}: "
                "resume with the same options or choose another --out"
            )
    return True


def _check_free(folder: Path, data: Path | None) -> None:
    """Raise InputError where a new run would mix with what is not a run."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: choose another --out")
    if _config(folder) is not None:
        return
    if data is not None and folder.resolve().is_relative_to(data.resolve()):
        # The pictures of the run would be taken for pictures of the data.
        raise InputError(f"{folder} lies in the data folder {data}: choose another --out")
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no run: choose another --out")


def _config(folder: Path) -> dict[str, Any] | None:
    """What a run in ``folder`` was begun with; None where no run is."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config if isinstance(config, dict) and "multibox" in config else None


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def write_metrics(path: Path, history: Sequence[Row]) -> None:
    """One line an epoch; written anew each time, so that a resumed run has no line twice."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def plot_curves(path: Path, history: Sequence[Row]) -> None:
    """Losses, mAP and learning rate over the epochs, as one picture.

    Raises: InputError when Matplotlib is not installed or the file cannot be written.
    """
    figure = new_figure(13, 3.6)
    axes = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in history]
    for name in ("confidence_loss", "localisation_loss"):
        axes[0].plot(epochs, [row[name] for row in history], label=name.replace("_", " "))
    axes[0].set(title="loss", xlabel="epoch", ylim=(0, None))
    axes[0].legend()
    measured = [(row["epoch"], row["map"]) for row in history if row["map"] is not None]
    axes[1].plot(*zip(*measured, strict=True) if measured else ([], []), marker="o")
    axes[1].set(title="mAP, validation", xlabel="epoch", ylim=(0, 1))
    axes[2].plot(epochs, [row["learning_rate"] for row in history])
    axes[2].set(title="learning rate at the end of the epoch", xlabel="epoch", ylim=(0, None))
    for axis in axes:
        axis.grid(alpha=0.3)
    save_figure(figure, path, dpi=110)


class Events:
    """TensorBoard's event file, when tensorboard is installed."""

    def __init__(self, folder: Path, first_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self._writer = None
        else:
            # What a killed run has written beyond its last state is written again.
            self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def write(self, row: Row) -> None:
        """All figures of one epoch."""
        if self._writer is None:
            return
        for name, value in row.items():
            if value is not None and name not in ("epoch", "step"):
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.close()
