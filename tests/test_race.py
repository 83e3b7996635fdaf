"""Races between two calls, and slots that adapt, when somebody is cancelled in the middle."""

import asyncio

import pytest
from jobs import driven, faulty, items, job_of, settings, stops, upstream
from services import Caller, serving
from test_guards import flown

from harness.engines.virtual_loop import run_virtual
from harness.invariants import violations
from harness.pipeline.adaptive import adaptive_of
from harness.pipeline.gate import Gate
from harness.pipeline.money import Purse
from harness.records import HEDGE_LOST, requests
from harness.scenario.resilience import Aimd, Hedge
from mock_llm.distributions import Exponential, Lognormal
from mock_llm.faults import HangBeforeHeaders, ServerError

EAGER = Hedge(quantile=0.5, min_samples=5, share=0.5)


@pytest.mark.parametrize("at", [7.3, 11.9, 20.01])
def test_a_hedged_run_that_is_stopped_counts_every_call_once(at: float) -> None:
    """Wherever the stop falls, each call has one row, and each request one outcome."""
    chosen = settings(concurrency=20, retries=2, hedge=EAGER)
    purse = Purse(None)
    slow = upstream(Lognormal(mean=1.0, sigma=0.8))
    result = driven(job_of(items(400), chosen, purse=purse), slow, stops(at))
    keys = {f"r{n:06d}" for n in range(400)}
    assert violations(result.rows, keys, complete=False) == []
    sent = [row for row in result.rows if row.t_sent is not None]
    assert len(sent) == len(result.seen)
    assert purse.statistics().reserved_usd == pytest.approx(0.0, abs=1e-12)


def test_callers_who_leave_a_race_leave_its_costs_behind() -> None:
    """What was answered and paid for is in the rows, though nobody took it."""

    async def drive(caller: Caller) -> None:
        for n in range(8):
            await caller.review(f"Warm {n}.")
        asked = [asyncio.create_task(caller.review(f"Lamp {n}.")) for n in range(60)]
        await asyncio.sleep(1.1)
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)
        await asyncio.sleep(1.0)

    purse = Purse(None)
    chosen = settings(workers=60, hedge=EAGER)
    served = serving(drive, chosen, upstream(Exponential(mean=1.0)), purse=purse)
    spent = purse.statistics().spent_usd
    assert sum(row.cost_usd for row in served.rows) == pytest.approx(spent)
    for rows in requests(served.rows):
        assert rows[-1].error != HEDGE_LOST
        assert len({row.attempt for row in rows}) == len(rows)


def test_what_fails_last_is_what_counts() -> None:
    """Where both calls fail, the attempt ends with the one that ended later."""
    chosen = settings(concurrency=20, attempt_timeout_s=5.0, hedge=EAGER)
    failing = faulty(HangBeforeHeaders(rate=0.3), ServerError(rate=0.5), ttft=0.5)
    result = flown(chosen, failing)
    both = [rows for rows in requests(result.rows) if len(rows) == 2 and rows[-1].outcome != "ok"]
    assert len(both) > 5
    assert all(rows[-1].t_end >= rows[0].t_end for rows in both)


def test_whoever_leaves_the_line_takes_no_slot() -> None:
    """A gate whose waiters are cancelled, at any moment, still has all its slots."""

    async def main() -> tuple[int, int]:
        gate = Gate(adaptive_of(Aimd(initial=2, highest=2)))
        await gate.enter()
        await gate.enter()
        waiting = [asyncio.create_task(gate.enter()) for _ in range(4)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.leave()  # at the moment at which the first in line has left
        waiting[1].cancel()  # and the second, who has just been given its slot
        await asyncio.wait(waiting[:2])
        await asyncio.sleep(0)
        assert [task.done() and not task.cancelled() for task in waiting[2:]] == [True, False]
        gate.leave()
        await asyncio.sleep(0)
        gate.leave()
        gate.leave()
        return gate.in_flight, gate.waiting

    assert run_virtual(main()) == (0, 0)
