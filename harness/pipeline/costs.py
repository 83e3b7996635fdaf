"""What requests cost, against a baseline, counted after a run or projected before any call.

Dollars throughout, prices in dollars per million tokens. The baseline prices the same tokens,
prompt and completion alike, at one flat rate.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from harness.corpus.review import Review
from harness.errors import InputError
from harness.pipeline.routing import Router

_MILLION = 1_000_000


class Price(msgspec.Struct, frozen=True):
    """List price of a model."""

    prompt_usd_per_m: float
    completion_usd_per_m: float


class Projection(msgspec.Struct, frozen=True):
    """What a job will cost if every request takes one attempt.

    Attributes:
        requests: reviews in the job.
        distribution: model -> share of requests in 0-1; the models in use, cheapest tier first.
        prompt_tokens: of all requests, those included that a cache will answer.
        completion_tokens: likewise.
        cost_usd: of the requests that are sent.
        baseline_usd: of all tokens, as if no cache and no routing were there.
        cost_reduction: see `cost_reduction`.
        per_request_usd: cost_usd over all requests; 0 for an empty job.
    """

    requests: int
    distribution: dict[str, float]
    prompt_tokens: float
    completion_tokens: float
    cost_usd: float
    baseline_usd: float
    cost_reduction: float
    per_request_usd: float


def cost_usd(
    price: Price,
    prompt_tokens: float,
    completion_tokens: float,
    cached_tokens: float = 0,
    cached_ratio: float = 1.0,
) -> float:
    """Dollars for one answer.

    Args:
        price: of the model.
        prompt_tokens: all of the prompt, cached ones included.
        completion_tokens: of the answer.
        cached_tokens: of the prompt, served by the provider's prompt cache.
        cached_ratio: price of a cached token over that of a fresh one.
    """
    if cached_tokens:
        prompt_tokens -= min(cached_tokens, prompt_tokens) * (1 - cached_ratio)
    prompt_usd = prompt_tokens * price.prompt_usd_per_m
    return (prompt_usd + completion_tokens * price.completion_usd_per_m) / _MILLION


def tiers(prices: Mapping[str, Price]) -> dict[str, int]:
    """Rank of each model by prompt price, then completion price, then id; the cheapest is 1."""

    def expense(model: str) -> tuple[float, float, str]:
        price = prices[model]
        return price.prompt_usd_per_m, price.completion_usd_per_m, model

    return {model: rank for rank, model in enumerate(sorted(prices, key=expense), start=1)}


def baseline_cost_usd(tokens: float, usd_per_m: float) -> float:
    """Dollars for prompt and completion tokens together at one flat price."""
    return tokens * usd_per_m / _MILLION


def cost_reduction(cost: float, baseline: float) -> float:
    """Share of the baseline that is saved: negative when dearer, 0 against a free baseline."""
    return 1 - cost / baseline if baseline else 0.0


def project(
    reviews: Sequence[Review],
    router: Router,
    prices: Mapping[str, Price],
    *,
    prompt_tokens: Callable[[Review, int], int],
    completion_tokens: float,
    baseline_usd_per_m: float,
    repeats: float = 0.0,
) -> Projection:
    """Cost of a job before any call is made.

    Args:
        reviews: the job, in input order.
        router: decides each review's model.
        prices: of every model that the router may choose.
        prompt_tokens: of the whole prompt for (review, its index): instructions, context, review.
        completion_tokens: mean of an answer.
        baseline_usd_per_m: flat price of the baseline.
        repeats: share of requests in 0-1 that a response cache will answer for nothing; taken
            from every model alike.

    Raises:
        InputError: the router chose a model without a price; or `repeats` is no share.
    """
    if not 0 <= repeats <= 1:
        raise InputError(f"repeats is the share of requests served from a cache, got {repeats}")
    used: Counter[str] = Counter()
    prompts, spent = 0, 0.0
    for index, review in enumerate(reviews):
        model = router.route(review).model
        tokens = prompt_tokens(review, index)
        used[model] += 1
        prompts += tokens
        spent += cost_usd(_price(prices, model), tokens, completion_tokens)
    cost, completions = spent * (1 - repeats), completion_tokens * len(reviews)
    baseline = baseline_cost_usd(prompts + completions, baseline_usd_per_m)
    return Projection(
        requests=len(reviews),
        distribution={m: used[m] / len(reviews) for m in tiers(prices) if m in used},
        prompt_tokens=prompts,
        completion_tokens=completions,
        cost_usd=cost,
        baseline_usd=baseline,
        cost_reduction=cost_reduction(cost, baseline),
        per_request_usd=cost / max(1, len(reviews)),
    )


def _price(prices: Mapping[str, Price], model: str) -> Price:
    try:
        return prices[model]
    except KeyError:
        message = f'no price for "{model}": add it under [upstream.models."{model}"]'
        raise InputError(message) from None
