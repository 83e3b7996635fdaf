"""Real asyncio code and real sockets on a clock that jumps: the virtual-clock event loop.

Theory of operation. asyncio asks its selector to wait for I/O until the next timer is due. Here
the selector polls the real I/O first, without waiting. If some is ready, it is handled and no time
passes. If none is ready and asyncio has nothing else to run, then nothing can happen before the
next timer, and the clock moves to exactly that timer's time. So time passes only while everybody
waits for it, 23 minutes of waiting cost nothing, and what happened is the same every time:

- connections never leave the process (`virtual_net`), so all sent bytes are readable at the poll;
- sockets that become ready together are handled in the order in which they were registered
  (epoll's own order varies inside one process), timers of one instant in the order they were set
  (asyncio's heap keeps no order among equals);
- while a thread works for the loop, the clock stands still and the selector waits for real;
- tasks keep their order in sets, which is by memory address otherwise;
- what reads other clocks or draws global random numbers is taken over (`virtual_patches`).

The clock starts at 0: from a large origin the distance between two neighbouring floats is so large
that timers fall short of their time.
"""

import asyncio
import contextlib
import heapq
import itertools
import math
import selectors
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextvars import Context
from typing import Any, TypeVar

from harness.engines.virtual_net import Address, InProcessLoop, ProtocolFactory
from harness.engines.virtual_patches import patched

T = TypeVar("T")

YEAR_S = 365 * 86_400.0
# A turn is one pass of the loop. A thousand clients that start at one instant settle in dozens.
QUIET_TURNS = 100_000
BUSY_TURNS = 50 * QUIET_TURNS
SHORT_JOB_WALL_S = 1.0
THREAD_PATIENCE_WALL_S = 600.0


class VirtualClockError(RuntimeError):
    """The run cannot go on: its clock has nowhere to go."""


class StuckError(VirtualClockError):
    """Nothing can ever wake again: no timer, no bytes on the way, no thread at work.

    On the wall clock this run would hang for ever. Give the calls that wait a time limit.
    """


class SpinError(VirtualClockError):
    """A task runs again and again without waiting, so that no time can ever pass.

    Let it await what it waits for, or sleep for more than 0 seconds between two looks.
    """


class HorizonError(VirtualClockError):
    """The clock passed the horizon: only periodic timers are left, or a wait is absurdly long."""


class _Timer(asyncio.TimerHandle):
    """A timer that comes after those set before it for the same instant."""

    __slots__ = ("sequence",)
    sequence: int
    _when: float
    _scheduled: bool

    def __lt__(self, other: "_Timer") -> bool:  # type: ignore[override]
        return self._when < other._when or (
            self._when == other._when and self.sequence < other.sequence
        )


class _Task(asyncio.Task[Any]):
    """A task that takes the same place in a set in every run.

    Tasks are hashed by their memory address, and `asyncio.TaskGroup` cancels its set of tasks in
    that order: of four runs in one process, no two agreed.
    """

    _number: int

    def __hash__(self) -> int:
        # asyncio asks first of all, when it enters the new task into its set of all tasks; a
        # constructor for this would cost more than all the rest.
        try:
            return self._number
        except AttributeError:
            self._number = next(self.get_loop().numbers)  # type: ignore[attr-defined]
            return self._number


class _Selector(selectors.DefaultSelector):
    """Polls real I/O, in an order that repeats; tells the loop whether there was any."""

    def __init__(self, on_io: Callable[[], None], on_none: Callable[[float | None], bool]) -> None:
        super().__init__()
        self._on_io = on_io
        self._on_none = on_none
        self._sequence = itertools.count()
        self._order: dict[int, int] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = super().register(fileobj, events, data)
        self._order[key.fd] = next(self._sequence)
        return key

    def _place(self, event: tuple[selectors.SelectorKey, int]) -> int:
        return self._order[event[0].fd]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            self._on_io()
        elif self._on_none(timeout):
            ready = super().select(THREAD_PATIENCE_WALL_S)
            if not ready:
                patience = f"{THREAD_PATIENCE_WALL_S:g} s of real time"
                raise StuckError(f"a thread has kept the virtual clock still for {patience}")
        if len(ready) > 1:
            ready.sort(key=self._place)
        return ready


class VirtualLoop(InProcessLoop):
    """An asyncio event loop whose clock starts at 0 and jumps to the next timer.

    Register servers with `route` and run it like any other loop, or leave it to `run_virtual`.

    Attributes:
        on_stuck: called when nothing can ever wake again; it may schedule something (set a
            future's result, cancel a task). If it is None or schedules nothing: `StuckError`.
        horizon_s: virtual time past which the run ends with `HorizonError`.
        failure: why the run was given up, or None.
        quiet_turns: at one instant, without I/O in between, before `SpinError`.
        busy_turns: at one instant with I/O before `SpinError`.
    """

    _clock_resolution: float
    _default_executor: ThreadPoolExecutor | None
    _ready: deque[asyncio.Handle]
    _scheduled: list[_Timer]
    _transports: Mapping[int, asyncio.Transport]

    def __init__(self) -> None:
        super().__init__(_Selector(self._had_io, self._had_none))
        self.on_stuck: Callable[[], object] | None = None
        self.horizon_s = YEAR_S
        self.failure: Exception | None = None
        self.quiet_turns = QUIET_TURNS
        self.busy_turns = BUSY_TURNS
        self._clock_resolution = math.ulp(0.0)
        self._now = 0.0
        self.numbers = itertools.count()
        self._quiet = self._busy = self._threads = 0

    def time(self) -> float:
        """Return virtual seconds since the start of the run."""
        return self._now

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], **options: Any
    ) -> asyncio.Task[T]:
        """Start a task whose place in a set is its number."""
        if self.is_closed() or self.get_task_factory() is not None:
            return super().create_task(coro, **options)
        return _Task(coro, loop=self, **options)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule a callback; those of one instant run in the order of their scheduling."""
        self._check_closed()  # type: ignore[attr-defined]
        timer = _Timer(when, callback, args, self, context)
        timer.sequence = next(self.numbers)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # noqa: SLF001 - asyncio's own mark of a timer in the heap
        return timer

    def _had_io(self) -> None:
        self._quiet = 0
        self._busy += 1
        if self._busy > self.busy_turns:
            self._busy = 0
            raise SpinError(self._report(f"no time passed in {self.busy_turns} turns of I/O"))

    def _had_none(self, timeout: float | None) -> bool:
        """Move the clock if everybody waits for it; True: threads are at work, wait for them."""
        if self._threads:
            return timeout != 0
        if timeout == 0:  # asyncio has more to run at this instant
            self._count_quiet_turn()
        elif self._scheduled and self._scheduled[0].when() < math.inf:
            self._jump(self._scheduled[0].when())
        else:
            self._stuck()
        return False

    def _jump(self, when: float) -> None:
        if when > self.horizon_s:
            raise HorizonError(self._report(f"the clock would pass {self.horizon_s:g} s"))
        self._now = float(when)  # aiohttp's own timers have whole seconds
        self._clock_resolution = math.ulp(when)
        self._quiet = self._busy = 0

    def _count_quiet_turn(self) -> None:
        self._quiet += 1
        if self._quiet > self.quiet_turns:
            self._quiet = 0
            raise SpinError(self._report(f"no time passed in {self.quiet_turns} turns"))

    def _stuck(self) -> None:
        self._count_quiet_turn()
        if self.on_stuck is not None:
            self.on_stuck()
        if not (self._ready or self._threads or any(t.when() < math.inf for t in self._scheduled)):
            raise StuckError(self._report("nothing can ever wake again"))

    def _report(self, what: str) -> str:
        """Return `what`, when, and the tasks it is about: those that run, else those that wait."""
        running = [_task_of(handle) for handle in self._ready]
        tasks = [task for task in running if task] or asyncio.all_tasks(self)
        return f"{what} (virtual time {self._now:g} s): {_summary(tasks)}"

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold the clock still: something outside the loop is at work on its behalf."""
        self._threads += 1
        try:
            yield
        finally:
            self._threads -= 1

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run a job in a thread or process; the clock stands still until it is done.

        A short job is waited for on the spot: of fifty that are begun together (the first calls
        of openai's client, which ask for their platform in a thread) every run would otherwise
        see the ends in another order. A long one goes on beside the loop.
        """
        if executor is None:
            if self._default_executor is None:
                self.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
            executor = self._default_executor
        assert executor is not None  # noqa: S101 - set just now
        call = executor.submit(func, *args)
        wait([call], timeout=SHORT_JOB_WALL_S)
        job = asyncio.wrap_future(call, loop=self)
        self._threads += 1
        job.add_done_callback(self._job_ended)
        return job

    def _job_ended(self, _: asyncio.Future[Any]) -> None:
        self._threads -= 1

    async def shutdown_default_executor(self, *args: Any) -> None:
        """End the executor's threads; asyncio waits for them in a thread of its own."""
        with self.frozen():
            await super().shutdown_default_executor(*args)

    def give_up(self, error: Exception) -> None:
        """End the run with this error; from any thread. `run_virtual` raises it."""
        self.failure = self.failure or error
        self.call_soon_threadsafe(self.stop)

    def close(self) -> None:
        """Close the loop and whatever connections are left on it."""
        try:
            if not (self.is_closed() or self.is_running()):
                self._hang_up()
        finally:
            super().close()

    def _hang_up(self) -> None:
        for transport in list(self._transports.values()):
            transport.abort()
        self.stop()
        self.run_forever()  # one turn: the protocols hear of it, the sockets are closed


def run_virtual(
    main: Coroutine[Any, Any, T],
    *,
    seed: int = 0,
    routes: Mapping[Address, ProtocolFactory] | None = None,
    on_stuck: Callable[[], object] | None = None,
    horizon_s: float = YEAR_S,
    packages: Iterable[str] = (),
) -> T:
    """Run a coroutine on a virtual clock that starts at 0, in this thread, and clean up after it.

    Args:
        main: in it, `asyncio.get_running_loop()` is the `VirtualLoop`.
        seed: of the global `random`, from which foreign clients draw their jitter.
        routes: servers by (host, port), for those that can be made before the loop runs.
        on_stuck: see `VirtualLoop`.
        horizon_s: virtual seconds the run may last.
        packages: of the code under test; their `time` is virtual too.

    Raises:
        StuckError: nothing can ever wake again.
        SpinError: some task never waits.
        HorizonError: the horizon was reached.
        SynchronousClientError: the code under test blocks.
    """
    loop = VirtualLoop()
    loop.on_stuck = on_stuck
    loop.horizon_s = horizon_s
    for (host, port), factory in (routes or {}).items():
        loop.route(host, port, factory)
    try:
        with patched(loop, seed=seed, packages=packages), _run_on(loop) as runner:
            return runner.run(main)
    finally:
        if loop.failure is not None:
            raise loop.failure


@contextlib.contextmanager
def _run_on(loop: VirtualLoop) -> Iterator[asyncio.Runner]:
    """Cancel what is left of a run, then close its loop."""
    runner = asyncio.Runner(loop_factory=lambda: loop)
    try:
        yield runner
    finally:
        loop.on_stuck = None
        # A task that clings to life gets stuck, spins or blocks again; the first error tells more.
        with contextlib.suppress(RuntimeError):
            runner.close()
        loop.close()


def _task_of(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    """Return the task whose step this handle is, if it is one; asyncio has no public way."""
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]  # noqa: SLF001
    return owner if isinstance(owner, asyncio.Task) else None


def _summary(tasks: Iterable[asyncio.Task[Any]]) -> str:
    """Return tasks by coroutine, such as `3 x fetch (Task-2, Task-3, ...)`."""
    names: dict[str, list[str]] = {}
    for task in sorted(tasks, key=lambda t: (len(t.get_name()), t.get_name())):
        coroutine = getattr(task.get_coro(), "__qualname__", "?")
        names.setdefault(coroutine, []).append(task.get_name())
    return "; ".join(
        f"{len(group)} x {coroutine} ({', '.join(group[:2] + ['...'] * (len(group) > 2))})"
        for coroutine, group in names.items()
    )
