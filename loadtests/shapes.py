"""Locust's side of the shapes: what tells its runner how many users there are to be, once a second.

Shapes themselves are in `levels`, and what the search does with its levels in `search`; arrivals
need one caller in each process for as long as their schedule is long.
"""

import logging
import time

from locust import LoadTestShape, runners
from locust.env import Environment
from locust.event import Events
from locust.runners import MasterRunner, Runner, WorkerRunner

from harness.workload import schedule
from loadtests.arrivals import Caller
from loadtests.levels import AT_ONCE, Search, Shape, pace
from loadtests.meter import Meter
from loadtests.options import LEAD_S
from loadtests.search import MACHINE, Found, Seeking, Tried, binding, promises, tried
from loadtests.session import Session, session_of
from loadtests.stack import Choice

REPORT_S = 3.5
"""A worker's rows come with its reports, every 3 s."""

_LOG, _LOCUSTS = logging.getLogger(__name__), logging.getLogger(runners.__name__)

Tick = tuple[int, float] | None


def attach(events: Events) -> None:
    """Have Locust go by a shape where there is one; after `session.attach`."""
    events.init.add_listener(_on_init)


def _on_init(environment: Environment, runner: Runner, **_: object) -> None:
    session = session_of(environment)
    choice = session.choice
    if isinstance(runner, WorkerRunner) or choice is None:
        return  # it makes whom its master tells it to
    arrives = choice.prepared.scenario.workload.kind == "arrivals"
    shape: Clocked | None = None
    if arrives:
        shape = Callers(session, choice)
    elif isinstance(choice.shape, Search):
        shape = Searching(session, choice.shape)
    elif choice.shape is not None:
        shape = Following(session, choice.shape)
    kept = [one for one in environment.user_classes if issubclass(one, Caller) is arrives]
    environment.user_classes[:] = kept
    if shape is not None:
        shape.runner = runner
        # Ours make nobody faster than AT_ONCE: it would be warned of how fast users leave.
        _LOCUSTS.addFilter(lambda record: "spawn rate is very high" not in str(record.msg))
        environment.shape_class = shape


class Clocked(LoadTestShape):
    """Base of ours: with a clock, which Locust sets to 0 when a test begins."""

    abstract = True
    runner: Runner

    def __init__(self, session: Session) -> None:
        self._session = session
        self.reset_time()

    def reset_time(self) -> None:
        """A test begins."""
        self._start_s = time.monotonic()

    @property
    def t(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._start_s


class Callers(Clocked):
    """One caller in each process, until the last arrival has been sent."""

    abstract = True

    def __init__(self, session: Session, choice: Choice) -> None:
        super().__init__(session)
        prepared = choice.prepared
        starts = schedule(prepared.scenario.workload, choice.seed, prepared.trace)
        self._length_s = LEAD_S + (starts[-1] if starts else 0.0) + 1.0

    def tick(self) -> Tick:
        """As many as there are processes."""
        if self.t > self._length_s:
            return None
        processes = len(self.runner.clients) if isinstance(self.runner, MasterRunner) else 1
        return processes, AT_ONCE


class Following(Clocked):
    """As many users as a shape has.

    Attributes:
        seen: (monotonic time, users) of each change that was asked for.
    """

    abstract = True

    def __init__(self, session: Session, shape: Shape) -> None:
        self._shape = shape
        super().__init__(session)

    def reset_time(self) -> None:
        """A test begins."""
        super().reset_time()
        self.seen: list[tuple[float, int]] = []
        self._rate = AT_ONCE

    def tick(self) -> Tick:
        """As many as now; None when it is over."""
        t = self.t
        if t >= self._shape.length_s:
            return None
        users = self._shape.users(t)
        if not self.seen or self.seen[-1][1] != users:
            self._rate = pace(self.seen[-1][1] if self.seen else 0, users)
            self.seen.append((time.monotonic(), users))
        self._session.spike_s = self._spike_s()
        return users, self._rate

    def _spike_s(self) -> tuple[float, float] | None:
        """When users did come and go, from the beginning of the test; None: no spike is over."""
        if self._shape.spike_s is None or len(self.seen) < 3:
            return None
        began_s = self._session.began_s
        return self.seen[1][0] - began_s, self.seen[2][0] - began_s


class Searching(Clocked):
    """Level after level, until the most users are known for whom the promises hold."""

    abstract = True

    def __init__(self, session: Session, shape: Search) -> None:
        self._shape = shape
        super().__init__(session)

    def reset_time(self) -> None:
        """A test begins."""
        super().reset_time()
        shape = self._shape
        self._seeking = Seeking(shape.start, shape.up_to, shape.within)
        self._since = 0.0
        self._meter: Meter | None = None
        self._tried: list[Tried] = []
        self._empties = False

    def tick(self) -> Tick:
        """The level that is held, nobody after one that has failed, None when all is known."""
        level, now = self._seeking.level, self.t
        if level is None:
            return None
        if self._empties:
            if self.runner.user_count:
                return 0, pace(self._tried[-1].users, 0)
            self._empties, self._since = False, now
        held_s = now - self._since - level / AT_ONCE
        if held_s < self._shape.warm:
            return level, AT_ONCE
        if self._meter is None:
            self._meter = self._measure()
        settle_s = REPORT_S if isinstance(self.runner, MasterRunner) else 0.0
        if held_s < self._shape.warm + self._shape.hold + settle_s:
            return level, AT_ONCE
        return self._judge(level, settle_s)

    def _judge(self, level: int, settle_s: float) -> Tick:
        """A level is over: what was it like, and which is next."""
        session, meter, hold_s = self._session, self._meter, self._shape.hold
        assert meter is not None and session.choice is not None  # noqa: S101, PT018 - it was held
        meter.stop()
        self._meter = None
        until = time.monotonic() - settle_s
        asked = [
            one
            for one in session.sight.rows
            if until - hold_s <= one.t_end < until and one.kind != "stream"  # not the service's
        ]
        bounds = promises(session.choice.prepared.scenario.slo)
        busy = {one.name: one.cpu_share for one in meter.strains()}
        busy[MACHINE] = meter.machine().cpu_share
        now = tried(level, asked, hold_s, bounds, busy)
        self._tried.append(now)
        _LOG.info("%s", now.told())
        self._seeking.tell(passed=not now.missed)
        self._empties, self._since = bool(now.missed), self.t
        session.found = Found(self._seeking.answer, binding(self._tried), tuple(self._tried))
        return self.tick()

    def _measure(self) -> Meter:
        stack, drives = self._session.stack, not isinstance(self.runner, MasterRunner)
        meter = Meter(pids=None if stack is None else stack.pids, drives=drives)
        meter.start()
        return meter
