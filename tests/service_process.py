"""`harness serve` as a process of its own, and callers that block: one thread each."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from commands import mentioning, process

PATIENCE_S = 60.0


class Reply(NamedTuple):
    """What the service has answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class ServiceProcess:
    """A service that runs, and what it said at its start."""

    def __init__(self, running: "subprocess.Popen[str]", folder: Path) -> None:
        assert running.stdout is not None
        self.running = running
        self.said = running.stdout.readline().strip()
        self._folder = folder
        self.url = self.said.split()[2] if self.said.startswith("serving on ") else ""
        assert self.url, running.communicate()

    def ask(self, method: str, path: str, body: object = None, **fields: str) -> Reply:
        """One request over a connection of its own."""
        place = urlsplit(self.url)
        connection = HTTPConnection(str(place.hostname), place.port, timeout=PATIENCE_S)
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        sent = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, sent, headers)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def until_busy(self, count: int) -> None:
        """Wait until so many workers serve."""
        until = time.monotonic() + PATIENCE_S
        while (busy := self.ask("GET", "/v1/pool").json["busy"]) != count:
            assert time.monotonic() < until, f"{busy} are busy, and not {count}"

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send a signal, and wait until the service has heard it."""
        self.running.send_signal(number)
        until = time.monotonic() + PATIENCE_S
        while (status := self.ask("GET", "/readyz").status) != 503:
            assert time.monotonic() < until, status

    def mocks(self) -> list[str]:
        """Command lines of the mocks that it has started."""
        return mentioning(str(self._folder))

    def ended(self) -> tuple[int, str, str]:
        """Exit code, and what else it has said, once it is over."""
        out, err = self.running.communicate(timeout=PATIENCE_S)
        return self.running.returncode, out, err


@contextmanager
def service_process(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[ServiceProcess]:
    """`harness serve` on a free port; whatever it starts has the folder in its command line."""
    own = {"TMPDIR": str(folder), **(environment or {})}
    with process(folder, "serve", *arguments, "--port", "0", environment=own) as running:
        yield ServiceProcess(running, folder)
