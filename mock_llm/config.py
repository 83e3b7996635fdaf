"""The `[upstream]` table of a scenario: frozen structs that refuse unknown keys.

Durations are seconds, prices are dollars per million tokens, rates are shares in 0..1. In TOML the
string "none" stands for "no such limit" wherever a value may be absent.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mock_llm.distributions import Distribution
from mock_llm.faults import Fault

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]
Price = Annotated[float, Meta(ge=0, le=1e6)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table: immutable, keyword-only, no unknown keys."""


class ColdStart(Table, frozen=True, kw_only=True):
    """Extra time while a model warms up (litellm#668: first call minutes, then 0.6 s).

    The extra falls as exp(-(now - first call) / decay_s); with decay_s = 0 only the first call
    pays. After idle_s without a call the model is cold again.
    """

    extra_s: Distribution
    decay_s: Seconds = 0.0
    idle_s: Seconds = 600.0


class PromptCache(Table, frozen=True, kw_only=True):
    """A repeated prefix of whole messages is faster and cheaper while it is remembered.

    Attributes:
        min_tokens: shorter prefixes are never cached (1,024 at OpenAI).
        ttl_s: forgotten when not used for so long.
        price_ratio: price of a cached token over that of a fresh one.
    """

    min_tokens: Count = 1024
    ttl_s: Seconds = 300.0
    price_ratio: Share = 0.5


class Profile(Table, frozen=True, kw_only=True):
    """How fast a model answers and how much it says.

    Attributes:
        ttft: time to first token, seconds.
        itl: inter-token time, seconds; drawn once an attempt.
        output_tokens: completion length; drawn once a request. None: the reply's own length.
        prefill_s_per_1k: added to TTFT for every 1,000 prompt tokens not found in the cache.
        cold_start: see `ColdStart`.
        prompt_cache: see `PromptCache`.
    """

    ttft: Distribution = 0.5
    itl: Distribution = 0.0
    output_tokens: Distribution | None = None
    prefill_s_per_1k: Seconds = 0.0
    cold_start: ColdStart | None = None
    prompt_cache: PromptCache | None = None


class Model(Table, frozen=True, kw_only=True):
    """One model on offer.

    Attributes:
        skill: share of easy reviews that it labels rightly; see `replies`.
        profile: in place of the upstream's.
    """

    prompt_usd_per_m: Price
    completion_usd_per_m: Price
    context_length: Positive = 128_000
    skill: Share = 0.9
    profile: Profile | None = None


class Throttle(Table, frozen=True, kw_only=True):
    """Requests per minute over a sliding window, by account."""

    requests_per_min: Positive | None = None


def default_models() -> dict[str, Model]:
    """Five tiers, cheapest first, at OpenRouter's list prices of November 2026."""
    return {
        "openai/gpt-4o-mini": Model(prompt_usd_per_m=0.15, completion_usd_per_m=0.60, skill=0.93),
        "anthropic/claude-3-haiku": Model(
            prompt_usd_per_m=0.25, completion_usd_per_m=1.25, context_length=200_000, skill=0.94
        ),
        "openai/gpt-3.5-turbo": Model(
            prompt_usd_per_m=0.50, completion_usd_per_m=1.50, context_length=16_385, skill=0.945
        ),
        "openai/gpt-4o": Model(prompt_usd_per_m=2.50, completion_usd_per_m=10.0, skill=0.98),
        "anthropic/claude-3.5-sonnet": Model(
            prompt_usd_per_m=3.0, completion_usd_per_m=15.0, context_length=200_000, skill=0.985
        ),
    }


class Upstream(Table, frozen=True, kw_only=True):
    """The provider as a client sees it.

    Attributes:
        profile: for every model that has none of its own.
        models: by id; the five default tiers when the table is left out.
        connection_setup: added to the first answer on a new connection, seconds.
        throttle: see `Throttle`.
        faults: by a name of your own; the name also names the fault's random stream.
        keep_alive_s: interval of OpenRouter's keep-alives on slow answers; None: silence.
        keys: accepted API keys; empty: any Bearer token.
        handler_cancellation: work for a departed client is cancelled.
        token_counts: `estimate` is cheap, `exact` needs the `tokens` extra.
        reply: `review` answers as a review classifier, `text` with words.
        dialect: `openai` speaks as OpenAI itself does, with nothing that OpenRouter adds.
        usage_chunk: how OpenRouter's streams end: `finish_again` (since August 2026) repeats the
            finish chunk with the usage; `no_choices` (early 2026) has it on a chunk without any
            choice; `empty_delta` (2025) on one whose delta is empty.
        user_id: the `user_id` of OpenRouter's errors; None: they have none.
    """

    profile: Profile = Profile()
    models: dict[str, Model] = msgspec.field(default_factory=default_models)
    connection_setup: Distribution = 0.0
    throttle: Throttle = Throttle()
    faults: dict[str, Fault] = {}
    keep_alive_s: Annotated[float, Meta(gt=0, le=1e6)] | None = 0.4
    keys: tuple[str, ...] = ()
    handler_cancellation: bool = False
    token_counts: Literal["estimate", "exact"] = "estimate"  # noqa: S105 - tokens of text
    reply: Literal["review", "text"] = "review"
    dialect: Literal["openrouter", "openai"] = "openrouter"
    usage_chunk: Literal["finish_again", "no_choices", "empty_delta"] = "finish_again"
    user_id: str | None = None
