"""Prices, tiers, the baseline, and what a job will cost before it starts."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.corpus.review import Review
from harness.errors import InputError
from harness.pipeline.costs import (
    Price,
    Projection,
    baseline_cost_usd,
    cost_reduction,
    cost_usd,
    project,
    tiers,
)
from harness.pipeline.routing import (
    MEASURED_SHARES,
    LegacyRouter,
    Router,
    SingleRouter,
    SmartRouter,
)

PRICES = {
    "anthropic/claude-3.5-sonnet": Price(3.0, 15.0),
    "openai/gpt-4o": Price(2.5, 10.0),
    "openai/gpt-3.5-turbo": Price(0.5, 1.5),
    "anthropic/claude-3-haiku": Price(0.25, 1.25),
    "openai/gpt-4o-mini": Price(0.15, 0.6),
}
PROMPT_TOKENS, COMPLETION_TOKENS, BASELINE_USD_PER_M = 1456, 15, 1.02
REVIEWS = [
    Review(
        id=str(n), content=f"Number {n} is good{' but slow' * (n % 20)}.", category="electronics"
    )
    for n in range(1000)
]

counts = st.integers(0, 10**6)
prices = st.builds(Price, st.floats(0, 1000), st.floats(0, 1000))


def projected(
    router: Router, repeats: float = 0.0, known: Mapping[str, Price] = PRICES
) -> Projection:
    """What 1,000 requests of the crisis cost."""
    return project(
        REVIEWS,
        router,
        known,
        prompt_tokens=lambda _review, _index: PROMPT_TOKENS,
        completion_tokens=COMPLETION_TOKENS,
        baseline_usd_per_m=BASELINE_USD_PER_M,
        repeats=repeats,
    )


class TestCost:
    """Dollars for tokens."""

    def test_prompt_and_completion_have_their_own_price(self) -> None:
        """A million of each at gpt-4o's prices."""
        assert cost_usd(PRICES["openai/gpt-4o"], 10**6, 10**6) == pytest.approx(12.5)

    def test_cached_tokens_cost_their_ratio(self) -> None:
        """Half the prompt from the cache at half price is a quarter off the prompt."""
        assert cost_usd(Price(1.0, 0.0), 1000, 0, 500, 0.5) == pytest.approx(0.00075)

    def test_cached_tokens_are_full_price_unless_told(self) -> None:
        """The default ratio takes nothing off."""
        assert cost_usd(Price(1.0, 1.0), 1000, 9, 500) == cost_usd(Price(1.0, 1.0), 1000, 9)

    @settings(deadline=None)
    @given(prices, counts, counts, counts, st.floats(0, 1))
    def test_a_cache_never_costs_nor_pays(
        self, price: Price, prompt: int, completion: int, cached: int, ratio: float
    ) -> None:
        """Between nothing and the full price, even where more is cached than was sent."""
        full = cost_usd(price, prompt, completion)
        assert -1e-9 <= cost_usd(price, prompt, completion, cached, ratio) <= full + 1e-9


class TestTiers:
    """Ranks by price."""

    def test_the_five_models_rank_by_prompt_price(self) -> None:
        """The cheapest is 1, whatever order they come in."""
        assert tiers(PRICES) == {
            "openai/gpt-4o-mini": 1,
            "anthropic/claude-3-haiku": 2,
            "openai/gpt-3.5-turbo": 3,
            "openai/gpt-4o": 4,
            "anthropic/claude-3.5-sonnet": 5,
        }

    def test_ties_fall_to_completion_price_then_id(self) -> None:
        """Ranks are a total order."""
        tied = {"z": Price(1, 1), "b": Price(1, 2), "a": Price(1, 2)}
        assert tiers(tied) == {"z": 1, "a": 2, "b": 3}


class TestBaseline:
    """The flat price of the same tokens."""

    def test_a_thousand_crisis_requests(self) -> None:
        """$1.50 at 1.02 a million."""
        tokens = 1000 * (PROMPT_TOKENS + COMPLETION_TOKENS)
        assert baseline_cost_usd(tokens, BASELINE_USD_PER_M) == pytest.approx(1.50, abs=0.005)

    @pytest.mark.parametrize(
        ("cost", "baseline", "saved"), [(0.5, 2.0, 0.75), (3.0, 2.0, -0.5), (1.0, 0.0, 0.0)]
    )
    def test_reduction(self, cost: float, baseline: float, saved: float) -> None:
        """A share saved, negative when dearer, 0 against a free baseline."""
        assert cost_reduction(cost, baseline) == saved


class TestProjection:
    """A job's cost before any call."""

    @pytest.mark.parametrize(
        ("router", "usd", "reduction"),
        [
            (LegacyRouter(), 3.79, -1.53),
            (SingleRouter("openai/gpt-4o"), 3.79, -1.53),
            (SingleRouter("openai/gpt-4o-mini"), 0.23, 0.85),
            (SmartRouter.fit(REVIEWS, MEASURED_SHARES), 0.44, 0.71),
        ],
        ids=["legacy", "all gpt-4o", "all mini", "as measured"],
    )
    def test_crisis_prices(self, router: Router, usd: float, reduction: float) -> None:
        """Dollars per 1,000 requests and what is saved, as the story's tokens give them."""
        result = projected(router)
        assert result.cost_usd == pytest.approx(usd, abs=0.005)
        assert result.cost_reduction == pytest.approx(reduction, abs=0.005)

    def test_counts_and_distribution(self) -> None:
        """Used models only, cheapest first, beside tokens and dollars of the whole job."""
        result = projected(SmartRouter.fit(REVIEWS, MEASURED_SHARES))
        assert list(result.distribution.items()) == list(MEASURED_SHARES.items())
        assert (result.requests, result.prompt_tokens) == (1000, 1_456_000)
        assert result.completion_tokens == 15_000
        assert result.per_request_usd == pytest.approx(result.cost_usd / 1000)
        assert result.baseline_usd == pytest.approx(1.50042)

    def test_tokens_are_asked_for_by_review_and_index(self) -> None:
        """The caller knows the prompt: instructions, context, review."""
        result = project(
            REVIEWS[:3],
            SingleRouter("m"),
            {"m": Price(1e6, 0)},
            prompt_tokens=lambda review, index: 10 * index + int(review.id),
            completion_tokens=0,
            baseline_usd_per_m=0,
        )
        assert result.prompt_tokens == 33
        assert result.cost_usd == pytest.approx(33)

    def test_a_cache_pays_for_the_misses_only(self) -> None:
        """992 of 1,000 answered for nothing: the baseline still prices them all."""
        full, cached = (projected(LegacyRouter(), repeats) for repeats in (0.0, 0.992))
        assert cached.cost_usd == pytest.approx(0.008 * full.cost_usd)
        assert cached.baseline_usd == full.baseline_usd
        assert cached.cost_reduction == pytest.approx(1 - 0.008 * 3.79 / 1.50, abs=0.0005)

    @pytest.mark.parametrize("repeats", [-0.1, 1.1, float("nan")])
    def test_repeats_are_a_share(self, repeats: float) -> None:
        """Anything outside 0-1 is refused."""
        with pytest.raises(InputError, match="share of requests"):
            projected(LegacyRouter(), repeats)

    def test_a_model_without_a_price_is_named(self) -> None:
        """With the table to add it to."""
        with pytest.raises(
            InputError, match=r'"openai/gpt-4o".*\[upstream\.models\."openai/gpt-4o"'
        ):
            projected(LegacyRouter(), known={"m": Price(1, 1)})

    def test_an_empty_job_is_free(self) -> None:
        """No reviews, no division by them."""
        result = project(
            [],
            LegacyRouter(),
            {},
            prompt_tokens=lambda _review, _index: 1,
            completion_tokens=1,
            baseline_usd_per_m=1,
        )
        assert result == Projection(0, {}, 0, 0, 0.0, 0.0, 0.0, 0.0)
