"""A run that is interrupted and resumed ends with the same bits as one that is not."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_detectors
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_runs import Train

from multibox import checkpoints
from multibox.errors import InputError, Interrupted, MultiboxError
from multibox.training import epoch_end
from multibox.training.loop import Step
from multibox.training.state import FILE
from multibox.training.train import TrainResult

# What the clock decides.
TIMINGS = ("pictures_per_second", "waiting")

# Everything that carries state: BatchNorm, momentum, the average of the weights, warm-up.
OPTIONS: dict[str, Any] = {"model": "tiny_lite", "ema": 0.3, "warmup_steps": 2, "evaluate_every": 1}


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals = signal.SIGINT
) -> None:
    """Send the signal to this process while step ``step`` (counted from 1) is computed."""
    real = Step.__call__
    done = 0

    def step_and_signal(self: Step, batch: Any) -> Any:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), number)
        return real(self, batch)

    monkeypatch.setattr(Step, "__call__", step_and_signal)


def untimed(result: TrainResult) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in result.history]


def assert_same(one: TrainResult, two: TrainResult) -> None:
    assert untimed(one) == untimed(two)
    assert one.best_map == two.best_map
    best, other = checkpoints.load(one.best), checkpoints.load(two.best)
    assert best.card == other.card
    assert best.arrays.keys() == other.arrays.keys()
    assert all(np.array_equal(array, other.arrays[name]) for name, array in best.arrays.items())
    ours, theirs = load_file(one.folder / FILE), load_file(two.folder / FILE)
    assert ours.keys() == theirs.keys()
    assert {name.partition(".")[0] for name in ours} == {"model", "average", "optimiser"}
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.fixture(scope="module")
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """Three epochs of two steps, never interrupted."""
    from tiny_runs import OPTIONS as BASE

    from multibox.training.train import train

    return train(**(BASE | OPTIONS), data=scenes, out=tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_within_an_epoch_and_at_its_end(
    run: Train, whole: TrainResult, monkeypatch: pytest.MonkeyPatch, step: int, workers: int
) -> None:
    interrupt_at(monkeypatch, step)
    with pytest.raises(Interrupted, match="continue with --resume --out") as caught:
        run(**OPTIONS, workers=workers)
    assert caught.value.exit_code == 130
    monkeypatch.undo()
    assert_same(run(**OPTIONS, workers=workers, resume=True), whole)


def test_again_and_again(run: Train, whole: TrainResult, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        interrupt_at(monkeypatch, 1)
        with pytest.raises(Interrupted):
            run(**OPTIONS, resume=True)
        monkeypatch.undo()
    assert_same(run(**OPTIONS, resume=True), whole)


def test_sigterm_and_the_handlers_afterwards(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    interrupt_at(monkeypatch, 2, signal.SIGTERM)
    with pytest.raises(Interrupted) as caught:
        run(**OPTIONS)
    assert caught.value.exit_code == 143
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_second_ctrl_c_does_not_wait(run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: Step, batch: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the step went on")

    monkeypatch.setattr(Step, "__call__", twice)
    with pytest.raises(KeyboardInterrupt):
        run(**OPTIONS)


def test_killed_while_an_epoch_is_evaluated(
    run: Train, whole: TrainResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is saved any more; the files of the epoch, half written, are written again."""

    def killed(path: Path, history: list[Any]) -> None:
        if len(history) == 2:
            raise SystemExit("as if by kill -9")

    monkeypatch.setattr("multibox.training.epoch_end.write_metrics", killed)
    with pytest.raises(SystemExit):
        run(**OPTIONS)
    monkeypatch.undo()
    assert_same(run(**OPTIONS, resume=True), whole)


@pytest.mark.parametrize("epoch", [1, 3])
def test_interrupted_while_an_epoch_is_evaluated(
    run: Train, whole: TrainResult, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """The evaluation is left at once; it is made, once, when the run goes on."""
    real, evaluations = epoch_end.evaluate_model, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        evaluations.append(1)
        if len(evaluations) == epoch:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **options, batch_size=1)

    monkeypatch.setattr(epoch_end, "evaluate_model", interrupted)
    with pytest.raises(Interrupted, match=f"epoch {epoch} of 3") as caught:
        run(**OPTIONS)
    assert caught.value.exit_code == 143
    monkeypatch.undo()
    assert_same(run(**OPTIONS, resume=True), whole)


def test_dropout_is_the_same_after_resuming(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: tiny_detectors.TinyBackbone, images: torch.Tensor) -> list[torch.Tensor]:
        fine = torch.nn.functional.dropout(self.fine(images), 0.5, self.training)
        return [fine, self.coarse(fine)]

    with monkeypatch.context() as patch:
        patch.setattr(tiny_detectors.TinyBackbone, "forward", forward)
        never = run(**OPTIONS, out=tmp_path / "never")
        with monkeypatch.context() as inner:
            interrupt_at(inner, 3)
            with pytest.raises(Interrupted):
                run(**OPTIONS)
        assert_same(run(**OPTIONS, resume=True), never)
    plain = run(**OPTIONS, out=tmp_path / "plain")
    assert untimed(plain) != untimed(never)


def test_weights_that_are_not_finite_are_not_saved(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corrupted after the last step: nothing else would notice."""
    real, done = Step.__call__, []

    def corrupt(self: Step, batch: Any) -> Any:
        losses = real(self, batch)
        done.append(1)
        if len(done) == 6:
            next(self._model.parameters()).data[0] = float("nan")
        return losses

    monkeypatch.setattr(Step, "__call__", corrupt)
    with pytest.raises(MultiboxError, match=r"backbone\.fine\.0\.weight has values that are not"):
        run(model="tiny_plain", ema=0)
    for path in (tmp_path / "run").rglob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


def test_from_the_state_before_a_damaged_one(
    run: Train, whole: TrainResult, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    interrupt_at(monkeypatch, 3)
    with pytest.raises(Interrupted):
        run(**OPTIONS)
    monkeypatch.undo()
    path = tmp_path / "run" / FILE
    path.write_bytes(path.read_bytes()[:1000])
    result = run(**OPTIONS, resume=True, quiet=False)
    assert "resuming from previous.safetensors instead" in capsys.readouterr().err
    assert_same(result, whole)


def test_saved_by_the_clock_as_well(
    run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multibox.training.loop._SECONDS_BETWEEN_SAVES", -1.0)
    real, calls = Step.__call__, []

    def killed_in_the_second_epoch(self: Step, batch: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise SystemExit
        return real(self, batch)

    monkeypatch.setattr(Step, "__call__", killed_in_the_second_epoch)
    with pytest.raises(SystemExit):
        run(**OPTIONS)
    with safe_open(tmp_path / "run" / FILE, "pt") as file:
        assert '"steps_done": 3' in file.metadata()["state"]


def test_a_finished_run_stays_as_it_is(run: Train) -> None:
    first = run(**OPTIONS)
    table = (first.folder / "metrics.csv").read_bytes()
    best = first.best.stat().st_mtime_ns
    again = run(**OPTIONS, resume=True)
    assert again == first
    assert (first.folder / "metrics.csv").read_bytes() == table
    assert first.best.stat().st_mtime_ns == best


def test_resume_starts_where_nothing_is(run: Train, whole: TrainResult) -> None:
    assert_same(run(**OPTIONS, resume=True), whole)


def test_other_options_are_refused(run: Train) -> None:
    run(**OPTIONS)
    with pytest.raises(InputError, match=r"begun with recipe\.ema = 0\.3, not 0\.4"):
        run(**(OPTIONS | {"ema": 0.4}), resume=True)
    with pytest.raises(InputError, match="begun with seed = 0, not 1"):
        run(**OPTIONS, seed=1, resume=True)
    with pytest.raises(InputError, match="already holds a run: continue it with --resume"):
        run(**OPTIONS)


def test_the_epochs_left_out_are_the_same_when_resumed(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multibox.training.train.default_epochs", lambda *_, **__: 2)
    options = OPTIONS | {"epochs": None}
    interrupt_at(monkeypatch, 2)
    with pytest.raises(Interrupted, match="epoch 1 of 2"):
        run(**options)
    assert [row["epoch"] for row in run(**options, resume=True).history] == [1, 2]
