"""Hedging: a second call where the first is slow, and the better of the two."""

import asyncio
import copy
from collections.abc import Callable

import msgspec

from harness.pipeline.attempts import Attempts, Tried
from harness.pipeline.books import Books
from harness.pipeline.hedge import Hedger
from harness.pipeline.money import Refused, Ticket
from harness.pipeline.request import Request
from harness.records import HEDGE_LOST, Record

Runner = tuple[Request, asyncio.Task[Tried]]


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
            tried = await self._race(request, model, body, ticket, delay_s)
        if tried.answer is not None:
            self._hedger.sample(self._now() - began)
        return tried

    async def _race(
        self, request: Request, model: str, body: bytes, ticket: Ticket, delay_s: float
    ) -> Tried:
        runners = [self._start(copy.copy(request), model, body, ticket)]
        try:
            await asyncio.wait([runners[0][1]], timeout=delay_s)
            if not runners[0][1].done() and self._hedger.may_hedge():
                await self._hedge(runners, request, model, body)
            await _first_answer(runners)
        except asyncio.CancelledError:
            runners[0][0].stop = request.stop
            await self._cut_short(runners[1:])
            await self._cut_short(runners[:1])
            request.cut = runners[0][0].cut
            raise
        return await self._settled(request, runners)

    async def _hedge(
        self, runners: list[Runner], request: Request, model: str, body: bytes
    ) -> None:
        ticket = await self._books.reserve(request, model, body, patient=False)
        if isinstance(ticket, Refused):
            return
        twin = copy.copy(request)
        twin.made += 1
        twin.back(self._now())
        runners.append(self._start(twin, model, body, ticket, hedge=True))
        self._hedger.hedged()

    def _start(
        self, request: Request, model: str, body: bytes, ticket: Ticket, *, hedge: bool = False
    ) -> Runner:
        number = request.made + 1
        making = self._attempts.make(request, number, model, body, ticket, hedge=hedge)
        return request, asyncio.create_task(making)

    async def _settled(self, request: Request, runners: list[Runner]) -> Tried:
        """Return the winner, or what failed last; write the others down."""
        ended = [task.result() for _, task in runners if task.done()]
        winner = next((one for one in ended if one.answer is not None), ended[-1])
        for one in ended:
            if one is not winner:
                self._lost(one.row, won=winner.answer is not None)
        await self._cut_short([one for one in runners if not one[1].done()])
        request.made += len(runners) - 1
        return winner

    async def _cut_short(self, runners: list[Runner]) -> None:
        for request, task in runners:
            request.stop = request.stop or (HEDGE_LOST, "failed")
            task.cancel()
        if runners:
            await asyncio.wait([task for _, task in runners])
        for request, _ in runners:
            if request.cut is not None and request.cut.error == HEDGE_LOST:
                self._add(request.cut)

    def _lost(self, row: Record, *, won: bool) -> None:
        """A call that ended before the one that counts, or at the same moment."""
        if won:  # the one that counts has to be the request's last row
            row = msgspec.structs.replace(row, outcome="failed", error=HEDGE_LOST)
        self._add(row)


async def _first_answer(runners: list[Runner]) -> None:
    """Wait until one is answered, or all have failed."""
    tasks = [task for _, task in runners]
    while pending := [task for task in tasks if not task.done()]:
        if any(task.done() and task.result().answer is not None for task in tasks):
            return
        await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
