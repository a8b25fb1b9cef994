"""The command line: one file per verb, each thin: parse, call the API, print."""

import atexit
import gc
import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import CycloptsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``multibox ARGUMENTS`` (``sys.argv`` by default) and return the exit code.

    0 done, 1 the work failed, 2 the call or its input is wrong, 130 interrupted. What went wrong
    is one line on stderr; only a bug shows a traceback.
    """
    atexit.register(_skip_last_collection)
    from cyclopts import CycloptsError

    from multibox.cli.app import app
    from multibox.errors import MultiboxError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that the terminal's encoding lacks must not end the work.
            stream.reconfigure(errors="backslashreplace")
    try:
        result = app(arguments, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        error.verbose = False
        return _fail(_in_one_line(error), 2)
    except MultiboxError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        print("multibox: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone. Python would complain about it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(str(error), 1)
    return result if isinstance(result, int) else 0


def _skip_last_collection() -> None:
    """Spare Python its search for garbage in all that was imported, 0.1 s of each process."""
    if "torch" not in sys.modules:  # which complains of what is not collected
        gc.freeze()


def _in_one_line(error: "CycloptsError") -> str:
    from pydantic import ValidationError

    if isinstance(error.__cause__, ValidationError):
        first = error.__cause__.errors()[0]
        flag = "-".join(str(part) for part in first["loc"]).replace("_", "-")
        return f"--{flag} {first['input']}: {first['msg']}"
    return str(error)


def _fail(message: str, exit_code: int) -> int:
    # Messages quote files; what such a file would tell the terminal to do is shown, not done.
    shown = "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode()
        for c in " ".join(message.split())
    )
    print("multibox: error:", shown, file=sys.stderr)
    return exit_code
