from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import Train

from multibox import checkpoints
from multibox.data import Sample
from multibox.errors import InputError, MultiboxError
from multibox.evaluation import Evaluation, measure
from multibox.training.loop import Step
from multibox.training.train import TrainResult

NAMES = ("ball", "board", "ring", "star", "triangle")


def weights(result: TrainResult) -> dict[str, torch.Tensor]:
    return load_file(result.best)


def assert_close(one: TrainResult, two: TrainResult) -> None:
    ours, theirs = weights(one), weights(two)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-3, atol=1e-5)
    for row, other in zip(one.history, two.history, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.mark.parametrize("model", ["tiny_plain", "tiny_lite"])
def test_the_loss_falls_on_what_it_sees_again_and_again(
    run: Train, samples: list[Sample], model: str
) -> None:
    result = run(
        data=samples[:4] * 5,
        names=NAMES,
        model=model,
        epochs=30,
        augment=False,
        learning_rate=0.03,
    )
    losses = [float(row["loss"] or 0) for row in result.history]
    assert np.mean(losses[-3:]) < 0.5 * losses[0]
    for kind in ("confidence_loss", "localisation_loss"):
        first, last = result.history[0][kind], result.history[-1][kind]
        assert first is not None
        assert last is not None
        assert last < first


def test_the_same_seed_gives_the_same_bits_and_another_one_others(
    run: Train, tmp_path: Path
) -> None:
    one, two, other = (
        run(out=tmp_path / str(i), epochs=1, recipe="paper", seed=seed)
        for i, seed in enumerate((5, 5, 6))
    )
    assert one.best.read_bytes() == two.best.read_bytes()
    assert one.best.read_bytes() != other.best.read_bytes()


@pytest.mark.parametrize("accumulate", [2, 4])
def test_computing_a_step_in_portions_changes_nothing(
    run: Train, tmp_path: Path, samples: list[Sample], accumulate: int
) -> None:
    # Very uneven portions: only one of the pictures has objects.
    uneven = [samples[0], *(sample.select(np.array([], np.intp)) for sample in samples[1:4])]
    assert len(uneven[0].boxes)
    changes = {"data": uneven, "names": NAMES, "augment": False, "learning_rate": 0.01}
    whole = run(**changes, out=tmp_path / "whole")
    assert_close(whole, run(**changes, out=tmp_path / "portions", accumulate=accumulate))


def test_pictures_without_objects_are_trained_on(
    run: Train, tmp_path: Path, samples: list[Sample]
) -> None:
    empty = [sample.select(np.array([], np.intp)) for sample in samples]
    ignored = run(data=empty, names=NAMES, min_negatives=0, out=tmp_path / "ignored")
    assert [row["loss"] for row in ignored.history] == [0, 0, 0]
    result = run(data=empty, names=NAMES, min_negatives=8, out=tmp_path / "seen")
    losses = [float(row["loss"] or 0) for row in result.history]
    assert losses[0] > losses[-1] > 0
    assert all(torch.isfinite(value).all() for value in weights(result).values())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loss_that_explodes_is_one_clear_line(run: Train, tmp_path: Path, workers: int) -> None:
    with pytest.raises(MultiboxError, match=r"step [23] \(epoch [12]\) is not finite") as caught:
        run(learning_rate=1e20, clip_gradient=0.0, workers=workers)
    assert caught.value.exit_code == 1
    assert "the training has diverged" in str(caught.value)
    assert "\n" not in str(caught.value)
    # What is kept is still a number.
    for path in (tmp_path / "run").rglob("*.safetensors"):
        assert all(torch.isfinite(value).all() for value in load_file(path).values())


def test_the_average_of_the_weights_is_what_is_saved(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, seen = "backbone.fine.0.weight", []
    real = Step.__call__

    def step_and_look(self: Step, batch: Any) -> Any:
        if not seen:
            seen.append(self._model.state_dict()[name].clone())
        losses = real(self, batch)
        seen.append(self._model.state_dict()[name].clone())
        return losses

    monkeypatch.setattr(Step, "__call__", step_and_look)
    scripted(monkeypatch, [0.1, 0.2, 0.3])
    result = run(ema=0.9)
    average, *after_steps = seen
    for step, weight in enumerate(after_steps):
        # Within the first tenths of a run the memory is shorter than its share.
        average = average + (weight - average) / (1 + step / 10)
    assert checkpoint_epoch(result) == 3
    torch.testing.assert_close(weights(result)[name], average, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(weights(result)[name], after_steps[-1], rtol=1e-6, atol=1e-7)


def test_the_gradient_is_clipped(run: Train, tmp_path: Path) -> None:
    """With a tiny limit, no step is longer than the learning rate times that limit."""
    start = run(out=tmp_path / "start", epochs=1, learning_rate=1e-12, momentum=0)
    limit, rate = 1e-3, 0.5
    result = run(
        out=tmp_path / "clipped", epochs=1, learning_rate=rate, momentum=0, weight_decay=0,
        schedule="steps", ema=0, clip_gradient=limit,
    )  # fmt: skip
    before = weights(start)
    moved = sum(
        float((value - before[name]).square().sum()) for name, value in weights(result).items()
    )
    # Two steps of the epoch: at the full rate and, past 5/6 of so short a run or not, no longer.
    assert 0 < moved**0.5 <= 2 * rate * limit * 1.001


def test_frozen_layers_stay_as_they_were(run: Train, tmp_path: Path) -> None:
    first = run(out=tmp_path / "a", model="tiny_lite", epochs=1)
    options: dict[str, Any] = {"model": "tiny_lite", "weights": first.best, "epochs": 1}
    frozen = run(out=tmp_path / "b", freeze_early_layers=True, **options)
    free = run(out=tmp_path / "c", freeze_early_layers=False, **options)
    early = "backbone.fine.0.weight"
    assert torch.equal(weights(first)[early], weights(frozen)[early])
    assert not torch.equal(weights(first)[early], weights(free)[early])
    later = "backbone.coarse.0.weight"
    assert not torch.equal(weights(first)[later], weights(frozen)[later])


def test_bf16_trains_and_may_follow_a_run_of_another_precision(run: Train, tmp_path: Path) -> None:
    full = run(out=tmp_path / "fp32", epochs=1)
    half = run(out=tmp_path / "bf16", epochs=1, precision="bf16")
    assert half.history[0]["loss"] == pytest.approx(full.history[0]["loss"], rel=0.1)
    assert half.history[0]["loss"] != full.history[0]["loss"]
    assert all(value.dtype != torch.bfloat16 for value in weights(half).values())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"seed": -1}, "seed -1 is out of range"),
        ({"seed": 2**32}, "is out of range"),
        ({"batch_size": 6, "accumulate": 4}, "take a multiple of 4"),
        ({"batch_size": 1, "model": "tiny_lite"}, "this detector needs 2"),
        ({"batch_size": 16, "accumulate": 16}, "leave 0 for each of the 16 portions"),
        ({"recipe": "papre"}, "did you mean paper?"),
        ({"epoch": 3}, "did you mean epochs?"),
        ({"model": "tiny_plian"}, "did you mean tiny_plain?"),
        ({"image_size": (32, 32)}, "take at least 64 pixels"),
        ({"classes": ["bal"]}, "did you mean 'ball'?"),
        ({"data": []}, "names=[...]"),
        ({"data": [], "names": NAMES}, "there are no train samples"),
        ({"data": "nowhere"}, "nowhere: no such file or folder"),
    ],
)
def test_a_wrong_call_is_one_line_and_leaves_no_folder(
    run: Train, tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError) as caught:
        run(**options)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_one_picture_at_a_time_where_nothing_is_normalised(run: Train) -> None:
    assert len(run(epochs=1, batch_size=1).history) == 1


def test_fewer_pictures_than_a_batch(run: Train, samples: list[Sample]) -> None:
    result = run(data=samples[:3], names=NAMES, batch_size=32)
    assert [row["step"] for row in result.history] == [1, 2, 3]


def scripted(monkeypatch: pytest.MonkeyPatch, maps: list[float | None]) -> None:
    """Let the evaluations of a run give these mAPs in turn."""
    values = iter(maps)

    def evaluate(*arguments: Any, **options: Any) -> tuple[Evaluation, Any]:
        evaluation, detections = measure.evaluate_model(*arguments, **options)
        return replace(evaluation, map=next(values)), detections

    monkeypatch.setattr("multibox.training.epoch_end.evaluate_model", evaluate)


def test_the_weights_of_the_best_epoch_are_kept(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.25, 0.5, 0.375, 0.125])
    result = run(epochs=4)
    assert result.best_map == 0.5
    assert [row["map"] for row in result.history] == [0.25, 0.5, 0.375, 0.125]
    assert checkpoint_epoch(result) == 2


def checkpoint_epoch(result: TrainResult) -> int:
    return int(checkpoints.read_card(result.best).metrics["epoch"])


def test_evaluation_comes_every_n_epochs_and_at_the_end(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [0.5, 0.25, 0.125])
    result = run(epochs=5, evaluate_every=2)
    assert [row["map"] for row in result.history] == [None, 0.5, None, 0.25, 0.125]


def test_without_anything_to_find_the_newest_weights_are_kept(
    run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [None, None])
    result = run(epochs=2)
    assert (result.best_map, checkpoint_epoch(result)) == (0.0, 2)
