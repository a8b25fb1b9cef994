"""Trains in processes that may be killed: everything is imported once, each run is a fork.

Lines of JSON on stdin and stdout. A request is {"train": options, "kill_after": seconds or null,
"signal": number, "to_group": bool, "kill_at": n or null, "largest_file": bytes or null}; the answer
{"code": exit status, negative for a signal, "seconds": n, "said": stderr}.

``kill_at`` ends the process, as kill -9 does, just before the n-th time that it flushes a file to
the disk or renames one: the moments between two such calls are all that a kill can tell apart.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import tiny_detectors
import torch

from multibox.errors import MultiboxError
from multibox.training import epoch_end, loop
from multibox.training.interruption import ending_when_terminated
from multibox.training.train import train


def main() -> None:
    torch.set_num_threads(1)
    with tiny_detectors.registered():
        epoch_end.plot_curves = epoch_end.plot_precision_recall = lambda *_: None
        loop._SECONDS_BETWEEN_SAVES = -1.0
        for line in sys.stdin:
            print(json.dumps(handle(json.loads(line))), flush=True)


def handle(request: dict[str, Any]) -> dict[str, Any]:
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 2)
            os.setpgid(0, 0)
            os._exit(run(request))
        timer = None
        if request.get("kill_after") is not None:
            number = request.get("signal", signal.SIGKILL)
            send = os.killpg if request.get("to_group") else os.kill
            timer = threading.Timer(request["kill_after"], send, (child, number))
            timer.start()
        _, status = os.waitpid(child, 0)
        if timer is not None:
            timer.cancel()
        said.seek(0)
        return {
            "code": os.waitstatus_to_exitcode(status),
            "seconds": time.monotonic() - began,
            "said": said.read(),
        }


def run(request: dict[str, Any]) -> int:
    if request.get("kill_at") is not None:
        die_at(request["kill_at"])
    if request.get("largest_file") is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"],) * 2)
    try:
        with ending_when_terminated():
            train(**request["train"])
    except MultiboxError as error:
        print("multibox: error:", error, file=sys.stderr, flush=True)
        return error.exit_code
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        return 70
    return 0


def die_at(number: int) -> None:
    calls = 0

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **keywords)

        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
