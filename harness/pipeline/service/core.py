"""The service without HTTP: a queue, a pool of workers, and the pipeline behind them.

Theory of operation. A request is let in by its user's limit and by the queue, or refused at once.
As soon as a worker is free it is processed in a task of its own, so that it can be cancelled: when
whoever asked has left, when its deadline has come, when its batch is withdrawn. A worker is a
number and a place in the pool, so that scaling is setting a number: workers that are too many
finish what they do.

A request is known by its key, if its client gave it one. Asked again while it is under way, or soon
after, it is not sent again: the second caller gets what becomes of the first. With a journal that
holds for a caller who comes to the next process too.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import NoReturn

from harness.errors import InputError
from harness.pipeline.answer import Answer
from harness.pipeline.client import ChatClient
from harness.pipeline.common import Common
from harness.pipeline.context import Context
from harness.pipeline.costs import tiers
from harness.pipeline.processor import Processor
from harness.pipeline.request import Item, Request
from harness.pipeline.routing import Router
from harness.pipeline.service.accounts import Accounts
from harness.pipeline.service.keeping import Keeper, digest
from harness.pipeline.service.lines import DRAINING, REMEMBERED, Past, Story
from harness.pipeline.service.monitor import Monitor
from harness.pipeline.service.tickets import Ask, Reason, Refused, Served, Ticket
from harness.pipeline.toolkit import Toolkit
from harness.pipeline.waiting import WaitingRoom
from harness.records import Outcome, Record, in_order
from harness.scenario.pipeline import Pipeline


def _nobody(_: Record) -> None:
    """Keeps no rows."""


class Service:
    """Serves reviews; make it in the loop that runs it, and `close` it.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        router: decides about each review's model.
        client: does the calls; opened and closed by whoever made it.
        common: cache, limits of the users, and their accounts.
        record: is handed every row.
        journal: where it is written which requests may come again; None: nowhere.
        monitor: counts.

    Attributes:
        processor: serves requests.
        draining: lets nothing in any more.
        room: those who wait.
        busy: workers that serve.
        outcomes: how many requests have ended how.
    """

    def __init__(
        self,
        settings: Pipeline,
        tools: Toolkit,
        router: Router,
        client: ChatClient,
        *,
        common: Common,
        record: Callable[[Record], object] = _nobody,
        monitor: Monitor | None = None,
        journal: Keeper | None = None,
    ) -> None:
        self.draining = False
        self.busy = 0
        self.outcomes: Counter[str] = Counter()
        self.room: WaitingRoom[Ticket] = WaitingRoom(settings.queue, settings.workers)
        self._set = settings
        self._router = router
        self._tiers = tiers(tools.prices)
        self._record = record
        self._journal = journal
        self._numbers = 0
        self._known: dict[str, Ticket] = {}
        self._ended: OrderedDict[str, tuple[str, str, Served]] = OrderedDict()
        self._contexts: OrderedDict[tuple[str, str], Context] = OrderedDict()
        self._free: list[int] = []
        self._highest = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._limits = common.limits
        self.accounts = Accounts(settings, common)
        self._monitor = monitor or Monitor()
        self.processor = Processor(
            settings,
            tools,
            client,
            add=self._add,
            context_of=self._context_of,
            stopped=lambda _: None,
            cache=common.cache,
        )
        self._now = asyncio.get_running_loop().time

    @property
    def workers(self) -> int:
        """Size of the pool."""
        return self.room.workers

    @workers.setter
    def workers(self, count: int) -> None:
        """Scale the pool; workers that are too many finish what they do."""
        self.room.workers = count
        self._fill()

    async def submit(self, ask: Ask) -> Served:
        """Have a review labelled, and wait for it.

        When all who wait for a request have been cancelled, the request is.

        Raises:
            Refused: it is not served.
        """
        ticket = await self.enter(ask)
        return ticket if isinstance(ticket, Served) else await self.wait(ticket)

    async def wait(self, ticket: Ticket) -> Served:
        """Wait for what becomes of a request; see `submit`."""
        ticket.waiting += 1
        try:
            return await asyncio.shield(ticket.ended)
        finally:
            ticket.waiting -= 1
            if not ticket.waiting:
                self.withdraw(ticket, "client_left")

    async def enter(self, ask: Ask, past: Past | None = None) -> Ticket | Served:
        """Let a request in; one that is known already is not let in twice.

        Args:
            ask: the request.
            past: what an earlier process did for it.

        Raises:
            Refused: it is not served.
        """
        mark = digest(ask.review) if ask.named else ""
        if (known := await self._find(ask, mark)) is not None:
            return known
        if ask.interactive and self._limits is not None and not self.draining:
            wait_s = await self._limits.take(ask.user, self._now())
            if (known := await self._find(ask, mark)) is not None:  # it came while we asked
                return known
            if wait_s > 0:
                self._refuse(ask, "rate_limit", wait_s)
        spent = await self.accounts.is_spent(ask)
        if spent and (known := await self._find(ask, mark)) is not None:
            return known
        if spent:
            self._refuse(ask, "budget")
        # From here on nothing is waited for: who comes with the same key finds this request.
        if self.draining:
            self._refuse(ask, "draining")
        ticket = self._ticket(ask, mark, past)
        refusal = self.room.offer(
            ticket, self._now(), deadline=ask.deadline, interactive=ask.interactive
        )
        if refusal is not None:
            self._refuse(ask, refusal.reason, refusal.retry_after_s)
        self._write_down(ticket)
        self._known[ask.key] = ticket
        if ask.deadline is not None:
            loop = asyncio.get_running_loop()
            ticket.timer = loop.call_at(ask.deadline, self._sweep)
        self._idle.clear()
        self._fill()
        return ticket

    def withdraw(self, ticket: Ticket, why: str) -> None:
        """Serve a request no more, whether it waits or is being served."""
        if ticket.ended.done():
            return
        ticket.request.stop = ticket.request.stop or (why, "failed")
        if self.room.remove(ticket):
            self._end_waiting(ticket, "failed", why)
        elif ticket.task is not None:
            ticket.task.cancel()

    async def drain(self, limit_s: float) -> int:
        """Let nothing more in, and finish what is here; what takes too long is withdrawn.

        Returns:
            How many were.
        """
        self.draining = True
        self._fill()
        late: list[Ticket] = []
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            late = list(self._known.values())
            for ticket in late:
                self.withdraw(ticket, DRAINING)
            await self._idle.wait()
        await self.accounts.close()
        return len(late)

    def take_over(self, story: Story) -> None:
        """Know the requests of earlier processes that may come again."""
        for key, asked in story.asked.items():
            past = story.pasts.get(key, Past()).moved(self.origin)
            served = Served(tuple(in_order(past.rows)), past.answer)
            self._ended[key] = asked.user, asked.digest, served

    @property
    def origin(self) -> float:
        """The loop's time at which the journal's begins."""
        return self.processor.books.origin

    async def _find(self, ask: Ask, mark: str) -> Ticket | Served | None:
        """What became, or will become, of an earlier request with this key.

        One that is being withdrawn, since nobody waited for it any more, is none to be joined.

        Raises:
            Refused: the key is of another user, or of another review.
        """
        while (ticket := self._known.get(ask.key)) is not None:
            if (ticket.ask.user, ticket.digest) != (ask.user, mark):
                raise Refused("key_taken")
            if ticket.request.stop is None:
                return ticket
            await asyncio.wait([ticket.ended])
        if (ended := self._ended.get(ask.key)) is None:
            return None
        user, known, served = ended
        if (user, known) != (ask.user, mark):
            raise Refused("key_taken")
        return served if served.answer is not None else None

    def _write_down(self, ticket: Ticket) -> None:
        """In the journal, before anything is sent, that a request may come again.

        Raises:
            Refused: it cannot be written.
        """
        ask = ticket.ask
        if self._journal is None or not ask.named or ask.key in self._ended:
            return
        try:
            self._journal.asked(ask.key, ask.user, ticket.digest)
        except (InputError, OSError):
            self.room.remove(ticket)
            self._refuse(ask, "journal")

    def _ticket(self, ask: Ask, mark: str = "", past: Past | None = None) -> Ticket:
        route = self._router.route(ask.review)
        self._numbers += 1
        item = Item(
            number=self._numbers,
            key=ask.key,
            user=ask.user,
            batch=ask.batch,
            review=ask.review,
            route=route,
            tier=self._tiers.get(route.model, 0),
        )
        now = self._now()
        request = Request(item, 0, now, now, deadline=ask.deadline, session=ask.session)
        request.t_admitted = None
        if (ended := self._ended.get(ask.key)) is not None:  # its rows go on where they ended
            request.made = max((row.attempt for row in ended[2].rows), default=0)
        ticket = Ticket(ask, mark, request, asyncio.get_running_loop().create_future())
        if past is not None:
            request.made, request.failures = past.made, past.failures
            ticket.rows += past.rows
        return ticket

    def _refuse(self, ask: Ask, reason: Reason, retry_after_s: float | None = None) -> NoReturn:
        """Write a refusal down, and say it; an item is not lost by it, and comes again."""
        self._monitor.refused(ask, reason, retry_after_s)
        if ask.interactive:
            row = self._ticket(ask).request.unsent(self._now(), "rejected", reason)
            self.outcomes[row.outcome] += 1
            self._record(row)
        raise Refused(reason, retry_after_s)

    def _fill(self) -> None:
        """Give those who wait to workers that are free."""
        self._sweep()
        while self.busy < self.room.workers:
            ticket = self.room.take(self._now())
            if ticket is None:
                break
            self.busy += 1
            self._highest = max(self._highest, self.busy)
            ticket.request.worker = heappop(self._free) if self._free else self._highest - 1
            ticket.request.t_admitted = self._now()
            ticket.task = asyncio.create_task(self._serve(ticket))
            # A task that is cancelled before its first step never runs, not even its `finally`.
            ticket.task.add_done_callback(partial(self._leave, ticket))
        if not self.busy and not self.room.depth:
            self._idle.set()

    async def _serve(self, ticket: Ticket) -> Answer | None:
        """Process a request, and charge its user with it."""
        earlier = len(ticket.rows)
        try:
            return await self.processor.handle(ticket.request)
        finally:
            await self.accounts.note(ticket.ask, ticket.rows[earlier:])

    def _leave(self, ticket: Ticket, task: asyncio.Task[Answer | None]) -> None:
        """A worker has done with a request, however it ended."""
        error = None if task.cancelled() else task.exception()
        answer = None if task.cancelled() or error is not None else task.result()
        request = ticket.request
        self.busy -= 1
        heappush(self._free, request.worker)
        if request.stop is None and request.t_admitted is not None and error is None:
            took_s = self._now() - request.t_admitted
            self.room.served(took_s, answered=answer is not None)
        unwritten = isinstance(error, InputError | OSError)
        why = request.stop or ("journal" if unwritten else "internal", "failed")
        if (
            not ticket.rows
            or error is not None
            or (task.cancelled() and ticket.rows[-1].error != why[0])
        ):
            self._add(request.unsent(self._now(), why[1], why[0]))
        self._end(ticket, answer)
        self._fill()
        if error is not None and not unwritten:
            raise error

    def _sweep(self) -> None:
        """End those whose time has run out while they waited."""
        now = self._now()
        for ticket in self.room.expired(now):
            late = ticket.ask.deadline is not None and ticket.ask.deadline <= now
            if late:
                self._end_waiting(ticket, "timed_out", "deadline")
            else:  # there is time left, but not enough
                self._end_waiting(ticket, "rejected", "too_late")

    def _end_waiting(self, ticket: Ticket, outcome: Outcome, error: str) -> None:
        self._add(ticket.request.unsent(self._now(), outcome, error))
        self._end(ticket, None)
        self._fill()

    def _end(self, ticket: Ticket, answer: Answer | None) -> None:
        if ticket.timer is not None:
            ticket.timer.cancel()
        self._known.pop(ticket.ask.key, None)
        served = Served(tuple(ticket.rows), answer)
        self.outcomes[served.rows[-1].outcome if served.rows else "failed"] += 1
        self._monitor.ended(ticket.ask, served, ticket.request.t_intended)
        if not ticket.ended.done():
            ticket.ended.set_result(served)
        if ticket.ask.named:
            self._ended[ticket.ask.key] = ticket.ask.user, ticket.digest, served
            self._ended.move_to_end(ticket.ask.key)
            if len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)

    def _add(self, row: Record) -> None:
        self._known[row.key].rows.append(row)
        self._record(row)

    def _context_of(self, request: Request) -> Context:
        """The conversation of a session; a request without one begins a conversation."""
        item, made = request.item, self._contexts
        fresh = Context(self._set.context, self._set.context_exchanges)
        if not request.session:
            return fresh
        context = made.setdefault((item.user, request.session), fresh)
        made.move_to_end((item.user, request.session))
        if len(made) > REMEMBERED:
            made.popitem(last=False)
        return context
