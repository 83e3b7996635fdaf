"""What every engine takes and gives."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from harness.client_findings import Finding
from harness.corpus import Corpus, Review, load_corpus, read_trace
from harness.errors import InputError
from harness.pipeline.costs import Price, Projection, project, tiers
from harness.pipeline.dispatch import Stop
from harness.pipeline.journal import Replayed
from harness.pipeline.money import Purse, Statistics
from harness.pipeline.progress import Progress
from harness.pipeline.projection import REPLY, prompt_tokens
from harness.pipeline.request import Item, items_of
from harness.pipeline.routing import (
    MEASURED_SHARES,
    LegacyRouter,
    Router,
    SingleRouter,
    SmartRouter,
)
from harness.pipeline.secret import Secret
from harness.pipeline.toolkit import Toolkit
from harness.records import Record
from harness.scenario.arrivals import TraceArrivals
from harness.scenario.model import Scenario
from harness.scenario.pipeline import Legacy, Pipeline, Single
from harness.scenario.workload import Workload
from mock_llm.config import Upstream
from mock_llm.distributions import mean
from mock_llm.rng import Keyed, request_key
from mock_llm.strict import suggest
from mock_llm.tokens import chat_tokens, counter

# The corpus is input, not weather: it stays the same while seeds vary, or nothing would be paired.
CORPUS_SEED = 1

Target = Callable[[Review, str], Awaitable[object]]
OnProgress = Callable[[Progress], None]


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A scenario with its corpus read, routed and priced: all that precedes the first call.

    Attributes:
        scenario: resolved for one variant.
        corpus: with its guards and notes.
        items: every request, in input order.
        router: its version goes into cache keys.
        prices: by model id, as the provider lists them.
        projection: distribution and cost, from text alone.
        trace: intended starts of arrivals that follow a trace.
    """

    scenario: Scenario
    corpus: Corpus
    items: list[Item]
    router: Router
    prices: dict[str, Price]
    projection: Projection
    trace: tuple[float, ...] = ()

    @property
    def truths(self) -> dict[str, str]:
        """Request key -> true label, where the corpus knows it."""
        return {item.key: item.review.label for item in self.items if item.review.label}

    @property
    def answer_key(self) -> dict[str, str]:
        """What the mock knows of the truth, by request key or by the hash of the bare text.

        The second is for clients that send a review's text as it is and no key of their own.
        """
        known = self.truths
        for item in self.items:
            if item.review.label:
                known.setdefault(request_key(item.review.text), item.review.label)
        return known


class EngineResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine brings back.

    Attributes:
        records: all rows, in the order they were made.
        labels: request key -> label given, of the requests that were answered.
        context_bytes: peak and last.
        stopped: why the run ended before its work did, or None.
        invalid: reasons why the measurement says nothing; empty when it is sound.
        wall_s: wall-clock seconds it took.
        certificate: what a live run measured of itself.
        notes: for the reader.
        money: where it went; None of a target, of whose calls nobody kept books.
        reconciliation: our books against the account's; None where there is no account.
        in_doubt: attempts of an earlier process that were sent again.
        client_findings: what is wrong with a target, the gravest first; None of our own pipeline.
        submitted: keys of the requests that were made, where they were not known before.
        truths: request key -> true label, likewise.
        ends: request key -> when whoever asked had all of the answer, where that was looked at.
        spike: when a spike of users began and ended; None: the workload says it.
    """

    records: list[Record]
    labels: Mapping[str, str | None]
    context_bytes: dict[str, int]
    stopped: Stop | None
    invalid: tuple[str, ...] = ()
    wall_s: float
    certificate: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    money: Statistics | None = None
    reconciliation: dict[str, Any] | None = None
    in_doubt: tuple[Record, ...] = ()
    client_findings: tuple[Finding, ...] | None = None
    submitted: tuple[str, ...] | None = None
    truths: Mapping[str, str] | None = None
    ends: Mapping[str, float] = {}
    spike: tuple[float, float] | None = None


class Engine(Protocol):
    """Runs a prepared scenario."""

    def __call__(
        self,
        prepared: Prepared,
        *,
        seed: int,
        target: Target | None = None,
        on_progress: OnProgress | None = None,
        replayed: Replayed | None = None,
    ) -> EngineResult:
        """Run it; never raises for what the provider or the client does."""
        ...


def prepare(scenario: Scenario, *, base: Path | None = None) -> Prepared:
    """Read the corpus, route every review and project the cost.

    Args:
        scenario: resolved for one variant.
        base: where relative corpus paths are looked for besides the current folder.

    Raises:
        InputError: the corpus, or a model without a price.
    """
    work = scenario.workload
    corpus = load_corpus(
        work.corpus, count=work.reviews, seed=CORPUS_SEED, columns=work.columns, base=base
    )
    prices = prices_of(scenario.upstream)
    for model in scenario.pipeline.fallbacks:
        if model not in prices:
            raise InputError(
                f'pipeline.fallbacks: "{model}" is not among [upstream.models]; '
                f"{suggest(model, list(prices))}"
            )
    router = router_of(scenario.pipeline, corpus.reviews)
    routes = [router.route(review) for review in corpus.reviews]
    return Prepared(
        scenario=scenario,
        corpus=corpus,
        items=items_of(
            corpus.reviews,
            routes,
            tiers(prices),
            users=work.users,
            batch_size=scenario.pipeline.batch_size,
        ),
        router=router,
        prices=prices,
        projection=_projection(scenario, corpus, router, prices),
        trace=_trace(work, base),
    )


def _trace(work: Workload, base: Path | None) -> tuple[float, ...]:
    shape = work.arrivals
    if not isinstance(shape, TraceArrivals):
        return ()
    return tuple(read_trace(shape.file, base))


def prices_of(upstream: Upstream) -> dict[str, Price]:
    """The provider's price list as the pipeline's own type."""
    return {
        name: Price(
            prompt_usd_per_m=model.prompt_usd_per_m, completion_usd_per_m=model.completion_usd_per_m
        )
        for name, model in upstream.models.items()
    }


def router_of(settings: Pipeline, reviews: Sequence[Review]) -> Router:
    """The router that the settings name, fitted to the reviews where it has no thresholds."""
    chosen = settings.router
    if isinstance(chosen, Single):
        return SingleRouter(chosen.model)
    if isinstance(chosen, Legacy):
        return LegacyRouter(long_chars=chosen.long_chars, cheap=chosen.cheap, strong=chosen.strong)
    wanted = chosen.shares or MEASURED_SHARES
    if chosen.thresholds is not None:
        return SmartRouter(shares=wanted, thresholds=chosen.thresholds)
    return SmartRouter.fit(reviews, wanted)


def toolkit(
    prepared: Prepared,
    seed: int,
    base_url: str,
    on_progress: OnProgress | None,
    replayed: Replayed | None = None,
) -> Toolkit:
    """What a job is handed by the engines that run against a mock."""
    return Toolkit(
        base_url=base_url,
        api_key=Secret("sk-or-v1-simulated"),
        prices=prepared.prices,
        uniform=Keyed(seed).uniform,
        count_tokens=counter(prepared.scenario.upstream.token_counts),
        router_version=prepared.router.version,
        on_progress=on_progress,
        purse=Purse(prepared.scenario.pipeline.budget),
        max_completions={
            name: model.max_completion_tokens
            for name, model in prepared.scenario.upstream.models.items()
        },
        replayed=replayed,
    )


def _projection(
    scenario: Scenario, corpus: Corpus, router: Router, prices: dict[str, Price]
) -> Projection:
    settings, profile = scenario.pipeline, scenario.upstream.profile
    count = counter(scenario.upstream.token_counts)
    length = profile.output_tokens
    replies = count(REPLY) if length is None else mean(length)
    replies = min(replies, settings.max_tokens or replies)
    tokens = prompt_tokens(settings, corpus.reviews, count, chat_tokens, replies)
    return project(
        corpus.reviews,
        router,
        prices,
        prompt_tokens=lambda _, index: tokens[index],
        completion_tokens=replies,
        baseline_usd_per_m=settings.baseline_usd_per_m,
        repeats=corpus.guards.repeats_in_input if settings.cache else 0.0,
    )
