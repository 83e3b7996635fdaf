"""Hedging on the twin's clock; see `pipeline.race`."""

import copy

import msgspec

from harness.engines.twin.asked import Asked
from harness.engines.twin.attempts import Attempts
from harness.engines.twin.clock import Clock, Flow, Interrupt, Turn, Work
from harness.pipeline.deciding import Deciding
from harness.pipeline.hedge import Hedger
from harness.pipeline.money import Refused, Ticket
from harness.pipeline.race import LOST
from harness.pipeline.request import Request
from harness.pipeline.writing import Stopped, Tried
from harness.records import Record


class Racer:
    """Makes attempts that may have a second call.

    Args:
        attempts: makes the calls.
        deciding: of the processor whose attempts they are.
        hedger: decides whether and when.
        clock: of the run.
    """

    def __init__(
        self, attempts: Attempts, deciding: Deciding, hedger: Hedger, clock: Clock
    ) -> None:
        self._attempts, self._deciding, self._hedger = attempts, deciding, hedger
        self._clock = clock

    def run(self, request: Request, asked: Asked, ticket: Ticket) -> Flow[Tried]:
        """Make an attempt; `request.made` has counted every call of it but the one returned."""
        self._hedger.sent()
        began, delay_s = self._clock.now_s, self._hedger.delay_s()
        if delay_s is None:
            tried = yield from self._attempts.make(request, asked, ticket)
        else:
            race = _Race(self._attempts, request, asked, self._clock)
            tried = yield from self._raced(race, ticket, delay_s)
        if tried.answer is not None:
            self._hedger.sample(self._clock.now_s - began)
        return tried

    def _raced(self, race: "_Race", ticket: Ticket, delay_s: float) -> Flow[Tried]:
        request = race.request
        race.start(copy.copy(request), ticket)
        try:
            yield from race.decided(delay_s)
            if not race.is_decided and self._hedger.may_hedge():
                self._hedge(race)
            yield from race.decided()
        except Interrupt:
            why = self._deciding.why(request)
            yield from race.cut(first=why)
            rows = race.rows()
            if why is not None and rows:
                request.made += len(rows) - 1
                *others, last = rows
                self._lose(others)
                request.cut = msgspec.structs.replace(last, error=why[0], outcome=why[1])
            raise
        yield from race.cut(first=LOST)
        winner = race.winner()
        self._lose([row for row in race.rows() if row is not winner.row])
        request.made += race.calls - 1
        return winner

    def _hedge(self, race: "_Race") -> None:
        asked = race.asked
        ticket = self._deciding.books.ask(race.request, asked.model, asked.size, patient=False)
        if isinstance(ticket, Refused):
            return
        twin = copy.copy(race.request)
        twin.made += 1
        twin.back(self._clock.now_s)
        race.start(twin, ticket, hedge=True)
        self._hedger.hedged()

    def _lose(self, rows: list[Record]) -> None:
        """Write calls down that do not count, so that none of them is the request's last row."""
        for row in rows:
            self._deciding.note(msgspec.structs.replace(row, outcome=LOST[1], error=LOST[0]))


class _Race:
    """The calls of one attempt, side by side, each a process.

    Attributes:
        request: what they are for.
        asked: what is sent.
        calls: how many there are.
    """

    def __init__(self, attempts: Attempts, request: Request, asked: Asked, clock: Clock) -> None:
        self.request, self.asked = request, asked
        self._attempts, self._clock = attempts, clock
        self._runners: list[tuple[Request, Work]] = []
        self._ended: list[Tried] = []  # in the order in which they ended
        self._news: Turn | None = None

    @property
    def calls(self) -> int:
        """How many calls there are."""
        return len(self._runners)

    def start(self, request: Request, ticket: Ticket, *, hedge: bool = False) -> None:
        """Begin one more call, with times of its own."""
        work = self._run(request, ticket, hedge=hedge)
        self._runners.append((request, self._clock.process(work)))

    def _run(self, request: Request, ticket: Ticket, *, hedge: bool) -> Flow[None]:
        yield self._clock.sleep(0.0)  # a task begins in its turn, a process of SimPy's at once
        try:
            found = yield from self._attempts.make(request, self.asked, ticket, hedge=hedge)
            self._ended.append(found)
        except Interrupt:
            pass
        if self._news is not None and not self._news.triggered:
            self._news.succeed()

    @property
    def is_decided(self) -> bool:
        """Whether one is answered, or all have ended."""
        answered = any(tried.answer is not None for tried in self._ended)
        return answered or len(self._ended) == len(self._runners)

    def decided(self, limit_s: float | None = None) -> Flow[None]:
        """Wait until it is decided, or for so long."""
        while not self.is_decided:
            self._news = self._clock.turn()
            limit = self._clock.limit(None if limit_s is None else self._clock.now_s + limit_s)
            yield from self._clock.wait(self._news, limit)
            if limit is not None:
                limit.cancel()
                return

    def cut(self, *, first: Stopped | None) -> Flow[None]:
        """End what is still under way.

        Args:
            first: why the first call ends, and its outcome; the others have lost.
        """
        for number, (request, runner) in enumerate(self._runners):
            if runner.is_alive:
                request.stop = LOST if number else first
                runner.interrupt()
        for _, runner in self._runners:
            if runner.is_alive:
                yield runner

    def rows(self) -> list[Record]:
        """One of each call that has one: those that were cut, then the others as they ended."""
        cut = [request.cut for request, _ in self._runners if request.cut is not None]
        return [*cut, *(tried.row for tried in self._ended)]

    def winner(self) -> Tried:
        """The first that was answered, else what failed last."""
        return next((one for one in self._ended if one.answer is not None), self._ended[-1])
