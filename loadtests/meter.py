"""Measures a process of a load test, those that it started, and their machine, while it runs."""

import os
import resource
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import gevent
import psutil

from harness.engines.certificate import read_steal
from loadtests.certificate import Machine, Strain
from loadtests.pages import metrics_of, requests_counted
from mock_llm.histogram import Histogram

TICK_S = 0.01
LOOK_S = 5.0
"""Between two looks at what has no rate: descriptors, ports, the service's own lag."""
_LAG = "flight_loop_lag_p99_seconds"


def note_lag(lags: Histogram, late_s: float) -> None:
    """Count a tick that came late, and with it those that it kept from coming at all.

    Whoever had wanted to wake while the process stood still would have been late too; a lag counted
    once would let the p99 miss a process that stands still for a fifth of the time (coordinated
    omission: Tene, How NOT to Measure Latency, 2013).
    """
    lags.add(late_s)
    while late_s > TICK_S:
        late_s -= TICK_S
        lags.add(late_s)


def raise_file_limit() -> None:
    """Let this process, and those that it will start, have all the descriptors that it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems allow less than they say
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Meter:
    """Measures from `start` to `stop`; may be asked in between.

    Args:
        name: of this process.
        pids: name -> process, of those to be looked at besides.
        service_url: whose `/metrics` tells of its event loop; None: nobody's.
        drives: users live in this process.

    Attributes:
        counted: requests that the service had counted at the start; None: it does not say.
    """

    def __init__(
        self,
        name: str = "generator",
        pids: Mapping[str, int] | None = None,
        service_url: str | None = None,
        *,
        drives: bool = True,
    ) -> None:
        self._name, self._drives = name, drives
        self._url = service_url
        self._pids = {name: os.getpid(), **(pids or {})}
        self._lags = Histogram(counts={})
        self._due = 0.0
        self._greenlets: list[gevent.Greenlet] = []
        self._files: dict[str, int] = {}
        self._service_lag_s: float | None = None
        self._ports = 0
        self._took_s = 0.0
        self._ended: tuple[Machine, tuple[Strain, ...]] | None = None

    def start(self, first_s: float = 0.0) -> None:
        """Begin to measure; what is told is of the time from here on.

        Args:
            first_s: monotonic time before which nobody sends, so that being late does no harm.
        """
        self._began, self._steal = time.monotonic(), read_steal()
        self._idle = _idle_s()
        self._used = {name: _used_s(pid) for name, pid in self._pids.items()}
        self.counted = requests_counted(metrics_of(self._url)) if self._url else None
        self._due = max(first_s, self._began) + TICK_S
        self._count()
        self._greenlets = [gevent.spawn(self._tick), gevent.spawn(self._keep_looking)]

    def stop(self) -> None:
        """Measure no more."""
        gevent.killall(self._greenlets)
        # A process that stood still to the very end has not ticked since: that is its lag.
        note_lag(self._lags, max(0.0, time.monotonic() - self._due))
        self._look()
        self._took_s = time.monotonic() - self._began
        # What comes after, and costs time of the processor too, is no part of the test.
        self._ended = self.machine(), self.strains()

    @property
    def took_s(self) -> float:
        """Seconds from the start until it was stopped, or until now."""
        return self._took_s or time.monotonic() - self._began

    def machine(self) -> Machine:
        """Of the time from the start until it was stopped, or until now."""
        if self._ended is not None:
            return self._ended[0]
        idle_s = (_idle_s() - self._idle) / (os.cpu_count() or 1)
        return Machine(
            cpu_share=min(1.0, max(0.0, 1 - idle_s / (time.monotonic() - self._began))),
            steal_share=read_steal().share_since(self._steal),
            ports=self._ports,
            most_ports=_most_ports(),
        )

    def strains(self) -> tuple[Strain, ...]:
        """Of each process; see `machine`."""
        if self._ended is not None:
            return self._ended[1]
        took_s = time.monotonic() - self._began
        return tuple(
            Strain(
                name=name,
                drives=self._drives and name == self._name,
                lag=self._lags if name == self._name else None,
                lag_s_p99=self._service_lag_s if name == "service" else None,
                cpu_share=max(0.0, _used_s(pid) - self._used[name]) / took_s,
                files=self._files.get(name, 0),
                most_files=_most_files(pid),
            )
            for name, pid in self._pids.items()
        )

    def _tick(self) -> None:
        gevent.sleep(max(0.0, self._due - TICK_S - time.monotonic()))
        while True:
            self._due = time.monotonic() + TICK_S
            gevent.sleep(TICK_S)
            note_lag(self._lags, max(0.0, time.monotonic() - self._due))

    def _keep_looking(self) -> None:
        while True:
            gevent.sleep(LOOK_S)
            self._look()

    def _look(self) -> None:
        self._count()
        if self._url is not None and _LAG in (told := metrics_of(self._url)):
            self._service_lag_s = max(self._service_lag_s or 0.0, told[_LAG])

    def _count(self) -> None:
        for name, pid in self._pids.items():
            with suppress(OSError):
                count = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - a Path for each is slow
                self._files[name] = max(self._files.get(name, 0), count)
        self._ports = max(self._ports, _sockets(both_ends=len(self._pids) > 1))


def _used_s(pid: int) -> float:
    """Processor time of a process so far; 0 when it is gone."""
    try:
        used = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(used.user + used.system)


def _idle_s() -> float:
    """Seconds that the machine's cores had nothing to do, all of them together."""
    spent = psutil.cpu_times()
    return float(spent.idle + getattr(spent, "iowait", 0.0))


def _most_files(pid: int) -> int:
    """Descriptors that a process may have; 0 when it is gone, or nobody can tell."""
    try:
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[3])
    except (OSError, ValueError):
        return 0
    return 0


def _sockets(*, both_ends: bool) -> int:
    """Ports for outgoing connections that are in use or not free again yet, from sockstat.

    https://www.kernel.org/doc/html/latest/filesystems/proc.html: `TCP: inuse N orphan N tw N ...`.
    Where both ends of every connection are on this machine, half of them have a port of their own.
    """
    try:
        lines = Path("/proc/net/sockstat").read_text().splitlines()
    except OSError:
        return 0
    words = next((one.split() for one in lines if one.startswith("TCP:")), [])
    told = dict(zip(words[1::2], map(int, words[2::2]), strict=False))
    return told.get("inuse", 0) // (2 if both_ends else 1) + told.get("tw", 0)


def _most_ports() -> int:
    """How many ports there are for outgoing connections (ip(7)); Linux' usual without that file."""
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except (OSError, ValueError):
        return 28_232
    return high - low + 1
