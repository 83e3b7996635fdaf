"""The sliding window: exact in any window, exact in its wait, and small in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.throttle import AccountWindows, SlidingWindow

GAPS = st.lists(st.floats(0, 30) | st.sampled_from([0.0, 15.0, 30.0]), max_size=60)


def _times(gaps: list[float]) -> list[float]:
    now = 1000.1
    return [now := now + gap for gap in gaps]


def test_the_limit_is_admitted_and_the_next_must_wait() -> None:
    """Three of three pass at once; the fourth waits for the first to leave."""
    window = SlidingWindow(3, 60.0)
    assert [window.admit(t) for t in (0.0, 1.0, 2.0, 10.0)] == [None, None, None, 50.0]


def test_the_window_is_half_open() -> None:
    """A request counts until just before a window's length has passed."""
    window = SlidingWindow(1, 60.0)
    actual = [window.admit(t) for t in (0.0, 59.0, 60.0, 119.0)]
    assert actual == [None, 1.0, None, 1.0]


def test_a_refusal_counts_for_nothing() -> None:
    """Asking in vain does not postpone the next admission."""
    window = SlidingWindow(1, 60.0)
    actual = [window.admit(t) for t in (0.0, 20.0, 40.0, 60.0)]
    assert actual == [None, 40.0, 20.0, None]


@given(gaps=GAPS, limit=st.integers(1, 5))
def test_no_window_ever_holds_more_than_the_limit(gaps: list[float], limit: int) -> None:
    """Brute force: a request is admitted exactly when fewer than `limit` count at its time."""
    window, admitted = SlidingWindow(limit, 60.0), list[float]()
    for now in _times(gaps):
        fits = sum(t <= now < t + 60.0 for t in admitted) < limit
        assert (window.admit(now) is None) == fits
        if fits:
            admitted.append(now)


@given(gaps=GAPS, limit=st.integers(1, 5))
def test_the_wait_is_true_and_no_longer_than_needed(gaps: list[float], limit: int) -> None:
    """A retry after the wait is admitted, and one that comes a little sooner is not."""
    window = SlidingWindow(limit, 60.0)
    waits = [(now, window.admit(now)) for now in _times(gaps)]
    now, wait = waits[-1] if waits else (0.0, None)
    if wait is not None:
        assert window.admit(now + 0.999 * wait - 1e-9) is not None
        assert window.admit(now + wait) is None


@given(now=st.floats(0, 1e6), wait=st.floats(1e-9, 60))
def test_rounding_never_makes_the_wait_too_short(now: float, wait: float) -> None:
    """Whatever the digits of the times, one retry is enough."""
    window = SlidingWindow(1, wait)
    window.admit(now)
    refused = window.admit(now)
    assert window.admit(now + (refused or 0.0)) is None


def test_accounts_do_not_share_a_window() -> None:
    """One account's storm leaves the others their places."""
    windows = AccountWindows(1, 60.0)
    actual = [windows.admit(account, 0.0) for account in ("a", "b", "a")]
    assert actual == [None, None, pytest.approx(60.0)]


def test_idle_accounts_are_dropped() -> None:
    """Memory holds the accounts of the last window only."""
    windows = AccountWindows(2, 60.0)
    for i in range(1000):
        windows.admit(f"account-{i}", float(i))
    assert len(windows) == 60


def test_a_busy_account_does_not_keep_idle_ones() -> None:
    """An account that came first and stays busy does not hold the memory of the others."""
    windows = AccountWindows(2, 60.0)
    for i in range(1000):
        windows.admit("busy", float(i))
        windows.admit(f"account-{i}", float(i))
    assert len(windows) <= 1 + 2 * 60


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 30)), max_size=60))
def test_dropping_idle_accounts_changes_no_answer(asked: list[tuple[str, float]]) -> None:
    """Accounts answer as if each had a window of its own for ever."""
    windows, own = AccountWindows(2, 60.0), {a: SlidingWindow(2, 60.0) for a in "abc"}
    times = _times([gap for _, gap in asked])
    for (account, _), now in zip(asked, times, strict=True):
        assert windows.admit(account, now) == own[account].admit(now)
