"""Damaged files in every reader of the base install: one clear error or a result, nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fuzz_mutations import mutated
from fuzz_structures import restructured
from fuzz_worker import MEMORY

TARGETS = (
    "jpeg", "jpeg-progressive", "jpeg-exif", "png", "png-alpha", "png-16-bits", "webp",
    "webp-lossless-alpha", "bmp", "tiff", "ppm", "gif", "avif", "voc-xml", "voc-list", "loose-xml",
    "coco-json", "yolo-yaml", "yolo-label", "class-names", "checkpoint", "onnx-metadata",
    "openvino-metadata", "caffemodel", "prototxt", "frozen-graph",
)  # fmt: skip
IN_EVERY_RUN = 20
IN_ALL = 10_000 // len(TARGETS) + 1

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by /proc")


def test_every_target_is_run() -> None:
    import fuzz_readers

    assert tuple(fuzz_readers.TARGETS) == TARGETS


def test_a_number_names_one_damage() -> None:
    data = bytes(range(256))
    damaged = [mutated(data, number) for number in range(200)]
    assert damaged == [mutated(data, number) for number in range(200)]
    assert len(set(damaged)) > 190


def test_lies_have_numbers_too() -> None:
    rng = np.random.default_rng(0)
    for suffix, whole in (
        (".txt", b"0 .5 .5 .1 .1\n"),
        (".png", cv2.imencode(".png", rng.integers(0, 255, (9, 9, 3), np.uint8))[1].tobytes()),
        (".json", b'{"images": [{"id": 1}]}'),
    ):
        lies = [restructured(whole, suffix, number) for number in range(40)]
        assert lies == [restructured(whole, suffix, number) for number in range(40)]
        assert len(set(lies)) > 15, suffix


@pytest.mark.parametrize("target", TARGETS)
def test_every_kind_of_file_has_lies_of_its_own(target: str, tmp_path: Path) -> None:
    from fuzz_readers import TARGETS as targets

    path = targets[target].prepare(tmp_path)
    whole = path.read_bytes()
    assert any(restructured(whole, path.suffix, number) != whole for number in range(5))


@pytest.mark.parametrize("target", TARGETS)
def test_a_few(target: str, tmp_path: Path) -> None:
    read_damaged(target, 0, IN_EVERY_RUN, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", TARGETS)
def test_ten_thousand_altogether(target: str, tmp_path: Path) -> None:
    read_damaged(target, IN_EVERY_RUN, IN_EVERY_RUN + IN_ALL, tmp_path)


def read_damaged(target: str, first: int, end: int, folder: Path) -> None:
    """Let a worker read the files; after a crash another one goes on behind the file at fault."""
    wrong: list[str] = []
    while first < end:
        worker = Path(__file__).parent / "fuzz_worker.py"
        done = subprocess.run(
            [sys.executable, worker, target, str(first), str(end), folder / str(first)],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        wrong += [f"{target} {line['wrong']}: {line['what']}" for line in lines if "wrong" in line]
        last = lines[-1] if lines else {}
        if "done" in last:
            assert last["done"]["peak"] < MEMORY
            assert not last["done"]["torch"]
            break
        assert "reading" in last, done.stderr
        wrong.append(f"{target} {last['reading']}: ended with {done.returncode}: {done.stderr}")
        first = last["reading"] + 1
    assert not wrong, "\n".join(wrong)
