"""Hedges: the delay is a quantile of late, and their number is capped."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.pipeline.hedge import REMEMBERED, Hedger
from harness.scenario.resilience import Hedge

latencies = st.lists(st.floats(0, 1e4), max_size=60)


@given(seen=latencies, quantile=st.floats(0.01, 1), least=st.integers(1, 30))
def test_the_delay_is_the_quantile(seen: list[float], quantile: float, least: int) -> None:
    """It is the smallest latency that the quantile's share does not exceed; at first unknown."""
    hedger = Hedger(Hedge(quantile=quantile, min_samples=least))
    for latency_s in seen:
        hedger.sample(latency_s)
    if len(seen) < least:
        assert hedger.delay_s() is None
    else:
        rank = ceil(quantile * len(seen) - 1e-9)
        assert hedger.delay_s() == sorted(seen)[max(1, rank) - 1]


@pytest.mark.parametrize("percent", [1, 29, 55, 95, 100])
def test_of_a_hundred_the_percentile_is_exact(percent: int) -> None:
    """Of 1 to 100 s the 95th percentile is 95 s, whatever 0.95 times 100 is in binary."""
    hedger = Hedger(Hedge(quantile=percent / 100))
    for second in range(1, 101):
        hedger.sample(float(second))
    assert hedger.delay_s() == percent


@given(first=latencies, some=st.lists(st.floats(0, 9), min_size=1, max_size=20))
def test_only_the_last_thousand_count(first: list[float], some: list[float]) -> None:
    """What was before them is forgotten, equal latencies included, and takes no memory."""
    last = (some * REMEMBERED)[:REMEMBERED]
    old, new = Hedger(Hedge()), Hedger(Hedge())
    for latency_s in first + last:
        old.sample(latency_s)
    for latency_s in last:
        new.sample(latency_s)
    assert (old._sorted, old._latencies) == (new._sorted, new._latencies)


@given(steps=st.lists(st.booleans(), max_size=300), share=st.floats(0, 1))
def test_hedges_are_a_share_of_the_calls(steps: list[bool], share: float) -> None:
    """At any moment there were at most `share` hedges for each call so far."""
    hedger, hedged = Hedger(Hedge(share=share)), 0
    for sent, wanted in enumerate(steps, 1):
        hedger.sent()
        if wanted and hedger.may_hedge():
            hedger.hedged()
            hedged += 1
        assert hedged <= share * sent + 1e-6


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.05, 500), (0.2, 2_000), (0.3, 3_000), (0.7, 7_000), (1, 10_000), (0, 0), (0.0005, 5)],
)
def test_a_steady_client_gets_its_share_of_hedges(share: float, expected: int) -> None:
    """Of 10,000 calls that are all slow, just the share is hedged."""
    hedger, hedged = Hedger(Hedge(share=share)), 0
    for _ in range(10_000):
        hedger.sent()
        if hedger.may_hedge():
            hedger.hedged()
            hedged += 1
    assert hedged == expected


def test_a_long_quiet_time_pays_for_no_flood() -> None:
    """After a million calls without a hedge the next 100 calls have 50 and not 50,000."""
    hedger, hedged = Hedger(Hedge()), 0
    for _ in range(1_000_000):
        hedger.sent()
    while hedger.may_hedge():
        hedger.hedged()
        hedged += 1
    assert hedged == 50
