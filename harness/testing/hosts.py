"""Where the mock of a test lives: in a thread with a loop of its own, or on the virtual loop."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from mock_llm.server import MockServer

T = TypeVar("T")

SETTLING_TURNS = 10  # for what the last bytes and hang-ups set off; three are enough
PATIENCE_S = 20.0
VIRTUAL_ADDRESS = ("127.0.0.1", 8000)


class Host(Protocol):
    """Runs a server."""

    @property
    def port(self) -> int:
        """Of its address."""
        ...

    def do(self, work: Callable[[], T]) -> T:
        """Do something in the server's loop, with all settled that went before; wait for it."""
        ...

    def now(self) -> float:
        """Return the time of the server's loop."""
        ...

    def close(self) -> None:
        """Stop the server."""
        ...


class InThread:
    """On the wall clock: every client, synchronous or not, meets a server beside it."""

    def __init__(self, server: MockServer) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="mock_llm", daemon=True)
        self._thread.start()
        self.port = self._wait(server.start())

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._stop = asyncio.Event()
        await self._stop.wait()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def do(self, work: Callable[[], T]) -> T:
        """Do something in the server's thread; see `Host`."""
        return self._wait(_settled(work))

    def now(self) -> float:
        """Return the time of the server's loop."""
        return self._loop.time()

    def close(self) -> None:
        """Stop the server and its thread."""
        try:
            self._wait(self._server.close())
        finally:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(PATIENCE_S)


class OnVirtualLoop:
    """In the test's own loop, which `virtual.run` closes: nothing here has to be waited for."""

    port = VIRTUAL_ADDRESS[1]

    def __init__(self, _: MockServer) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None

    def do(self, work: Callable[[], T]) -> T:
        """Do something at once."""
        return work()

    def now(self) -> float:
        """Return the virtual time; 0 before the test begins."""
        return 0.0 if self.loop is None else self.loop.time()

    def close(self) -> None:
        """Do nothing."""


async def _settled(work: Callable[[], T]) -> T:
    await settle()
    return work()


async def settle() -> None:
    """Let the loop handle what is already on its way."""
    for _ in range(SETTLING_TURNS):
        await asyncio.sleep(0)
