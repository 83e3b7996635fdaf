"""Ends before the end: deadlines, interrupts, silence, bugs, cancellations."""

import asyncio
from typing import Any, NoReturn

import pytest
from jobs import (
    ONE_SECOND,
    driven,
    faulty,
    items,
    job_of,
    ran,
    settings,
    stops,
)

from harness.attribution import verdict
from harness.engines.virtual_loop import VirtualLoop
from harness.pipeline.job import Job
from harness.records import Record
from harness.scenario.pipeline import Backoff
from mock_llm.config import Upstream
from mock_llm.faults import HangBeforeHeaders, ServerError

SILENT = faulty(HangBeforeHeaders(rate=1.0))
DOWN = faulty(ServerError(rate=1.0, after_s=0.25))
LATE = ("timed_out", "job_deadline")


def by(key_from: int, key_to: int, rows: list[Record]) -> list[Record]:
    """Rows of the requests in this range."""
    return [row for row in rows if key_from <= int(row.key[1:]) < key_to]


def test_deadline_ends_everything() -> None:
    """What is done stays done, what is on the wire and what never started is late."""
    result = ran(items(10), settings(concurrency=2, job_deadline_s=2.5))
    done, on_the_wire, unstarted = (by(*ends, result.rows) for ends in ((0, 4), (4, 6), (6, 10)))
    assert result.job.stopped == "job_deadline"
    assert [row.outcome for row in done] == ["ok"] * 4
    assert [(row.attempt, row.outcome, row.error, row.t_end) for row in on_the_wire] == [
        (1, *LATE, 2.5)
    ] * 2
    assert all(row.t_sent is not None and row.cost_usd > 0 for row in on_the_wire)
    assert [(row.attempt, row.outcome, row.error, row.t_end) for row in unstarted] == [
        (0, *LATE, 2.5)
    ] * 4
    assert {(row.t_intended, row.t_queued, row.t_admitted, row.cost_usd) for row in unstarted} == {
        (0.0, 0.0, None, 0.0)
    }
    assert {verdict([row]) for row in unstarted} == {"job_deadline"}


def test_deadline_in_backoff() -> None:
    """A request caught between two attempts has a row for the one that never came."""
    chosen = settings(retries=3, backoff=Backoff(base_s=9.0, jitter=None), job_deadline_s=5.0)
    result = ran(items(3), chosen, DOWN)
    for rows in (by(n, n + 1, result.rows) for n in range(3)):
        assert [(row.attempt, row.outcome, row.error) for row in rows] == [
            (1, "failed", "http_503"),
            (2, *LATE),
        ]
        assert (rows[1].t_queued, rows[1].t_end, rows[1].t_slot) == (5.0, 5.0, None)
        assert verdict(rows) == "backoff"


def test_deadline_at_the_limiter() -> None:
    """A request that its user's limit holds back was admitted and never let through."""
    result = ran(items(4), settings(rate_limit=1, job_deadline_s=5.0, concurrency=4))
    assert [(row.attempt, row.t_admitted, row.t_limited) for row in result.rows[1:]] == [
        (0, 0.0, None)
    ] * 3
    assert [verdict([row]) for row in result.rows] == [None, *["limiter"] * 3]


def test_deadline_at_the_slot() -> None:
    """Whoever waits for a slot inside its limit has begun an attempt and sent nothing."""
    chosen = settings(
        slot="inside_timeout", attempt_timeout_s=60.0, concurrency=1, job_deadline_s=1.5
    )
    result = ran(items(4), chosen)
    assert [(row.attempt, row.outcome, row.t_slot is None) for row in result.rows] == [
        (1, "ok", False),
        (1, "timed_out", False),
        (1, "timed_out", True),
        (1, "timed_out", True),
    ]
    assert [verdict([row]) for row in result.rows[2:]] == ["slot"] * 2


def test_deadline_behind_a_leader() -> None:
    """Followers of a call that never ended end with the job, without an attempt of their own."""
    chosen = settings(cache="memory", concurrency=3, job_deadline_s=4.0)
    result = ran(items(3, distinct=1), chosen, SILENT)
    assert [(row.attempt, row.cache, row.error) for row in result.rows] == [
        (1, "miss", "job_deadline"),
        (0, "miss", "job_deadline"),
        (0, "miss", "job_deadline"),
    ]
    assert len(result.seen) == 1


@pytest.mark.parametrize("slot", ["before_timeout", "never"])
def test_deadline_before_later_batches(slot: str) -> None:
    """Batches that the barrier held back never started."""
    result = ran(items(30), settings(barrier=True, slot=slot, job_deadline_s=1.5, concurrency=20))
    assert [row.attempt for row in result.rows] == [1] * 20 + [0] * 10
    assert [row.outcome for row in result.rows] == ["ok"] * 10 + ["timed_out"] * 20
    assert {row.t_end for row in result.rows[10:]} == {1.5}


def test_deadline_that_is_met() -> None:
    """A job that ends in time was not stopped, and leaves no timer behind."""

    async def drive(job: Job) -> None:
        await job.run()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    result = ran(items(5), settings(job_deadline_s=1e6, attempt_timeout_s=None), drive=drive)
    assert result.job.stopped is None
    assert {row.outcome for row in result.rows} == {"ok"}


def test_attempt_limit_and_deadline_at_one_instant() -> None:
    """Where both strike at once every request still has one end."""
    chosen = settings(attempt_timeout_s=5.0, job_deadline_s=5.0, retries=3, concurrency=3)
    result = ran(items(3), chosen, SILENT)
    ends = [by(n, n + 1, result.rows)[-1] for n in range(3)]
    assert [(row.outcome, row.error, row.t_end) for row in ends] == [(*LATE, 5.0)] * 3


def test_interrupt_keeps_what_was_done() -> None:
    """Answers stay, what was on the wire has failed, what never started is left for later."""
    result = ran(items(10), settings(concurrency=2), drive=stops(2.5))
    assert result.job.stopped == "interrupted"
    assert [(row.attempt, row.outcome, row.error) for row in result.rows] == [
        *[(1, "ok", "")] * 4,
        *[(1, "failed", "interrupted")] * 2,
    ]
    assert len(result.job.answers) == 4


@pytest.mark.parametrize(
    ("chosen", "rows"),
    [
        (settings(rate_limit=1), [(1, "ok"), *[(0, "failed")] * 4]),
        (settings(cache="memory"), [(1, "ok"), *[(0, "ok")] * 4]),
        (settings(barrier=True, concurrency=1), [(1, "ok")] * 2 + [(1, "failed")]),
    ],
    ids=["limiter", "cache", "barrier"],
)
def test_interrupt_wherever_a_request_waits(chosen: Any, rows: list[tuple[int, str]]) -> None:
    """Every request that had started has its rows."""
    result = ran(items(5, distinct=1), chosen, drive=stops(2.5))
    assert [(row.attempt, row.outcome) for row in result.rows] == rows


def test_first_stop_counts() -> None:
    """A job that is being stopped has one reason; one that has ended needs none."""

    async def twice(job: Job) -> None:
        for reason in ("interrupted", "never_answered"):
            asyncio.get_running_loop().call_at(1.5, job.stop, reason)
        await job.run()

    async def afterwards(job: Job) -> None:
        await job.run()
        job.stop("interrupted")

    assert ran(items(10), settings(), drive=twice).job.stopped == "interrupted"
    assert ran(items(5), settings(), drive=afterwards).job.stopped is None


def test_silence_without_a_limit() -> None:
    """When nothing can ever wake again, whoever waits for an answer is named."""
    result = ran(items(7), settings(attempt_timeout_s=None, concurrency=3), SILENT)
    assert result.job.stopped == "never_answered"
    assert [(row.key, row.outcome, row.error) for row in result.rows] == [
        (f"r{n:06d}", "failed", "never_answered") for n in range(3)
    ]
    assert {verdict([row]) for row in result.rows} == {"no_first_token"}


def bug(*_: Any) -> NoReturn:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("tools", "provider", "changes"),
    [
        ({"uniform": bug}, DOWN, {"retries": 1}),
        ({"count_tokens": bug}, SILENT, {"attempt_timeout_s": 2.0}),
        ({"on_progress": bug}, ONE_SECOND, {}),
        ({"on_progress": bug}, ONE_SECOND, {"cache": "memory"}),
        ({"prices": {}}, DOWN, {"slot": "inside_timeout"}),
        ({"count_tokens": bug}, SILENT, {"job_deadline_s": 2.0}),
        ({"count_tokens": bug}, SILENT, {"attempt_timeout_s": None}),
    ],
)
def test_bugs_are_not_swallowed(
    tools: dict[str, Any], provider: Any, changes: dict[str, Any]
) -> None:
    """An exception that nobody foresaw ends the run, even while the job is being stopped."""
    with pytest.raises(ExceptionGroup) as caught:
        ran(items(12), settings(**changes), provider, **tools)
    assert caught.group_contains((ZeroDivisionError, KeyError))


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("provider", [ONE_SECOND, SILENT, DOWN], ids=["busy", "silent", "backoff"])
def test_cancellation_from_outside_is_passed_on(provider: Upstream, stopped: bool) -> None:
    """Whoever cancels the job is told so, even if the job was stopped at that very moment."""

    async def drive(job: Job) -> None:
        task = asyncio.create_task(job.run())
        await asyncio.sleep(1.5)
        if stopped:
            job.stop("interrupted")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    chosen = settings(concurrency=2, retries=1, backoff=Backoff(base_s=9.0, jitter=None))
    result = driven(job_of(items(10), chosen), provider, drive)
    assert len(result.job.answers) == (2 if provider is ONE_SECOND else 0)
    made_up = {row.error for row in result.rows} - {"", "http_503"}
    assert made_up == ({"interrupted"} if stopped else set())


def test_stop_can_be_survived() -> None:
    """A stopped job ends like any other: its task goes on, and is not taken for cancelled."""

    async def drive(job: Job) -> None:
        await stops(1.5)(job)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        async with asyncio.timeout(10):
            await asyncio.sleep(1)

    assert ran(items(10), settings(), drive=drive).job.stopped == "interrupted"
