"""Windows: exact in any minute, exact in their wait, settled, and small in memory."""

from math import inf

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mock_llm.throttle import Window, Windows, counts_until_s

GAPS = st.lists(st.floats(0, 30) | st.sampled_from([0.0, 15.0, 30.0]), max_size=60)
ASKED = st.lists(st.tuples(st.floats(0, 30) | st.just(30.0), st.integers(0, 6)), max_size=60)
KINDS = st.sampled_from(["sliding", "fixed"])
BEGAN = 1000.1


def _times(gaps: list[float]) -> list[float]:
    now = BEGAN
    return [now := now + gap for gap in gaps]


def _admit(window: Window, now: float, amount: int = 1, kind: str = "sliding") -> float | None:
    """Ask, and take the place if there is one."""
    wait_s = window.wait_s(now, amount)
    if wait_s is None:
        window.take(counts_until_s(kind, now, BEGAN), amount)
    return wait_s


def test_the_limit_is_admitted_and_the_next_must_wait() -> None:
    """Three of three pass at once; the fourth waits for the first to leave."""
    window = Window(3)
    assert [_admit(window, t) for t in (0.0, 1.0, 2.0, 10.0)] == [None, None, None, 50.0]


def test_the_window_is_half_open() -> None:
    """A request counts until just before a minute has passed."""
    window = Window(1)
    assert [_admit(window, t) for t in (0.0, 59.0, 60.0, 119.0)] == [None, 1.0, None, 1.0]


def test_a_refusal_counts_for_nothing() -> None:
    """Asking in vain does not postpone the next admission."""
    window = Window(1)
    assert [_admit(window, t) for t in (0.0, 20.0, 40.0, 60.0)] == [None, 40.0, 20.0, None]


@given(asked=ASKED, limit=st.integers(1, 9))
def test_no_minute_ever_holds_more_than_the_limit(
    asked: list[tuple[float, int]], limit: int
) -> None:
    """Brute force: an amount is admitted exactly when it fits beside all that counts."""
    window, admitted = Window(limit), list[tuple[float, int]]()
    for now, (_, amount) in zip(_times([gap for gap, _ in asked]), asked, strict=True):
        counted = sum(of for t, of in admitted if t <= now < t + 60.0)
        assert (_admit(window, now, amount) is None) == (counted + amount <= limit)
        if counted + amount <= limit:
            admitted.append((now, amount))


@given(gaps=GAPS, limit=st.integers(1, 5))
def test_fixed_minutes_never_hold_more_than_the_limit(gaps: list[float], limit: int) -> None:
    """Brute force: each minute since the run began admits the first so many, and no more."""
    window, admitted = Window(limit), dict[int, int]()
    for now in _times(gaps):
        minute = sum(now >= BEGAN + 60.0 * n for n in range(1, 40))
        fits = admitted.get(minute, 0) < limit
        assert (_admit(window, now, kind="fixed") is None) == fits
        admitted[minute] = admitted.get(minute, 0) + fits


def test_fixed_minutes_let_twice_as_much_through_at_their_edge() -> None:
    """Three late in one minute and three early in the next are six within a second."""
    window = Window(3)
    times = [BEGAN + at_s for at_s in (59.5, 59.6, 59.7, 59.8, 60.0, 60.1, 60.2, 60.3)]
    waits = [_admit(window, now, kind="fixed") for now in times]
    assert [wait_s is None for wait_s in waits] == [True] * 3 + [False] + [True] * 3 + [False]
    assert waits[3] == pytest.approx(0.2)


@given(asked=ASKED, limit=st.integers(1, 9), kind=KINDS)
def test_the_wait_is_true_and_no_longer_than_needed(
    asked: list[tuple[float, int]], limit: int, kind: str
) -> None:
    """A retry after the wait is admitted, and one that comes a little sooner is not."""
    window, times = Window(limit), _times([gap for gap, _ in asked])
    waits = [
        (now, amount, _admit(window, now, amount, kind))
        for now, (_, amount) in zip(times, asked, strict=True)
    ]
    now, amount, wait_s = waits[-1] if waits else (0.0, 0, None)
    assert (wait_s == inf) == (amount > limit)
    if wait_s not in {None, inf}:
        assert wait_s is not None
        assert _admit(window, now + 0.999 * wait_s - 1e-9, amount, kind) is not None
        assert _admit(window, now + wait_s, amount, kind) is None


@given(now=st.floats(0, 1e6), until_s=st.floats(0, 1e6))
@example(now=21.8, until_s=58.46)  # whose difference, added again, falls short
def test_rounding_never_makes_the_wait_too_short(now: float, until_s: float) -> None:
    """Whatever the digits of the times, one retry is enough."""
    window = Window(1)
    window.take(until_s)
    assert window.wait_s(now + (window.wait_s(now) or 0.0)) is None


@given(began=st.floats(0, 1e6), since_s=st.floats(0, 1e5))
def test_fixed_minutes_end_after_now_whatever_the_digits(began: float, since_s: float) -> None:
    """What is counted now counts for a while, and for no more than a minute."""
    now = began + since_s
    assert now < counts_until_s("fixed", now, began) <= now + 60.0 + 1e-9


@given(asked=ASKED, used=st.lists(st.integers(0, 6), min_size=60, max_size=60))
def test_settling_counts_what_was_used_while_it_counts(
    asked: list[tuple[float, int]], used: list[int]
) -> None:
    """What is settled counts as if it had been asked for in the first place, and only once."""
    window, counted = Window(6), list[tuple[float, int]]()
    for n, now in enumerate(_times([gap for gap, _ in asked])):
        window.wait_s(now)
        entry = window.take(now + 60.0, asked[n][1])
        entry.settle(used[n])
        counted.append((now, used[n]))
        window.wait_s(now)
        assert window.used == sum(of for t, of in counted if t <= now < t + 60.0)


def test_settling_late_changes_nothing() -> None:
    """What has left the window is not given back a second time."""
    window = Window(10)
    entry = window.take(60.0, 8)
    window.wait_s(61.0)
    entry.settle(1)
    assert (window.used, window.wait_s(61.0, 10)) == (0, None)


def test_accounts_do_not_share_a_window() -> None:
    """One caller's storm leaves the others their places."""
    windows = Windows(1)
    windows.take("a", 60.0)
    assert [windows.wait_s(caller, 0.0) for caller in ("a", "b")] == [60.0, None]


def test_idle_accounts_are_dropped() -> None:
    """Memory holds the callers of the last minute only, and none for being refused."""
    windows = Windows(2)
    for i in range(1000):
        windows.wait_s(f"asked in vain {i}", float(i), 3)
        windows.wait_s(f"account-{i}", float(i))
        windows.take(f"account-{i}", i + 60.0)
    assert len(windows) == 60


def test_a_busy_account_does_not_keep_idle_ones() -> None:
    """A caller that came first and stays busy does not hold the memory of the others."""
    windows = Windows(2)
    for i in range(1000):
        for caller in ("busy", f"account-{i}"):
            if windows.wait_s(caller, float(i)) is None:
                windows.take(caller, i + 60.0)
    assert len(windows) <= 1 + 2 * 60


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=60))
def test_dropping_idle_accounts_changes_no_answer(asked: list[tuple[str, float]]) -> None:
    """Callers are answered as if each had a window of its own for ever."""
    windows, own = Windows(2), {caller: Window(2) for caller in "abc"}
    times = _times([gap for _, gap in asked])
    for (caller, _), now in zip(asked, times, strict=True):
        wait_s = windows.wait_s(caller, now)
        assert wait_s == _admit(own[caller], now)
        if wait_s is None:
            windows.take(caller, now + 60.0)
