"""Schedules of arrivals and of users: statistics, keyed draws, and what is never moved."""

from collections import Counter
from itertools import pairwise
from math import exp, expm1, inf
from statistics import fmean, pstdev, pvariance
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import DATA, real_data

from harness.corpus import read_trace
from harness.scenario.arrivals import (
    Arrivals,
    ConstantArrivals,
    GammaArrivals,
    PoissonArrivals,
    RampArrivals,
    SpikeArrivals,
    StepArrivals,
    TraceArrivals,
)
from harness.scenario.workload import KINDS, Mix, Workload
from harness.workload import (
    MIN_GAP_S,
    arrival_key,
    arrival_user,
    first_start_s,
    kinds,
    review_index,
    schedule,
    think_s,
    user_key,
)
from mock_llm.distributions import Exponential, Lognormal

SHAPES: list[Arrivals] = [
    ConstantArrivals(rate_per_s=7.0),
    PoissonArrivals(rate_per_s=9.0),
    GammaArrivals(rate_per_s=9.0, cv=3.0),
    RampArrivals(from_per_s=0.0, to_per_s=20.0),
    RampArrivals(from_per_s=20.0, to_per_s=0.0),
    StepArrivals(rates_per_s=(5.0, 0.0, 30.0), at_s=(20.0, 40.0)),
    SpikeArrivals(base_per_s=4.0, factor=10.0, at_s=50.0, for_s=10.0),
]
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda one: type(one).__name__)


def arrivals(shape: Arrivals, duration_s: float | None = 100.0, **more: Any) -> Workload:
    """Work of that shape."""
    return Workload(kind="arrivals", arrivals=shape, duration_s=duration_s, **more)


def users(**more: Any) -> Workload:
    """Users who think."""
    return Workload(kind="users", **{"duration_s": 600.0, "users": 100, **more})


def gaps(starts: list[float]) -> list[float]:
    """What lies between."""
    return [b - a for a, b in pairwise(starts)]


def cv(values: list[float]) -> float:
    """Coefficient of variation."""
    return pstdev(values) / fmean(values)


def dispersion(starts: list[float], window_s: float, windows: int) -> float:
    """Variance over mean of the counts in windows; 1 for Poisson, whatever the window."""
    counts = Counter(int(t // window_s) for t in starts)
    seen = [counts[n] for n in range(windows)]
    return pvariance(seen) / fmean(seen)


@each_shape
def test_schedule_is_a_function_of_settings_and_seed(shape: Arrivals) -> None:
    """Asked twice it is the same, and only a constant one is the same for another seed."""
    work = arrivals(shape)
    assert schedule(work, 1) == schedule(work, 1)
    assert (schedule(work, 1) == schedule(work, 2)) is isinstance(shape, ConstantArrivals)


@each_shape
@given(seed=st.integers(0, 10**6), duration_s=st.floats(0.01, 60.0))
def test_starts_rise_and_end_with_the_duration(
    shape: Arrivals, seed: int, duration_s: float
) -> None:
    """No two are nearer than a microsecond, the first is not before 0, the last before the end."""
    starts = schedule(arrivals(shape, duration_s), seed) if shape.expected(duration_s) else []
    assert all(b >= a + MIN_GAP_S for a, b in pairwise(starts))
    assert all(0 <= t < duration_s for t in starts)


@pytest.mark.parametrize("shape", SHAPES[:3] + SHAPES[5:], ids=lambda one: type(one).__name__)
def test_longer_run_only_adds(shape: Arrivals) -> None:
    """The n-th gap is keyed by n: a longer duration leaves what was there."""
    short, long = schedule(arrivals(shape, 60.0), 3), schedule(arrivals(shape, 100.0), 3)
    assert long[: len(short)] == short
    assert len(long) > len(short)


@each_shape
def test_counts_are_the_integral_of_the_rate(shape: Arrivals) -> None:
    """In each tenth of the time as many come as the rate says, within four standard errors."""
    runs = [schedule(arrivals(shape), seed) for seed in range(40)]
    spread = 9.0 if isinstance(shape, GammaArrivals) else 1.0  # cv squared
    for tenth in range(10):
        low, high = 10.0 * tenth, 10.0 * (tenth + 1)
        wanted = shape.expected(100.0) * _share(shape, low, high)
        found = fmean(sum(low <= t < high for t in starts) for starts in runs)
        # What a delayed renewal process lacks at its start: (cv^2 - 1) / 2 arrivals.
        slack = spread / 2 if tenth == 0 else 0.0
        assert abs(found - wanted) <= 4 * (spread * wanted / 40) ** 0.5 + slack + 1e-9


def _share(shape: Arrivals, low: float, high: float) -> float:
    """Share of a run of 100 s that comes between two times, worked out by hand."""
    if isinstance(shape, RampArrivals):
        up = (high**2 - low**2) / 100.0**2
        down = ((100 - low) ** 2 - (100 - high) ** 2) / 100.0**2
        return up if shape.from_per_s == 0 else down
    if isinstance(shape, StepArrivals):
        rate = 5.0 if high <= 20 else 0.0 if high <= 40 else 30.0
        return rate * (high - low) / 1900.0
    if isinstance(shape, SpikeArrivals):
        return (40.0 if low == 50 else 4.0) * (high - low) / 760.0
    return (high - low) / 100.0


def test_constant_is_constant() -> None:
    """The gaps do not vary at all, to the last digits of a float, and the first comes at once."""
    starts = schedule(arrivals(ConstantArrivals(rate_per_s=7.0), 1000.0), 1)
    assert starts[0] == 0.0
    assert len(starts) == 7000
    assert cv(gaps(starts)) < 1e-11
    assert starts[-1] == 6999 / 7


def test_poisson_is_poisson() -> None:
    """Gaps are exponential (cv 1, right tail) and counts have a dispersion of 1 at every scale."""
    starts = schedule(arrivals(PoissonArrivals(rate_per_s=20.0), 5000.0), 5)
    found = gaps(starts)
    assert cv(found) == pytest.approx(1.0, abs=0.02)
    for t in (0.01, 0.05, 0.2):
        assert fmean(gap > t for gap in found) == pytest.approx(exp(-20 * t), abs=0.006)
    assert fmean(a * b for a, b in pairwise(found)) * 400 == pytest.approx(1.0, abs=0.03)
    for window_s in (0.1, 1.0, 10.0):
        windows = int(5000 / window_s)
        error = 4 * (2 / windows) ** 0.5
        assert dispersion(starts, window_s, windows) == pytest.approx(1.0, abs=error + 0.02)


def test_changing_rate_is_poisson_too() -> None:
    """On a ramp the counts of one second over many seeds have a dispersion of 1."""
    work = arrivals(RampArrivals(from_per_s=2.0, to_per_s=18.0))
    runs = [schedule(work, seed) for seed in range(400)]
    for low in (0, 50, 99):
        counts = [sum(low <= t < low + 1 for t in starts) for starts in runs]
        assert fmean(counts) == pytest.approx(2 + 0.16 * (low + 0.5), rel=0.12)
        assert pvariance(counts) / fmean(counts) == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("wanted", [0.2, 1.0, 3.0])
def test_gamma_has_its_variation(wanted: float) -> None:
    """The gaps have the cv asked for, and counts of long windows its square as dispersion."""
    starts = schedule(arrivals(GammaArrivals(rate_per_s=10.0, cv=wanted), 4000.0), 2)
    assert cv(gaps(starts)) == pytest.approx(wanted, rel=0.05)
    assert dispersion(starts, 20.0, 200) == pytest.approx(wanted**2, rel=0.5)


def test_nobody_comes_in_a_pause() -> None:
    """A rate of 0 between two others is a pause, and the others are not thinned by it."""
    starts = schedule(arrivals(SHAPES[5]), 1)
    assert [t for t in starts if 20 <= t < 40] == []
    assert min(t for t in starts if t >= 40) < 41


def test_higher_rate_presses_the_same_together() -> None:
    """Two rates have the same arrivals at other times, so that comparing them is paired."""
    slow = schedule(arrivals(PoissonArrivals(rate_per_s=1.0), 100.0), 1)
    fast = schedule(arrivals(PoissonArrivals(rate_per_s=4.0), 25.0), 1)
    assert [4 * t for t in fast] == pytest.approx(slow)


def test_trace_is_played_from_its_first_arrival() -> None:
    """Equal times are moved apart, a scale of 2 takes half the time, and the duration cuts it."""
    shape, times = TraceArrivals(file="x.csv", scale=2.0), [0.0, 3.0, 3.0, 3.0, 8.0]
    wanted = [0.0, 1.5, 1.5 + MIN_GAP_S, 1.5 + 2 * MIN_GAP_S, 4.0]
    assert schedule(arrivals(shape, None), 1, times) == pytest.approx(wanted, abs=1e-12)
    assert schedule(arrivals(shape, None), 2, times) == schedule(arrivals(shape, None), 1, times)
    assert len(schedule(arrivals(shape, 4.0), 1, times)) == 4


@real_data
def test_real_trace_keeps_its_bursts() -> None:
    """Azure's conversations come as recorded: a cv near 1 that hides dispersions of 1.4 to 16."""
    shape = TraceArrivals(file=str(DATA / "traces" / "azure2023_conv.csv.gz"))
    starts = schedule(arrivals(shape, None), 1, read_trace(shape.file))
    assert len(starts) == 19_366
    assert len(starts) / starts[-1] == pytest.approx(5.53, abs=0.01)
    assert cv(gaps(starts)) == pytest.approx(1.09, abs=0.01)
    for window_s, wanted in ((1.0, 1.4), (10.0, 3.9), (60.0, 16.0)):
        windows = int(starts[-1] / window_s)
        assert dispersion(starts, window_s, windows) == pytest.approx(wanted, rel=0.05)


@real_data
def test_ties_of_a_real_trace_are_moved_apart() -> None:
    """Mooncake's times come in steps of three seconds, and still no two arrivals are equal."""
    shape = TraceArrivals(file=str(DATA / "traces" / "mooncake_conversation.csv.gz"))
    times = read_trace(shape.file)
    starts = schedule(arrivals(shape, None), 1, times)
    assert len(set(times)) < len(times) == len(set(starts))
    assert max(b - a for a, b in zip(times, starts, strict=True)) < 0.001


def test_thinking_is_keyed_by_user_and_number() -> None:
    """A pause depends on whose it is and which, on the seed, and on nothing that was asked for."""
    work = users(think=Lognormal(p50=5.0, p99=40.0))
    pauses = {(user, n): think_s(work, 1, user, n) for user in range(30) for n in range(1, 30)}
    assert len(set(pauses.values())) == 30 * 29
    assert think_s(work, 1, 7, 3) == pauses[7, 3]
    assert think_s(users(users=5, think=work.think), 1, 4, 3) == pauses[4, 3]
    assert think_s(work, 2, 7, 3) != pauses[7, 3]


def test_think_times_have_their_distribution() -> None:
    """The mean and the tail of the pauses are those of the distribution."""
    work = users(think=Exponential(mean=4.0))
    pauses = [think_s(work, 1, user, n) for user in range(100) for n in range(1, 101)]
    assert fmean(pauses) == pytest.approx(4.0, rel=0.03)
    assert fmean(pause > 4 for pause in pauses) == pytest.approx(1 + expm1(-1), abs=0.015)


@given(st.integers(1, 200), st.floats(0, 600), st.integers(0, 99))
def test_users_begin_one_after_the_other(count: int, ramp_s: float, seed: int) -> None:
    """First starts rise with the user, none within the least gap of another, all in the ramp."""
    work = users(users=count, ramp_s=ramp_s)
    starts = [first_start_s(work, seed, user) for user in range(count)]
    assert min((b - a for a, b in pairwise(starts)), default=inf) >= 0.99 * MIN_GAP_S
    assert starts[0] > 0
    assert starts[-1] < max(ramp_s, 10 * MIN_GAP_S * count)


def test_who_thinks_first_begins_so_much_later() -> None:
    """With `think_first` the first request comes a pause after its user, else with it."""
    at_once = users(ramp_s=10.0, think=Exponential(mean=4.0))
    later = users(ramp_s=10.0, think=Exponential(mean=4.0), think_first=True)
    waits = [first_start_s(later, 1, n) - first_start_s(at_once, 1, n) for n in range(100)]
    assert waits == pytest.approx([think_s(later, 1, n, 0) for n in range(100)])


@given(st.lists(st.sampled_from([0.0, 0.1, 0.3, 1.0]), min_size=4, max_size=4).filter(any))
def test_a_crowd_that_is_coming_is_mixed_as_the_whole(shares: list[float]) -> None:
    """Of the first n users each kind has its share but for less than one, whatever n is."""
    reviewer, batch, stream, abuser = shares
    mix = Mix(reviewer=reviewer, batch=batch, stream=stream, abuser=abuser)
    found = kinds(users(mix=mix))
    assert len(found) == 100
    for kind, share in zip(KINDS, shares, strict=True):
        due = [share / sum(shares) * n for n in range(1, 101)]
        had = [found[:n].count(kind) for n in range(1, 101)]
        assert max(abs(a - b) for a, b in zip(due, had, strict=True)) < 1 + 1e-9


def test_all_are_reviewers_unless_told_otherwise() -> None:
    """Without a mix there is one kind, and a mix of nobody is refused."""
    assert kinds(users(users=3)) == ["reviewer"] * 3
    with pytest.raises(ValueError, match="nobody is in it"):
        Mix()


def test_every_request_has_a_name_and_a_review() -> None:
    """Arrivals take users and reviews in turn, users go side by side, and reviews start over."""
    work = arrivals(SHAPES[1], users=3)
    assert [arrival_user(work, n) for n in range(4)] == [0, 1, 2, 0]
    assert [review_index(work, 2, n) for n in range(4)] == [0, 1, 0, 1]
    both = users(users=2)
    asked = [review_index(both, 5, n, user) for n in range(3) for user in range(2)]
    assert asked == [0, 1, 2, 3, 4, 0]
    assert (arrival_key(123), user_key(3, 17)) == ("a000123", "u3.17")
