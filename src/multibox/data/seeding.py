"""Random numbers that belong to one sample of one epoch, whoever asks for them and in any order."""

import numpy as np


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random stream of sample ``index`` in ``epoch`` of the run ``seed`` (each at least 0).

    Equal arguments give equal streams on every machine, so one sample can be reproduced alone,
    without its neighbours, its worker process or its place in a batch; different arguments give
    independent streams (NumPy's SeedSequence).
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch, index))))
