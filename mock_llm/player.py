"""Plays attempts: transit, admission, every byte of the plan at its moment, a row at the end."""

import asyncio

import msgspec

from mock_llm import framing, openai_wire, shapes
from mock_llm.behaviour import Provider
from mock_llm.config import Upstream
from mock_llm.connection import Connection
from mock_llm.envelope import Refusal
from mock_llm.framing import Framing
from mock_llm.ledger import End, Ledger, Row, billed
from mock_llm.plan import Call, Ending, Plan
from mock_llm.timeline import Write, timeline
from mock_llm.wire import Style

_SILENT = frozenset({"hang", "stall", "keep_alive"})
_ENDED: dict[Ending, End] = {"clean": "complete", "refused": "refused"}


class Player:
    """Plays what a provider plans, and keeps the ledger.

    Args:
        upstream: for prices, the keep-alive interval and the dialect.
        provider: decides.
        ledger: has every attempt that ended.
        epoch_s: unix time at loop time 0.
        transit: attempts take their keyed transit delay.

    Attributes:
        style: what is spoken.
    """

    def __init__(
        self,
        upstream: Upstream,
        provider: Provider,
        ledger: Ledger,
        epoch_s: float,
        *,
        transit: bool,
    ) -> None:
        self._provider = provider
        self._ledger = ledger
        self._epoch_s = epoch_s
        self._transit = transit
        self.change(upstream)

    def change(self, upstream: Upstream) -> None:
        """Take another upstream's prices and keep-alive interval from the next attempt on."""
        style = Style(upstream.dialect, upstream.usage_chunk, upstream.user_id)
        self.style = style
        self._keep_alive_s = upstream.keep_alive_s if style.dialect == "openrouter" else None
        self._usd_per_token = {
            slug: model.completion_usd_per_m * 1e-6 for slug, model in upstream.models.items()
        }

    async def play(self, link: Connection, frame: Framing, row: Row, call: Call) -> None:
        """Serve one attempt to its end.

        A cancelled handler ends the attempt there. Without cancellation the work goes on for a
        client that has left, as a provider's does, though nothing is sent any more.
        """
        plan = Plan(status=0)
        loop = asyncio.get_running_loop()
        try:
            if self._transit:
                await asyncio.sleep(self._provider.transit_s(call.key))
            row.admitted_s = loop.time()
            plan = self._provider.admit(call, row.admitted_s)
            if plan.model:
                call = msgspec.structs.replace(call, model=plan.model)
                row.model = plan.model
            _note_plan(row, plan)
            ended = await self._deliver(link, frame, row, call, plan)
        except asyncio.CancelledError:
            self._end(link, row, plan, "client_left" if link.left_s is not None else "shutdown")
            raise
        self._end(link, row, plan, ended)

    def refuse(self, link: Connection, frame: Framing, row: Row, refusal: Refusal) -> None:
        """End an attempt that never reached the provider."""
        refusal = self.spoken(refusal, row.account)
        row.status, row.error = refusal.status, refusal.error
        sent = link.send(frame.whole(refusal.status, framing.JSON + refusal.fields, refusal.body))
        row.headers_s = asyncio.get_running_loop().time() if sent else None
        self._end(link, row, Plan(status=refusal.status), "refused" if sent else "client_left")

    def spoken(self, refusal: Refusal, account: str = "") -> Refusal:
        """Return a refusal in the dialect of the upstream."""
        now = asyncio.get_running_loop().time()
        return shapes.refusal(refusal, self._styled(account, now), f"{account}:{now}")

    def fields(self, account: str) -> bytes:
        """Return the header fields that even a page has which no model makes."""
        if self.style.dialect == "openrouter":
            return b""
        now = asyncio.get_running_loop().time()
        return self._styled(account, now).fields + openai_wire.marks(f"{account}:{now}", 0.0)

    def _styled(self, account: str, now: float) -> Style:
        """The style of one answer: OpenAI says with each what the account has left."""
        if self.style.dialect == "openrouter":
            return self.style
        fields = openai_wire.limits(self._provider.quota(account, now))
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
        if self._transit:
            await asyncio.sleep(self._provider.transit_s(call.key))
        admitted_s = loop.time()
        plan = self._provider.admit(call, admitted_s)
        writes = timeline(
            call,
            plan,
            int(self._epoch_s + admitted_s),
            keep_alive_s=None,
            frame=frame,
            style=self._styled(call.account, admitted_s),
            body=body,
        )
        for write in writes:
            if (when := admitted_s + write.at_s) > loop.time():
                await _until(loop, when)
            link.send(write.data)
        if plan.ending in _SILENT:
            await link.gone()

    async def _deliver(
        self, link: Connection, frame: Framing, row: Row, call: Call, plan: Plan
    ) -> End:
        """Send everything in time, do to the connection what the plan says, return how it ended."""
        loop = asyncio.get_running_loop()
        admitted_s = loop.time() if row.admitted_s is None else row.admitted_s
        writes = timeline(
            call,
            plan,
            int(self._epoch_s + admitted_s),
            keep_alive_s=self._keep_alive_s,
            completion_usd=self._completion_usd(row, plan),
            frame=frame,
            style=self._styled(call.account, admitted_s),
        )
        sent = link.left_s is None
        for write in writes:
            if (when := admitted_s + write.at_s) > loop.time():
                await _until(loop, when)
            if sent := link.send(write.data):
                _note_write(row, write, loop.time())
            elif plan.ending == "keep_alive":
                break  # it would go on for hours
        if plan.ending in _SILENT:
            await link.gone()
            return "client_left"
        if not sent:
            return "client_left"
        if plan.ending == "eof":
            link.force_close()
        elif plan.ending == "reset":
            link.reset()
        return _ENDED.get(plan.ending, "broken")

    def _completion_usd(self, row: Row, plan: Plan) -> float:
        return plan.completion_tokens * self._usd_per_token.get(row.model, 0.0)

    def _end(self, link: Connection, row: Row, plan: Plan, ended: End) -> None:
        row.ended = ended
        left_s = link.left_s if ended == "client_left" else None
        row.ended_s = asyncio.get_running_loop().time() if left_s is None else left_s
        row.completion_tokens, row.billed_usd = billed(
            plan,
            ended,
            stream=row.stream,
            delivered_tokens=row.completion_tokens,
            completion_usd=self._completion_usd(row, plan),
        )
        self._ledger.add(row)


def _note_plan(row: Row, plan: Plan) -> None:
    row.status, row.error = plan.status, plan.error
    row.finish_reason = plan.finish_reason if plan.status == 200 else ""
    row.injected, row.draw = plan.injected, plan.draw
    row.planned_first_token_s, row.planned_last_token_s = plan.first_token_s, plan.last_token_s
    row.prompt_tokens, row.cached_tokens = plan.prompt_tokens, plan.cached_tokens


def _note_write(row: Row, write: Write, now: float) -> None:
    if row.headers_s is None:
        row.headers_s = now
    if write.tokens > row.completion_tokens:
        if row.first_token_s is None:
            row.first_token_s = now
        row.last_token_s = now
        row.completion_tokens = write.tokens


async def _until(loop: asyncio.AbstractEventLoop, when: float) -> None:
    """Wait for a moment of the loop's clock: absolute, so that no drift adds up."""
    wake: asyncio.Future[None] = loop.create_future()
    timer = loop.call_at(when, _wake, wake)
    try:
        await wake
    finally:
        timer.cancel()


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():  # cancelled in this very iteration
        waiting.set_result(None)
