import numpy as np
import pytest

from multibox.benchmarking.report import Latency, Split
from multibox.benchmarking.stages import Stages


def by_hand(values: list[float], q: float) -> float:
    """The q-th percentile by its definition: linear between the two nearest ranks."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * q / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1234])
def test_percentiles_are_those_of_the_definition(count: int) -> None:
    seconds = np.random.default_rng(count).exponential(0.01, count).tolist()
    latency = Latency.of(seconds)
    assert latency.p50 == pytest.approx(1000 * by_hand(seconds, 50))
    if count < 100:
        assert latency.p99 is None
    else:
        assert latency.p99 == pytest.approx(1000 * by_hand(seconds, 99))


def test_each_stage_has_percentiles_of_its_own() -> None:
    split = Split.of([Stages(1, 2, 3, 4, 10), Stages(3, 2, 1, 0, 6), Stages(2, 2, 9, 2, 15)])
    p50 = {name: getattr(split, name).p50 for name in Stages._fields}
    assert p50 == {
        "decode": 2000,
        "preprocess": 2000,
        "network": 3000,
        "postprocess": 2000,
        "whole": 10000,
    }
