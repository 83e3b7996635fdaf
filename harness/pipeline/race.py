"""Hedging: a second call where the first is slow, and the better of the two.

Whatever happens to a race, it is over only when all of its calls are, and each of them has a row:
one is the attempt that counts, the others have lost.
"""

import asyncio
import copy
from collections.abc import Callable

import msgspec

from harness.pipeline.attempts import Attempts
from harness.pipeline.books import Books
from harness.pipeline.hedge import Hedger
from harness.pipeline.money import Refused, Ticket
from harness.pipeline.request import Request
from harness.pipeline.writing import Tried
from harness.records import HEDGE_LOST, Outcome, Record

LOST: tuple[str, Outcome] = (HEDGE_LOST, "failed")


class Racer:
    """Makes attempts that may have a second call.

    Args:
        attempts: makes the calls.
        books: reserves the money for a second one.
        hedger: decides whether and when.
        add: is handed the rows of those that lost.
    """

    def __init__(
        self,
        attempts: Attempts,
        books: Books,
        hedger: Hedger,
        add: Callable[[Record], None],
    ) -> None:
        self._attempts = attempts
        self._books = books
        self._hedger = hedger
        self._add = add
        self._now = asyncio.get_running_loop().time

    async def run(self, request: Request, model: str, body: bytes, ticket: Ticket) -> Tried:
        """Make an attempt; `request.made` has counted every call of it but the one returned."""
        self._hedger.sent()
        began, delay_s = self._now(), self._hedger.delay_s()
        if delay_s is None:
            tried = await self._attempts.make(request, request.made + 1, model, body, ticket)
        else:
            race = _Race(self._attempts, request, model, body)
            tried = await self._raced(race, ticket, delay_s)
        if tried.answer is not None:
            self._hedger.sample(self._now() - began)
        return tried

    async def _raced(self, race: "_Race", ticket: Ticket, delay_s: float) -> Tried:
        request = race.request
        race.start(copy.copy(request), ticket)
        try:
            await race.decided(delay_s)
            if not race.is_decided and self._hedger.may_hedge():
                await self._hedge(race)
            await race.decided()
        except asyncio.CancelledError:
            why = self._attempts.why(request)
            await race.cut(first=why)
            rows = race.rows()
            if why is not None and rows:
                request.made += len(rows) - 1
                *others, last = rows
                self._lose(others)
                # An answer that came at this very moment is paid for, and nobody takes it.
                request.cut = msgspec.structs.replace(last, error=why[0], outcome=why[1])
            raise
        await race.cut(first=LOST)
        winner = race.winner()
        self._lose([row for row in race.rows() if row is not winner.row])
        request.made += race.calls - 1
        return winner

    async def _hedge(self, race: "_Race") -> None:
        ticket = await self._books.reserve(race.request, race.model, race.body, patient=False)
        if isinstance(ticket, Refused):
            return
        twin = copy.copy(race.request)
        twin.made += 1
        twin.back(self._now())
        race.start(twin, ticket, hedge=True)
        self._hedger.hedged()

    def _lose(self, rows: list[Record]) -> None:
        """Write calls down that do not count, so that none of them is the request's last row."""
        for row in rows:
            self._add(msgspec.structs.replace(row, outcome=LOST[1], error=LOST[0]))


class _Race:
    """The calls of one attempt, side by side.

    Attributes:
        request: what they are for.
        model: that is asked.
        body: that is sent.
        calls: how many there are.
    """

    def __init__(self, attempts: Attempts, request: Request, model: str, body: bytes) -> None:
        self.request, self.model, self.body = request, model, body
        self._attempts = attempts
        self._runners: list[tuple[Request, asyncio.Task[None]]] = []
        self._ended: list[Tried] = []  # in the order in which they ended

    @property
    def calls(self) -> int:
        """How many calls there are."""
        return len(self._runners)

    def start(self, request: Request, ticket: Ticket, *, hedge: bool = False) -> None:
        """Begin one more call, with times of its own."""
        self._runners.append((request, asyncio.create_task(self._run(request, ticket, hedge))))

    async def _run(self, request: Request, ticket: Ticket, hedge: bool) -> None:
        number = request.made + 1
        self._ended.append(
            await self._attempts.make(request, number, self.model, self.body, ticket, hedge=hedge)
        )

    @property
    def is_decided(self) -> bool:
        """Whether one is answered, all have ended, or one has met an error of our own."""
        tasks = [task for _, task in self._runners]
        answered = any(tried.answer is not None for tried in self._ended)
        broken = any(t.done() and not t.cancelled() and t.exception() for t in tasks)
        return answered or broken or all(task.done() for task in tasks)

    async def decided(self, limit_s: float | None = None) -> None:
        """Wait until it is decided, or for so long."""
        while not self.is_decided:
            pending = [task for _, task in self._runners if not task.done()]
            await asyncio.wait(pending, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if limit_s is not None:
                return

    async def cut(self, *, first: tuple[str, Outcome] | None) -> None:
        """End what is still under way; who is cancelled meanwhile is so when all have ended.

        Args:
            first: why the first call ends, and its outcome; the others have lost.
        """
        for number, (request, task) in enumerate(self._runners):
            if not task.done():
                request.stop = LOST if number else first
                task.cancel()
        interrupted: asyncio.CancelledError | None = None
        while pending := [task for _, task in self._runners if not task.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted

    def rows(self) -> list[Record]:
        """One of each call that has one: those that were cut, then the others as they ended."""
        cut = [request.cut for request, _ in self._runners if request.cut is not None]
        return [*cut, *(tried.row for tried in self._ended)]

    def winner(self) -> Tried:
        """The first that was answered, else what failed last.

        Raises:
            OSError: a call could not be written down.
            InputError: likewise.
        """
        for _, task in self._runners:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        return next((one for one in self._ended if one.answer is not None), self._ended[-1])
