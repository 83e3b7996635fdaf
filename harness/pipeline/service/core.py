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
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from harness.errors import InputError
from harness.pipeline.answer import Answer
from harness.pipeline.client import ChatClient
from harness.pipeline.common import Common
from harness.pipeline.processor import Processor
from harness.pipeline.routing import Router
from harness.pipeline.service.accounts import Accounts
from harness.pipeline.service.desk import Desk
from harness.pipeline.service.keeping import Keeper, digest
from harness.pipeline.service.lines import DRAINING, REMEMBERED, Past, Story
from harness.pipeline.service.monitor import Monitor
from harness.pipeline.service.tickets import Ask, Reason, Refused, Served, Ticket
from harness.pipeline.toolkit import Toolkit
from harness.records import Record, in_order
from harness.scenario.pipeline import Pipeline


def _nobody(_: Record) -> None:
    """Keeps no rows."""


class Service(Desk):
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
        super().__init__(settings, tools, router, asyncio.get_running_loop().time, record)
        self.draining = False
        self._journal = journal
        self._ended: OrderedDict[str, tuple[str, str, Served]] = OrderedDict()
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

    @property
    def workers(self) -> int:
        """Size of the pool."""
        return self.room.workers

    @workers.setter
    def workers(self, count: int) -> None:
        """Scale the pool; workers that are too many finish what they do."""
        self.room.workers = count
        self._fill(self._now())

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
        self.admit(ticket)
        self._write_down(ticket)
        self._idle.clear()
        self.seat(ticket)
        return ticket

    async def drain(self, limit_s: float) -> int:
        """Let nothing more in, and finish what is here; what takes too long is withdrawn.

        Returns:
            How many were.
        """
        self.draining = True
        self._fill(self._now())
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
        unwritten = isinstance(error, InputError | OSError)
        broken = "" if error is None else "journal" if unwritten else "internal"
        self._left(ticket, answer, halted=task.cancelled(), broken=broken)
        if error is not None and not unwritten:
            raise error

    def _ends(self) -> "asyncio.Future[Served]":
        return asyncio.get_running_loop().create_future()

    def _at(self, when: float) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_at(when, self._look)

    def _start(self, ticket: Ticket) -> None:
        ticket.served_by = task = asyncio.create_task(self._serve(ticket))
        # A task that is cancelled before its first step never runs, not even its `finally`.
        task.add_done_callback(partial(self._leave, ticket))

    def _halt(self, ticket: Ticket) -> None:
        ticket.served_by.cancel()

    def _made(self, ask: Ask) -> int:
        ended = self._ended.get(ask.key)
        return 0 if ended is None else max((row.attempt for row in ended[2].rows), default=0)

    def _turned_away(self, ask: Ask, reason: Reason, retry_after_s: float | None) -> None:
        self._monitor.refused(ask, reason, retry_after_s)

    def _over(self, ticket: Ticket, served: Served) -> None:
        self._monitor.ended(ticket.ask, served, ticket.request.t_intended)
        if ticket.ask.named:
            self._ended[ticket.ask.key] = ticket.ask.user, ticket.digest, served
            self._ended.move_to_end(ticket.ask.key)
            if len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)

    def _rest(self) -> None:
        self._idle.set()
