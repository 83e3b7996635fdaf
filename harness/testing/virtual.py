"""A test on the virtual clock: its run, and its clock's errors as failures that say who waits."""

import asyncio
import sysconfig
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.engines.virtual_guard import SynchronousClientError
from harness.engines.virtual_loop import YEAR_S, StuckError, VirtualClockError, run_virtual
from harness.testing.hosts import VIRTUAL_ADDRESS, settle
from harness.testing.mock import MockLLM
from harness.testing.seen import told

_HERE = Path(__file__).parents[2]
_LIBRARIES = {Path(sysconfig.get_path("stdlib")), _HERE / "harness", _HERE / "mock_llm"}
Test = Callable[[], Coroutine[Any, Any, object]]


class VirtualTestError(AssertionError):
    """The test cannot end on the virtual clock; the text says who waits for what."""


def run_test(
    test: Test,
    mocks: Sequence[MockLLM],
    *,
    name: str = "the test",
    seed: int = 0,
    horizon_s: float = YEAR_S,
    packages: Iterable[str] = (),
) -> None:
    """Run an asynchronous test in virtual time, with its mock in the same loop.

    Args:
        test: makes the coroutine.
        mocks: of the test, at most one.
        name: of the test, for reports of who waits.
        seed: of the global `random`.
        horizon_s: virtual seconds that it may last.
        packages: that ask for the time and shall get the virtual one.

    Raises:
        VirtualTestError: nothing can ever wake it, it spins, it lasts too long, or it blocks.
    """
    where: list[str] = []
    try:
        run_virtual(
            _main(test, mocks, name, where), seed=seed, horizon_s=horizon_s, packages=packages
        )
    except VirtualClockError as error:
        raise VirtualTestError(_explained(error, mocks, where)) from None
    except SynchronousClientError as error:
        reason = str(error).partition(": use")[0]
        cure = "use their asynchronous forms, or leave out the marker virtual_time"
        raise VirtualTestError(f"{reason}: {cure}") from None


async def _main(test: Test, mocks: Sequence[MockLLM], name: str, where: list[str]) -> None:
    loop: Any = asyncio.get_running_loop()
    if (task := asyncio.current_task()) is not None:
        task.set_name(name)
    for mock in mocks:
        loop.route(*VIRTUAL_ADDRESS, mock.server.protocol_factory)
        mock.enter(loop)

    def note() -> None:
        where.extend(filter(None, map(_where, sorted(asyncio.all_tasks(), key=_name))))
        for mock in mocks:
            mock.note_stuck()

    loop.on_stuck = note
    try:
        await test()
    finally:
        await settle()
        for mock in mocks:
            mock.judge_end()
            await mock.server.close()


def _name(task: asyncio.Task[Any]) -> str:
    return task.get_name()


def _where(task: asyncio.Task[Any]) -> str:
    """Where a task waits: the innermost line of its own code; "" for what is only a library's."""
    line = ""
    inner: Any = task.get_coro()
    while (frame := getattr(inner, "cr_frame", None)) is not None:
        path = Path(frame.f_code.co_filename)
        if not (_LIBRARIES & {*path.parents} or "site-packages" in path.parts):
            at = f"{path.name}:{frame.f_lineno}"
            line = f"  {task.get_name()} waits at {at} in {frame.f_code.co_name}"
        inner = getattr(inner, "cr_await", None)
    return line


def _explained(error: VirtualClockError, mocks: Sequence[MockLLM], where: Sequence[str]) -> str:
    lines = [str(error), *where]
    if isinstance(error, StuckError):
        calls = [call for mock in mocks for call in mock.calls]
        waiting = [call.row for mock in mocks for call in calls if call.key in mock.stuck]
        lines += [f"  {told(row, calls)}" for row in waiting]
        lines += ["the client has no timeout: these answers never come"] if waiting else []
    return "\n".join(lines)
