"""Small jobs of every kind under weather of every kind: what must hold of all of them."""

from collections.abc import Iterable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import BARE, Drive, faulty, items, peak, ran, stops

from harness.pipeline.job import Job
from harness.pipeline.request import Item
from harness.records import Record, records_sha256, requests
from harness.scenario.pipeline import Backoff, Pipeline
from mock_llm.config import Throttle, Upstream
from mock_llm.distributions import Lognormal
from mock_llm.faults import HangBeforeHeaders, ServerError

backoffs = st.builds(
    Backoff,
    base_s=st.sampled_from([0.0, 0.5, 3.0]),
    jitter=st.sampled_from(["full", "equal", None]),
    honour_retry_after=st.booleans(),
)
knobs = st.fixed_dictionaries(
    {
        "concurrency": st.integers(1, 8),
        "slot": st.sampled_from(["before_timeout", "inside_timeout", "never"]),
        "attempt_timeout_s": st.sampled_from([0.5, 2.0, 7.3]),
        "retries": st.integers(0, 3),
        "backoff": backoffs,
        "pool": st.booleans(),
        "pool_limit": st.sampled_from([None, None, 1, 3]),
        "context": st.sampled_from([None, "trim", "grow", "send_all"]),
        "context_exchanges": st.integers(0, 3),
        "rate_limit": st.sampled_from([None, None, 3, 8]),
        "batch_size": st.integers(1, 12),
        "barrier": st.booleans(),
        "job_deadline_s": st.sampled_from([None, None, None, 0.5, 5.0, 61.0]),
        "cache": st.sampled_from([None, "memory"]),
        "stream": st.booleans(),
    }
)


def weather(
    rates: tuple[float, float], hint: float | None, throttle: int | None, setup: float
) -> Upstream:
    """A provider that hangs, refuses and throttles."""
    return faulty(
        HangBeforeHeaders(rate=rates[0]),
        ServerError(rate=rates[1], status=503, retry_after_s=hint),
        ttft=Lognormal(mean=0.8, sigma=0.7),
        throttle=Throttle(requests_per_min=throttle),
        connection_setup=setup,
    )


rates = st.sampled_from([0.0, 0.1, 0.4])
upstreams = st.builds(
    weather,
    st.tuples(rates, rates),
    st.sampled_from([None, 2.0]),
    st.sampled_from([None, None, 10]),
    st.sampled_from([0.0, 0.2]),
)
works = st.integers(0, 25).flatmap(
    lambda count: st.builds(
        items, st.just(count), distinct=st.integers(1, max(count, 1)), users=st.integers(1, 3)
    )
)
drives = st.one_of(st.just(Job.run), st.just(Job.run), st.builds(stops, st.floats(0.0, 30.0)))


def made(knobs: dict[str, Any], *, patient: bool) -> Pipeline:
    """Settings of these knobs; the patient wait for ever, where that is allowed."""
    if patient and knobs["slot"] != "inside_timeout":
        knobs = {**knobs, "attempt_timeout_s": None}
    return msgspec.structs.replace(BARE, **knobs)


pipelines = st.builds(made, knobs, patient=st.sampled_from([False, False, True]))
seeds = st.integers(0, 99)


@settings(max_examples=40, deadline=None)
@given(work=works, chosen=pipelines, provider=upstreams, seed=seeds, drive=drives)
def test_any_job_conserves(
    work: list[Item], chosen: Pipeline, provider: Upstream, seed: int, drive: Drive
) -> None:
    """Nothing is lost, counted twice or seen by one side alone, and every knob holds."""
    result = ran(work, chosen, provider, seed=seed, drive=drive)
    for rows in requests(result.rows):
        assert len(rows) <= chosen.retries + 1
        assert all(row.user == rows[0].user for row in rows)
        assert (rows[-1].outcome == "ok") == (rows[0].key in result.job.answers)
    if chosen.slot != "never":
        assert peak(result.seen) <= chosen.concurrency
    if chosen.pool and chosen.pool_limit:
        assert peak(result.seen) <= chosen.pool_limit
    if chosen.rate_limit:
        assert within_limit(result.rows, chosen.rate_limit)


def within_limit(rows: Iterable[Record], limit: int) -> bool:
    """No user has more first attempts let through than its limit in any 60 s."""
    let: dict[str, list[float]] = {}
    for row in rows:
        if row.t_limited is not None and row.attempt <= 1 and row.cache != "hit":
            let.setdefault(row.user, []).append(row.t_limited)
    # Adding and taking away a wait leaves rounding behind.
    return all(
        later - first >= 60.0 - 1e-9
        for times in map(sorted, let.values())
        for first, later in zip(times, times[limit:], strict=False)
    )


@settings(max_examples=10, deadline=None)
@given(work=works, chosen=pipelines, provider=upstreams, seed=seeds, drive=drives)
def test_any_job_repeats(
    work: list[Item], chosen: Pipeline, provider: Upstream, seed: int, drive: Drive
) -> None:
    """The same job meets the same weather and makes the same rows, to the last digit."""
    digests = {
        records_sha256(ran(work, chosen, provider, seed=seed, drive=drive).rows) for _ in range(2)
    }
    assert len(digests) == 1
