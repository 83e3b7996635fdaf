"""What a run on the virtual clock changes in the process, and puts back afterwards.

The loop's own clock is not the only one. HTTP clients ask `time` how old a pooled connection is,
retry libraries how long they have been trying; both draw jitter from the global `random`. Worker
threads and blocking sockets go round the loop altogether. Each is taken over for the length of a
run, in one place, and nothing of it outlives the run, however it ends.
"""

import contextlib
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, Protocol

from harness.errors import InputError
from mock_llm.server import EPOCH_S

# Packages that read the wall clock where loop time is meant: idle pooled connections (aiohttp,
# httpcore), `Retry-After` dates (openai), the longest time to keep trying (openrouter, tenacity,
# backoff), `elapsed` (httpx), breakers' and limiters' windows.
CLIENT_PACKAGES = frozenset(
    {"aiobreaker", "aiohttp", "anthropic", "backoff", "circuitbreaker", "httpcore", "httpcore2"}
    | {"httpx", "httpx2", "limits", "openai", "openrouter", "purgatory", "pybreaker", "tenacity"}
)

# `random`, `socket.socket` and the clients' modules belong to the whole process.
_one_run_at_a_time = threading.RLock()


class SynchronousClientError(InputError):
    """The code under test blocks; the virtual clock cannot run it, the wall clock can."""


class _Abandon(BaseException):
    """Takes a blocking call down; not an `Exception`, so that no client retries it in real time."""


class Clock(Protocol):
    """What the patches need of the virtual loop."""

    def time(self) -> float:
        """Return virtual seconds."""
        ...

    def give_up(self, error: Exception) -> None:
        """End the run with this error, from any thread."""
        ...

    def frozen(self) -> contextlib.AbstractContextManager[None]:
        """Hold the clock still."""
        ...


@contextlib.contextmanager
def patched(clock: Clock, *, seed: int, packages: Iterable[str] = ()) -> Iterator[None]:
    """Take over the process for a run of this clock, in the thread that enters.

    Runs in other threads wait for their turn: what is taken over belongs to the whole process.

    Args:
        clock: the loop.
        seed: for the global `random`, whose state is restored afterwards.
        packages: whose `time` is the virtual one, besides `CLIENT_PACKAGES`; those imported
            during the run keep the wall clock.
    """
    with _one_run_at_a_time, contextlib.ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        random.seed(seed)
        for owner, name, value in (
            *_clocks(clock, CLIENT_PACKAGES.union(packages)),
            *_blocking_calls(clock),
            *_resolver(),
            *_worker_threads(clock),
        ):
            stack.enter_context(replaced(owner, name, value))
        yield


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """Set an attribute of a module or class; afterwards put back, or uncover, what was there."""
    own = name in vars(owner)
    before = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


Patch = tuple[Any, str, object]


def _clocks(clock: Clock, packages: frozenset[str]) -> Iterator[Patch]:
    """Yield every name in these packages that stands for `time` or one of its functions."""
    virtual = _virtual_time(clock)
    stand_ins: dict[int, object] = {
        id(getattr(time, name)): getattr(virtual, name) for name in _READINGS
    }
    stand_ins[id(time)] = virtual
    for path, module in list(sys.modules.items()):
        if path.partition(".")[0] in packages:
            for name, value in list(vars(module).items()):
                if id(value) in stand_ins:
                    yield module, name, stand_ins[id(value)]


_READINGS = ("monotonic", "perf_counter", "time", "sleep")


def _virtual_time(clock: Clock) -> ModuleType:
    """Return a copy of the `time` module that reads the virtual clock."""
    own_thread = threading.get_ident()

    def sleep(seconds: float) -> None:
        if threading.get_ident() == own_thread:
            _refuse(clock, f"time.sleep({seconds:g}) would stop the event loop")
        time.sleep(seconds)

    virtual = ModuleType("time")
    vars(virtual).update(vars(time))
    readings = {"monotonic": clock.time, "perf_counter": clock.time, "sleep": sleep}
    vars(virtual).update(readings, time=lambda: EPOCH_S + clock.time())
    return virtual


def _blocking_calls(clock: Clock) -> Iterator[Patch]:
    """Yield guards on what every synchronous client must call.

    In the loop's thread such a call would wait for a server that only the waiting thread can run;
    in another it would stop the clock for ever, or leave the process. Other event loops in other
    threads connect without blocking: they are none of this run's business. Of Unix sockets in
    other threads the same holds (pools of processes use them), and of datagrams (logging does).
    """
    own_thread = threading.get_ident()

    def guard(original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(sock: socket.socket, address: Any) -> Any:
            foreign = threading.get_ident() != own_thread
            harmless = sock.gettimeout() == 0 or sock.family == socket.AF_UNIX
            if sock.type == socket.SOCK_STREAM and not (foreign and harmless):
                _refuse(clock, f"a blocking connection to {address} was opened")
            return original(sock, address)

        return connect

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == own_thread:
            _refuse(clock, f"a blocking look-up of {host} was made")
        return original_getaddrinfo(host, *args, **kwargs)

    original_getaddrinfo = socket.getaddrinfo
    yield socket.socket, "connect", guard(socket.socket.connect)
    yield socket.socket, "connect_ex", guard(socket.socket.connect_ex)
    yield socket, "getaddrinfo", getaddrinfo


def _refuse(clock: Clock, what: str) -> None:
    message = (
        f"{what} on the virtual clock: it cannot run synchronous clients (requests, httpx.Client, "
        "openai.OpenAI ...); use their asynchronous forms, or `--engine live`"
    )
    clock.give_up(SynchronousClientError(message))
    raise _Abandon(message)


def _resolver() -> Iterator[Patch]:
    """Yield aiohttp's resolver that asks the loop: with aiodns installed, its default does not."""
    connector = sys.modules.get("aiohttp.connector")
    resolver = sys.modules.get("aiohttp.resolver")
    if connector is not None and resolver is not None:
        yield connector, "DefaultResolver", resolver.ThreadedResolver


def _worker_threads(clock: Clock) -> Iterator[Patch]:
    """Yield anyio's way into a thread, with the clock held while one is at work.

    The loop counts the jobs of `run_in_executor`, thus of `asyncio.to_thread`, which is where
    openai's first call looks up its platform and what openrouter's hooks use. anyio has threads of
    its own that the loop cannot see; this is the one door to them.
    """
    backend = getattr(sys.modules.get("anyio._backends._asyncio"), "AsyncIOBackend", None)
    if backend is None:
        return
    in_thread = backend.run_sync_in_worker_thread

    async def held(*args: Any, **kwargs: Any) -> Any:
        with clock.frozen():
            return await in_thread(*args, **kwargs)

    yield backend, "run_sync_in_worker_thread", staticmethod(held)
