"""Threads that work for the virtual loop: the clock waits for them."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest
from virtual_servers import the_loop

from harness.engines.virtual_loop import (
    StuckError,
    run_virtual,
)


def _job() -> int:
    return sum(i % 2 for i in range(300_000))  # longer than the loop needs to jump


@pytest.mark.parametrize(
    "in_thread",
    [
        asyncio.to_thread,
        anyio.to_thread.run_sync,
        lambda job: asyncio.get_running_loop().run_in_executor(None, job),
    ],
)
def test_clock_stands_still_while_a_thread_works(in_thread: Callable[..., Any]) -> None:
    """While a thread works for the loop no time passes, though a timer is due next."""

    async def main() -> float:
        timer = asyncio.create_task(asyncio.sleep(1e-9))
        for _ in range(3):
            assert await in_thread(_job) == _job()
        now = the_loop().time()
        await timer
        return now

    assert run_virtual(main()) == 0.0


def _count(turns: int) -> None:
    for _ in range(turns):  # lets go of the interpreter now and then, as `sum` would not
        pass


def test_jobs_begun_together_end_in_order() -> None:
    """Jobs in threads, begun at one instant, are seen to end in the order they were begun."""

    async def main() -> list[int]:
        ended: list[int] = []

        async def work(i: int) -> None:
            await asyncio.to_thread(_count, 10 if i else 2_000_000)
            ended.append(i)

        await asyncio.gather(*(work(i) for i in range(20)))
        return ended

    assert run_virtual(main()) == list(range(20))


def test_job_that_never_ends_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that keeps the clock still beyond all patience ends the run with an error."""
    monkeypatch.setattr("harness.engines.virtual_loop.SHORT_JOB_WALL_S", 0.0)
    monkeypatch.setattr("harness.engines.virtual_loop.THREAD_PATIENCE_WALL_S", 0.01)
    end = threading.Event()
    with pytest.raises(StuckError, match="a thread has kept the virtual clock still"):
        run_virtual(asyncio.to_thread(end.wait))
    end.set()


def test_polling_a_thread_is_no_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may poll for a thread's result: real work goes on although the clock stands."""
    monkeypatch.setattr("harness.engines.virtual_loop.SHORT_JOB_WALL_S", 0.0)
    polled = threading.Event()

    async def main() -> bool:
        the_loop().quiet_turns = 10
        job = asyncio.get_running_loop().run_in_executor(None, polled.wait)
        for _ in range(50):
            await asyncio.sleep(0)
        polled.set()
        return await job

    assert run_virtual(main())


def test_executor_can_be_shut_down() -> None:
    """Ending the executor's threads takes real time, but no virtual time."""

    async def main() -> float:
        timer = asyncio.create_task(asyncio.sleep(1))
        await asyncio.to_thread(_job)
        await the_loop().shutdown_default_executor()
        now = the_loop().time()
        await timer
        return now

    assert run_virtual(main()) == 0.0
