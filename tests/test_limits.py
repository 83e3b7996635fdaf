"""Limits per user that say when to come back: exactly then it works, and not before."""

from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.pipeline.limits import KINDS, Gcra, Limiter, SlidingWindow, UserLimits
from harness.pipeline.moments import BUCKETS, RecentCount, wait_until

Kind = Literal["sliding", "gcra"]
kinds = pytest.mark.parametrize("kind", ["sliding", "gcra"])
limits = st.integers(1, 5)
windows_s = st.floats(1e-3, 1e3)
pauses_s = st.lists(st.floats(0, 100), max_size=40)


@given(now=st.floats(0, 1e9), more=st.floats(0, 1e6))
def test_who_waits_is_not_early_by_a_rounding(now: float, more: float) -> None:
    """A moment is reached after the wait until it, and there is none for what is past."""
    at_s = now + more
    wait_s = wait_until(at_s, now)
    assert now + wait_s >= at_s
    assert wait_s == pytest.approx(at_s - now, abs=1e-6)
    assert wait_until(now, at_s) == 0.0


@kinds
@given(
    start_s=st.floats(0, 1e9),
    pauses=pauses_s,
    limit=limits,
    window_s=windows_s,
    part=st.floats(0, 0.999),
)
def test_a_retry_after_is_true(
    kind: Kind, start_s: float, pauses: list[float], limit: int, window_s: float, part: float
) -> None:
    """Who comes back after exactly the wait is admitted, who comes back sooner is not."""
    limiter, now = KINDS[kind](limit, window_s), start_s
    for pause_s in pauses:
        now += pause_s
        wait_s = limiter.take(now)
        if wait_s > 0:
            sooner = now + wait_s * part
            if sooner < now + wait_s:
                assert limiter.take(sooner) > 0
            now += wait_s
            assert limiter.take(now) == 0


@kinds
@given(pauses=pauses_s, limit=limits, window_s=windows_s)
def test_take_and_reserve_agree(
    kind: Kind, pauses: list[float], limit: int, window_s: float
) -> None:
    """Who waits as `take` says starts when `reserve` would have had it start."""
    taking, booking, now = KINDS[kind](limit, window_s), KINDS[kind](limit, window_s), 0.0
    for pause_s in pauses:
        now += pause_s
        start = booking.reserve(now)
        wait_s = taking.take(now)
        assert now + wait_s == pytest.approx(start, rel=1e-12)
        if wait_s > 0:
            now += wait_s
            assert taking.take(now) == 0


@given(pauses=pauses_s, limit=limits)
def test_what_is_taken_fills_no_window_past_its_limit(pauses: list[float], limit: int) -> None:
    """Of `limit` + 1 admitted in a row by the log the last is a whole window after the first."""
    window, now, taken = SlidingWindow(limit, 60.0), 0.0, list[float]()
    for pause_s in pauses:
        now += pause_s
        if window.take(now) == 0:
            taken.append(now)
    pairs = zip(taken, taken[limit:], strict=False)
    assert all(later >= first + 60.0 for first, later in pairs)


@given(pauses=pauses_s, limit=limits)
def test_the_cell_rate_is_a_leaky_bucket(pauses: list[float], limit: int) -> None:
    """What is admitted is what fits into a bucket of `limit` that leaks `limit` a window."""
    gcra, level, now = Gcra(limit, 60.0), 0.0, 0.0
    for pause_s in pauses:
        now += pause_s
        level = max(0.0, level - pause_s * limit / 60.0)
        fits = level + 1 <= limit + 1e-9
        if abs(level + 1 - limit) > 1e-6:
            assert (gcra.take(now) == 0) is fits
        elif gcra.take(now) != 0:
            fits = False
        level += fits


def test_a_first_minute_is_exact_with_a_log_and_twice_as_much_with_a_rate() -> None:
    """Asking for a minute, one gets 100 from the log and 200 from the cell rate, half at once."""
    counts = {}
    for kind in KINDS:
        limiter = UserLimits(100, kind=kind)  # type: ignore[arg-type]
        moments = [0.0] * 150 + [0.2 * step for step in range(1, 301)]
        admitted = [limiter.take("a", now) == 0 for now in moments]
        counts[kind] = (sum(admitted[:150]), sum(admitted))
    assert counts == {"sliding": (100, 101), "gcra": (100, 200)}


def test_the_rate_is_even_after_its_burst() -> None:
    """Bookings beyond the burst are a hundredth of the window apart, however many there are."""
    gcra = Gcra(100, 60.0)
    starts = [gcra.reserve(0.0) for _ in range(10_000)]
    assert starts[:100] == [0.0] * 100
    assert all(b - a == pytest.approx(0.6) for a, b in pairwise(starts[99:]))
    assert starts[-1] == 9_900 * 0.6


@kinds
def test_users_who_are_idle_are_forgotten(kind: Kind) -> None:
    """Of a million users one a second, no more are remembered than in about a window."""
    limits = UserLimits(2, 60.0, kind)
    for second in range(1_000):
        assert limits.take(f"u{second}", float(second)) == 0
        assert len(limits) <= 61


@kinds
def test_a_busy_user_keeps_no_idle_one_in_memory(kind: Kind) -> None:
    """One who asks all the time is remembered, and those who came after it are forgotten."""
    limits = UserLimits(100, 60.0, kind)
    for second in range(1_000):
        limits.take("busy", float(second))
        limits.take(f"u{second}", float(second))
        assert len(limits) <= 63


@kinds
@given(
    steps=st.lists(st.tuples(st.floats(0, 40), st.integers(0, 3)), max_size=60),
    limit=st.integers(1, 3),
)
def test_forgetting_changes_nothing(kind: Kind, steps: list[tuple[float, int]], limit: int) -> None:
    """Users get from the collection what a limiter of their own, never forgotten, would say."""
    together, now = UserLimits(limit, 30.0, kind), 0.0
    alone = dict[int, Limiter]()
    for pause_s, number in steps:
        now += pause_s
        own = alone.setdefault(number, KINDS[kind](limit, 30.0))
        assert together.take(f"u{number}", now) == own.take(now)


@given(pauses=st.lists(st.floats(0, 3), max_size=60), extra=st.integers(0, 1))
def test_a_recent_count_is_right_to_a_bucket(pauses: list[float], extra: int) -> None:
    """It counts nothing older than its buckets, and all but a bucket of what is as young."""
    counter, now, seen = RecentCount(10.0, BUCKETS + extra), 0.0, list[float]()
    for pause_s in pauses:
        now += pause_s
        counter.add(now)
        seen.append(now)
        span_s = 10.0 * (BUCKETS + extra) / BUCKETS
        most = sum(one > now - span_s - 1e-9 for one in seen)
        least = sum(one > now - span_s + 0.1 + 1e-9 for one in seen)
        assert least <= counter.total(now) <= most
        assert len(counter._counts) <= BUCKETS + extra
