"""A job against the real mock on a virtual clock, with what must hold of every run checked."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from harness.corpus.review import Review
from harness.engines.base import prices_of
from harness.engines.virtual import NAME, routed
from harness.engines.virtual_loop import VirtualLoop, run_virtual
from harness.invariants import violations
from harness.pipeline.costs import tiers
from harness.pipeline.dispatch import Stop
from harness.pipeline.job import Job
from harness.pipeline.request import Item, items_of
from harness.pipeline.routing import Route
from harness.pipeline.secret import Secret
from harness.pipeline.toolkit import Toolkit
from harness.records import Record, in_order
from harness.scenario.pipeline import Pipeline
from mock_llm.config import Profile, Upstream
from mock_llm.faults import Fault
from mock_llm.ledger import Row
from mock_llm.rng import Keyed
from mock_llm.server import MockServer
from mock_llm.tokens import estimate

HOST, PORT = "127.0.0.1", 8000
URL = f"http://{HOST}:{PORT}/api/v1"
BY_NAME = f"http://{NAME}:{PORT}/api/v1"
MODEL = "openai/gpt-4o-mini"
TRANSIT_S = 1e-3
BARE = Pipeline(instructions="Judge.", context=None, rate_limit=None, retries=0)
ONE_SECOND = Upstream(profile=Profile(ttft=1.0))

Drive = Callable[[Job], Awaitable[object]]


class Ran(NamedTuple):
    """A run: the job, its rows in order, and the mock's in the order in which they ended."""

    job: Job
    rows: list[Record]
    seen: list[Row]

    def outcomes(self) -> list[tuple[str, int, str, str]]:
        """Key, attempt, outcome and error of every row."""
        return [(row.key, row.attempt, row.outcome, row.error) for row in self.rows]


def settings(**changes: Any) -> Pipeline:
    """The barest pipeline, with changes."""
    return msgspec.structs.replace(BARE, **changes)


def upstream(ttft: Any = 1.0, **more: Any) -> Upstream:
    """A provider by its time to first token."""
    return Upstream(profile=Profile(ttft=ttft), **more)


def faulty(*faults: Fault, ttft: Any = 1.0, **more: Any) -> Upstream:
    """A provider with these faults, tried in order."""
    return upstream(ttft, faults={f"fault {n}": fault for n, fault in enumerate(faults)}, **more)


def reviews(count: int, distinct: int | None = None) -> list[Review]:
    """Reviews of which the first `distinct` are repeated over and over."""
    return [
        Review(id=str(n), content=f"Lamp number {n % (distinct or count)} is a good one.")
        for n in range(count)
    ]


def items(
    count: int, *, distinct: int | None = None, users: int = 1, batch: int = 10, model: str = MODEL
) -> list[Item]:
    """Requests for one model."""
    given = reviews(count, distinct)
    routes = [Route(model, None, "the only model")] * count
    ranks = tiers(prices_of(Upstream()))
    return items_of(given, routes, ranks, users=users, batch_size=batch)


def job_of(given: Sequence[Item], chosen: Pipeline, seed: int = 1, **tools: Any) -> Job:
    """A job as the engines make it."""
    kit = Toolkit(
        base_url=URL,
        api_key=Secret("sk-or-v1-test"),
        prices=prices_of(Upstream()),
        uniform=Keyed(seed).uniform,
        count_tokens=estimate,
    )
    return Job(given, chosen, msgspec.structs.replace(kit, **tools))


def ran(
    given: Sequence[Item],
    chosen: Pipeline,
    provider: Upstream = ONE_SECOND,
    *,
    seed: int = 1,
    drive: Drive = Job.run,
    **tools: Any,
) -> Ran:
    """Run a job to its end, whatever that is, and check what must hold of every run.

    Args:
        given: requests.
        chosen: settings of the pipeline.
        provider: settings of the mock.
        seed: of the weather and the jitter.
        drive: runs it.
        tools: changes to its toolkit.
    """
    result = driven(job_of(given, chosen, seed, **tools), provider, drive, seed)
    check(result, given)
    return result


def driven(job: Job, provider: Upstream, drive: Drive, seed: int = 1) -> Ran:
    """Run a job that may end in any way; it must leave no task and no slot behind."""
    mock = MockServer(provider, seed=seed)
    run_virtual(_main(job, mock, drive), seed=seed)
    gc.collect(1)
    return Ran(job, in_order(job.records), list(mock.ledger.rows))


async def _main(job: Job, mock: MockServer, drive: Drive) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    routed(mock, loop)
    loop.on_stuck = lambda: job.stop("never_answered")
    try:
        await drive(job)
    finally:
        await mock.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert job.processor is None or job.processor.is_idle


def stops(at: float, reason: Stop = "interrupted") -> Drive:
    """Run the job and stop it at this time, if it lasts so long."""

    async def drive(job: Job) -> None:
        timer = asyncio.get_running_loop().call_at(at, job.stop, reason)
        await job.run()
        timer.cancel()

    return drive


def check(result: Ran, given: Iterable[Item]) -> None:
    """Nothing is lost, nothing counted twice, and both sides saw the same calls."""
    complete = result.job.stopped in {None, "job_deadline"}
    assert violations(result.rows, {item.key for item in given}, complete=complete) == []
    sent = [(row.key, str(row.attempt)) for row in result.rows if row.t_sent is not None]
    assert sent == sorted((row.key, row.attempt) for row in result.seen if row.key)


def peak(seen: Iterable[Row]) -> int:
    """Most attempts that the provider had in hand at once."""
    steps = [(row.arrived_s, 1) for row in seen]
    steps += [(row.ended_s, -1) for row in seen if row.ended_s is not None]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most
