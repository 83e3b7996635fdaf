"""Who admits an attempt when several processes serve it: the worker itself, or the hub for all.

Keyed weather needs nothing but counts, which all share, so a worker decides alone. What remembers
more across attempts (windows, warmth, caches) is in one place, the hub's provider; a worker asks it
and plays its plan from the moment of the question, so that the way there adds no time to an answer.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable
from typing import NamedTuple

import msgspec

from mock_llm.admission import used_tokens
from mock_llm.behaviour import Provider
from mock_llm.config import Upstream
from mock_llm.counts import Memory
from mock_llm.link import Link
from mock_llm.plan import Call, Plan
from mock_llm.structured import document

ADMIT, FINISH = "admit", "finish"


class Question(NamedTuple):
    """A call on its way to the hub.

    Attributes:
        call: it; see `raw`.
        now: the worker's clock, which is the machine's.
        raw: key and account, where bytes that are not UTF-8 keep them out of the call.
    """

    call: Call
    now: float
    raw: tuple[bytes, bytes] | None = None


class Settlement(NamedTuple):
    """What an attempt came to that held something; see `admission.Admission.finish`."""

    ticket: int
    tokens: int
    billed_usd: float


_decode_settlement = msgspec.msgpack.Decoder(Settlement).decode
# Of all that is in a call only a schema is no plain data.
_encode_question = msgspec.msgpack.Encoder(enc_hook=lambda schema: schema.raw).encode
_decode_question = msgspec.msgpack.Decoder(Question, dec_hook=lambda _, raw: document(raw)).decode
_decode_plan = msgspec.msgpack.Decoder(Plan).decode


class SharedAdmission:
    """A worker's side; see `decider.Decider`.

    Args:
        provider: the worker's own, whose memory is shared.
        link: to the hub.
    """

    def __init__(self, provider: Provider, link: Link) -> None:
        self._provider, self._link = provider, link
        self._remembers = provider.remembers

    @property
    def upstream(self) -> Upstream:
        """What is imitated at the moment."""
        return self._provider.upstream

    def change(self, upstream: Upstream) -> None:
        """Be another upstream from the next attempt on."""
        self._provider.change(upstream)
        self._remembers = self._provider.remembers

    @property
    def seed(self) -> int:
        """Of the weather."""
        return self._provider.seed

    @property
    def memory(self) -> Memory:
        """Shared with all workers."""
        return self._provider.memory

    def reset(self, seed: int | None = None) -> None:
        """See `behaviour.Provider.reset`."""
        self._provider.reset(seed)

    def transit_s(self, key: str) -> float:
        """See `behaviour.Provider.transit_s`."""
        return self._provider.transit_s(key)

    def admit(self, call: Call, now: float) -> Plan | Awaitable[Plan]:
        """Decide, or ask the hub to."""
        return self._asked(call, now) if self._remembers else self._provider.admit(call, now)

    def finish(self, plan: Plan, completion_tokens: int, billed_usd: float) -> None:
        """Tell the hub, whose ticket it is."""
        used = used_tokens(plan, completion_tokens)
        self._link.tell(FINISH, Settlement(plan.ticket, used, billed_usd))

    async def _asked(self, call: Call, now: float) -> Plan:
        asked = asyncio.ensure_future(self._link.ask(ADMIT, question(call, now)))
        try:
            return _decode_plan(await asyncio.shield(asked))
        except asyncio.CancelledError:
            # The hub lets in one who has left in the meantime, and he would never be ended.
            asked.add_done_callback(self._let_go)
            raise

    def _let_go(self, asked: "asyncio.Future[msgspec.Raw]") -> None:
        """End an attempt whose client did not wait for the decision; nothing was used."""
        if asked.cancelled() or asked.exception() is not None:
            return
        if ticket := _decode_plan(asked.result()).ticket:
            self._link.tell(FINISH, Settlement(ticket, 0, 0.0))


class HubAdmission:
    """The hub's side: one clock that never falls, whoever asks.

    Args:
        provider: decides for all workers.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._now = 0.0
        self._held: defaultdict[int, set[int]] = defaultdict(set)

    def admit(self, worker: int, body: msgspec.Raw) -> Plan:
        """Answer a worker's question."""
        call, now, raw = _decode_question(body)
        if raw is not None:
            key, account = (one.decode("utf-8", "surrogatepass") for one in raw)
            call = msgspec.structs.replace(call, key=key, account=account)
        self._now = max(self._now, now)
        plan = self._provider.admit(call, self._now)
        if plan.ticket:
            self._held[worker].add(plan.ticket)
        return plan

    def finish(self, worker: int, body: msgspec.Raw) -> None:
        """End an attempt of a worker's."""
        settled = _decode_settlement(body)
        self._held[worker].discard(settled.ticket)
        self._provider.admission.finish(*settled)

    def bury(self, worker: int) -> None:
        """End all that a dead worker had under way; it cannot say any more what they used."""
        for ticket in self._held.pop(worker, ()):
            self._provider.admission.finish(ticket, 0, 0.0)


def question(call: Call, now: float) -> msgspec.Raw:
    """Return a `Question` as it travels: a header may hold what no UTF-8 can say."""
    raw = None
    if not (call.key.isascii() and call.account.isascii()):
        key, account = (one.encode("utf-8", "surrogatepass") for one in (call.key, call.account))
        raw, call = (key, account), msgspec.structs.replace(call, key="", account="")
    return msgspec.Raw(_encode_question(Question(call, now, raw)))
