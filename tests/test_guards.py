"""The policies around an attempt, at work: the real client and mock, on the virtual clock."""

from collections import Counter
from itertools import pairwise

import pytest
from jobs import MODEL, Ran, check, driven, faulty, items, job_of, ran, settings, upstream

from harness.invariants import violations
from harness.pipeline.job import Job
from harness.pipeline.money import Purse
from harness.records import HEDGE_LOST, Record, requests
from harness.scenario.pipeline import Backoff, Pipeline
from harness.scenario.resilience import Aimd, Breaker, Gradient2, Hedge, RetryBudget
from mock_llm.config import Capacity, Throttle, Upstream
from mock_llm.distributions import Lognormal
from mock_llm.faults import HangBeforeHeaders, ServerError

DEARER = "openai/gpt-4o"


def flown(chosen: Pipeline, provider: Upstream, count: int = 400) -> Ran:
    """A run in which a request may have many attempts, and hedges with keys of their own."""
    purse = Purse(None)
    result = driven(job_of(items(count), chosen, purse=purse), provider, Job.run)
    sent = [row for row in result.rows if row.t_sent is not None]
    assert len(sent) == len(result.seen)
    assert violations(result.rows, {f"r{n:06d}" for n in range(count)}) == []
    assert purse.statistics().reserved_usd == pytest.approx(0.0, abs=1e-12)
    return result


def latencies(rows: list[Record]) -> list[float]:
    """Seconds of each request, sorted."""
    return sorted(one[-1].t_end - one[0].t_admitted for one in requests(rows) if one[0].t_admitted)


def test_a_hedge_cuts_off_the_tail() -> None:
    """Two calls in a hundred hang; with a second call after the 95th percentile few wait."""
    hanging = faulty(HangBeforeHeaders(rate=0.02), ttft=Lognormal(mean=1.0, sigma=0.2))
    base = settings(concurrency=10, attempt_timeout_s=30.0, retries=2)
    plain = flown(base, hanging)
    quick = flown(
        settings(concurrency=10, attempt_timeout_s=30.0, retries=2, hedge=Hedge(share=0.1)), hanging
    )
    assert all(one[-1].outcome == "ok" for one in requests(quick.rows))
    assert latencies(plain.rows)[-4] > 30
    assert latencies(quick.rows)[-4] < 5
    lost = [row for row in quick.rows if row.error == HEDGE_LOST]
    hedges = [row for row in quick.seen if row.key.endswith("~hedge")]
    assert 0 < len(hedges) <= 0.1 * len(quick.seen) + 1
    assert len(lost) == len(hedges)
    # Whoever wins, the answer is the same one, and it is the request's last row.
    assert {k: a.text for k, a in quick.job.answers.items()} == {
        k: a.text for k, a in plain.job.answers.items()
    }


def test_hedges_leave_the_weather_alone() -> None:
    """What a first attempt meets is the same with hedges and without."""
    slow = upstream(Lognormal(mean=1.0, sigma=0.8))
    base = settings(concurrency=10)
    plain = {row.key: row.planned_last_token_s for row in flown(base, slow).seen}
    both = flown(settings(concurrency=10, hedge=Hedge()), slow).seen
    assert {r.key: r.planned_last_token_s for r in both if "~" not in r.key} == plain


def test_runs_with_hedges_repeat() -> None:
    """The same seed gives the same rows, races included."""
    slow = upstream(Lognormal(mean=1.0, sigma=0.8))
    chosen = settings(concurrency=10, hedge=Hedge())
    assert flown(chosen, slow).rows == flown(chosen, slow).rows


def test_a_breaker_spares_a_provider_that_is_down() -> None:
    """During an outage hardly a call is sent, and afterwards all is served."""
    down = faulty(ServerError(rate=1.0, until_s=60.0), ttft=0.5)
    plain = {"concurrency": 4, "retries": 30, "backoff": Backoff(cap_s=5.0, jitter=None)}
    bare = flown(settings(**plain), down, 40)
    spared = flown(settings(**plain, breaker=Breaker(open_s=10.0)), down, 40)
    assert all(one[-1].outcome == "ok" for one in requests(spared.rows))
    refused = [len([row for row in run.seen if row.status != 200]) for run in (bare, spared)]
    assert refused[1] < refused[0] / 2
    assert Counter(row.error for row in spared.rows)["circuit_open"] > 0


def test_a_fallback_takes_over() -> None:
    """What the router's model refuses the next one answers, at its own price, without a pause."""
    down = faulty(ServerError(rate=1.0, models=(MODEL,)))
    result = ran(items(5), settings(retries=1, fallbacks=(DEARER,)), down)
    last = [one[-1] for one in requests(result.rows)]
    assert [(row.outcome, row.model, row.attempt) for row in last] == [("ok", DEARER, 2)] * 5
    assert all(b.t_queued == a.t_end for a, b in pairwise(result.rows) if a.key == b.key)
    assert sum(row.cost_usd for row in last) == pytest.approx(
        sum(r.billed_usd for r in result.seen)
    )


def test_an_open_breaker_sends_work_to_the_fallback() -> None:
    """Once the first model is known to be down it is hardly asked any more."""
    down = faulty(ServerError(rate=1.0, models=(MODEL,)))
    chosen = settings(retries=1, fallbacks=(DEARER,), breaker=Breaker(open_s=1000.0))
    result = ran(items(100), chosen, down)
    assert all(one[-1].outcome == "ok" for one in requests(result.rows))
    asked = Counter(row.model for row in result.seen)
    assert asked[DEARER] == 100
    assert asked[MODEL] <= 10 + chosen.concurrency


def test_a_retry_budget_bounds_the_load() -> None:
    """A provider that fails every call is asked a fifth more often than without retries."""
    chosen = settings(concurrency=10, retries=5, retry_budget=RetryBudget(per_s=0.0))
    result = ran(items(500), chosen, faulty(ServerError(rate=1.0)))
    assert 500 < len(result.seen) <= 1.2 * 500


def test_slots_adapt_to_a_provider_that_refuses() -> None:
    """A provider of eight slots that says no to more is asked for about as many."""
    narrow = upstream(1.0, throttle=Throttle(concurrent=8))
    plain = {"retries": 60, "backoff": Backoff(base_s=0.5, cap_s=2.0)}
    fixed = flown(settings(concurrency=50, **plain), narrow)
    adapted = flown(settings(adaptive=Aimd(initial=50), **plain), narrow)
    assert all(one[-1].outcome == "ok" for one in requests(adapted.rows))
    refusals = [sum(row.status == 429 for row in run.seen) for run in (fixed, adapted)]
    assert refusals[1] < refusals[0] / 2


def test_slots_adapt_to_a_provider_that_queues() -> None:
    """Where more at once only wait longer, fewer are sent and no less is served."""
    queueing = upstream(1.0, capacity=Capacity(slots=10))
    wide = ran(items(600), settings(concurrency=100), queueing)
    chosen = settings(adaptive=Gradient2(initial=20, lowest=10, highest=100))
    adapted = ran(items(600), chosen, queueing)
    middle = [
        sorted(row.t_end - row.t_sent for row in run.rows if row.t_sent is not None)[300]
        for run in (wide, adapted)
    ]
    assert middle[1] < 0.8 * middle[0]
    ends = [max(row.t_end for row in run.rows) for run in (wide, adapted)]
    assert ends[1] < 1.1 * ends[0]


def test_no_attempt_outlives_the_deadline() -> None:
    """The last attempt is given what is left, and a pause that would end too late is not made."""
    chosen = settings(concurrency=1, attempt_timeout_s=4.0, retries=9, deadline_s=10.0)
    result = ran(items(3), chosen, faulty(HangBeforeHeaders(rate=1.0)))
    for rows in requests(result.rows):
        assert rows[0].t_admitted is not None
        assert rows[-1].t_end - rows[0].t_admitted <= 10.0 + 1e-6
        assert {row.outcome for row in rows} == {"timed_out"}
    check(result, items(3))
