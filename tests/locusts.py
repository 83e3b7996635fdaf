"""`locust -f loadtests/users.py` as processes: alone, or a master and its workers."""

import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

USERS = Path(__file__).parent.parent / "loadtests" / "users.py"
PATIENCE_S = 90.0

SMALL = """\
[workload]
kind = "users"
users = 31
reviews = 200
ramp_s = 1
duration_s = 5
deadline_s = 5
think = { kind = "exponential", mean = 0.5 }
[upstream.profile]
ttft = { kind = "lognormal", p50 = 0.15, p99 = 0.6 }
[pipeline]
workers = 20
[slo]
success_rate = ">= 1"
"""


class Locust:
    """One process of Locust's, and what it says."""

    def __init__(self, running: "subprocess.Popen[bytes]", log: Path) -> None:
        self.running, self._log = running, log

    @property
    def said(self) -> str:
        """Everything so far."""
        return self._log.read_text("utf-8", "replace")

    def until(self, pattern: str) -> str:
        """Wait until it has said something; returns that."""
        with self._ending() as ended:
            for _ in range(round(10 * PATIENCE_S)):
                if found := re.search(pattern, self.said):
                    return found[0]
                assert not ended(0.1), self.said
        raise AssertionError(f"never said {pattern}: {self.said}")

    def code(self) -> int:
        """Its exit code, when it has ended."""
        with self._ending() as ended:
            assert ended(PATIENCE_S), self.said
        return self.running.wait()

    @contextmanager
    def _ending(self) -> Iterator[Callable[[float], bool]]:
        file = os.pidfd_open(self.running.pid)
        try:
            yield lambda limit_s: bool(select.select([file], [], [], limit_s)[0])
        finally:
            os.close(file)


@contextmanager
def locust(folder: Path, name: str, *arguments: str) -> Iterator[Locust]:
    """Start it; killed if the test left it running.

    Whatever it starts has the folder in its command line.
    """
    log = folder / f"{name}.log"
    command = [sys.executable, "-m", "locust", "-f", str(USERS), *arguments]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            command,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(folder)},
            start_new_session=True,  # a test may press Ctrl-C, and reach it only
        ) as running,
    ):
        try:
            yield Locust(running, log)
        finally:
            running.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
