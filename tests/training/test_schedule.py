import pytest
from hypothesis import given
from hypothesis import strategies as st

from multibox.training.recipes import Recipe
from multibox.training.schedule import rate_factor

STEPS = Recipe()
COSINE = Recipe(schedule="cosine")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1),
        (79_999, 1),
        (80_000, 0.1),
        (99_999, 0.1),
        (100_000, 0.01),
        (119_999, 0.01),
    ],
)
def test_the_papers_steps(step: int, expected: float) -> None:
    assert rate_factor(step, 120_000, STEPS) == pytest.approx(expected)


@given(steps=st.integers(2, 10**6))
def test_the_steps_are_exact_at_any_length(steps: int) -> None:
    for numerator, denominator, reached in ((2, 3, 1), (5, 6, 2)):
        first = -(-numerator * steps // denominator)
        if first < steps:
            assert rate_factor(first, steps, STEPS) <= 10.0**-reached * 1.001
        assert rate_factor(first - 1, steps, STEPS) > 10.0**-reached * 1.001


def test_the_cosine_begins_at_one_and_ends_near_nothing() -> None:
    assert rate_factor(0, 1000, COSINE) == 1
    assert rate_factor(500, 1000, COSINE) == pytest.approx(0.5)
    assert rate_factor(250, 1000, COSINE) == pytest.approx(0.5 + 0.5**1.5)
    assert 0 < rate_factor(999, 1000, COSINE) < 1e-5
    factors = [rate_factor(step, 1000, COSINE) for step in range(1000)]
    assert factors == sorted(factors, reverse=True)


def test_the_warm_up_rises_evenly_from_a_hundredth() -> None:
    recipe = Recipe(warmup_steps=100)
    assert rate_factor(0, 1000, recipe) == pytest.approx(0.01)
    assert rate_factor(50, 1000, recipe) == pytest.approx(0.505)
    assert rate_factor(99, 1000, recipe) == pytest.approx(0.9901)
    assert rate_factor(100, 1000, recipe) == 1


@given(steps=st.integers(1, 400))
def test_a_short_run_warms_up_in_a_fifth_of_it(steps: int) -> None:
    recipe = Recipe(warmup_steps=100)
    factors = [rate_factor(step, steps, recipe) for step in range(steps)]
    assert max(factors) == 1
    assert factors.index(1) == min(100, steps // 5)
