"""What the mutators have in common: odd texts, and drawing one of several things."""

from collections.abc import Callable
from typing import Any

import numpy as np

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]

TEXTS = (
    "", " ", "\x00", "\ud800", "\ud83d\ude00", "a" * 100_000, "../../../etc/passwd", "/etc/passwd",
    "C:\\a.jpg", "a\nb", "\u202ecat", "cat\u200b", "e\u0301" * 5000, "<b>&amp;", "{}", "%s%n", ".",
    "..", "~", "null", "con", "\x1b[31m", "﷽" * 50, "file:///dev/zero", "|id", "*", "a/b", "\ufffe",
)  # fmt: skip


def pick(rng: Rng, things: Any) -> Any:
    """One of ``things``."""
    return things[int(rng.integers(len(things)))]
