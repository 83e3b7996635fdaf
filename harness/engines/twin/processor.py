"""One request from its admission to its final outcome, on the twin's clock.

What is decided is decided by `pipeline.deciding`; here is the waiting in between, in the order of
`pipeline.processor`.
"""

from collections.abc import Callable

from harness.engines.twin.asked import Asked, Texts
from harness.engines.twin.attempts import Attempts
from harness.engines.twin.clock import LATE, Flow, Interrupt, Turn
from harness.engines.twin.endpoint import Endpoint
from harness.engines.twin.race import Racer
from harness.pipeline.answer import Answer
from harness.pipeline.books import NO_MONEY
from harness.pipeline.cache import MemoryCache, cache_key
from harness.pipeline.deciding import Deciding
from harness.pipeline.gate import Gate
from harness.pipeline.guards import was_dropped
from harness.pipeline.limits import UserLimits
from harness.pipeline.money import Refused, Ticket
from harness.pipeline.request import Request
from harness.pipeline.toolkit import Toolkit
from harness.pipeline.writing import ContextOf, Stopped, Tried
from harness.records import Record
from harness.scenario.pipeline import Pipeline


class TwinProcessor(Deciding):
    """Serves requests: `handle` is the work of a process, which may be interrupted.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        end: the provider and the way to it.
        add: is handed every row.
        context_of: the conversation that a request belongs to.
        stopped: why a request is being cancelled, and its outcome; None when it is not by us.
        limits: of the users; None: whoever calls has seen to them.
        cache: of answers; None: every request is sent.
    """

    def __init__(
        self,
        settings: Pipeline,
        tools: Toolkit,
        end: Endpoint,
        *,
        add: Callable[[Record], None],
        context_of: ContextOf,
        stopped: Callable[[Request], Stopped | None],
        limits: UserLimits | None = None,
        cache: MemoryCache | None = None,
    ) -> None:
        self._clock = end.clock
        super().__init__(
            settings,
            tools,
            end.clock.time,
            add=add,
            context_of=context_of,
            stopped=stopped,
            limits=limits,
        )
        self._texts = Texts(settings, tools.count_tokens)
        self._context_of = context_of
        self._cache = cache
        self._flights: dict[bytes, list[Turn]] = {}
        self._unguarded = self.guards.is_idle
        attempts = Attempts(settings, end, self, tools.api_key.reveal())
        hedger = self.guards.hedger
        racer = Racer(attempts, self, hedger, end.clock) if hedger else None
        self._make = racer.run if racer else attempts.make

    def handle(self, request: Request) -> Flow[Answer | None]:
        """Serve a request; afterwards it has its rows.

        Returns:
            The answer; None when it came to nothing.
        """
        # Generators that only hand on cost as much at each resumption as those that decide.
        if self._cache is None:
            return self._send(request)
        return self._send_once(self._cache, request)

    def _send_once(self, cache: MemoryCache, request: Request) -> Flow[Answer | None]:
        """Answer from the cache; of identical requests in flight only the first is sent."""
        request.cache = "miss"
        item = request.item
        text = item.review.text
        key = cache_key(text, self._tools.router_version, item.route.model)
        while (flight := self._flights.get(key)) is not None:
            if not (yield from self._outlive(flight, request)):
                return None
        flight = self._flights[key] = []
        try:
            held = cache.look(key, text, self._now())
            if held is not None:
                self._add(request.hit(held.answer, self._now(), near=held.how == "near"))
                return held.answer
            found = yield from self._send(request)
            if found is not None:
                cache.hold(key, text, found, self._now())
        finally:
            del self._flights[key]
            for turn in flight:  # each is woken by itself, as an `asyncio.Event` does it
                turn.come()
        return found

    def _outlive(self, flight: list[Turn], request: Request) -> Flow[bool]:
        """Wait for somebody's identical request; return whether there was time for it."""
        mine = self._clock.turn()
        flight.append(mine)
        limit = self._clock.limit(request.deadline)
        try:
            found = yield from self._clock.wait(mine, limit)
        except Interrupt:
            self._close(request)
            raise
        finally:
            if limit is not None:
                limit.cancel()
        if found is LATE:
            self._add(self._too_late(request))
        return found is not LATE

    def _send(self, request: Request) -> Flow[Answer | None]:
        """Attempt after attempt, until one is answered or it makes no sense to go on."""
        try:
            turn_s = None if self.books.broke else self._turn_s(request)
            if turn_s is None:  # who comes too late is rejected at once
                self._give_up(request, NO_MONEY if self.books.broke else "rate_limit")
                return None
            if turn_s > 0:
                yield self._clock.sleep(turn_s)
            request.t_limited = self._clock.now_s
            for tries in range(request.failures + 1, self._set.retries + 2):
                tried = yield from (
                    self._paid(request, request.item.route.model)
                    if self._unguarded
                    else self._guarded(request, tries)
                )
                if tried is None:
                    self._give_up(request, NO_MONEY)
                    return None
                self._counted(request, tried)
                if tried.answer is not None or not (yield from self._again(request, tried, tries)):
                    return tried.answer
        except Interrupt:
            self._close(request)
            raise
        return None

    def _guarded(self, request: Request, tries: int) -> Flow[Tried | None]:
        """One attempt within the slots that there are; None when there is no money for it."""
        gate = self.guards.gate
        if gate is None:
            return self._chosen(request, tries)
        return self._through(gate, request, tries)

    def _through(self, gate: Gate, request: Request, tries: int) -> Flow[Tried | None]:
        if not gate.opens() and not (yield from self._wait_for(gate, request)):
            return Tried(self._too_late(request))
        row = None
        try:
            tried = yield from self._chosen(request, tries)
            row = None if tried is None else tried.row
        finally:
            if row is None or row.t_sent is None:
                gate.leave()
            else:
                gate.ended(self._now(), row.t_end - row.t_sent, dropped=was_dropped(row))
        return tried

    def _wait_for(self, gate: Gate, request: Request) -> Flow[bool]:
        """Wait for a slot; return whether one came in time."""
        turn, limit = self._clock.turn(), self._clock.limit(request.deadline)
        gate.queue(turn)
        found: object = LATE
        try:
            found = yield from self._clock.wait(turn, limit)
        finally:
            if limit is not None:
                limit.cancel()
            if not turn.triggered:
                turn.succeed(LATE)
            elif found is LATE and turn.value is not LATE:
                gate.leave()  # it was given away at this very moment
        return found is not LATE

    def _chosen(self, request: Request, tries: int) -> Flow[Tried | None]:
        """An attempt at the model whose turn it is, of which the guards are told."""
        begun = self._now()
        model = self.guards.model(request, tries, begun)
        if model is None:
            return self._broken(request)
        self.guards.begin(model, begun, first=tries == 1)
        try:
            tried = yield from self._paid(request, model)
        except BaseException:
            self.guards.given_up(model, begun, self._now())
            raise
        if tried is None:
            self.guards.given_up(model, begun, self._now())
        else:
            self.guards.end(tried.row, begun, self._now())
        return tried

    def _paid(self, request: Request, model: str) -> Flow[Tried | None]:
        """An attempt, for which there has to be money."""
        exchanges = self._context_of(request).to_send()
        asked = self._texts.asked(model, exchanges, request.item.review.text)
        ticket = self.books.ask(request, model, asked.size)
        if isinstance(ticket, Refused):
            return self._begged(request, asked, ticket)
        return self._make(request, asked, ticket)

    def _begged(
        self, request: Request, asked: Asked, ticket: Ticket | Refused
    ) -> Flow[Tried | None]:
        """An attempt, once there is money for it."""
        while isinstance(ticket, Refused):
            if not (yield from self._money_back(request, ticket)):
                return None
            ticket = self.books.ask(request, asked.model, asked.size)
        return (yield from self._make(request, asked, ticket))

    def _money_back(self, request: Request, refused: Refused) -> Flow[bool]:
        """Wait until money may have come back; return whether that made sense."""
        wait_s = self.books.patience_s(request, refused)
        if wait_s is None:
            return False
        turn, limit = self._clock.turn(), self._clock.limit(self._now() + wait_s)
        self.books.waiting.append(turn)
        try:
            yield from self._clock.wait(turn, limit)
        finally:
            if limit is not None:
                limit.cancel()
        return True

    def _again(self, request: Request, tried: Tried, tries: int) -> Flow[bool]:
        """Back off; return whether there shall be another attempt."""
        wait_s = self._wait_s(request, tried, tries)
        if wait_s is None:
            return False
        yield self._clock.sleep(wait_s)
        request.back(self._now())
        return True
