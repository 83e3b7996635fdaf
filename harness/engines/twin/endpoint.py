"""The provider and the way to it, on the twin's clock: what does not change between attempts."""

from collections.abc import Mapping
from functools import lru_cache

from harness.engines.twin.clock import Clock
from harness.engines.twin.pool import Pool
from harness.scenario.pipeline import Pipeline
from mock_llm import openai_wire, shapes
from mock_llm.behaviour import Provider
from mock_llm.chat import Reader
from mock_llm.config import Capacity, Upstream
from mock_llm.network import Network
from mock_llm.plan import Plan
from mock_llm.quota import UNLIMITED
from mock_llm.replies import verdict
from mock_llm.rng import request_key
from mock_llm.service import Service
from mock_llm.wire import Style

_ROOMY_BYTES = 2**20  # no plain answer is as long


# A process that simulates many runs judges each review once.
_verdict = lru_cache(maxsize=50_000)(verdict.__wrapped__)
_text_key = lru_cache(maxsize=50_000)(request_key)


class _Slots(Service):
    """The provider's slots on the twin's clock."""

    def __init__(self, capacity: Capacity, clock: Clock) -> None:
        super().__init__(capacity)
        self._twin = clock

    def _time_of(self) -> Clock:
        return self._twin


class Endpoint:
    """The provider and the way to it: all that does not change from attempt to attempt.

    Args:
        upstream: the provider to imitate.
        seed: of its weather.
        answers: right labels by request key.
        settings: of the pipeline that asks.
        clock: of the run.

    Attributes:
        provider: decides.
        reader: makes calls of requests.
        slots: of a finite capacity; None: there is no end of them.
        stalls: what stalls connections.
        pool: the client's connections.
        is_hampered: a call may have to wait for a connection.
        is_plain: whole answers may be told without their bytes.
    """

    def __init__(
        self,
        upstream: Upstream,
        seed: int,
        answers: Mapping[str, str],
        settings: Pipeline,
        clock: Clock,
    ) -> None:
        self.provider = Provider(upstream, seed=seed, answers=answers)
        self.provider.verdict, self.provider.text_key = _verdict, _text_key
        self.reader = Reader(upstream)
        self.slots = None if upstream.capacity is None else _Slots(upstream.capacity, clock)
        self.stalls = Network(upstream, seed, self.provider.memory.network).stalls
        self.pool = Pool(clock, keep=settings.pool, most=settings.pool_limit)
        self.is_hampered = self.pool.is_bounded or bool(self.stalls)
        self.settings, self.clock, self.upstream = settings, clock, upstream
        openrouter = upstream.dialect == "openrouter"
        self.keep_alive_s = upstream.keep_alive_s if openrouter else None
        self.is_plain = openrouter and settings.max_answer_bytes >= _ROOMY_BYTES
        unwatched = settings.stall_s is None and self.slots is None
        self.is_plain &= not settings.stream or (unwatched and self.provider.admission.is_open)
        self.style = Style(upstream.dialect, upstream.usage_chunk, upstream.user_id)
        self.frame = shapes.frames(self.style)[0]

    def styled(self, plan: Plan) -> Style:
        """The style of one answer: OpenAI says with each what the account has left."""
        if self.style.dialect == "openrouter":
            return self.style
        fields = openai_wire.limits(plan.quota or UNLIMITED)
        return Style(self.style.dialect, self.style.usage_chunk, self.style.user_id, fields)

    def completion_usd(self, plan: Plan, model: str) -> float:
        """The part of an answer's cost that the completion has."""
        price = self.upstream.models[model].completion_usd_per_m * 1e-6
        return plan.completion_tokens * price

    def bills_in_full(self, model: str) -> bool:
        """Whether a stream that is cut short costs all of it."""
        return (self.upstream.models[model].abort_billing or self.upstream.abort_billing) == "full"
