import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from multibox.errors import InputError
from multibox.training.run_lock import FILE, locked

# Without torch, which takes its time to be imported.
HOLDER = """
import os, sys, time
from pathlib import Path
from multibox.training.run_lock import locked
with locked(Path(sys.argv[1])):
    if len(sys.argv) > 2 and os.fork() == 0:
        time.sleep(5)  # like a loader worker that outlives its parent
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    with hold(folder) as holder:
        for _ in range(2):
            with pytest.raises(InputError) as caught, locked(folder):
                pass
            message = str(caught.value)
            assert message.startswith(f"{folder} is in use by process {holder.pid} on ")
            assert message.endswith("choose another --out")
            assert "\n" not in message
        holder.communicate()
    with locked(folder):
        assert (folder / FILE).read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.skipif(os.name != "posix", reason="the process forks and is killed")
def test_death_frees_the_folder_although_a_child_lives_on(tmp_path: Path) -> None:
    with hold(tmp_path, "fork") as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        began = time.monotonic()
        with locked(tmp_path):
            assert time.monotonic() - began < 2


def test_where_the_file_system_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("multibox.training.run_lock._lock", unsupported)
    with locked(tmp_path):
        assert (tmp_path / FILE).exists()
