"""Who admits an attempt when several processes serve it: the worker itself, or the hub for all.

Keyed weather needs nothing but counts, which all share, so a worker decides alone. What remembers
more across attempts (windows, warmth, caches) is in one place, the hub's provider; a worker asks it
and plays its plan from the moment of the question, so that the way there adds no time to an answer.
"""

from collections.abc import Awaitable
from typing import NamedTuple

import msgspec

from mock_llm.behaviour import Provider
from mock_llm.config import Upstream
from mock_llm.link import Link
from mock_llm.plan import Call, Plan

ADMIT = "admit"


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


_decode_question = msgspec.msgpack.Decoder(Question).decode
_decode_plan = msgspec.msgpack.Decoder(Plan).decode


def remembers(upstream: Upstream) -> bool:
    """Whether what happens to an attempt depends on others, beyond its own key's counts."""
    profiles = [upstream.profile, *(model.profile for model in upstream.models.values())]
    return (
        upstream.throttle.requests_per_min is not None
        or any(fault.first_n is not None for fault in upstream.faults.values())
        or any(one.cold_start or one.prompt_cache for one in profiles if one is not None)
    )


class SharedAdmission:
    """A worker's side; see `admission.Admission`.

    Args:
        provider: the worker's own, whose memory is shared.
        link: to the hub.
    """

    def __init__(self, provider: Provider, link: Link) -> None:
        self._provider, self._link = provider, link
        self._remembers = remembers(provider.upstream)

    @property
    def upstream(self) -> Upstream:
        """What is imitated at the moment."""
        return self._provider.upstream

    def change(self, upstream: Upstream) -> None:
        """Be another upstream from the next attempt on."""
        self._provider.change(upstream)
        self._remembers = remembers(upstream)

    def transit_s(self, key: str) -> float:
        """See `behaviour.Provider.transit_s`."""
        return self._provider.transit_s(key)

    def admit(self, call: Call, now: float) -> Plan | Awaitable[Plan]:
        """Decide, or ask the hub to."""
        return self._asked(call, now) if self._remembers else self._provider.admit(call, now)

    async def _asked(self, call: Call, now: float) -> Plan:
        return _decode_plan(await self._link.ask(ADMIT, question(call, now)))


class HubAdmission:
    """The hub's side: one clock that never falls, whoever asks.

    Args:
        provider: decides for all workers.
    """

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._now = 0.0

    def admit(self, body: msgspec.Raw) -> Plan:
        """Answer a worker's question."""
        call, now, raw = _decode_question(body)
        if raw is not None:
            key, account = (one.decode("utf-8", "surrogatepass") for one in raw)
            call = msgspec.structs.replace(call, key=key, account=account)
        self._now = max(self._now, now)
        return self._provider.admit(call, self._now)


def question(call: Call, now: float) -> Question:
    """Return a call as it can travel: a header may hold what no UTF-8 can say."""
    if call.key.isascii() and call.account.isascii():
        return Question(call, now)
    raw = (call.key.encode("utf-8", "surrogatepass"), call.account.encode("utf-8", "surrogatepass"))
    return Question(msgspec.structs.replace(call, key="", account=""), now, raw)
