"""The detector in the package, for people, cats, dogs, horses, cows and sheep."""

from pathlib import Path

NAME = "animals"
"""What ``multibox.load``, and ``--model`` of the command line, call it."""

FILE = Path(__file__).with_name("animals.onnx")
"""The exported detector; docs/animals.md tells how it was trained and what it finds."""
