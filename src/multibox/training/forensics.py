"""A step that is not finite: what was in it, what is the likely cause, and how to see it again.

``python -m multibox.training.forensics FOLDER`` computes the step of a ``failed-step-N`` folder
once more and prints what it finds.
"""

import json
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multibox import __version__, checkpoints
from multibox.checkpoints import write_json
from multibox.data.labels import first_few
from multibox.errors import InputError, MultiboxError
from multibox.imaging import read_image, write_image
from multibox.ssd.model import SSD, build_ssd
from multibox.training.forensics_cause import Circumstances, likely_cause
from multibox.training.forensics_examine import Examination, Inputs, examine
from multibox.training.loading import Batch
from multibox.training.recipes import Recipe

_WEIGHTS, _REPLAY, _BOXES = "weights.safetensors", "replay.json", "boxes.json"
_SHOWN = 3

TOGETHER = " + "
"""Between the names of the pictures of a mosaic."""


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step of a run, counted from 1, its pictures by name in the order of ``inputs.batch``.

    The name of a mosaic is those of its pictures with ``TOGETHER`` between them.
    """

    step: int
    epoch: int
    pictures: tuple[str, ...]
    inputs: Inputs
    recipe: Recipe
    circumstances: Circumstances


@dataclass(frozen=True, slots=True)
class Report:
    """What is to be said about a failed step."""

    failed: FailedStep
    found: Examination
    cause: str

    @property
    def line(self) -> str:
        """All that matters, in one line."""
        confidence, localisation = self.found.losses
        return (
            f"step {self.failed.step} (epoch {self.failed.epoch}) is not finite: confidence loss "
            f"{confidence:g}, localisation loss {localisation:g}, gradient norm "
            f"{self.found.gradient_norm:g}; first in {self.place}; pictures {self._pictures}; "
            f"likely cause: {self.cause}"
        )

    @property
    def _bad(self) -> set[int]:
        """Places of the pictures with something that is not finite."""
        found = self.found
        with_boxes = {place for place, _ in found.boxes}
        return {*found.target_pictures, *found.output_pictures, *with_boxes}

    @property
    def _pictures(self) -> str:
        """The first of those that are not finite by file name; of all where none is for itself."""
        named = self.failed.pictures
        names = [named[i] for i in sorted(self._bad)] or named
        return first_few(
            [TOGETHER.join(Path(part).name for part in name.split(TOGETHER)) for name in names],
            _SHOWN,
        )

    @property
    def place(self) -> str:
        """Where the first value that is not finite came up."""
        found = self.found
        if found.layer is not None:
            return f"the output of layer {found.layer}"
        if found.target_pictures:
            return "the targets of the box loss"
        if not np.isfinite(found.losses).all():
            return "the loss"
        if found.gradients:
            return f"the gradient of {found.gradients[0]}"
        if found.boxes:
            return "the boxes"
        return "the update" if np.isfinite(found.gradient_norm) else "the gradient's norm"

    @property
    def lines(self) -> list[str]:
        """The line, and below it what is not finite and the pictures with their boxes."""
        found, batch = self.found, self.failed.inputs.batch
        lines = [self.line]
        lines += [
            f"  weight {name}: {n} of {of} values not finite" for name, n, of in found.weights
        ]
        lines += [f"  gradient of {name}: not finite" for name in found.gradients]
        bad = self._bad
        for i, name in enumerate(self.failed.pictures):
            mark = "not finite" if i in bad else "fine"
            lines.append(f"  picture {i} {name}: {len(batch.boxes[i])} boxes, {mark}")
        return lines


def report_on(model: SSD, failed: FailedStep) -> Report:
    """Compute a step again with the weights of ``model``, which must be those before it."""
    found = examine(model, failed.inputs, failed.recipe)
    cause = likely_cause(
        model, found, failed.inputs, failed.recipe, failed.circumstances, failed.pictures
    )
    return Report(failed, found, cause)


def write_folder(run: Path, model: SSD, report: Report) -> Path:
    """Leave all that ``replay`` needs in ``run/failed-step-N``; returns that folder.

    The pictures are as the network got them, PNG; boxes.json has their boxes as fractions of
    them; weights.safetensors is a checkpoint of the weights before the step.

    Raises: MultiboxError when it cannot be written.
    """
    failed = report.failed
    folder = run / f"failed-step-{failed.step}"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_pictures(folder, failed, model.card.names)
        arrays = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
        checkpoints.save(folder / _WEIGHTS, arrays, model.card)
        (folder / "report.txt").write_text("\n".join(report.lines) + "\n", encoding="utf-8")
        replay_values = {
            "multibox": __version__,
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "device": next(model.parameters()).device.type,
            "step": failed.step,
            "epoch": failed.epoch,
            "portions": failed.inputs.portions,
            "seed": failed.inputs.seed,
            "bf16": failed.inputs.bf16,
            "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
            "circumstances": failed.circumstances.to_dict(),
            "recipe": failed.recipe.model_dump(),
        }
        write_json(folder / _REPLAY, replay_values)
    except OSError as error:
        raise MultiboxError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return folder


def replay(folder: Path | str) -> Report:
    """Compute the step of a folder that ``write_folder`` left once more.

    On a CPU of the same kind, with the same versions, the figures are the same to the last bit.

    Raises: InputError when the folder is not complete or damaged.
    """
    folder = Path(folder)
    checkpoint = checkpoints.load(folder / _WEIGHTS)
    try:
        values = json.loads((folder / _REPLAY).read_text("utf-8"))
        entries = json.loads((folder / _BOXES).read_text("utf-8"))
        names = checkpoint.card.names
        inputs = Inputs(
            batch=Batch(
                torch.from_numpy(np.stack([read_image(folder / e["file"]) for e in entries])),
                [torch.tensor(e["boxes"], dtype=torch.float32).reshape(-1, 4) for e in entries],
                [torch.tensor([names.index(n) for n in e["labels"]]).long() for e in entries],
            ),
            portions=tuple(values["portions"]),
            seed=int(values["seed"]),
            bf16=bool(values["bf16"]),
        )
        failed = FailedStep(
            step=int(values["step"]),
            epoch=int(values["epoch"]),
            pictures=tuple(entry["picture"] for entry in entries),
            inputs=inputs,
            recipe=Recipe.model_validate(values["recipe"]),
            circumstances=Circumstances(**values["circumstances"]),
        )
        model = build_ssd(checkpoint.card)
        model.load_state_dict({n: torch.from_numpy(a) for n, a in checkpoint.arrays.items()})
        _freeze(model, values["frozen"])
    except MultiboxError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        what = " ".join(str(error).split())
        raise InputError(f"{folder}: not a complete failed-step folder: {what}") from error
    return report_on(model, failed)


def _freeze(model: SSD, frozen: Sequence[str]) -> None:
    if frozen:
        model.backbone.freeze_early_layers()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)


def _write_pictures(folder: Path, failed: FailedStep, names: Sequence[str]) -> None:
    batch = failed.inputs.batch
    entries: list[dict[str, Any]] = []
    for i, picture in enumerate(failed.pictures):
        file = f"picture-{i:03d}.png"
        write_image(folder / file, batch.images[i].numpy())
        labels = [names[label] for label in batch.labels[i].tolist()]
        boxes = batch.boxes[i].tolist()
        entries.append({"picture": picture, "file": file, "boxes": boxes, "labels": labels})
    write_json(folder / _BOXES, entries)


def main(arguments: Sequence[str]) -> int:
    """Print what a folder's step comes to; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m multibox.training.forensics FOLDER", file=sys.stderr)
        return 2
    try:
        report = replay(arguments[0])
    except MultiboxError as error:
        print("multibox: error:", error, file=sys.stderr)
        return error.exit_code
    print("\n".join(report.lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
