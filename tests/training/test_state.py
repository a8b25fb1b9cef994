from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from multibox.errors import InputError, MultiboxError
from multibox.training.ema import WeightAverage
from multibox.training.state import FILE, RunState, has_state, load_state, save_state

STATE = RunState(
    steps_done=7,
    best=0.1 + 0.2,  # a number that only an exact round trip keeps
    history=[{"epoch": 1, "step": 4, "loss": 2 / 3, "map": None}],
    epoch_sums={"steps": 3.0, "confidence": 1e-17},
)


class Parts(NamedTuple):
    model: nn.Module
    optimiser: torch.optim.SGD
    average: WeightAverage


def parts(seed: int) -> Parts:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(
        memory_format=torch.channels_last  # type: ignore[call-overload]
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Parts(model, optimiser, WeightAverage(model, 0.1, 100))


def learn(on: Parts, steps: int) -> None:
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        on.model(torch.randn(2, 3, 5, 5, generator=generator)).square().sum().backward()
        on.optimiser.step()
        on.optimiser.zero_grad()
        on.average.update(on.model, step)


def tensors(of: Parts) -> list[Tensor]:
    momenta = [of.optimiser.state[p]["momentum_buffer"] for p in of.model.parameters()]
    return [*of.model.state_dict().values(), *of.average.average.state_dict().values(), *momenta]


def save(folder: Path, of: Parts, state: RunState) -> None:
    save_state(folder, state, of.model, of.optimiser, of.average)


def load(folder: Path, into: Parts) -> tuple[RunState, str | None]:
    return load_state(folder, into.model, into.optimiser, into.average)


def test_the_round_trip_is_exact(tmp_path: Path) -> None:
    assert not has_state(tmp_path)
    trained, fresh = parts(0), parts(1)
    learn(trained, 3)
    save(tmp_path, trained, STATE)
    assert has_state(tmp_path)
    assert load(tmp_path, fresh) == (STATE, None)
    assert all(map(torch.equal, tensors(trained), tensors(fresh)))
    learn(trained, 4)
    learn(fresh, 4)
    assert all(map(torch.equal, tensors(trained), tensors(fresh)))


def test_without_an_average_and_before_the_first_step(tmp_path: Path) -> None:
    trained, fresh = parts(0), parts(1)
    save_state(tmp_path, RunState(), trained.model, trained.optimiser, None)
    assert load_state(tmp_path, fresh.model, fresh.optimiser, None) == (RunState(), None)
    assert torch.equal(fresh.model[0].weight, trained.model[0].weight)  # type: ignore[index]
    assert not fresh.optimiser.state


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def scribble(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8:60] = b"x" * 52
    path.write_bytes(data)


def other_fields(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"steps_done", b"steps_gone"))


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def other_step(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'steps_done\\": 2', b'steps_done\\": 9'))


DAMAGES = [
    cut,
    flip_a_bit,
    other_step,
    scribble,
    other_fields,
    Path.unlink,
    lambda path: path.write_bytes(b""),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_state_before_a_damaged_one_is_taken_and_said(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    older, newer, fresh = parts(0), parts(0), parts(1)
    learn(older, 1)
    learn(newer, 2)
    save(tmp_path, older, RunState(1))
    save(tmp_path, newer, RunState(2))
    damage(tmp_path / FILE)
    assert has_state(tmp_path)
    state, note = load(tmp_path, fresh)
    assert state == RunState(1)
    assert note is not None
    assert "resuming from previous.safetensors instead" in note
    assert str(tmp_path / FILE) in note
    assert "\n" not in note
    assert all(map(torch.equal, tensors(older), tensors(fresh)))


def test_a_damaged_state_never_takes_the_place_of_the_whole_one(tmp_path: Path) -> None:
    one = parts(0)
    for step in (1, 2):
        save(tmp_path, one, RunState(step))
    flip_a_bit(tmp_path / FILE)
    assert load(tmp_path, one)[0] == RunState(1)
    save(tmp_path, one, RunState(3))
    (tmp_path / FILE).unlink()  # as if the save had been cut short
    state, note = load(tmp_path, one)
    assert state == RunState(1)
    assert note is not None
    names = sorted(path.name for path in (tmp_path / "last").iterdir())
    assert names == ["damaged.safetensors", "previous.safetensors"]


def test_a_weight_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    one = parts(0)
    save(tmp_path, one, RunState(1))
    with torch.no_grad():
        one.model[1].bias[2] = float("inf")  # type: ignore[index, union-attr]
    with pytest.raises(MultiboxError, match=r"model\.1\.bias has values that are not finite"):
        save(tmp_path, one, RunState(2))
    assert load(tmp_path, parts(1))[0] == RunState(1)


def test_when_both_are_damaged_nothing_is_resumed(tmp_path: Path) -> None:
    one = parts(0)
    learn(one, 1)
    for step in (1, 2):
        save(tmp_path, one, RunState(step))
    for path in (tmp_path / "last").iterdir():
        cut(path)
    with pytest.raises(InputError, match="nothing to resume from") as caught:
        load(tmp_path, one)
    assert str(tmp_path / FILE) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The disk is full before the content is written, or the process ends before the renaming."""
    one = parts(0)
    learn(one, 1)
    save(tmp_path, one, RunState(1))
    save(tmp_path, one, RunState(2))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if where == "before":
        monkeypatch.setattr("multibox.training.state.save_file", full)
    else:
        monkeypatch.setattr("multibox.checkpoints.files._flush_to_disk", full)
    with pytest.raises(MultiboxError, match=r"state\.safetensors.*No space left"):
        save(tmp_path, one, RunState(3))
    monkeypatch.undo()
    assert load(tmp_path, parts(1))[0] == RunState(2)


def test_two_states_are_kept_and_no_more(tmp_path: Path) -> None:
    one = parts(0)
    for step in range(4):
        save(tmp_path, one, RunState(step))
    names = sorted(path.name for path in (tmp_path / "last").iterdir())
    assert names == ["previous.safetensors", "state.safetensors"]
    (tmp_path / FILE).unlink()
    assert load(tmp_path, one)[0].steps_done == 2
