"""Plays attempts: transit, admission, every byte of the plan at its moment, a row at the end."""

import asyncio
from collections.abc import Callable
from typing import Literal

import msgspec

from mock_llm import framing, openai_wire, shapes
from mock_llm.capacity import occupies, overloaded
from mock_llm.config import Capacity, Upstream
from mock_llm.connection import Connection
from mock_llm.decider import Decider
from mock_llm.envelope import STOPPING, Refusal
from mock_llm.farewell import farewell
from mock_llm.faults.base import unsaid
from mock_llm.framing import Framing
from mock_llm.ledger import End, Ledger, Row, billed
from mock_llm.performance import SILENT, Performance, note_tokens
from mock_llm.plan import Call, Ending, Plan, Quota
from mock_llm.quota import UNLIMITED
from mock_llm.replay import Replay
from mock_llm.service import Seat, Service
from mock_llm.timeline import Script, timeline
from mock_llm.wire import Style

Streams = Literal["finish", "break"]
_UNDECIDED = Plan(status=0)
_ENDED: dict[Ending, End] = {"clean": "complete", "refused": "refused"}


class Player:
    """Plays what a provider plans, and keeps the ledger.

    Args:
        upstream: for prices, the keep-alive interval, the capacity and the dialect.
        provider: decides.
        ledger: has every attempt that ended.
        epoch_s: unix time at loop time 0.
        transit: attempts take their keyed transit delay.
        service: makes the slots of a capacity.

    Attributes:
        service: the provider's slots; None while it has no end of them.
        gate: opens for the attempts that wait for their admission; None: nobody has to.
        style: what is spoken.
    """

    def __init__(
        self,
        upstream: Upstream,
        provider: Decider,
        ledger: Ledger,
        epoch_s: float,
        *,
        transit: bool,
        service: Callable[[Capacity], Service] = Service,
    ) -> None:
        self._service_of = service
        self._provider = provider
        self.gate: asyncio.Event | None = None
        self._ledger = ledger
        self._epoch_s = epoch_s
        self._transit = transit
        self._under_way = 0
        self._hurried = False
        self._drained: asyncio.Future[None] | None = None
        self._playing: dict[Connection, tuple[Row, Call, Plan, Framing]] = {}
        self.service: Service | None = None
        self.change(upstream)

    def change(self, upstream: Upstream) -> None:
        """Take another upstream's prices, keep-alives and capacity from the next attempt on.

        A change of capacity is felt by those who are served or wait: slots that come free of it are
        theirs, and so is the new speed.
        """
        style = Style(upstream.dialect, upstream.usage_chunk, upstream.user_id)
        self.style = style
        self._keep_alive_s = upstream.keep_alive_s if style.dialect == "openrouter" else None
        self._usd_per_token = {
            slug: model.completion_usd_per_m * 1e-6 for slug, model in upstream.models.items()
        }
        self._billed_in_full = {
            slug
            for slug, model in upstream.models.items()
            if (model.abort_billing or upstream.abort_billing) == "full"
        }
        capacity = upstream.capacity
        if self.service is None:
            self.service = None if capacity is None else self._service_of(capacity)
        elif capacity != self.service.station.capacity:
            self.service.change(capacity or Capacity())
            self.service = None if capacity is None else self.service

    async def play(
        self,
        link: Connection,
        frame: Framing,
        row: Row,
        call: Call,
        replay: Replay | None = None,
    ) -> None:
        """Serve one attempt to its end, with a recorded answer if the call has a recording.

        A cancelled handler ends the attempt there. Without cancellation the work goes on for a
        client that has left, as a provider's does, though nothing is sent any more.
        """
        self._ledger.begin()
        plan, seat, usd = _UNDECIDED, None, 0.0
        loop = asyncio.get_running_loop()
        self._under_way += 1
        self._playing[link] = row, call, plan, frame
        try:
            if self._transit:
                await asyncio.sleep(self._provider.transit_s(call.key))
            while self.gate is not None:
                await self.gate.wait()
            row.admitted_s = loop.time()
            decided = self._provider.admit(call, row.admitted_s)
            plan = decided if isinstance(decided, Plan) else await decided
            if call.recording and replay is not None:
                plan = replay.plan(plan, call, self._provider.memory.admitted)
            if plan.model:
                call = msgspec.structs.replace(call, model=plan.model)
                row.model = plan.model
            _note_plan(row, plan)
            usd = self._completion_usd(row, plan)  # at the prices of now, whatever comes
            if plan.injected:
                self._ledger.fire(row)
            if self.service is not None and occupies(plan):
                plan, seat = await self._seated(row, plan, self.service)
            ended = await self._deliver(link, frame, row, call, plan, usd, seat)
        except BaseException as error:
            plan = plan if seat is None else _charged(row, plan, seat)
            self._end(link, row, plan, _cut_off(link, error), usd)
            raise
        finally:
            self._playing.pop(link, None)
            if seat is not None:
                seat.leave(loop.time())
            self._under_way -= 1
            if self._drained is not None and not self._under_way:
                self.hurry()
        self._end(link, row, plan if seat is None else _charged(row, plan, seat), ended, usd)

    def refuse(self, link: Connection, frame: Framing, row: Row, refusal: Refusal) -> None:
        """End an attempt that never reached the provider."""
        self._ledger.begin()
        refusal = self.spoken(refusal, row.account)
        row.status, row.error = refusal.status, refusal.error
        sent = link.send(frame.whole(refusal.status, framing.JSON + refusal.fields, refusal.body))
        row.headers_s = asyncio.get_running_loop().time() if sent else None
        self._end(link, row, Plan(status=refusal.status), "refused" if sent else "client_left")

    async def drain(self, limit_s: float) -> None:
        """Wait until nothing is under way, for so long at most, or until somebody is in a hurry."""
        if self._under_way and limit_s > 0 and not self._hurried:
            loop = asyncio.get_running_loop()
            self._drained = loop.create_future()
            timer = loop.call_later(limit_s, self.hurry)
            try:
                await self._drained
            finally:
                timer.cancel()

    def hurry(self) -> None:
        """Wait no longer for what is under way; this may be said before anybody waits."""
        self._hurried = True
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def part(self, streams: Streams) -> None:
        """Take leave of the clients that still wait, as a provider that stops does.

        Args:
            streams: `finish` ends a response with an error in OpenRouter's shape; `break` has it
                reset as soon as its connection is closed.
        """
        for link, (row, call, plan, frame) in self._playing.items():
            if streams == "break":
                link.reset_on_close()
            elif plan.ending not in SILENT:
                is_open = row.headers_s is not None
                words = farewell(call, plan, self._created(row), frame, self.style, is_open=is_open)
                if link.send(words) and not is_open:
                    row.status, row.error = STOPPING.status, STOPPING.error
                    row.headers_s = asyncio.get_running_loop().time()

    def spoken(self, refusal: Refusal, account: str = "") -> Refusal:
        """Return a refusal that nobody planned in the dialect of the upstream."""
        now = asyncio.get_running_loop().time()
        return shapes.refusal(refusal, self._styled(None), f"{account}:{now}")

    def _fields(self) -> bytes:
        """Header fields of a page that no model makes."""
        if self.style.dialect == "openrouter":
            return framing.JSON
        now = asyncio.get_running_loop().time()
        return framing.JSON + self._styled(None).fields + openai_wire.marks(f"page:{now}", 0.0)

    def _styled(self, quota: Quota | None) -> Style:
        """The style of one answer: OpenAI says with each what the account has left."""
        if self.style.dialect == "openrouter":
            return self.style
        fields = openai_wire.limits(UNLIMITED if quota is None else quota)
        return msgspec.structs.replace(self.style, fields=fields)

    async def play_page(self, link: Connection, frame: Framing, call: Call, body: bytes) -> None:
        """Serve a request that asks for no model, as the provider plans it; no row is kept.

        Args:
            link: the connection.
            frame: how it wants the answer.
            call: says which page, for the faults.
            body: the page, sent when the plan is clean.
        """
        loop = asyncio.get_running_loop()
        row = Row(arrived_s=loop.time())
        if self._transit:
            # A name of its own, so that it shifts the transit of no attempt with that key.
            await asyncio.sleep(self._provider.transit_s(f"{call.route}:{call.key}"))
        row.admitted_s = loop.time()
        decided = self._provider.admit(call, row.admitted_s)
        plan = decided if isinstance(decided, Plan) else await decided
        await self._deliver(link, frame, row, call, plan, page=(self._fields(), body))

    async def _seated(self, row: Row, plan: Plan, service: Service) -> tuple[Plan, Seat | None]:
        """Knock at the provider, once the connection stands: a place, or the refusal."""
        loop = asyncio.get_running_loop()
        if plan.setup_s:
            await asyncio.sleep(plan.setup_s)
        seat = await service.enter(loop.time())
        if seat is None:
            plan = overloaded(plan, service.station.capacity.overflow_status)
            _note_plan(row, plan)
        return plan, seat

    async def _deliver(
        self,
        link: Connection,
        frame: Framing,
        row: Row,
        call: Call,
        plan: Plan,
        usd: float = 0.0,
        seat: Seat | None = None,
        page: tuple[bytes, bytes] | None = None,
    ) -> End:
        """Send everything in time, do to the connection what the plan says, return how it ended."""
        self._playing.pop(link, None)  # it waits no longer
        script = timeline(
            call,
            plan,
            self._created(row),
            keep_alive_s=self._keep_alive_s,
            completion_usd=usd,
            frame=frame,
            elastic=seat is not None,
            style=self._styled(plan.quota),
            page=page,
        )
        if script.is_bare and seat is None and plan.setup_s == plan.last_token_s == 0.0:
            sent = _send_at_once(link, row, script)
        else:
            playing = Performance(link, row, plan, script, seat)
            sent = await self._perform(link, playing, call, frame)
        if plan.ending in SILENT:
            await link.gone()
            return "client_left"
        if not sent:
            return "client_left"
        if plan.ending == "eof":
            link.force_close()
        elif plan.ending == "reset":
            link.reset()
        return _ENDED.get(plan.ending, "broken")

    async def _perform(
        self, link: Connection, playing: Performance, call: Call, frame: Framing
    ) -> bool:
        """Send everything in time; return whether the client was there to the end."""
        if not playing.begin():
            self._playing[link] = playing.row, call, playing.plan, frame
            try:
                await playing.rest()
            finally:
                del self._playing[link]
        return playing.sent

    def _created(self, row: Row) -> int:
        """Unix second of an attempt's admission."""
        return int(self._epoch_s + (row.admitted_s or 0.0))

    def _completion_usd(self, row: Row, plan: Plan) -> float:
        return plan.completion_tokens * self._usd_per_token.get(row.model, 0.0)

    def _end(
        self, link: Connection, row: Row, plan: Plan, ended: End, completion_usd: float = 0.0
    ) -> None:
        row.ended = ended
        left_s = link.left_s if ended == "client_left" else None
        row.ended_s = asyncio.get_running_loop().time() if left_s is None else left_s
        row.completion_tokens, row.billed_usd = billed(
            plan if plan.status == row.status else Plan(status=row.status),
            ended,
            stream=row.stream,
            delivered_tokens=row.completion_tokens,
            completion_usd=completion_usd,
            abort_billing="full" if row.model in self._billed_in_full else "sent",
        )
        if plan.ticket:
            self._provider.finish(plan, row.completion_tokens, row.billed_usd)
        self._ledger.add(row)


def _cut_off(link: Connection, error: BaseException) -> End:
    if not isinstance(error, asyncio.CancelledError):
        return "broken"  # by a fault of our own
    return "shutdown" if link.left_s is None else "client_left"


def _note_plan(row: Row, plan: Plan) -> None:
    row.status, row.error = plan.status, plan.error
    row.retry_after_s, row.ending = plan.retry_after_s, plan.ending
    row.finish_reason = plan.finish_reason if plan.status == 200 else ""
    row.injected, row.draw = plan.injected, plan.draw
    row.setup_s = plan.setup_s
    row.planned_first_token_s, row.planned_last_token_s = plan.first_token_s, plan.last_token_s
    row.prompt_tokens, row.cached_tokens = plan.prompt_tokens, plan.cached_tokens


def _send_at_once(link: Connection, row: Row, script: Script) -> bool:
    """Send what needs no time at all; return whether the client was there."""
    sent, now = link.left_s is None, asyncio.get_running_loop().time()
    for write in script.writes:
        if sent := link.send(write.data):
            row.headers_s = now
            note_tokens(row, write, now)
    return sent


def _charged(row: Row, plan: Plan, seat: Seat) -> Plan:
    """Note the wait; an attempt that was never served has said nothing, and costs nothing."""
    if seat.began_s is not None:
        row.queued_s = seat.began_s - seat.entered_s
        return plan
    row.queued_s = asyncio.get_running_loop().time() - seat.entered_s
    return unsaid(plan)
