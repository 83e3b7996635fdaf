"""Figures: histograms whose quantiles are near, tallies that add up, and a memory with an end."""

import math

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.gauges import MOST_LABELS, OTHER, WINDOW_S, Gauges, Tally, tick
from mock_llm.histogram import Histogram
from mock_llm.ledger import Ledger, Row

durations = st.lists(st.floats(min_value=1.2e-4, max_value=1e3), min_size=1, max_size=200)


def _histogram(values: list[float]) -> Histogram:
    found = Histogram()
    for value in values:
        found.add(value)
    return found


def _row(**fields: object) -> Row:
    usual = {"status": 200, "ended": "complete", "model": "m", "arrived_s": 1.0, "ended_s": 1.5}
    return Row(**{**usual, **fields})  # type: ignore[arg-type]


@given(durations, st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]))
def test_quantiles_are_near(values: list[float], share: float) -> None:
    """A quantile is within one bucket, 6 %, of the value at its rank, and never above the max."""
    exact = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
    found = _histogram(values).quantile(share)
    assert exact / 1.06 <= found <= exact * 1.06
    assert found <= max(values)


@given(durations, durations)
def test_histograms_add_up(one: list[float], other: list[float]) -> None:
    """The sum of two histograms is the histogram of all their values."""
    both, whole = Histogram.sum_of([_histogram(one), _histogram(other)]), _histogram(one + other)
    assert (both.counts, both.max_s) == (whole.counts, whole.max_s)
    assert math.isclose(both.sum_s, whole.sum_s)


def test_nothing_is_nothing() -> None:
    """No duration, negative ones and what rounding leaves of nothing all have the quantile 0."""
    assert Histogram().quantile(0.99) == 0.0
    assert _histogram([-1.0, 0.0, 1e-13]).quantile(0.99) == 0.0


def test_bounds_are_exact() -> None:
    """A duration of just 10 ms is not above 10 ms, one beyond the last bucket is above them all."""
    found = _histogram([0.01, 0.0100001, 5e6])
    assert (found.above(0.01), found.above(1000.0), found.quantile(1.0)) == (2, 1, 5e6)
    assert found.up_to()[-1] == (1000.0, 2)


@given(st.lists(st.floats(min_value=0, max_value=300), max_size=80))
def test_seconds_add_up_to_the_whole(moments: list[float]) -> None:
    """Every attempt counts once in all, and once more in the last minute if it ended there."""
    gauges, now = Gauges(), 300.0
    for moment in sorted(moments):
        gauges.at(moment).attempts += 1
    assert gauges.total().attempts == len(moments)
    minute = [moment for moment in moments if int(moment) >= int(now) - WINDOW_S]
    assert gauges.last(WINDOW_S, now).attempts == len(minute)
    assert sum(gauges.rates(now)) == sum(moment < now for moment in minute)


def test_late_news_counts_as_new() -> None:
    """An attempt whose end is found out about later counts in the second of the finding."""
    gauges = Gauges()
    gauges.at(100.0).attempts += 1
    gauges.at(10.0).attempts += 1
    assert gauges.last(5, 100.0).attempts == 2


def test_made_up_names_do_not_fill_the_memory() -> None:
    """However many models and faults there are, few are kept apart and none is left uncounted."""
    ledger = Ledger(limit=1)
    for number in range(5000):
        name = f"model number {number}"
        ledger.add(_row(model=name, arrived_s=number / 20, ended_s=number / 20))
        ledger.fire(_row(injected=(name,), arrived_s=number / 20))
    total = ledger.gauges.total()
    for one in (total, ledger.gauges._past):
        assert max(len(one.outcomes), len(one.faults)) <= MOST_LABELS + 1
    assert sum(total.outcomes.values()) == sum(total.faults.values()) == 5000
    assert total.by(2)[OTHER] > 4000
    assert total.by(0) == {"200": 5000}


def test_a_bad_request_names_no_model() -> None:
    """The model of a 400 may be made up, so it is no label."""
    ledger = Ledger()
    ledger.add(_row(status=400, ended="refused", model="no/such"))
    assert ledger.gauges.total().outcomes == {f"400 refused {OTHER}": 1}


def test_ticks_go_to_the_others_when_it_is_full() -> None:
    """A label that there is goes on counting, a new one counts among the others."""
    counts = {str(number): 1 for number in range(MOST_LABELS)}
    tick(counts, "7")
    tick(counts, "new")
    assert (counts["7"], counts[OTHER], "new" in counts) == (2, 1, False)


def test_tallies_travel() -> None:
    """A tally sent to another process is the same there."""
    ledger = Ledger()
    ledger.add(_row(status=429, error="rate_limit_exceeded", ended="refused"))
    ledger.fire(_row(injected=("x",)))
    total = ledger.gauges.total()
    assert total.throttled == 1
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(total), type=Tally) == total
    assert msgspec.json.decode(msgspec.json.encode(total), type=Tally) == total


def test_rows_keep_their_numbers() -> None:
    """Rows that are still kept are found by number, and a reset does not begin to count anew."""
    ledger = Ledger(limit=3)
    for number in range(1, 6):
        ledger.add(_row(key=str(number)))
    assert [(n, row.key) for n, row in ledger.after(0, 2)] == [(3, "3"), (4, "4")]
    assert [n for n, _ in ledger.after(4, 9)] == [5]
    assert ledger.after(99, 9) == []
    ledger.reset()
    ledger.add(_row(key="6"))
    assert [(n, row.key) for n, row in ledger.after(0, 9)] == [(6, "6")]
    assert ledger.totals.attempts == 1


def test_in_flight_is_begun_and_not_ended() -> None:
    """What began before a reset is still in flight after it."""
    ledger = Ledger()
    ledger.begin()
    ledger.begin()
    ledger.add(_row())
    ledger.reset()
    assert ledger.in_flight == 1
