"""Reads damaged files one after the other, in a process whose death tells which one killed it.

    python fuzz_worker.py TARGET FIRST END FOLDER

Every line on stdout is JSON: {"reading": n} before each file, {"wrong": n, "what": ...} for an
exception that is not the package's own, {"done": {...}} at the end.
"""

import faulthandler
import json
import resource
import sys
import traceback
import warnings
from pathlib import Path

import cv2
from fuzz_mutations import mutated
from fuzz_readers import TARGETS

from multibox.errors import MultiboxError

MEMORY = 1 << 30
"""Bytes that reading may take, beyond what the imports have taken."""
SECONDS = 10
"""What one file may take; the process ends with a traceback when it takes longer."""


def main(name: str, first: int, end: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    target = TARGETS[name]
    folder.mkdir(parents=True, exist_ok=True)
    path = target.prepare(folder)
    whole = path.read_bytes()
    target.read(path)  # what is not damaged can be read
    limit_memory()
    refused = 0
    for number in range(first, end):
        say(reading=number)
        path.write_bytes(mutated(whole, number))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            target.read(path)
        except MultiboxError as error:
            refused += 1
            if "\n" in str(error) or not str(error):
                say(wrong=number, what=f"a message of several lines: {str(error)!r}")
        except BaseException:
            say(wrong=number, what=traceback.format_exc())
        faulthandler.cancel_dump_traceback_later()
    say(done={"refused": refused, "peak": peak_memory(), "torch": "torch" in sys.modules})


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
