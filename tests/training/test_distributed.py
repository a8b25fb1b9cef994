"""Several processes on one machine compute what one process computes, and end together."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from multibox import checkpoints
from multibox.training.state import FILE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")

# Without clipping, which would hide a gradient that is too long by a factor.
OPTIONS: dict[str, Any] = {
    "model": "tiny_plain",
    "weights": "none",
    "batch_size": 4,
    "epochs": 2,
    "evaluate_every": 1,
    "learning_rate": 0.003,
    "clip_gradient": 0.0,
    "warmup_steps": 0,
    "ema": 0.3,
    "precision": "fp32",
    "workers": 0,
}
LOST = "another process of this run has died"


class Server:
    """A process that trains in forks of itself; see rank_server."""

    def __init__(self, scenes: Path) -> None:
        self._scenes = scenes
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "rank_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )

    def train(self, out: Path, *, ranks: int, **request: Any) -> list[dict[str, Any]]:
        options = OPTIONS | request.pop("options", {}) | {"out": out}
        flags = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        request["arguments"] = ["train", str(self._scenes), *flags, "--resume"]
        if "notes" in request:
            request["notes"].mkdir()
            request["notes"] = str(request["notes"])
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request | {"ranks": ranks}) + "\n")
        self._process.stdin.flush()
        answers: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return answers

    def fault(self, out: Path, kind: str, *, rank: int, at: int, **request: Any) -> Any:
        fault = {"kind": kind, "rank": rank, "at": at}
        return self.train(out, ranks=2, fault=fault, **request)

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def server(scenes: Path) -> Iterator[Server]:
    server = Server(scenes)
    yield server
    server.close()


def codes(answers: list[dict[str, Any]]) -> list[int]:
    return [answer["code"] for answer in answers]


def errors(answer: dict[str, Any]) -> list[str]:
    return [line for line in answer["said"].splitlines() if line.startswith("multibox: ")]


def notes(folder: Path, rank: int) -> Any:
    return json.loads((folder / f"{rank}.json").read_text())


def losses(noted: Any) -> list[float]:
    return [row["loss"] for row in noted["rows"]]


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks come to that nothing happens to: their run and their notes."""
    folder = tmp_path_factory.mktemp("whole")
    answers = server.train(folder / "run", ranks=2, notes=folder / "notes")
    assert codes(answers) == [0, 0], answers
    return folder


@pytest.mark.parametrize(
    ("ranks", "changes"),
    [
        (2, {}),
        (2, {"accumulate": 2, "normaliser": "picture"}),
        (3, {"batch_size": 6, "model": "tiny_frozen"}),
        pytest.param(
            2,
            {"model": "ssd300_vgg16", "image_size": 64, "epochs": 1, "learning_rate": 0.001},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_ranks_end_with_the_losses_and_weights_of_a_single_process(
    server: Server, tmp_path: Path, ranks: int, changes: dict[str, Any]
) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    for count, folder in ((ranks, together), (1, alone)):
        run = tmp_path / f"run-{count}"
        answers = server.train(run, ranks=count, options=changes, notes=folder)
        assert codes(answers) == [0] * count, answers

    single = load_file(alone / "0.safetensors")
    noted, expected = [notes(together, rank) for rank in range(ranks)], notes(alone, 0)
    for rank in range(ranks):
        weights = load_file(together / f"{rank}.safetensors")
        for name, value in load_file(together / "0.safetensors").items():
            assert torch.equal(weights[name], value), name
            torch.testing.assert_close(value, single[name], rtol=1e-3, atol=1e-5)
        assert losses(noted[rank]) == losses(noted[0])
    assert losses(noted[0]) == pytest.approx(losses(expected), rel=1e-4)
    # The test would say little if every rank had as much to learn.
    assert any(len(set(boxes)) > 1 for boxes in zip(*(n["boxes"] for n in noted), strict=True))
    # Step for step the pictures are those of the single process.
    share = [n["pictures"] for n in noted]
    per_step = len(share[0]) // len(expected["boxes"])
    for step in range(len(expected["boxes"])):
        of_step = [key for keys in share for key in keys[step * per_step : (step + 1) * per_step]]
        first = step * per_step * ranks
        assert sorted(of_step) == sorted(expected["pictures"][first : first + per_step * ranks])


def test_every_rank_knows_the_evaluation_and_one_writes(whole: Path, server: Server) -> None:
    first, second = (notes(whole / "notes", rank) for rank in range(2))
    assert first["best"] == second["best"] is not None
    assert [row["map"] for row in first["rows"]] == [row["map"] for row in second["rows"]]
    assert len(list((whole / "run").glob("events.*"))) == 1


def assert_same_run(run: Path, other: Path) -> None:
    """The same bits, but for the timings."""
    for file in ("best.safetensors", FILE):
        ours, theirs = load_file(run / file), load_file(other / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert figures(run) == figures(other)
    card, same = (checkpoints.load(each / "best.safetensors").card for each in (run, other))
    assert card == same


def figures(run: Path) -> list[dict[str, str]]:
    timings = ("pictures_per_second", "waiting")
    with (run / "metrics.csv").open() as table:
        return [{k: v for k, v in row.items() if k not in timings} for row in csv.DictReader(table)]


@pytest.mark.parametrize(
    ("kind", "rank", "at", "expected", "lines"),
    [
        ("killed", 1, 2, [1, -9], [LOST, None]),
        ("killed", 0, 3, [-9, 1], [None, LOST]),
        ("killed while evaluating", 1, 1, [1, -9], [LOST, None]),
        ("bug", 1, 2, [1, 70], [LOST, None]),
        ("damaged picture", 1, 4, [2, 2], [None, "damaged.jpg: cannot be decoded"]),
        ("damaged validation picture", 1, 1, [2, 2], [None, "damaged.jpg: cannot be decoded"]),
        ("terminated", 1, 2, [143, 143], ["continue with --resume --out", None]),
        ("interrupted", 0, 3, [130, 130], ["continue with --resume --out", None]),
        ("terminated while evaluating", 1, 1, [143, 143], ["continue with --resume --out", None]),
    ],
)
def test_a_rank_that_ends_ends_the_run_and_it_is_resumed_to_the_same_bits(
    server: Server, whole: Path, tmp_path: Path,
    kind: str, rank: int, at: int, expected: list[int], lines: list[str | None],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    answers = server.fault(run, kind, rank=rank, at=at)
    assert codes(answers) == expected, answers
    for answer, line in zip(answers, lines, strict=True):
        assert answer["seconds"] < 60
        said = errors(answer)
        assert len(said) == (line is not None), answer
        if line is not None:
            assert line in said[0]
        assert ("Traceback" in answer["said"]) == (answer["code"] == 70)
    assert (run / FILE).exists()
    answers = server.train(run, ranks=2)
    assert codes(answers) == [0, 0], answers
    assert_same_run(run, whole / "run")


def test_with_another_number_of_ranks_the_pictures_go_on_in_the_same_order(
    server: Server, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert codes(server.fault(run, "terminated", rank=1, at=3)) == [143, 143]
    assert codes(server.train(run, ranks=1, notes=tmp_path / "rest")) == [0]
    rest = notes(tmp_path / "rest", 0)
    share = [notes(whole / "notes", rank)["pictures"] for rank in range(2)]
    together = [key for pair in zip(*share, strict=True) for key in pair]
    assert rest["pictures"] == together[12:]
    assert losses(rest) == pytest.approx(losses(notes(whole / "notes", 0)), rel=1e-4)


def test_only_the_first_rank_needs_the_run_folder(
    server: Server, whole: Path, tmp_path: Path
) -> None:
    """As on two machines that share no disk."""
    run = tmp_path / "run"
    assert codes(server.fault(run, "terminated", rank=1, at=3)) == [143, 143]
    answers = server.train(run, ranks=2, hide_from_others=True)
    assert codes(answers) == [0, 0], answers
    assert_same_run(run, whole / "run")


def test_what_only_the_first_rank_finds_ends_all_with_one_line(server: Server, whole: Path) -> None:
    answers = server.train(whole / "run", ranks=2, options={"learning_rate": 0.004})
    assert codes(answers) == [2, 2]
    assert "was begun with recipe.learning_rate = 0.003" in errors(answers[0])[0]
    assert errors(answers[1]) == []


def test_a_batch_that_cannot_be_shared_is_refused(server: Server, tmp_path: Path) -> None:
    answers = server.train(tmp_path / "run", ranks=2, options={"batch_size": 3})
    assert codes(answers) == [2, 2]
    assert all("take a multiple of 2" in errors(answer)[0] for answer in answers)
    assert not (tmp_path / "run").exists()


def test_what_every_rank_finds_out_for_itself_ends_all_alike(
    server: Server, tmp_path: Path
) -> None:
    answers = server.train(tmp_path / "run", ranks=2, options={"classes": "unicorn"})
    assert codes(answers) == [2, 2]
    assert all("unicorn" in errors(answer)[0] for answer in answers)
