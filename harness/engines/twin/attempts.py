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

    def wait(self, limit: Limit | None) -> Flow[Late | None]:
        """Wait for a place; returns `LATE` when there is none in time."""
        turn = self._clock.turn()
        self._waiting.append(turn)
        try:
            found: object = yield from self._clock.wait(turn, limit)
        except BaseException:
            self._withdraw(turn)
            raise
        if found is not LATE:
            return None
        self._withdraw(turn)
        return LATE

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
        writer, clock = self._writer, self._clock
        began = clock.now_s
        limit_s, late = writer.limit(request, began)
        limit = None if limit_s is None else clock.limit(began + limit_s)
        try:
            found: Answer | CallError | Late = LATE
            if not self._inside:
                found = yield from self._call(call, asked, limit)
            elif self._slots.take() or (yield from self._slots.wait(limit)) is not LATE:
                try:
                    found = yield from self._call(call, asked, limit)
                finally:
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

    def _stalled(self, limit: Limit | None) -> Flow[Late]:
        """A connection that is never ready."""
        try:
            yield from self._clock.wait(self._clock.turn(), limit)
        finally:
            self._end.pool.give_back(sound=False)
        return LATE

    def _call(
        self, call: Call, asked: Asked, limit: Limit | None
    ) -> Flow[Answer | CallError | Late]:
        """A call: a connection, an exchange."""
        end, stamps = self._end, call.stamps
        now = call.request.t_slot = self._clock.now_s
        if end.pool.is_bounded and end.pool.is_full:
            if (yield from end.pool.wait(limit)) is LATE:
                return LATE
            now = self._clock.now_s
        stamps.new_connection = is_new = end.pool.take(now)
        if is_new and end.stalls and end.stalls.strikes(now):
            return (yield from self._stalled(limit))
        stamps.t_connected = stamps.t_sent = now
        exchange = Exchange(
            end,
            now,
            asked.call(end.reader, call.key, self._account, new_connection=is_new),
            stamps,
        )
        try:
            if limit is not None:
                if limit.struck:  # while a connection was waited for
                    exchange.succeed(LATE)
                limit.waits_for = exchange
            found: Answer | CallError | Late = yield exchange
            if limit is not None and limit.struck:
                found = LATE
        except BaseException:
            exchange.leave()
            raise
        if found is LATE:
            exchange.leave()
        else:
            exchange.let_go()
        if not self._set.pool:  # a session is closed: meanwhile others of this instant go first
            yield self._clock.sleep(0.0)
        return found
