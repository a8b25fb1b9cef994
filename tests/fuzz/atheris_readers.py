"""Coverage-guided fuzzing of every reader of the base install. Not collected by pytest.

    pip install atheris                                  # Linux, CPython 3.11 to 3.13
    python tests/fuzz/atheris_readers.py                 # a minute for each kind of file
    python tests/fuzz/atheris_readers.py coco-json -max_total_time=600

The seeds are the files of ``fuzz_readers`` and structured damage of them; what is found on the way
is kept in ``FUZZ_CORPUS`` (a folder, fuzz-corpus here if not set) for the next time. What makes a
reader fail is written beside it as ``TARGET-crash-...``, and the process ends with a traceback.
Options of libFuzzer are passed on.
"""

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["multibox", "yaml", "xml.etree", "json"]):
    from fuzz_readers import TARGETS
    from fuzz_structures import restructured

    from multibox.errors import MultiboxError

SEEDS = 20
USUAL = ("-max_total_time=60", "-timeout=10", "-rss_limit_mb=1024", "-max_len=300000")


def main() -> None:
    asked = [name for name in sys.argv[1:] if not name.startswith("-")]
    options = [option for option in sys.argv[1:] if option.startswith("-")]
    if len(asked) == 1:
        fuzz(asked[0], options)
        return
    # libFuzzer ends its process: every target has one of its own.
    failed = [
        name
        for name in asked or TARGETS
        if subprocess.run([sys.executable, __file__, name, *options]).returncode
    ]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def fuzz(name: str, options: list[str]) -> None:
    """Feed the reader until the time is over; does not return."""
    target = TARGETS[name]
    place = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    corpus = Path(os.environ.get("FUZZ_CORPUS", "fuzz-corpus"))
    seeds = corpus / name
    seeds.mkdir(parents=True, exist_ok=True)
    path = target.prepare(place)
    whole = path.read_bytes()
    (seeds / "whole").write_bytes(whole)
    for number in range(SEEDS):
        seed = restructured(whole, path.suffix, number)
        if len(seed) < 300_000:
            (seeds / f"structure-{number}").write_bytes(seed)
    warnings.simplefilter("ignore")

    def read(data: bytes) -> None:
        path.write_bytes(data)
        try:
            target.read(path)
        except MultiboxError as error:
            if "\n" in str(error) or not str(error):
                raise AssertionError(f"not one line: {str(error)!r}") from error

    found = f"-artifact_prefix={corpus}/{name}-"
    atheris.Setup([sys.argv[0], str(seeds), *USUAL, found, *options], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
