"""One attempt in the twin: a slot, a time limit, an exchange; and the row that tells of it."""

from collections import deque

from harness.engines.twin.asked import Asked
from harness.engines.twin.clock import LATE, Clock, Flow, Interrupt, Late, Limit, Turn
from harness.engines.twin.endpoint import Endpoint
from harness.engines.twin.exchange import Exchange
from harness.pipeline.answer import Answer
from harness.pipeline.client import CallError, Stamps
from harness.pipeline.deciding import Deciding
from harness.pipeline.money import Ticket
from harness.pipeline.request import Request
from harness.pipeline.writing import Call, Tried
from harness.scenario.pipeline import Pipeline


class Slots:
    """A number of places, first come, first served: `asyncio.Semaphore`.

    Args:
        clock: of the run.
        count: of places.
    """

    def __init__(self, clock: Clock, count: int) -> None:
        self._clock = clock
        self._free = count
        self._waiting: deque[Turn] = deque()

    def take(self) -> bool:
        """Take a place, if one is free and nobody waits for it."""
        while self._waiting and self._waiting[0].triggered:
            self._waiting.popleft()
        if not self._free or self._waiting:
            return False
        self._free -= 1
        return True

    def wait(self, limit: Limit | None) -> Flow[bool]:
        """Wait for a place; returns whether there was one in time."""
        turn = self._clock.turn()
        self._waiting.append(turn)
        try:
            found: object = yield from self._clock.wait(turn, limit)
        except BaseException:
            self._withdraw(turn)
            raise
        if found is LATE:
            self._withdraw(turn)
        return found is not LATE

    def _withdraw(self, turn: Turn) -> None:
        """Who does not wait any more gives back what was given away at this very moment."""
        if not turn.triggered:
            turn.succeed(LATE)
        elif turn.value is not LATE:
            self.leave()

    def leave(self) -> None:
        """Give a place back."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.triggered:
                turn.succeed()
                return
        self._free += 1


class Attempts:
    """Makes attempts.

    Args:
        settings: of the pipeline.
        end: the provider and the way to it.
        deciding: of the processor whose attempts they are.
        account: its API key.
    """

    def __init__(self, settings: Pipeline, end: Endpoint, deciding: Deciding, account: str) -> None:
        self._inside = settings.slot == "inside_timeout"
        self._slots = Slots(end.clock, settings.concurrency)
        self._set, self._end, self._account = settings, end, account
        self._clock = end.clock
        self._writer, self._why = deciding.writer, deciding.why

    def make(
        self,
        request: Request,
        asked: Asked,
        ticket: Ticket,
        *,
        hedge: bool = False,
    ) -> Flow[Tried]:
        """Make one; an interruption that is ours is written down in `request.cut`."""
        call = Call(request, request.made + 1, asked.model, asked.body, ticket, Stamps(), hedge)
        request.t_slot = None
        writer, clock, end = self._writer, self._clock, self._end
        now = clock.now_s
        limit_s, late = writer.limit(request, now)
        limit = None if limit_s is None else clock.limit(now + limit_s)
        found: Answer | CallError | Late = LATE
        exchange, seated = None, False
        try:  # all in one generator: each resumption would go through every other
            try:
                if not self._inside or self._slots.take() or (yield from self._slots.wait(limit)):
                    seated = self._inside
                    now = request.t_slot = clock.now_s
                    if end.is_hampered:
                        exchange = yield from self._hampered(call, asked, limit)
                    else:
                        exchange = self._sent(call, asked, now, end.pool.take(now))
                if exchange is not None:
                    if limit is not None:
                        if limit.struck:  # while a connection was waited for
                            exchange.succeed(LATE)
                        limit.waits_for = exchange
                    found = yield exchange
                    if limit is not None and limit.struck:
                        found = LATE
                    if found is not LATE:
                        exchange.let_go()
                    else:
                        exchange.leave()
                    exchange = None
                    if not self._set.pool:  # a session is closed: meanwhile others go first
                        yield clock.sleep(0.0)
            finally:
                if exchange is not None:
                    exchange.leave()
                if seated:
                    self._slots.leave()
        except Interrupt:
            if (why := self._why(request)) is not None:
                writer.cut(call, why, clock.now_s)
            raise
        finally:
            if limit is not None:
                limit.cancel()
        if isinstance(found, Answer):
            return writer.ok(call, found, clock.now_s)
        if isinstance(found, CallError):
            return writer.failed(call, found, clock.now_s)
        return writer.late(call, late, clock.now_s)

    def _sent(self, call: Call, asked: Asked, now: float, is_new: bool) -> Exchange:
        """Send it over a connection."""
        end, stamps = self._end, call.stamps
        stamps.new_connection, stamps.t_connected, stamps.t_sent = is_new, now, now
        sent = asked.call(end.reader, call.key, self._account, is_new)
        return Exchange(end, now, sent, stamps)

    def _hampered(self, call: Call, asked: Asked, limit: Limit | None) -> Flow[Exchange | None]:
        """Send it where a connection may have to be waited for, or is never ready; None: late."""
        clock, pool, stalls = self._clock, self._end.pool, self._end.stalls
        if pool.is_full and (yield from pool.wait(limit)) is LATE:
            return None
        now = clock.now_s
        is_new = call.stamps.new_connection = pool.take(now)
        if not (is_new and stalls and stalls.strikes(now)):
            return self._sent(call, asked, now, is_new)
        try:
            yield from clock.wait(clock.turn(), limit)
        finally:
            pool.give_back(sound=False)
        return None
