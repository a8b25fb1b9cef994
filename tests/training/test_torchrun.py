"""The launcher itself: what its signals come to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multibox.training.state import FILE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals are sent"),
]

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import tiny_detectors
from multibox import cli
with tiny_detectors.registered():
    sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_torchrun_saves_and_ends_every_rank(
    scenes: Path, tmp_path: Path, number: int
) -> None:
    script, run, said = tmp_path / "script.py", tmp_path / "run", tmp_path / "said"
    script.write_text(SCRIPT)
    flags = "--model=tiny_plain --weights=none --batch-size=4 --epochs=100000 --workers=1"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with said.open("w") as stderr:
        process = subprocess.Popen(
            [*command, script, Path(__file__).parent, "train", scenes, *flags.split(),
             "--learning-rate=0.0001", "--evaluate-every=1000", f"--out={run}"],
            stderr=stderr, env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        while not (run / "metrics.csv").exists():
            assert process.poll() is None, said.read_text()
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(120) == 1
    # After 30 seconds it would kill who is left, and say so.
    assert "forcefully exiting" not in said.read_text()
    lines = [line for line in said.read_text().splitlines() if line.startswith("multibox: ")]
    assert len(lines) == 1, said.read_text()
    assert "continue with --resume --out" in lines[0]
    assert (run / FILE).exists()
