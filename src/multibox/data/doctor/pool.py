"""Many pictures looked at in parallel, by worker processes that may die."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import multibox
from multibox.data.doctor.pictures import PictureFacts, look_at

SECONDS_A_PICTURE = 60.0
"""After so long a picture is given up: the largest that is allowed takes a few seconds."""


def look_at_all(
    paths: Sequence[Path],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    workers: int | None = None,
    seconds: float = SECONDS_A_PICTURE,
) -> dict[Path, PictureFacts]:
    """The facts of every picture; ``on_progress(done, total)`` is called after each.

    ``workers`` processes (one a core if left out) share the work. A picture that its decoder does
    not survive, or takes more than ``seconds`` over, is one that cannot be read. With 0 workers
    pictures are looked at in this process, one after another: what decoders print is not seen then.
    """
    if workers == 0:
        here: dict[Path, PictureFacts] = {}
        for path in paths:
            here[path] = look_at(path)
            on_progress(len(here), len(paths))
        return here
    waiting = iter(paths)
    lock = threading.Lock()
    done: SimpleQueue[tuple[Path, PictureFacts] | BaseException] = SimpleQueue()

    def next_path() -> Path | None:
        with lock:
            return next(waiting, None)

    def work() -> None:
        try:
            for answer in _answers(next_path, seconds):
                done.put(answer)
        except BaseException as error:  # for the caller, who waits for an answer
            done.put(error)

    # A process takes a third of a second to start, in which one decodes some fifty pictures.
    count = min(workers or os.cpu_count() or 1, max(1, len(paths) // 40))
    for _ in range(count):
        threading.Thread(target=work, daemon=True).start()
    facts: dict[Path, PictureFacts] = {}
    try:
        for number in range(len(paths)):
            answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            facts[answer[0]] = answer[1]
            on_progress(number + 1, len(paths))
    finally:
        with lock:
            waiting = iter(())
    return facts


def _answers(
    next_path: Callable[[], Path | None], seconds: float
) -> Iterator[tuple[Path, PictureFacts]]:
    """What one worker after another, should they die, says about the paths that are handed out."""
    path = next_path()
    while path is not None:
        with _worker() as process:
            while path is not None:
                facts = _ask(process, path, seconds)
                yield path, facts or _lost(process)
                path = next_path()
                if facts is None:
                    break


def _ask(process: "subprocess.Popen[str]", path: Path, seconds: float) -> PictureFacts | None:
    """The worker's answer; None where it has died, which it is made to after ``seconds``."""
    assert process.stdin is not None
    assert process.stdout is not None
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    try:
        process.stdin.write(json.dumps(os.fspath(path)) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except OSError:
        line = ""
    finally:
        timer.cancel()
    if not line:
        return None
    values = json.loads(line)
    values["faults"] = [tuple(fault) for fault in values["faults"]]
    return PictureFacts(**values)


def _lost(process: "subprocess.Popen[str]") -> PictureFacts:
    what = f"its decoder crashed or hung (exit code {process.wait()})"
    remedy = "remove it, or convert it with another program"
    return PictureFacts(faults=[("unreadable-image", True, what, remedy)])


@contextmanager
def _worker() -> "Iterator[subprocess.Popen[str]]":
    package = Path(multibox.__file__).parent.parent
    found = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-m", "multibox.data.doctor.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
