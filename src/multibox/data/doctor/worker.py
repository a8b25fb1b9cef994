"""A process that looks at pictures: a path a line in, the facts of it a line out, both as JSON.

In a process of its own a decoder that crashes or hangs takes nothing along with it, and what it
prints on stderr, such as a JPEG's corrupt data, belongs to one picture.
"""

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import cv2

from multibox.data.doctor.pictures import look_at


def main() -> None:
    """Answer every line of stdin until it ends."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)

        def decoder_said() -> str:
            printed.seek(0)
            text = printed.read(1000).decode("utf-8", "replace")
            printed.seek(0)
            printed.truncate()
            return " ".join(text.split())

        for line in sys.stdin:
            facts = look_at(Path(json.loads(line)), decoder_said)
            print(json.dumps(asdict(facts)), flush=True)


if __name__ == "__main__":
    main()
