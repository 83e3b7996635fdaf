"""Knobs of what keeps a pipeline alive: budgets of retries and money, breaker, hedges, queue.

Each is off unless its table is there. Constants that are not ours name their source.
"""

from typing import Annotated, Literal

from msgspec import Meta

from mock_llm.config import Count, Positive, Seconds, Share, Table

PositiveSeconds = Annotated[float, Meta(gt=0, le=1e9)]
PositiveShare = Annotated[float, Meta(gt=0, le=1)]
Dollars = Annotated[float, Meta(gt=0, le=1e9)]


class RetryBudget(Table, frozen=True, kw_only=True):
    """Retries are a share of the requests of late, plus a few (Finagle's RetryBudget).

    Attributes:
        share: retries for each request.
        per_s: retries a second that are free, so that a quiet client can retry too.
        window_s: what "of late" is.
    """

    share: Share = 0.2
    per_s: Seconds = 10.0
    window_s: PositiveSeconds = 10.0


class Breaker(Table, frozen=True, kw_only=True):
    """Calls to a model that fails are refused for a while (resilience4j's circuit breaker).

    Attributes:
        failure_share: of the calls in the window, at and above which it opens.
        min_calls: fewer calls in the window say nothing.
        window_s: how far back failures count.
        open_s: how long it stays open before it lets probes through.
        probes: calls let through half open; all must succeed for it to close.
    """

    failure_share: PositiveShare = 0.5
    min_calls: Positive = 10
    window_s: PositiveSeconds = 30.0
    open_s: PositiveSeconds = 10.0
    probes: Positive = 3


class Hedge(Table, frozen=True, kw_only=True):
    """A second call where the first is slower than nearly all (Dean and Barroso, 2013).

    Attributes:
        quantile: of the latencies of late, after which a second call is sent.
        min_samples: answers that must have been seen before.
        share: hedges at most, as a share of all calls.
    """

    quantile: PositiveShare = 0.95
    min_samples: Positive = 20
    share: Share = 0.05


class Aimd(Table, frozen=True, kw_only=True, tag_field="kind", tag="aimd"):
    """Concurrency rises by one a window of good answers and falls by a factor on a bad one.

    Attributes:
        initial: slots at the start.
        lowest: never fewer.
        highest: never more.
        backoff: factor on a time-out or refusal (Netflix concurrency-limits: 0.9).
    """

    initial: Positive = 20
    lowest: Positive = 1
    highest: Positive = 200
    backoff: Annotated[float, Meta(gt=0, lt=1)] = 0.9


class Gradient2(Table, frozen=True, kw_only=True, tag_field="kind", tag="gradient2"):
    """Concurrency follows the ratio of long-term to present latency (Netflix Gradient2).

    Attributes:
        initial: slots at the start.
        lowest: never fewer.
        highest: never more.
        smoothing: share of a new estimate that is taken over.
        long_window: windows of ten calls and a second at least, of the long-term average.
        tolerance: slowdown that is not yet a queue.
    """

    initial: Positive = 20
    lowest: Positive = 20
    highest: Positive = 200
    smoothing: PositiveShare = 0.2
    long_window: Positive = 600
    tolerance: Annotated[float, Meta(ge=1, le=100)] = 1.5


class Queue(Table, frozen=True, kw_only=True):
    """What waits for a worker of the service.

    Attributes:
        size: requests that may wait while all workers are busy; more are refused.
        order: `fifo`, or `lifo_when_late`: the newest first as soon as the oldest has waited for
            longer than `late_s` (Facebook's adaptive LIFO, ACM Queue 13(8), 2015).
        late_s: see `order`.
        useful_only: refuse at once what could not be answered before its deadline.
    """

    size: Count = 10_000
    order: Literal["fifo", "lifo_when_late"] = "fifo"
    late_s: Seconds = 1.0
    useful_only: bool = True


class Near(Table, frozen=True, kw_only=True):
    """Nearly the same text is answered from the cache too (MinHash; Broder, 1997).

    Attributes:
        threshold: estimated Jaccard similarity of the texts' shingles from which they are near.
        shingle: words in a shingle.
        hashes: of a signature; the estimate's standard error is about 0.5 / sqrt(hashes).
    """

    threshold: PositiveShare = 0.8
    shingle: Positive = 3
    hashes: Annotated[int, Meta(ge=16, le=1024)] = 128


class Budget(Table, frozen=True, kw_only=True):
    """Hard caps on money; the worst case of a call is reserved before it is sent.

    Attributes:
        run_usd: of the whole run, or of the service since its start.
        user_usd: of one user.
        session_usd: of one session.
        per_min_usd: in any minute.
        calls: HTTP calls of the whole run.
    """

    run_usd: Dollars | None = None
    user_usd: Dollars | None = None
    session_usd: Dollars | None = None
    per_min_usd: Dollars | None = None
    calls: Positive | None = None
