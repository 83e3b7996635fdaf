"""Intervals, comparisons, warm-up and batches: known values, properties, and how often they err."""

from collections.abc import Callable
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.statistics import (
    batch_means,
    compare,
    controlled,
    enough,
    interval,
    mser5,
    paired,
)
from harness.statistics.intervals import student_t

numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 3))
several = st.lists(numbers, min_size=2, max_size=20)


@pytest.fixture
def random() -> np.random.Generator:
    """Each test has its own numbers, whichever ran before."""
    return np.random.default_rng(7)


# Student (1908), the extra hours of sleep of ten patients under two drugs.
DEXTRO = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
LAEVO = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


@pytest.mark.parametrize(
    ("confidence", "freedom", "t"),
    [(0.95, 1, 12.706205), (0.95, 7, 2.364624), (0.95, 30, 2.042272), (0.99, 9, 3.249836)],
)
def test_quantiles_are_those_of_the_tables(confidence: float, freedom: int, t: float) -> None:
    """Student's t is as it is tabulated."""
    assert student_t(confidence, freedom) == pytest.approx(t, abs=1e-6)


def test_students_own_example() -> None:
    """His two drugs differ by 1.58 hours, between .70 and 2.46, and the second is better."""
    found = paired(LAEVO, DEXTRO)
    assert (found.mean, found.low, found.high) == pytest.approx((1.58, 0.7001, 2.4599), abs=1e-4)
    assert compare(LAEVO, DEXTRO, higher_is_better=True) == "better"
    assert compare(LAEVO, DEXTRO, higher_is_better=False) == "worse"
    assert compare(LAEVO, DEXTRO, higher_is_better=True, indifference=1.0) == "inconclusive"


@given(values=several, shift=numbers, factor=st.floats(0.5, 4))
def test_an_interval_moves_with_its_values(
    values: list[float], shift: float, factor: float
) -> None:
    """Shifted and stretched values have an interval that is so, and confidence widens it."""
    before = interval(values)
    after = interval([factor * value + shift for value in values])
    assert after.mean == pytest.approx(factor * before.mean + shift, abs=1e-6)
    assert after.half_width == pytest.approx(factor * before.half_width, abs=1e-6)
    assert interval(values, 0.99).half_width >= before.half_width
    assert before.contains(before.mean)


@given(a=several, data=st.data(), higher=st.booleans())
def test_comparisons_are_even_handed(a: list[float], data: st.DataObject, higher: bool) -> None:
    """What is better from one side is worse from the other, and nothing is better than itself."""
    b = data.draw(st.lists(numbers, min_size=len(a), max_size=len(a)))
    other = {"better": "worse", "worse": "better", "inconclusive": "inconclusive"}
    there = compare(a, b, higher_is_better=higher)
    assert compare(b, a, higher_is_better=higher) == other[there]
    assert compare(a, a, higher_is_better=higher) == "inconclusive"


def test_one_run_concludes_nothing() -> None:
    """A single value has an infinite interval, whatever it is compared with."""
    assert interval([5.0]).half_width == inf
    assert compare([5.0], [1.0], higher_is_better=True) == "inconclusive"
    assert not enough([5.0], 0.5, at_least=1)


def test_nothing_is_made_of_nothing() -> None:
    """No values, unequal pairs, too few runs for the controls and too few batches are errors."""
    wrong: list[Callable[[], object]] = [
        lambda: interval([]),
        lambda: paired([1.0, 2.0], [1.0]),
        lambda: controlled([1.0, 2.0], [[0.0], [1.0]], [0.5]),
        lambda: batch_means([1.0] * 100, 2),
        lambda: batch_means([1.0] * 5, 10),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match=r"no values|argument|too few|make no"):
            call()


def coverage(made: Callable[[], bool], times: int = 2000) -> float:
    """How often it holds."""
    return sum(made() for _ in range(times)) / times


def test_intervals_hold_the_truth_as_often_as_they_say(random: np.random.Generator) -> None:
    """Of 2,000 intervals over eight values 95 % have the mean in them (standard error .5 %)."""
    held = coverage(lambda: interval(random.normal(3, 2, 8).tolist()).contains(3.0))
    assert held == pytest.approx(0.95, abs=0.02)


def test_controls_narrow_an_interval_and_keep_its_word(random: np.random.Generator) -> None:
    """A control behind 90 % of the variance cuts the half-width threefold at 95 % coverage."""
    widths = []

    def made() -> bool:
        control = random.normal(1, 3, 12)
        values = 5 + control + random.normal(0, 1, 12)
        found = controlled(values.tolist(), control[:, None].tolist(), [1.0])
        widths.append(found.half_width / interval(values.tolist()).half_width)
        return found.contains(6.0)

    assert coverage(made, 1000) == pytest.approx(0.95, abs=0.025)
    assert np.mean(widths) == pytest.approx(0.34, abs=0.05)


def test_common_random_numbers_see_what_independent_runs_do_not(
    random: np.random.Generator,
) -> None:
    """A difference of a tenth of the scatter is seen in pairs that share it."""
    luck = random.normal(0, 1, 10)
    a = (luck + 0.1 + random.normal(0, 0.02, 10)).tolist()
    assert compare(a, luck.tolist(), higher_is_better=True) == "better"
    assert compare(a, luck[::-1].tolist(), higher_is_better=True) == "inconclusive"


def test_enough_is_said_when_the_error_is_small_and_not_before() -> None:
    """The first half-width below relative / (1 + relative) of the mean ends it, from 8 runs on."""
    values = [10.0, 10.5, 9.5, 10.2, 9.8, 10.1, 9.9, 10.0]
    found = interval(values)
    edge = found.relative / (1 - found.relative)  # undoes r / (1 + r)
    assert enough(values, edge * 1.001)
    assert not enough(values, edge * 0.999)
    assert not enough(values[:7], 0.5)
    assert enough([4.0] * 8, 1e-9)


def warming(random: np.random.Generator, runs: int, length: int, warm_up: float) -> np.ndarray:
    """Runs that begin at 10 and settle at 1, with noise."""
    trend = 1 + 9 * np.exp(-np.arange(length) / warm_up)
    return trend + random.normal(0, 0.5, (runs, length))


def test_warm_up_is_cut_where_it_ends(random: np.random.Generator) -> None:
    """A start ten times too high that dies out over 20 observations is cut between 60 and 200."""
    cut = mser5(warming(random, 8, 1000, 20.0).tolist())
    assert cut is not None
    assert 60 <= cut <= 200
    assert cut % 5 == 0


def test_the_cut_is_the_least_of_whites_statistic(random: np.random.Generator) -> None:
    """The cut minimises the squared standard error of what it leaves, the long way."""
    runs = warming(random, 4, 203, 8.0)
    means = runs.mean(axis=0)[:200].reshape(40, 5).mean(axis=1)
    error = [np.sum((means[d:] - means[d:].mean()) ** 2) / (40 - d) ** 2 for d in range(21)]
    assert mser5(runs.tolist()) == 5 * int(np.argmin(error))


def test_a_warm_up_that_does_not_end_is_said_so() -> None:
    """Runs that still fall at their end, and runs of next to nothing, have no cut."""
    assert mser5([list(np.linspace(10, 1, 400))]) is None
    assert mser5([[1.0] * 19]) is None
    assert mser5([]) is None


def test_batches_of_one_long_run(random: np.random.Generator) -> None:
    """Independent values pass the check with 95 % coverage; strongly correlated ones fail it."""

    def made() -> bool:
        found = batch_means(random.normal(2, 1, 400).tolist())
        passed.append(found.independent)
        return found.interval.contains(2.0)

    passed = list[bool]()
    assert coverage(made, 1000) == pytest.approx(0.95, abs=0.025)
    assert np.mean(passed) == pytest.approx(0.95, abs=0.025)
    walk = np.cumsum(random.normal(0, 1, 400))
    found = batch_means(walk.tolist())
    assert found.correlation > 0.3
    assert not found.independent
