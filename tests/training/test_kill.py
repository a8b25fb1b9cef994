"""Real processes, really killed: what is resumed ends with the same bits as what never stopped."""

import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from multibox import checkpoints
from multibox.training.state import FILE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")

# BatchNorm, momentum, the average of the weights, warm-up; saved after every step.
OPTIONS: dict[str, Any] = {
    "model": "tiny_lite",
    "weights": "none",
    "batch_size": 4,
    "epochs": 4,
    "evaluate_every": 2,
    "ema": 0.3,
    "warmup_steps": 2,
    "precision": "fp32",
    "workers": 0,
}
TIMINGS = ("pictures_per_second", "waiting")
KILLED = -signal.SIGKILL


class Server:
    """A process that trains in forks of itself; see kill_server."""

    def __init__(self, scenes: Path) -> None:
        self._scenes = scenes
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "kill_server.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def train(self, out: Path, *, resume: bool = True, **request: Any) -> dict[str, Any]:
        workers = request.pop("workers", 0)
        options = OPTIONS | {"workers": workers, "resume": resume, "out": str(out)}
        options |= request.pop("options", {})
        request["train"] = options | {"data": str(self._scenes)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def server(scenes: Path) -> Iterator[Server]:
    server = Server(scenes)
    yield server
    server.close()


@pytest.fixture(scope="module")
def whole(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What a run comes to that is never killed, and the seconds it takes."""
    out = tmp_path_factory.mktemp("whole") / "run"
    answer = server.train(out)
    assert answer["code"] == 0, answer["said"]
    return contents(out), answer["seconds"]


def contents(folder: Path) -> dict[str, Any]:
    """All that a run leaves, the timings left out."""
    best = checkpoints.load(folder / "best.safetensors")
    with safe_open(folder / FILE, "np") as file:
        state = json.loads(file.metadata()["state"])
    for row in state["history"]:
        for key in TIMINGS:
            del row[key]
    with (folder / "metrics.csv").open() as table:
        rows = [{k: v for k, v in row.items() if k not in TIMINGS} for row in csv.DictReader(table)]
    return {
        "best": digest(dict(best.arrays)),
        "card": best.card.model_dump_json(),
        "last": digest(load_file(folder / FILE)),
        "state": state,
        "metrics": rows,
    }


def digest(arrays: dict[str, Any]) -> str:
    sum_of_all = hashlib.sha256()
    for name in sorted(arrays):
        sum_of_all.update(name.encode() + arrays[name].tobytes())
    return sum_of_all.hexdigest()


def killed_at_random(server: Server, out: Path, seconds: float, seed: int, workers: int) -> int:
    """Kill and resume until a run comes through; returns how many kills came in time."""
    rng = random.Random(seed)
    kills = 0
    while True:
        # The third kill is the last, so that a slow machine comes to an end.
        moment = rng.uniform(0, seconds) if kills < 3 else None
        answer = server.train(out, kill_after=moment, workers=workers)
        if answer["code"] == 0:
            return kills
        assert answer["code"] == KILLED, answer["said"]
        kills += 1


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_killed_at_random_moments(
    server: Server, whole: tuple[dict[str, Any], float], tmp_path: Path, workers: int
) -> None:
    killed_at_random(server, tmp_path / "run", whole[1], workers, workers)
    assert contents(tmp_path / "run") == whole[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_kills(server: Server, whole: tuple[dict[str, Any], float], tmp_path: Path) -> None:
    kills = runs = 0
    while kills < 50:
        out = tmp_path / str(runs)
        kills += killed_at_random(server, out, whole[1], 100 + runs, runs % 3)
        assert contents(out) == whole[0], f"run {runs}"
        runs += 1


# While the best weights and the metrics are written, and at each point of a save.
@pytest.mark.parametrize("call", [24, 28, 29, 30])
def test_killed_between_two_writes(
    server: Server, whole: tuple[dict[str, Any], float], tmp_path: Path, call: int
) -> None:
    check_killed_at(server, whole[0], tmp_path / "run", call)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_between_any_two_writes(
    server: Server, whole: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    call = 1
    while check_killed_at(server, whole[0], tmp_path / str(call), call):
        call += 1
    assert call > 40


def check_killed_at(server: Server, whole: dict[str, Any], out: Path, call: int) -> bool:
    answer = server.train(out, kill_at=call)
    if answer["code"] == 0:
        return False
    assert answer["code"] == KILLED, answer["said"]
    answer = server.train(out)
    assert answer["code"] == 0, answer["said"]
    assert contents(out) == whole, f"killed before call {call}"
    return True


@pytest.mark.parametrize(
    "damage", [pytest.param("cut", marks=pytest.mark.slow), "zeros", "bit", "gone"]
)
def test_a_damaged_last_state_and_a_kill_after_it(
    server: Server, whole: tuple[dict[str, Any], float], tmp_path: Path, damage: str
) -> None:
    """The state before it is taken, and is still there when the next save is cut short."""
    out = tmp_path / "run"
    assert server.train(out, kill_at=29)["code"] == KILLED
    path = out / FILE
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "zeros":
        path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    elif damage == "bit":
        data[-100] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    # Of the first save after resuming: before its renamings, between them, and after.
    for call in (3, 2, 4):
        answer = server.train(out, kill_at=call, options={"quiet": False})
        assert answer["code"] == KILLED, answer["said"]
        if call == 3:
            assert "resuming from previous.safetensors instead" in answer["said"]
    assert server.train(out)["code"] == 0
    assert contents(out) == whole[0]


@pytest.mark.parametrize("share", [0.3, pytest.param(0.9, marks=pytest.mark.slow)])
def test_a_full_disk(
    server: Server, whole: tuple[dict[str, Any], float], tmp_path: Path, share: float
) -> None:
    """One line that names the file, exit code 1, and the states before are as they were."""
    out = tmp_path / "run"
    assert server.train(out, kill_at=25)["code"] == KILLED
    states = {path.name: path.read_bytes() for path in (out / "last").glob("[a-z]*")}
    largest = int(share * (out / FILE).stat().st_size)
    answer = server.train(out, largest_file=largest)
    assert answer["code"] == 1
    assert "Traceback" not in answer["said"]
    assert str(out) in answer["said"]
    assert {path.name: path.read_bytes() for path in (out / "last").glob("[a-z]*")} == states
    assert server.train(out)["code"] == 0
    assert contents(out) == whole[0]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_to_all_processes_of_a_run(
    server: Server, whole: tuple[dict[str, Any], float], tmp_path: Path, number: int, code: int
) -> None:
    """As a terminal, and many a scheduler, sends them: to the workers too."""
    out = tmp_path / "run"
    rng = random.Random(number)
    for _ in range(2):
        moment = rng.uniform(0.3, 0.9) * whole[1]
        answer = server.train(out, kill_after=moment, signal=number, to_group=True, workers=2)
        assert answer["code"] in (0, code), answer["said"]
        assert "Traceback" not in answer["said"]
        assert answer["seconds"] - moment < 5
    assert server.train(out)["code"] == 0
    assert contents(out) == whole[0]
