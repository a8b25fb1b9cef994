"""Damage that knows the format: valid in its form, and a lie, a bomb or a riddle in what it says.

Seeded as ``fuzz_mutations`` is, so that a number names a file.
"""

import numpy as np
from fuzz_labels import LABELS
from fuzz_models import MODELS
from fuzz_pictures import PICTURES

_KINDS = PICTURES | LABELS | MODELS


def restructured(data: bytes, suffix: str, number: int) -> bytes:
    """The ``number``-th lie of a file of that kind (the suffix of its name, with the dot)."""
    rng = np.random.default_rng([number, 1])
    mutations = _KINDS[suffix]
    for _ in range(rng.choice([1, 1, 2, 3])):
        data = mutations[rng.integers(len(mutations))](data, rng)
    return data
