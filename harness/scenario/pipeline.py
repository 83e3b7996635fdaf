"""The `[pipeline]` table: the system under test, every root cause of the crisis a knob.

"none" in TOML is None here: no limit, no cache, no such rule.
"""

from typing import Annotated, Literal

from msgspec import Meta

from harness.scenario.resilience import (
    Aimd,
    Breaker,
    Budget,
    Gradient2,
    Hedge,
    Near,
    PositiveSeconds,
    Queue,
    RetryBudget,
)
from mock_llm.config import Count, Positive, Price, Seconds, Share, Table


class Legacy(Table, frozen=True, kw_only=True, tag_field="kind", tag="legacy"):
    """Long reviews and electronics go to the strong model, all others to the cheap one."""

    long_chars: Count = 500
    cheap: str = "openai/gpt-3.5-turbo"
    strong: str = "openai/gpt-4o"


class Smart(Table, frozen=True, kw_only=True, tag_field="kind", tag="smart"):
    """Scores split a corpus into shares; without thresholds they are fitted to the run's corpus.

    Attributes:
        shares: model id -> share of requests, cheapest first; normalised. Empty: as measured in
            the story (8 % gpt-4o-mini, 73 % claude-3-haiku, 19 % gpt-3.5-turbo).
        thresholds: scores that part neighbouring models; one fewer than shares.
    """

    shares: dict[str, Share] = {}
    thresholds: tuple[Share, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse thresholds that do not part the shares."""
        if self.thresholds is not None and len(self.thresholds) != len(self.shares) - 1:
            msg = f"thresholds: {len(self.shares)} shares need {len(self.shares) - 1} of them"
            raise ValueError(msg)


class Single(Table, frozen=True, kw_only=True, tag_field="kind", tag="single"):
    """Everything goes to one model."""

    model: str


class Backoff(Table, frozen=True, kw_only=True):
    """Exponential: base_s * factor**n up to cap_s, then jitter (AWS architecture blog, 2015).

    A Retry-After is a floor under it: jitter spreads the callers out after it, never before.

    Attributes:
        longest_hint_s: whoever is told to come back later than this gives up, as OpenAI's own
            client does after 120 s; None waits for however long.
    """

    base_s: Seconds = 0.5
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    cap_s: Seconds = 20.0
    jitter: Literal["full", "equal", "decorrelated"] | None = "full"
    honour_retry_after: bool = True
    longest_hint_s: PositiveSeconds | None = 120.0


class Pipeline(Table, frozen=True, kw_only=True):
    """What stands between the reviews and the provider.

    Attributes:
        concurrency: slots (size of the semaphore).
        slot: where the slot is awaited: before the time limit starts, inside it (the published
            one_gather mistake), or never (the semaphore that nobody acquires).
        attempt_timeout_s: limit on one attempt; None waits for ever.
        retries: further attempts after the first, for any cause that may pass.
        backoff: see `Backoff`.
        pool: keep connections; False opens a session and a connection per call.
        pool_limit: connections at most; None is no limit.
        context: earlier exchanges: None sends none; `trim` keeps and sends the last k; `grow` keeps
            all and sends the last k; `send_all` keeps and sends all.
        context_exchanges: k.
        rate_limit: requests per user in any 60 s.
        limiter: `sliding` counts them exactly; `gcra` spaces them evenly after a burst of one
            minute's worth, so that the first minute may see twice as many.
        batch_size: how many reviews are handed out together; None is all at once.
        barrier: a batch starts only when the one before has ended.
        job_deadline_s: hard end of the job: past it nothing is handed over.
        deadline_s: limit on one request, its waiting and its retries included.
        stall_s: limit on the silence between two tokens of a stream; keep-alives are no tokens.
        max_answer_bytes: a longer answer is given up.
        fallbacks: models asked in turn when the one before fails or its breaker is open.
        retry_budget: see `RetryBudget`.
        breaker: see `Breaker`; one for each model.
        hedge: see `Hedge`.
        adaptive: the number of slots adapts; `concurrency` is then not looked at.
        budget: see `Budget`.
        workers: of the service, at the start.
        queue: of the service.
        cache: `memory` answers exact repeats, and joins identical requests in flight; `redis` puts
            a Redis behind it that several processes share.
        cache_ttl_s: how long an answer is good for.
        cache_entries: answers held in memory at most.
        near: see `Near`; needs a cache.
        redis_url: where the Redis is; it also shares the limits per user between processes.
        router: which model serves a review.
        instructions: the prompt's fixed part; None is the built-in text of a review classifier.
        max_tokens: cap on a completion.
        stream: ask for server-sent events.
        baseline_usd_per_m: price of the same tokens without routing, prompt and completion.
    """

    concurrency: Positive = 5
    slot: Literal["before_timeout", "inside_timeout", "never"] = "before_timeout"
    attempt_timeout_s: PositiveSeconds | None = 30.0
    retries: Count = 3
    backoff: Backoff = Backoff()
    pool: bool = True
    pool_limit: Positive | None = None
    context: Literal["trim", "grow", "send_all"] | None = "trim"
    context_exchanges: Count = 5
    rate_limit: Positive | None = 100
    limiter: Literal["sliding", "gcra"] = "sliding"
    batch_size: Positive | None = 10
    barrier: bool = False
    job_deadline_s: PositiveSeconds | None = None
    deadline_s: PositiveSeconds | None = None
    stall_s: PositiveSeconds | None = None
    max_answer_bytes: Positive = 10 * 1024 * 1024
    fallbacks: tuple[str, ...] = ()
    retry_budget: RetryBudget | None = None
    breaker: Breaker | None = None
    hedge: Hedge | None = None
    adaptive: Aimd | Gradient2 | None = None
    budget: Budget | None = None
    workers: Positive = 50
    queue: Queue = Queue()
    cache: Literal["memory", "redis"] | None = None
    cache_ttl_s: PositiveSeconds = 3600.0
    cache_entries: Positive = 100_000
    near: Near | None = None
    redis_url: str | None = None
    router: Legacy | Smart | Single = Smart()
    instructions: str | None = None
    max_tokens: Positive | None = 60
    stream: bool = False
    baseline_usd_per_m: Price = 1.02

    def __post_init__(self) -> None:
        """Refuse knobs that contradict each other."""
        if self.barrier and self.batch_size is None:
            msg = "barrier = true needs a batch_size"
            raise ValueError(msg)
        if self.slot == "inside_timeout" and self.attempt_timeout_s is None:
            msg = "slot = 'inside_timeout' needs an attempt_timeout_s"
            raise ValueError(msg)
        if self.adaptive is not None and self.slot != "before_timeout":
            msg = "adaptive needs slot = 'before_timeout'"
            raise ValueError(msg)
        if self.near is not None and self.cache is None:
            msg = "near needs a cache"
            raise ValueError(msg)
        if self.cache == "redis" and self.redis_url is None:
            msg = "cache = 'redis' needs a redis_url"
            raise ValueError(msg)
        if self.stall_s is not None and not self.stream:
            msg = "stall_s needs stream = true: only a stream has tokens to wait for"
            raise ValueError(msg)


__all__ = [
    "Aimd",
    "Backoff",
    "Breaker",
    "Budget",
    "Gradient2",
    "Hedge",
    "Legacy",
    "Near",
    "Pipeline",
    "Queue",
    "RetryBudget",
    "Single",
    "Smart",
]
