"""The `[upstream]` table of a scenario: frozen structs that refuse unknown keys.

Durations are seconds, prices are dollars per million tokens, rates are shares in 0..1. In TOML the
string "none" stands for "no such limit" wherever a value may be absent.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from mock_llm.distributions import Distribution
from mock_llm.faults import Fault
from mock_llm.faults.rate_limited import Known, Place

Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]
Price = Annotated[float, Meta(ge=0, le=1e6)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Positive = Annotated[int, Meta(ge=1, le=10**9)]
Factor = Annotated[float, Meta(gt=0, le=1e6)]
Sojourn = Annotated[float, Meta(ge=0.01, le=1e9)]
AbortBilling = Literal["sent", "full"]


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
        max_completion_tokens: the longest completion; more is cut, and where the request has no
            cap of its own, so much is reserved of the credits.
        skill: share of easy reviews that it labels rightly; see `replies`.
        profile: in place of the upstream's.
        abort_billing: in place of the upstream's.
    """

    prompt_usd_per_m: Price
    completion_usd_per_m: Price
    context_length: Positive = 128_000
    max_completion_tokens: Positive = 16_384
    skill: Share = 0.9
    profile: Profile | None = None
    abort_billing: AbortBilling | None = None


class Capacity(Table, frozen=True, kw_only=True):
    """How much a provider can do at once; see `capacity.Station`.

    With n attempts in service every one progresses at min(1, (full_speed / n) ** exponent) of its
    speed. Refusals need no slot; a hang keeps its slot for as long as its answer would have taken.

    Attributes:
        slots: attempts served at once; None: all of them.
        queue: attempts that wait for a slot; more are refused. None: as many as come.
        order: in which those who wait are served: `fifo`, or `lifo`, the last to come first.
        full_speed: so many are served at full speed; None: any number.
        exponent: 1: the speed is shared; less: it grows a little with the load; more: it thrashes.
        overflow_status: of the refusals.
    """

    slots: Positive | None = None
    queue: Count | None = None
    order: Literal["fifo", "lifo"] = "fifo"
    full_speed: Positive | None = None
    exponent: Annotated[float, Meta(ge=0, le=10)] = 1.0
    overflow_status: Literal[503, 529] = 503

    def __post_init__(self) -> None:
        """A queue that nobody ever enters is a mistake."""
        for key, is_set in (("queue", self.queue is not None), ("order", self.order != "fifo")):
            if is_set and self.slots is None:
                raise ValueError(
                    f"`{key}` needs `slots`: nobody waits where all are served at once"
                )


class Throttle(Table, frozen=True, kw_only=True):
    """What callers may ask for before they meet a 429; see `mock_llm.throttle`.

    Attributes:
        requests_per_min: attempts admitted in a minute.
        tokens_per_min: prompt and the completion's cap, as long as an attempt is under way; then
            what it really used.
        concurrent: attempts under way at once.
        window: `sliding` holds over any minute; `fixed` over each minute since the run began, as
            many providers count, so that twice as much gets through around an edge.
        per: limits are for each API `key`, or for all keys of the `account` together.
        form: of the 429s, as of the fault `rate_limited`.
        hints: where they are, likewise.
    """

    requests_per_min: Positive | None = None
    tokens_per_min: Positive | None = None
    concurrent: Positive | None = None
    window: Literal["sliding", "fixed"] = "sliding"
    per: Literal["key", "account"] = "key"
    form: Known = "upstream_2026"
    hints: Place = "both"


class Regime(Table, frozen=True, kw_only=True):
    """Good and bad times in turn, each of exponential length; the run starts in a good one.

    Two states of a Markov chain that set the pace are the least that gives failures their bursts
    (E. N. Gilbert, Capacity of a burst-noise channel, 1960; a fault with `regimes` is his model).

    Attributes:
        good_s: mean length of a good time.
        bad_s: mean length of a bad one.
        slowdown: of time to first token and inter-token time while it is bad.
    """

    good_s: Sojourn
    bad_s: Sojourn
    slowdown: Factor = 1.0


class Drift(Table, frozen=True, kw_only=True):
    """Slower and faster hours (openai-node#110: at times the same small call takes 145 s).

    Attributes:
        period_s: after which it repeats.
        factors: of time to first token and inter-token time, evenly spaced over the period, the
            first at its beginning, with straight lines between them.
    """

    period_s: Sojourn = 86_400.0
    factors: Annotated[tuple[Factor, ...], Meta(min_length=1)]


class Recordings(Table, frozen=True, kw_only=True):
    """Recorded answers in place of made-up ones.

    Attributes:
        file: the cassette, relative to the scenario's file.
        timing: `recorded` plays every chunk when it came, `none` at once, `sampled` at times drawn
            from those of the whole cassette, by model.
        on_miss: a request that is not on it is an `error`, or answered by the `mock`.
    """

    file: str
    timing: Literal["recorded", "none", "sampled"] = "recorded"
    on_miss: Literal["error", "mock"] = "error"


def default_models() -> dict[str, Model]:
    """Five tiers, cheapest first, at OpenRouter's list prices of November 2026."""
    return {
        "openai/gpt-4o-mini": Model(prompt_usd_per_m=0.15, completion_usd_per_m=0.60, skill=0.93),
        "anthropic/claude-3-haiku": Model(
            prompt_usd_per_m=0.25,
            completion_usd_per_m=1.25,
            context_length=200_000,
            max_completion_tokens=4096,
            skill=0.94,
        ),
        "openai/gpt-3.5-turbo": Model(
            prompt_usd_per_m=0.50,
            completion_usd_per_m=1.50,
            context_length=16_385,
            max_completion_tokens=4096,
            skill=0.945,
        ),
        "openai/gpt-4o": Model(prompt_usd_per_m=2.50, completion_usd_per_m=10.0, skill=0.98),
        "anthropic/claude-3.5-sonnet": Model(
            prompt_usd_per_m=3.0,
            completion_usd_per_m=15.0,
            context_length=200_000,
            max_completion_tokens=8192,
            skill=0.985,
        ),
    }


class Upstream(Table, frozen=True, kw_only=True):
    """The provider as a client sees it.

    Attributes:
        profile: for every model that has none of its own.
        models: by id; the five default tiers when the table is left out.
        connection_setup: the first request on a new connection comes so much later, seconds.
        capacity: see `Capacity`; None: no end of it.
        throttle: see `Throttle`.
        regime: see `Regime`; None: always good.
        drift: see `Drift`.
        credits_usd: the account's balance, for all its keys; None: without end.
        faults: by a name of your own; the name also names the fault's random stream.
        keep_alive_s: interval of OpenRouter's keep-alives on slow answers; None: silence.
        keys: accepted API keys; empty: any Bearer token.
        handler_cancellation: work for a departed client is cancelled, and its slot is free; else
            the provider works on though nobody listens.
        abort_billing: what a stream costs that is cut short: the tokens `sent` (OpenAI, Azure,
            Anthropic, Fireworks, Together, DeepSeek), or all of it in `full` (Bedrock, Groq,
            Google, Mistral, Perplexity).
        token_counts: `estimate` is cheap, `exact` needs the `tokens` extra.
        reply: `review` answers as a review classifier, `text` with words.
        cassette: see `Recordings`.
        dialect: `openai` speaks as OpenAI itself does, with nothing that OpenRouter adds.
        usage_chunk: how OpenRouter's streams end: `finish_again` (since August 2026) repeats the
            finish chunk with the usage; `no_choices` (early 2026) has it on a chunk without any
            choice; `empty_delta` (2025) on one whose delta is empty.
        user_id: the `user_id` of OpenRouter's errors; None: they have none.
    """

    profile: Profile = Profile()
    models: dict[str, Model] = msgspec.field(default_factory=default_models)
    connection_setup: Distribution = 0.0
    capacity: Capacity | None = None
    throttle: Throttle = Throttle()
    regime: Regime | None = None
    drift: Drift | None = None
    credits_usd: Annotated[float, Meta(ge=0, le=1e9)] | None = None
    faults: dict[str, Fault] = {}
    keep_alive_s: Annotated[float, Meta(gt=0, le=1e6)] | None = 0.4
    keys: tuple[str, ...] = ()
    handler_cancellation: bool = False
    abort_billing: AbortBilling = "sent"
    token_counts: Literal["estimate", "exact"] = "estimate"  # noqa: S105 - tokens of text
    reply: Literal["review", "text"] = "review"
    cassette: Recordings | None = None
    dialect: Literal["openrouter", "openai"] = "openrouter"
    usage_chunk: Literal["finish_again", "no_choices", "empty_delta"] = "finish_again"
    user_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse a fault that waits for a regime where there are none."""
        waiting = [name for name, fault in self.faults.items() if fault.regimes]
        if waiting and self.regime is None:
            msg = f"faults name regimes ({waiting[0]!r}), and there is no [upstream.regime]"
            raise ValueError(msg)
