"""All that a resumed run needs, in one file that is always whole."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from multibox.checkpoints import atomic_write
from multibox.errors import InputError, MultiboxError
from multibox.training.ema import WeightAverage

FILE = Path("last", "state.safetensors")
_PREVIOUS = Path("last", "previous.safetensors")
_DAMAGED = Path("last", "damaged.safetensors")


@dataclass
class RunState:
    """Where a run stands: steps done, one row a finished epoch, sums of the one under way.

    ``skipped_steps`` of those done were not finite and have changed nothing.
    """

    steps_done: int = 0
    best: float | None = None
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    epoch_sums: dict[str, float] = field(default_factory=dict)
    skipped_steps: int = 0


def save_state(
    run: Path,
    state: RunState,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> None:
    """Write ``last/state.safetensors``; the file before it stays as ``previous.safetensors``.

    Raises: MultiboxError when it cannot be written, or a weight is not finite; the old files are
    then still there.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average.{k}": v for k, v in average.average.state_dict().items()}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, slots in optimiser.state.items():
        for slot, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{slot}.{names[id(parameter)]}"] = value
    # A channels-last tensor is stored row by row; loading copies into the layout that is there.
    laid_out = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    check_finite(laid_out, "the state is not saved")
    text = json.dumps(vars(state))
    path = run / FILE
    try:
        with atomic_write(path, run / _PREVIOUS) as temporary:
            metadata = {"state": text, "digest": _digest(laid_out, text)}
            save_file(laid_out, temporary, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise MultiboxError(f"{path}: the state cannot be written: {error}") from error


@dataclass(frozen=True)
class SavedState:
    """A state as it was read; ``note`` says so when it is not the last one that was saved."""

    tensors: dict[str, Tensor]
    state: RunState
    note: str | None


def load_state(
    run: Path,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage | None,
    *,
    once: Callable[[Callable[[], SavedState]], SavedState] = lambda read: read(),
) -> tuple[RunState, str | None]:
    """Put a saved state back; where the last file is damaged, the one before, and a note saying so.

    A damaged file is renamed, so that the next save does not put it in the place of the whole one.
    ``once`` does the reading: on one rank, where only that one needs to see the run folder.

    Raises: InputError when neither can be read.
    """
    saved = once(lambda: _read_newest(run))
    _restore(saved.tensors, model, optimiser, average)
    return saved.state, saved.note


def _read_newest(run: Path) -> SavedState:
    reasons = []
    for path in (run / FILE, run / _PREVIOUS):
        try:
            tensors, state = _read(path)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            reasons.append(f"{path}: {' '.join(str(error).split())}")
            continue
        if not reasons:
            return SavedState(tensors, state, None)
        # Missing where the run was killed between two renamings.
        with contextlib.suppress(OSError):
            (run / FILE).replace(run / _DAMAGED)
        note = f"{reasons[0]}; resuming from {path.name} instead"
        return SavedState(tensors, state, note)
    raise InputError(f"{reasons[0]}; nothing to resume from: train anew with another --out")


def has_state(run: Path) -> bool:
    """Whether a run folder holds something to resume from."""
    return (run / FILE).exists() or (run / _PREVIOUS).exists()


def _read(path: Path) -> tuple[dict[str, Tensor], RunState]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    if _digest(tensors, metadata["state"]) != metadata["digest"]:
        raise ValueError("its contents have changed since it was written")
    return tensors, RunState(**json.loads(metadata["state"]))


def check_finite(tensors: Mapping[str, Tensor], consequence: str) -> None:
    """Raise MultiboxError when a value is not finite, naming the tensor and the ``consequence``."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise MultiboxError(f"{name} has values that are not finite: {consequence}")


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    """Of all that a state holds: safetensors notices a file that is cut off, not a changed bit."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _restore(
    tensors: dict[str, Tensor],
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    average: WeightAverage | None,
) -> None:
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    model.load_state_dict(parts["model"])
    if average is not None:
        average.average.load_state_dict(parts["average"])
    parameters = dict(model.named_parameters())
    for name, tensor in parts["optimiser"].items():
        slot, _, owner = name.partition(".")
        parameter = parameters[owner]
        slots: dict[str, Any] = optimiser.state[parameter]
        slots[slot] = torch.empty_like(parameter).copy_(tensor)
