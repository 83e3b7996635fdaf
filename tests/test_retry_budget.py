"""Retries as a share of the requests of late: the bound, exactly, and what is free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.pipeline.moments import BUCKETS
from harness.pipeline.retry_budget import RetryBudgetMeter
from harness.scenario.resilience import RetryBudget

steps = st.lists(st.tuples(st.floats(0, 3), st.integers(0, 20), st.integers(0, 8)), max_size=40)


@given(
    steps=steps,
    share=st.floats(0, 1),
    per_s=st.floats(0, 3),
    window_s=st.floats(0.1, 20),
)
def test_retries_never_pass_the_budget(
    steps: list[tuple[float, int, int]], share: float, per_s: float, window_s: float
) -> None:
    """In the window that ends with a retry, retries are at most share * firsts + per_s * window."""
    meter = RetryBudgetMeter(RetryBudget(share=share, per_s=per_s, window_s=window_s))
    firsts, retries, now = list[float](), list[float](), 0.0
    for pause_s, sent, wanted in steps:
        now += pause_s
        for _ in range(sent):
            meter.deposit(now)
            firsts.append(now)
        for _ in range(wanted):
            if meter.withdraw(now):
                retries.append(now)
                many = sum(now - window_s < one for one in retries)
                base = sum(now - window_s < one for one in firsts)
                assert many <= share * base + per_s * window_s + 1e-6


@pytest.mark.parametrize(("share", "per_s"), [(0.2, 0.0), (0.1, 0.0), (0.2, 10.0), (0.0, 2.0)])
def test_a_steady_client_gets_its_share(share: float, per_s: float) -> None:
    """At 100 requests a second that all fail, retries are the share and what is free, less 2 %."""
    meter = RetryBudgetMeter(RetryBudget(share=share, per_s=per_s))
    sent = 0
    for step in range(6_000):
        now = step / 100
        meter.deposit(now)
        got = meter.withdraw(now)
        sent += got and now >= 20
    expected = share * 100 + per_s
    assert 0.975 * expected <= sent / 40 <= expected


def test_a_quiet_client_may_retry_too() -> None:
    """Before any request, and with none, as many are free as `per_s` makes in a window."""
    meter = RetryBudgetMeter(RetryBudget())
    assert [sum(meter.withdraw(now) for _ in range(500)) for now in (5.0, 10.0)] == [100, 0]
    assert sum(meter.withdraw(15.2) for _ in range(500)) == 100


def test_retries_are_remembered_for_the_whole_window() -> None:
    """Those at 0.09 s still count at 10.05 s, less than 10 s later, and no more at 10.2 s."""
    meter = RetryBudgetMeter(RetryBudget())
    moments = (0.09, 10.05, 10.2)
    assert [sum(meter.withdraw(now) for _ in range(500)) for now in moments] == [100, 0, 100]


def test_nothing_is_free_in_a_budget_of_nothing() -> None:
    """A share of 0 and no free ones allow no retry, whatever is sent."""
    meter = RetryBudgetMeter(RetryBudget(share=0.0, per_s=0.0))
    meter.deposit(1.0)
    assert meter.withdraw(1.0) is False


def test_a_share_that_rounds_down_still_pays() -> None:
    """0.29 of 100 requests are 29 retries, though the product is a little less in binary."""
    meter = RetryBudgetMeter(RetryBudget(share=0.29, per_s=0.0))
    for _ in range(100):
        meter.deposit(1.0)
    assert sum(meter.withdraw(1.0) for _ in range(100)) == 29


def test_a_budget_remembers_only_its_window() -> None:
    """However many requests there are, memory is a number for each hundredth of the window."""
    meter = RetryBudgetMeter(RetryBudget())
    for step in range(10_000):
        meter.deposit(step / 50)
        meter.withdraw(step / 50)
    assert len(meter._firsts._counts) <= BUCKETS
    assert len(meter._retries._counts) <= BUCKETS + 1
