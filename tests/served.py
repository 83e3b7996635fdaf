"""Mocks in processes of their own: one as a command, and several workers under a hub."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from loopback import QUICK, Client

from mock_llm.config import Upstream
from mock_llm.control.commands import Look, Result
from mock_llm.hub import Hub
from mock_llm.listeners import listeners
from mock_llm.settings import Settings

ROOT = Path(__file__).parent.parent


@contextmanager
def serving(
    *arguments: str, scheme: str = "http", **options: Any
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its base URL; killed if the test left it running."""
    command = [sys.executable, "-m", "mock_llm", "serve", "--port", "0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, **options
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith(f"mock_llm listening on {scheme}://127.0.0.1:")
            yield process, line.split()[-1]
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are still there."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """For as long as the block, these processes stand still."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def watched(pids: Sequence[int]) -> Iterator[Callable[[], None]]:
    """A function that returns when none of these processes is left; it fails after a minute."""
    files = [os.pidfd_open(pid) for pid in pids]

    def wait() -> None:
        for file in files:
            ended, _, _ = select.select([file], [], [], 60)
            assert ended == [file]

    try:
        yield wait
    finally:
        for file in files:
            os.close(file)


class Workers:
    """Workers that serve, and their clients."""

    def __init__(self, hub: Hub, port: int, said: list[str]) -> None:
        self.hub, self.port, self.said = hub, port, said
        self._clients: list[Client] = []

    async def clients(self, count: int) -> list[Client]:
        """So many new connections, at least one of them to each worker (or 2^-count says no)."""
        opened = [
            Client(*await asyncio.open_connection("127.0.0.1", self.port)) for _ in range(count)
        ]
        self._clients += opened
        return opened

    async def attempts(self) -> list[int]:
        """How many attempts each worker has ended."""
        seen = await self.hub.broadcast("command", Look())
        results = [msgspec.msgpack.decode(one, type=Result) for one in seen]
        return [one.snapshot.total.attempts for one in results if one.snapshot]

    def leave(self) -> None:
        """Close every connection."""
        for client in self._clients:
            client.writer.close()


@asynccontextmanager
async def workers(
    upstream: Upstream = QUICK, count: int = 2, **settings: Any
) -> AsyncIterator[Workers]:
    """A hub in this process and its workers, which end with it and leave no task."""
    before = asyncio.all_tasks()
    ready, said = asyncio.Event(), list[str]()
    sockets = listeners("127.0.0.1", 0, count)
    port = sockets[0][0].getsockname()[1]
    hub = Hub(Settings(upstream=upstream, **settings), sockets, said.append, ready.set)
    running = asyncio.create_task(hub.run())
    await ready.wait()
    serving = Workers(hub, port, said)
    try:
        yield serving
    finally:
        hub.stop()
        assert await running
        serving.leave()
        assert asyncio.all_tasks() == before
