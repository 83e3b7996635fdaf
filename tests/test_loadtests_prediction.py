"""A live run agrees with the virtual ones when it might be one more of them."""

import random
from statistics import fmean

import pytest

from loadtests.prediction import agreement, agreements


def test_the_interval_is_that_for_one_more_run() -> None:
    """Student's t for 7 degrees of freedom is 2.365: by hand for eight runs, widened by 5 ms."""
    virtual = [1.0, 1.1, 0.9, 1.2, 0.8, 1.05, 0.95, 1.0]
    found = agreement("latency_s.mean", 1.3, virtual)
    scatter = (sum((one - 1.0) ** 2 for one in virtual) / 7) ** 0.5
    assert found.mean == pytest.approx(1.0)
    assert found.half_width == pytest.approx(2.3646 * scatter / 8**0.5, rel=1e-4)
    assert found.high == pytest.approx(
        1.0 + 2.3646 * scatter * (1 + 1 / 8) ** 0.5 + 0.005, rel=1e-4
    )
    assert found.low == pytest.approx(2.0 - found.high)
    assert (found.inside, found.inside_mean, found.same_seed) == (True, False, 1.0)


def test_it_holds_one_more_run_as_often_as_it_says() -> None:
    """Of runs that are alike 95 % lie in it, and far fewer in the interval for the mean."""
    draw = random.Random(7)
    inside, inside_mean = [], []
    for _ in range(2_000):
        runs = [draw.gauss(1.2, 0.05) for _ in range(9)]
        found = agreement("latency_s.mean", runs[8], runs[:8], wider_s=0.0)
        inside.append(found.inside)
        inside_mean.append(found.inside_mean)
    assert fmean(inside) == pytest.approx(0.95, abs=0.015)
    assert fmean(inside_mean) < 0.65


def test_both_figures_are_compared() -> None:
    """The mean and the 95th percentile, and a live run that is far off agrees in neither."""
    virtual = [{"latency_s": {"mean": 1.0 + n / 1_000, "p95": 2.0 + n / 100}} for n in range(8)]
    near = agreements({"latency_s": {"mean": 1.008, "p95": 2.1}}, virtual)
    far = agreements({"latency_s": {"mean": 1.1, "p95": 3.0}}, virtual)
    assert [one.figure for one in near] == ["latency_s.mean", "latency_s.p95"]
    assert [one.inside for one in near] == [True, True]
    assert [one.inside for one in far] == [False, False]
