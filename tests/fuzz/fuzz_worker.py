"""Reads damaged files one after the other, in a process whose death tells which one killed it.

    python fuzz_worker.py TARGET FIRST END FOLDER

Every line on stdout is JSON: {"reading": n} before each file, {"wrong": n, "what": ...} for an
exception that is not the package's own, {"done": {...}} at the end.
"""

import faulthandler
import json
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path

import cv2
from fuzz_mutations import mutated
from fuzz_readers import TARGETS
from fuzz_structures import restructured

from multibox.errors import MultiboxError

MEMORY = 1 << 30
"""Bytes that reading may take, beyond what the imports have taken."""
SECONDS = 10
"""What one file may take of the processor; the process ends with a traceback beyond it."""
PATIENCE = 60
"""Seconds by the clock, for what waits without computing; other work may slow a machine down."""


def main(name: str, first: int, end: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    target = TARGETS[name]
    folder.mkdir(parents=True, exist_ok=True)
    path = target.prepare(folder)
    whole = path.read_bytes()
    target.read(path)  # what is not damaged can be read
    limit_memory()
    # The traceback first, then the signal's own doing, which ends the process.
    faulthandler.register(signal.SIGPROF, chain=True)
    refused = 0
    for number in range(first, end):
        say(reading=number)
        path.write_bytes(damaged(whole, path.suffix, number))
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            target.read(path)
        except MultiboxError as error:
            refused += 1
            if "\n" in str(error) or not str(error):
                say(wrong=number, what=f"a message of several lines: {str(error)!r}")
        except BaseException:
            say(wrong=number, what=traceback.format_exc())
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
    say(done={"refused": refused, "peak": peak_memory(), "torch": "torch" in sys.modules})


def damaged(whole: bytes, suffix: str, number: int) -> bytes:
    """Odd numbers are damage that knows the format, and sometimes blind damage beside it."""
    if number % 2 == 0:
        return mutated(whole, number)
    data = restructured(whole, suffix, number)
    return mutated(data, number) if number % 10 == 1 else data


def peak_memory() -> int:
    """The most bytes this program has held: rusage would count the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
