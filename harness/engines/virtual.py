"""The `virtual` engine: real client, real HTTP, real mock, in one process on a jumping clock.

CPU costs nothing on that clock: what a run reports is what the waiting costs.
"""

import asyncio
import time
from typing import Any

from harness.engines.base import EngineResult, OnProgress, Prepared, Target
from harness.engines.runner import AnyJob, interruptible, job_of, result_of
from harness.engines.virtual_loop import VirtualClockError, VirtualLoop, run_virtual
from harness.pipeline.job import Job
from harness.pipeline.journal import Replayed
from harness.pipeline.service.host import Host
from harness.records import Record, moved, requests
from mock_llm.server import MockServer

HOST, PORT, SERVICE_PORT = "127.0.0.1", 8000, 8080
BASE_URL = f"http://{HOST}:{PORT}/api/v1"
NAME = "openrouter.test"  # RFC 6761: a name that is nobody's


def run_on_virtual_clock(
    prepared: Prepared,
    *,
    seed: int,
    target: Target | None = None,
    on_progress: OnProgress | None = None,
    replayed: Replayed | None = None,
) -> EngineResult:
    """Run a prepared scenario in virtual time; see `engines.base.Engine`.

    Raises:
        InputError: the target is a synchronous client, which only `live` can run.
    """
    began = time.perf_counter()
    mock = MockServer(
        prepared.scenario.upstream,
        seed=seed,
        answers=prepared.answer_key,
        ledger_limit=10_000 if target is None else None,  # all: they are the target's records
    )
    job = job_of(prepared, seed, _base_url(mock), target, on_progress, _open_door, replayed)
    invalid: tuple[str, ...] = ()
    try:
        run_virtual(_main(mock, job), seed=seed, packages=_packages(target))
    except VirtualClockError as error:
        invalid = (str(error),)
    if replayed is not None and isinstance(job, Job):
        job.records[:] = [moved(row, -job.origin) for row in job.records]
    result = result_of(job, lambda: mock.ledger.rows, time.perf_counter() - began, invalid)
    if result.stopped != "never_answered":
        return result
    reason = f"nothing can ever wake again: {waiting(result.records)}"
    return result_of(job, lambda: mock.ledger.rows, result.wall_s, (reason,))


async def _main(mock: MockServer, job: AnyJob) -> None:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):  # run_virtual made it
        raise TypeError("the virtual engine needs the virtual loop")
    routed(mock, loop)
    loop.on_stuck = lambda: job.stop("never_answered")
    loop.set_exception_handler(_quiet_once_given_up)
    try:
        with interruptible(loop, job):
            await job.run()
    finally:
        await mock.close()


async def _open_door(host: Host) -> str:
    """Let callers on this loop reach the service."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, VirtualLoop):
        loop.route(HOST, SERVICE_PORT, host.protocol_factory)
    return f"http://{HOST}:{SERVICE_PORT}"


def routed(mock: MockServer, loop: VirtualLoop) -> None:
    """Let clients on this loop reach the mock, by its address or by a name to be looked up."""
    for host in (HOST, NAME):
        loop.route(host, PORT, mock.protocol_factory)
    look_ups = mock.network.look_ups
    loop.look_up_fails = lambda: look_ups.strikes(loop.time()) is not None


def _base_url(mock: MockServer) -> str:
    """An address, unless there are look-ups to fail: then a name, to be looked up."""
    return BASE_URL.replace(HOST, NAME) if mock.network.look_ups else BASE_URL


def _packages(target: Target | None) -> tuple[str, ...]:
    """Where the target lives: code of its package that asks for the time gets the virtual one."""
    module = getattr(target, "__module__", None)
    return (module.partition(".")[0],) if isinstance(module, str) else ()


def _quiet_once_given_up(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What is taken down with a run that was given up is no news: the run's own error tells."""
    if not (isinstance(loop, VirtualLoop) and loop.failure is not None):
        loop.default_exception_handler(context)


def waiting(records: list[Record]) -> str:
    """Who waits, for what, since when."""
    stuck = [rows[-1] for rows in requests(records) if rows[-1].error == "never_answered"]
    told = [
        f"{row.key} has waited for an answer since {row.t_sent:.1f} s"
        if row.t_sent is not None
        else f"{row.key} waits"
        for row in stuck[:3]
    ]
    more = f" and {len(stuck) - 3} more" if len(stuck) > 3 else ""
    return ", ".join(told) + more
