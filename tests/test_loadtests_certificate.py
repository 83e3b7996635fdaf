"""A load test knows when it has not measured the service, but its own generator or machine."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_worlds import asked, certificate, driver, row

from loadtests.certificate import BOUNDS, Bound, Certificate, Machine, Mocks, Strain
from loadtests.meter import TICK_S, note_lag
from mock_llm.histogram import Histogram

CALM: dict[str, Any] = {name: 0.0 for name in Certificate.__struct_fields__ if name != "said"}


def test_a_calm_test_is_valid() -> None:
    """Nothing is held against it, whether or not anybody knows of the mock and the service."""
    known = (driver(), Strain(name="service", lag_s_p99=0.01), Strain(name="mock"))
    assert certificate().reasons() == ()
    assert certificate(*known, mock=Mocks.of([row("u0.0", 0.0)])).reasons() == ()


@pytest.mark.parametrize("bound", BOUNDS, ids=[bound.of for bound in BOUNDS])
def test_each_bound_voids_by_itself(bound: Bound) -> None:
    """At its limit a figure is sound, and past it there is one reason, which says how far."""
    at, past = ({**CALM, bound.of: bound.limit * share} for share in (1.0, 1.5))
    assert Certificate(**at).reasons() == ()
    (reason,) = Certificate(**past).reasons()
    assert reason == f"{bound.says}: {bound.shown(bound.limit * 1.5)} > {bound.shown(bound.limit)}"


def test_the_worst_process_counts() -> None:
    """Of several that drive users the latest, the busiest, and the one with fewest files left."""
    found = certificate(
        driver(cpu_share=0.2, files=10),
        driver(0.2, name="worker 1", cpu_share=0.1, files=900),
        Strain(name="master", lag=Histogram(counts={290: 1}, max_s=9.0), cpu_share=1.0),
    )
    assert found.greenlet_lag_s_p99 == pytest.approx(0.2, rel=0.06)
    assert (found.generator_cpu_share, found.files_share) == (0.2, 0.9)


def test_figures_are_where_they_were_measured() -> None:
    """Sends from the users' rows, delays from the ledger, the rest from processes and machine."""
    found = certificate(
        driver(),
        Strain(name="service", lag_s_p99=0.02, cpu_share=0.5),
        Strain(name="mock", cpu_share=0.25),
        machine=Machine(cpu_share=0.75, steal_share=0.1, ports=100, most_ports=400),
        mock=Mocks.of([row("u0.0", 0.0)]),
        asked=[asked("u0.0", 0.0, t_sent=1_000.03)],
    )
    assert found.sent_late_s_p99 == pytest.approx(0.03)
    assert found.mock_delay_s_p99 == pytest.approx(0.002)
    assert (found.service_lag_s_p99, found.service_cpu_share) == (0.02, 0.5)
    assert (found.mock_cpu_share, found.machine_cpu_share) == (0.25, 0.75)
    assert (found.steal_share, found.ports_share) == (0.1, 0.25)


def test_what_the_mock_says_against_itself_counts() -> None:
    """A mock that calls itself the bottleneck voids the test, in its own words."""
    mock = Mocks.of([], ("its event loop lags (p99 80 ms)",))
    assert certificate(mock=mock).reasons() == ("the mock: its event loop lags (p99 80 ms)",)


@given(st.floats(0.06, 1.0), st.integers(5, 50))
def test_a_process_that_stands_still_is_late_all_that_time(pause_s: float, calm_s: int) -> None:
    """A pause counts for as many ticks as it kept from coming, so that the p99 sees 2 % of it."""
    lags = Histogram(counts={})
    for _ in range(round(calm_s / TICK_S)):
        note_lag(lags, 0.0)
    note_lag(lags, pause_s)
    missed = lags.count - calm_s / TICK_S
    assert missed == pytest.approx(pause_s / TICK_S, abs=1.5)
    stands = pause_s / (calm_s + pause_s)
    if stands > 0.02 and pause_s > 0.12:
        assert lags.quantile(0.99) > 0.05
