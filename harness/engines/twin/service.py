"""Users and arrivals, and the service that they ask, on the twin's clock.

Theory of operation. Whoever asks comes to the desk, which is the service's own, by a wire, and is
answered by it: see `wires`. When the answer is there, a worker that has become free has the next
who waits. A request that is served is a process, which can be interrupted; all else is alarms.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from harness.corpus.review import Review
from harness.engines.asking import AT_LEAST_S, review_body
from harness.engines.base import OnProgress, Prepared
from harness.engines.callers import KEEP_ALIVE_S, SLICES, Callers
from harness.engines.twin.clock import Alarm, Clock, Flow, Interrupt, Work
from harness.engines.twin.endpoint import Endpoint
from harness.engines.twin.processor import TwinProcessor
from harness.engines.twin.wires import Wires
from harness.pipeline.cache import MemoryCache, answer_cache
from harness.pipeline.dispatch import Stop
from harness.pipeline.job import limits_of_job
from harness.pipeline.routing import Route
from harness.pipeline.service.bodies import Complaint, ReviewIn, review_of
from harness.pipeline.service.bodies import body_of as read_body
from harness.pipeline.service.desk import Desk
from harness.pipeline.service.tickets import Ask, Refused, Served, Ticket
from harness.workload import arrival_key, arrival_user, first_start_s, schedule, user_key, user_name

Back = Callable[[float], None]
"""Takes the seconds after which a user may come back at the earliest."""


class Told(msgspec.Struct):
    """Who waits for a request is called back when it has ended.

    Attributes:
        back: takes what became of the request, and what it shall be told with it.
        args: the latter.
        over: it has ended.
    """

    back: Callable[..., None] | None = None
    args: tuple[Any, ...] = ()
    over: bool = False

    def done(self) -> bool:
        """Whether it has ended."""
        return self.over

    def set_result(self, result: Served, /) -> None:
        """It has."""
        self.over = True
        if self.back is not None:
            self.back(result, *self.args)


class TwinDesk(Desk):
    """The service's desk on the twin's clock."""

    def __init__(self, callers: "TwinCallers", prepared: Prepared, end: Endpoint) -> None:
        settings, self._clock = prepared.scenario.pipeline, end.clock
        tools, record = callers.tools, callers.record
        super().__init__(settings, tools, prepared.router, end.clock.time, record)
        self._routes: dict[int, Route] = {}
        self._limits = limits_of_job(settings)
        cache = answer_cache(settings)
        self._processor = TwinProcessor(
            settings,
            tools,
            end,
            add=self._add,
            context_of=self._context_of,
            stopped=lambda _: None,
            cache=cache if isinstance(cache, MemoryCache) else None,
        )

    def enter(self, ask: Ask) -> Ticket:
        """Let a request in.

        Raises:
            Refused: it is not served.
        """
        if self._limits is not None:
            wait_s = self._limits.take(ask.user, self._clock.now_s)
            if wait_s > 0:
                self._refuse(ask, "rate_limit", wait_s)
        ticket = self._ticket(ask)
        self.admit(ticket)
        return ticket

    def everybody_left(self) -> None:
        """Nobody waits for anything any more."""
        for ticket in list(self._known.values()):
            self.withdraw(ticket, "client_left")

    def _ends(self) -> Told:
        return Told()

    def _at(self, when: float) -> Alarm:
        return self._clock.call_at(when, self._look)

    def _start(self, ticket: Ticket) -> None:
        # As a task does, it begins after what is due at this instant already, and ends so.
        ticket.served_by = self._clock.call_at(0.0, self._begin, ticket)

    def _begin(self, ticket: Ticket) -> None:
        ticket.served_by = work = Work(self._clock, self._serve(ticket))
        work.go_on()

    def _halt(self, ticket: Ticket) -> None:
        if isinstance(ticket.served_by, Work):
            ticket.served_by.interrupt()
        else:
            ticket.served_by.cancel()
            self._halted(ticket)

    def _halted(self, ticket: Ticket) -> None:
        self._clock.soon((partial(self._left, ticket, None, halted=True), ()))

    def _serve(self, ticket: Ticket) -> Flow[None]:
        try:
            answer = yield from self._processor.handle(ticket.request)
        except Interrupt:
            self._halted(ticket)
        else:
            self._clock.soon((self._left, (ticket, answer)))

    def _route(self, ask: Ask) -> Route:
        """A router is a function of the review alone, and reviews come again."""
        route = self._routes.get(id(ask.review))
        if route is None:
            route = self._routes[id(ask.review)] = super()._route(ask)
        return route


class TwinCallers(Callers):
    """One run of users or arrivals, without sockets.

    Args:
        prepared: what is run.
        seed: of the weather, the gaps and the thinking.
        on_progress: called ten times in the run.
    """

    def __init__(self, prepared: Prepared, seed: int, on_progress: OnProgress | None) -> None:
        super().__init__(prepared, seed, "", on_progress)
        self.clock = Clock()
        self.tools, self.record = self._tools, self._record
        upstream, settings = prepared.scenario.upstream, prepared.scenario.pipeline
        end = Endpoint(upstream, seed, prepared.answer_key, settings, self.clock)
        self._desk = TwinDesk(self, prepared, end)
        self._wires = Wires(self.clock, KEEP_ALIVE_S)
        self._asked: dict[int, Review | None] = {}

    def stop(self, reason: Stop) -> None:
        """End it now."""
        if self.stopped is None:
            self.stopped = reason
            self._desk.everybody_left()

    def fly(self) -> None:
        """Let all come and go; afterwards each request has its rows."""
        clock, work = self.clock, self._work
        if work.kind == "users":
            for user in range(work.users):
                self._later(user, 0, first_start_s(work, self._seed, user))
        else:
            self._arrive(enumerate(schedule(work, self._seed, self._prepared.trace)))
        if self._on_progress is not None and (duration := work.duration_s) is not None:
            for number in range(1, SLICES + 1):
                clock.call_at(number * duration / SLICES, self._tell, number, duration)
        clock.until()
        if self._desk.busy or self._desk.room.depth:
            self.stop("never_answered")
            clock.until()
        self._close(clock.time())

    def _arrive(self, coming: Iterator[tuple[int, float]]) -> None:
        """Wait for the next to come; then for the one after it."""
        if (found := next(coming, None)) is not None:
            n, start = found
            self._at(start, self._come, coming, n, start)

    def _come(self, coming: Iterator[tuple[int, float]], n: int, start: float) -> None:
        user = user_name(arrival_user(self._work, n))
        self._arrive(coming)
        self._send(arrival_key(n), user, self._review(n), start, None)

    def _later(self, user: int, n: int, start: float) -> None:
        """A user asks for the n-th time, unless it has done so often or long enough."""
        if not self._is_over(n, start):
            self._at(start, self._visit, user, n, start)

    def _visit(self, user: int, n: int, start: float) -> None:
        back = partial(self._back, user, n + 1)
        self._send(user_key(user, n), user_name(user), self._review(n, user), start, back)

    def _back(self, user: int, n: int, wait_s: float) -> None:
        self._later(user, n, self._next_start(user, n, self.clock.now_s, wait_s))

    def _at(self, start: float, function: Callable[..., None], *args: object) -> None:
        """Call a function at a time of the run."""
        now = self.clock.now_s
        if self.stopped is None:  # as a task's sleep would end, to the last digit
            self.clock.call_at(now + (self._began + start - now), function, *args)

    def _send(self, key: str, user: str, review: Review, start: float, back: Back | None) -> None:
        """Ask once; `back` is told after how many seconds to come back at the earliest."""
        if self.stopped is None:
            self._intend(key, review, start)
            wire = self._wires.take()
            self._wires.carry_last(self._ask, wire, key, user, self._read(review), back)

    def _ask(self, wire: int, key: str, user: str, asked: Review | None, back: Back | None) -> None:
        """It comes to the desk."""
        limit, wait_s = self._work.deadline_s, AT_LEAST_S
        if asked is not None:
            deadline = None if limit is None else self.clock.now_s + limit
            try:
                ticket = self._desk.enter(Ask(asked, user, "", key, deadline))
            except Refused as refused:
                wait_s = max(AT_LEAST_S, refused.retry_after_s or 0.0)
            else:
                ticket.ended.back, ticket.ended.args = self._ended, (wire, key, back)
                self._desk.seat(ticket)
                return
        self._wires.carry_last(self._answered, wire, wait_s, back)

    def _ended(self, served: Served, wire: int, key: str, back: Back | None) -> None:
        answer = served.answer
        if answer is not None:
            self.answers[key] = answer
        wait_s = AT_LEAST_S if answer is None else 0.0
        self._wires.carry(self._answered, wire, wait_s, back)

    def _answered(self, wire: int, wait_s: float, back: Back | None) -> None:
        """The answer, whatever it is, comes to whoever asked."""
        self._wires.give_back(wire)
        if back is not None:
            back(wait_s)

    def _read(self, review: Review) -> Review | None:
        """What the service makes of a review's body; None: it refuses it."""
        found = self._asked.get(id(review), review)
        if found is review:
            try:
                found = review_of(read_body(review_body(review), ReviewIn), 0)
            except Complaint:
                found = None
            self._asked[id(review)] = found
        return found
