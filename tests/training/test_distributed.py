"""Two processes on one machine compute what one process computes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import OPTIONS, Train
from multibox.training.train import train

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
import torch
sys.path.insert(0, sys.argv[1])
import tiny_detectors
from multibox.errors import Interrupted
from multibox.training import loop, train as module
from safetensors.torch import save_file

data, folder, options = Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
rank = os.environ["RANK"]
torch.set_num_threads(1)
loop.plot_curves = lambda *_: None
loop.plot_precision_recall = lambda *_: None
order, said = [], []
fit = module.fit

def fit_and_keep(run, *arguments, **keywords):
    order.clear()  # those of the sheet of samples
    state = fit(run, *arguments, **keywords)
    weights = {name: value.contiguous() for name, value in run.model.state_dict().items()}
    save_file(weights, folder / f"weights-{rank}.safetensors")
    return state

def note(image, sample, rng):
    order.append(sample.id)
    return image, sample

module.fit = fit_and_keep
with tiny_detectors.registered():
    os.chdir(folder)
    result = module.train(data, **options, augmentation=note, report=said.append)
    answer = {"order": list(order), "said": said, "folder": str(result.folder)}
    answer["losses"] = [row["loss"] for row in result.history]

    # A signal that reaches one rank only ends both, after the same step.
    step, done = loop.Step.__call__, []
    def step_and_signal(self, batch):
        done.append(1)
        if rank == "1" and len(done) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch)
    loop.Step.__call__ = step_and_signal
    try:
        module.train(data, **options, out=folder / "stopped")
    except Interrupted as error:
        answer |= {"exit_code": error.exit_code, "steps": len(done)}
    try:
        module.train(data, **options | {"batch_size": 3}, out=folder / "odd")
    except module.InputError as error:
        answer["odd"] = str(error)
(folder / f"{rank}.json").write_text(json.dumps(answer))
"""

# Without clipping, which would hide a gradient that is too long by a factor.
CHANGES = {"epochs": 2, "learning_rate": 0.003, "clip_gradient": 0.0}


@pytest.fixture(scope="module")
def ranks(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder that two processes worked in, and what each of them tells."""
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    here = str(Path(__file__).parent)
    options = json.dumps(OPTIONS | CHANGES)
    done = subprocess.run(
        [*command, script, here, scenes, folder, options],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    return folder, [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_both_ranks_end_with_the_weights_of_a_single_process(
    ranks: tuple[Path, list[Any]], run: Train
) -> None:
    folder, (first, second) = ranks
    ours, theirs = (load_file(folder / f"weights-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())

    kept: dict[str, torch.Tensor] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "multibox.training.loop._save_weights",
            lambda run, network, metrics: kept.update(
                {name: value.clone() for name, value in run.model.state_dict().items()}
            ),
        )
        single = run(**CHANGES, out=folder / "single")
    for name, value in kept.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5)
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx([row["loss"] for row in single.history], rel=1e-4)


def test_the_ranks_share_the_order_of_a_single_process(
    ranks: tuple[Path, list[Any]], scenes: Path, tmp_path: Path
) -> None:
    _, (first, second) = ranks
    order: list[str] = []

    def note(image: Any, sample: Any, rng: Any) -> Any:
        order.append(sample.id)
        return image, sample

    train(scenes, **(OPTIONS | CHANGES), out=tmp_path / "run", augmentation=note)
    alone = order[9:]  # behind the sheet of samples
    assert len(alone) == 16
    together = [id for pair in zip(first["order"], second["order"], strict=True) for id in pair]
    assert together == alone


def test_one_rank_speaks_and_writes_for_both(ranks: tuple[Path, list[Any]]) -> None:
    folder, (first, second) = ranks
    assert first["folder"] == second["folder"] == "runs/scenes-tiny_plain"
    assert len(first["said"]) == 1
    assert second["said"] == []
    assert [path.name for path in (folder / "runs").iterdir()] == ["scenes-tiny_plain"]
    assert len(list((folder / "runs/scenes-tiny_plain").glob("events.*"))) == 1


def test_a_signal_to_one_rank_ends_both_with_a_state(ranks: tuple[Path, list[Any]]) -> None:
    folder, (first, second) = ranks
    assert (first["exit_code"], second["exit_code"]) == (143, 143)
    assert (first["steps"], second["steps"]) == (3, 3)
    assert (folder / "stopped/last/state.safetensors").exists()


def test_a_batch_that_cannot_be_shared_is_refused(ranks: tuple[Path, list[Any]]) -> None:
    _, (first, second) = ranks
    assert "take a multiple of 2" in first["odd"]
    assert first["odd"] == second["odd"]
