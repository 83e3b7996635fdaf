"""Who is let in, who is served next and what becomes of them, without waiting for anything.

The service and its discrete-event twin are this desk; each waits in its own way. A desk is told
what has happened, and asks for what is to happen: start serving a request, stop serving it, look
at the clock again at a moment.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NoReturn

from harness.pipeline.answer import Answer
from harness.pipeline.context import Context
from harness.pipeline.costs import tiers
from harness.pipeline.request import Item, Request
from harness.pipeline.routing import Route, Router
from harness.pipeline.service.lines import REMEMBERED, Past
from harness.pipeline.service.tickets import Ask, Ended, Reason, Refused, Served, Ticket, Timer
from harness.pipeline.toolkit import Toolkit
from harness.pipeline.waiting import WaitingRoom
from harness.records import Outcome, Record
from harness.scenario.pipeline import Pipeline


class Desk:
    """Of one service.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        router: decides about each review's model.
        now: tells the time.
        record: is handed every row.

    Attributes:
        room: those who wait.
        busy: workers that serve.
        outcomes: how many requests have ended how.
    """

    def __init__(
        self,
        settings: Pipeline,
        tools: Toolkit,
        router: Router,
        now: Callable[[], float],
        record: Callable[[Record], object],
    ) -> None:
        self.busy = 0
        self.outcomes: Counter[str] = Counter()
        self.room: WaitingRoom[Ticket] = WaitingRoom(settings.queue, settings.workers)
        self._set = settings
        self._router = router
        self._tiers = tiers(tools.prices)
        self._record = record
        self._numbers = 0
        self._known: dict[str, Ticket] = {}
        self._no_context = Context(None, 0)
        self._contexts: OrderedDict[tuple[str, str], Context] = OrderedDict()
        self._free: list[int] = []
        self._highest = 0
        self._now = now

    def _ends(self) -> Ended:
        """What those who wait for a request are told by."""
        raise NotImplementedError

    def _at(self, when: float) -> Timer:
        """Look at the clock again at a moment: `_look`."""
        raise NotImplementedError

    def _start(self, ticket: Ticket) -> None:
        """Serve a request; when it is over, `_left` is called."""
        raise NotImplementedError

    def _halt(self, ticket: Ticket) -> None:
        """Stop serving a request."""
        raise NotImplementedError

    def _made(self, ask: Ask) -> int:  # noqa: ARG002 - it is asked for once, unless it is kept
        """Attempts made for an earlier request of this key."""
        return 0

    def _turned_away(self, ask: Ask, reason: Reason, retry_after_s: float | None) -> None:
        """A request is refused."""

    def _over(self, ticket: Ticket, served: Served) -> None:
        """A request has ended."""

    def _rest(self) -> None:
        """Nobody is here any more."""

    def admit(self, ticket: Ticket) -> None:
        """Let a request wait, or be served at once.

        Raises:
            Refused: there is no room for it.
        """
        ask = ticket.ask
        idle = self.room.workers - self.busy if self.room.workers > self.busy else 0
        now = ticket.request.t_queued
        refusal = self.room.offer(ticket, now, ask.deadline, ask.interactive, idle)
        if refusal is not None:
            self._refuse(ask, refusal.reason, refusal.retry_after_s)

    def seat(self, ticket: Ticket) -> None:
        """Know a request that was admitted, and give it to a worker that is free."""
        self._known[ticket.ask.key] = ticket
        if ticket.ask.deadline is not None:
            ticket.timer = self._at(ticket.ask.deadline)
        self._fill(self._now())

    def withdraw(self, ticket: Ticket, why: str) -> None:
        """Serve a request no more, whether it waits or is being served."""
        if ticket.ended.done():
            return
        ticket.request.stop = ticket.request.stop or (why, "failed")
        if self.room.remove(ticket):
            self._end_waiting(ticket, "failed", why)
        elif ticket.served_by is not None:
            self._halt(ticket)

    def _ticket(self, ask: Ask, mark: str = "", past: Past | None = None) -> Ticket:
        route = self._route(ask)
        self._numbers += 1
        tier = self._tiers.get(route.model, 0)
        item = Item(self._numbers, ask.key, ask.user, ask.batch, ask.review, route, tier)
        now = self._now()
        request = Request(item, 0, now, now, None, deadline=ask.deadline, session=ask.session)
        request.made = self._made(ask)  # its rows go on where they ended
        ticket = Ticket(ask, mark, request, self._ends())
        if past is not None:
            request.made, request.failures = past.made, past.failures
            ticket.rows += past.rows
        return ticket

    def _route(self, ask: Ask) -> Route:
        return self._router.route(ask.review)

    def _refuse(self, ask: Ask, reason: Reason, retry_after_s: float | None = None) -> NoReturn:
        """Write a refusal down, and say it; an item is not lost by it, and comes again."""
        self._turned_away(ask, reason, retry_after_s)
        if ask.interactive:
            row = self._ticket(ask).request.unsent(self._now(), "rejected", reason)
            self.outcomes[row.outcome] += 1
            self._record(row)
        raise Refused(reason, retry_after_s)

    def _fill(self, now: float) -> None:
        """Give those who wait to workers that are free."""
        for late in self.room.expired(now):
            self._expire(late, now)
            now = self._now()  # at which the next was served
        while self.busy < self.room.workers:
            ticket = self.room.take(now)
            if ticket is None:
                break
            self.busy += 1
            if self._free:
                ticket.request.worker = heappop(self._free)
            else:
                ticket.request.worker = self._highest
                self._highest += 1
            ticket.request.t_admitted = now
            self._start(ticket)
        if not self.busy and not self.room.depth:
            self._rest()

    def _left(
        self, ticket: Ticket, answer: Answer | None, *, halted: bool = False, broken: str = ""
    ) -> None:
        """A worker has done with a request, however it ended.

        Args:
            ticket: of the request.
            answer: None when it came to nothing.
            halted: it was stopped.
            broken: an error of ours ended it: its word.
        """
        request, now = ticket.request, self._now()
        self.busy -= 1
        heappush(self._free, request.worker)
        if request.stop is None and request.t_admitted is not None and not broken:
            self.room.served(now - request.t_admitted, answer is not None)
        why = request.stop or (broken or "internal", "failed")
        if not ticket.rows or broken or (halted and ticket.rows[-1].error != why[0]):
            self._add(request.unsent(now, why[1], why[0]))
        self._end(ticket, answer)
        self._fill(now)

    def _look(self) -> None:
        """End those whose time has run out while they waited."""
        now = self._now()
        for ticket in self.room.expired(now):
            self._expire(ticket, now)

    def _expire(self, ticket: Ticket, now: float) -> None:
        if ticket.ask.deadline is not None and ticket.ask.deadline <= now:
            self._end_waiting(ticket, "timed_out", "deadline")
        else:  # there is time left, but not enough
            self._end_waiting(ticket, "rejected", "too_late")

    def _end_waiting(self, ticket: Ticket, outcome: Outcome, error: str) -> None:
        self._add(ticket.request.unsent(self._now(), outcome, error))
        self._end(ticket, None)
        self._fill(self._now())

    def _end(self, ticket: Ticket, answer: Answer | None) -> None:
        if ticket.timer is not None:
            ticket.timer.cancel()
        self._known.pop(ticket.ask.key, None)
        served = Served(tuple(ticket.rows), answer)
        self.outcomes[served.rows[-1].outcome if served.rows else "failed"] += 1
        self._over(ticket, served)
        if not ticket.ended.done():
            ticket.ended.set_result(served)

    def _add(self, row: Record) -> None:
        self._known[row.key].rows.append(row)
        self._record(row)

    def _context_of(self, request: Request) -> Context:
        """The conversation of a session; a request without one is all of its conversation."""
        if not request.session:
            return self._no_context
        item, made = request.item, self._contexts
        fresh = Context(self._set.context, self._set.context_exchanges)
        context = made.setdefault((item.user, request.session), fresh)
        made.move_to_end((item.user, request.session))
        if len(made) > REMEMBERED:
            made.popitem(last=False)
        return context
