"""What a run on the virtual clock changes in the process, and puts back afterwards.

The loop's own clock is not the only one. HTTP clients ask `time` how old a pooled connection is,
retry libraries how long they have been trying; both draw jitter from the global `random`. Worker
threads and blocking sockets go round the loop altogether. Each is taken over for the length of a
run, in one place, and nothing of it outlives the run, however it ends.
"""

import contextlib
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from harness.engines.virtual_guard import Clock, blocking_calls, guarded_sleep
from mock_llm.server import EPOCH_S

# Packages that read the wall clock where loop time is meant: idle pooled connections (aiohttp,
# httpcore), `Retry-After` dates (openai), the longest time to keep trying (openrouter, tenacity,
# backoff), `elapsed` (httpx), breakers' and limiters' windows.
CLIENT_PACKAGES = frozenset(
    {"aiobreaker", "aiohttp", "anthropic", "backoff", "circuitbreaker", "httpcore", "httpcore2"}
    | {"httpx", "httpx2", "limits", "openai", "openrouter", "purgatory", "pybreaker", "tenacity"}
)
MAX_OPEN_FILES = 65_536

Patch = tuple[Any, str, object]

# `random`, `socket.socket` and the clients' modules belong to the whole process.
_one_run_at_a_time = threading.RLock()


@contextlib.contextmanager
def patched(clock: Clock, *, seed: int, packages: Iterable[str] = ()) -> Iterator[None]:
    """Take over the process for a run of this clock, in the thread that enters.

    Runs in other threads wait for their turn: what is taken over belongs to the whole process.

    Args:
        clock: the loop.
        seed: for the global `random`, whose state is restored afterwards.
        packages: whose `time` is the virtual one, besides `CLIENT_PACKAGES`.
    """
    with _one_run_at_a_time, contextlib.ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        random.seed(seed)
        stack.enter_context(_many_open_files())
        for patch in blocking_calls(clock):
            stack.enter_context(replaced(*patch))
        modules = _Modules(clock, CLIENT_PACKAGES.union(packages), stack)
        for module in list(sys.modules.values()):
            modules.take_over(module)
        # httpx imports httpcore, and that anyio, at the first request only.
        sys.meta_path.insert(0, modules)
        stack.callback(sys.meta_path.remove, modules)
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


@contextlib.contextmanager
def _many_open_files() -> Iterator[None]:
    """Lift the limit on open files: the usual 1,024 is met by 500 connections of two ends each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Modules:
    """Takes over modules, those that are imported during the run right after their import."""

    def __init__(self, clock: Clock, packages: frozenset[str], stack: contextlib.ExitStack) -> None:
        self._clock = clock
        self._packages = packages
        self._stack = stack
        virtual = _virtual_time(clock)
        names = ("monotonic", "perf_counter", "time", "sleep")
        self._stand_ins: dict[int, object] = {
            id(getattr(time, name)): getattr(virtual, name) for name in names
        }
        self._stand_ins[id(time)] = virtual

    def take_over(self, module: ModuleType) -> None:
        """Replace what goes round the clock in this module, until the run ends."""
        for patch in list(self._patches(module)):
            self._stack.enter_context(replaced(*patch))

    def _patches(self, module: ModuleType) -> Iterator[Patch]:
        path = getattr(module, "__name__", "")
        if path.partition(".")[0] in self._packages:
            for name, value in vars(module).items():
                if id(value) in self._stand_ins:
                    yield module, name, self._stand_ins[id(value)]
        if path == "aiohttp.connector":
            # With aiodns installed, aiohttp's default asks the DNS by itself, not the loop.
            from aiohttp.resolver import ThreadedResolver

            yield module, "DefaultResolver", ThreadedResolver
        if path == "anyio._backends._asyncio":
            # anyio's threads are its own: the loop cannot see them. This is the one door to them.
            # (`asyncio.to_thread`, which openai and openrouter use, goes through the loop.)
            name = "run_sync_in_worker_thread"
            yield module.AsyncIOBackend, name, _held(self._clock, module.AsyncIOBackend, name)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as the other finders do, and take it over once it is loaded."""
        if name.partition(".")[0] not in self._packages | {"anyio"}:
            return None
        finders = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in finders)
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.exec_module = self._then_take_over(loader.exec_module)
        return spec

    def _then_take_over(self, load: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            load(module)
            self.take_over(module)

        return exec_module


def _virtual_time(clock: Clock) -> ModuleType:
    """Return a copy of the `time` module that reads the virtual clock.

    Its calendar shows the mock's epoch when the clock shows 0.
    """
    virtual = ModuleType("time")
    vars(virtual).update(vars(time))
    readings = {"monotonic": clock.time, "perf_counter": clock.time, "sleep": guarded_sleep(clock)}
    vars(virtual).update(readings, time=lambda: EPOCH_S + clock.time())
    return virtual


def _held(clock: Clock, owner: Any, name: str) -> object:
    in_thread = getattr(owner, name)

    async def held(*args: Any, **kwargs: Any) -> Any:
        with clock.frozen():
            return await in_thread(*args, **kwargs)

    return staticmethod(held)
