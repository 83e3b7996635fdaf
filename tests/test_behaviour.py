"""The provider: weather keyed by request and attempt, refusals in order, time and money summed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from math import exp
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.behaviour import Provider
from mock_llm.config import ColdStart, Model, Profile, PromptCache, Throttle, Upstream
from mock_llm.distributions import Exponential, Lognormal, Uniform
from mock_llm.faults import HangBeforeHeaders, ServerError
from mock_llm.plan import Call, Plan
from mock_llm.rng import Keyed
from mock_llm.tokens import estimate

ROOT = Path(__file__).parents[1]
MINI, SONNET = "openai/gpt-4o-mini", "anthropic/claude-3.5-sonnet"
CALM = Profile(ttft=Lognormal(mean=1.19, sigma=0.65), itl=Exponential(mean=0.01))
PREFIX = ((b"system", 1200), (b"review", 1400))


def _call(key: str = "r1", **changes: Any) -> Call:
    return Call(**{"key": key, "model": MINI, "prompt_tokens": 100, "text": "Great toy", **changes})


def _provider(seed: int = 1, **upstream: Any) -> Provider:
    return Provider(Upstream(**{"profile": CALM, **upstream}), seed=seed)


def _fixed(**profile: Any) -> Provider:
    return _provider(profile=Profile(**{"ttft": 0.5, "output_tokens": 21, **profile}))


def _weather(plans: Iterable[Plan]) -> list[tuple[int, float, float, str, tuple[str, ...]]]:
    """What the weather decides of plans."""
    return [(p.draw, p.first_token_s, p.last_token_s, p.reply, p.injected) for p in plans]


def test_equal_seeds_repeat_and_others_differ() -> None:
    """A run is its seed's: the same plans for the same seed, and others for another."""
    one, same, other = (
        [provider.admit(_call(f"r{i}"), i) for i in range(20)]
        for provider in (_provider(1), _provider(1), _provider(2))
    )
    assert (one == same, one == other) == (True, False)


def test_plans_do_not_depend_on_the_process() -> None:
    """Processes with different string hashing make the same plan."""
    code = (
        "from mock_llm.behaviour import *; from mock_llm.distributions import Lognormal\n"
        "from mock_llm.config import *\n"
        "p = Provider(Upstream(profile=Profile(ttft=Lognormal(p50=1, p99=9))), seed=5)\n"
        "print(p.admit(Call(key='k', model='openai/gpt-4o', prompt_tokens=9), 0.0))"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1")
    ]
    assert printed[0] == printed[1] != ""


@given(st.permutations(range(8)))
def test_order_does_not_change_the_weather(order: list[int]) -> None:
    """Requests meet the same weather in whatever order they come."""
    straight, shuffled = _provider(), _provider()
    expected = {i: straight.admit(_call(f"r{i}"), 0.0) for i in range(8)}
    actual = {i: shuffled.admit(_call(f"r{i}"), 0.0) for i in order}
    assert actual == expected


def test_a_throttle_does_not_change_the_weather() -> None:
    """A 429 uses no draw: what is admitted later meets what it would have met unthrottled."""
    free, throttled = _provider(), _provider(throttle=Throttle(requests_per_min=2))
    calls = [_call(key) for key in ("a", "b", "a", "b", "c", "a")]
    expected = [free.admit(call, 0.0) for call in calls]
    actual, now = [], 0.0
    for call in calls:
        while (plan := throttled.admit(call, now)).status == 429:
            now += plan.retry_after_s or 0.0
        actual.append(plan)
    assert (_weather(actual), now) == (_weather(expected), 120.0)


def test_a_new_fault_does_not_change_the_rest_of_the_weather() -> None:
    """Adding a consumer of random numbers shifts nobody's draws."""
    hang = HangBeforeHeaders(rate=0.3)
    plain, faulty = _provider(), _provider(faults={"x": ServerError(rate=0.2), "hang": hang})
    both = [(plain.admit(_call(f"r{i}"), i), faulty.admit(_call(f"r{i}"), i)) for i in range(99)]
    kept = [(a, b) for a, b in both if not b.injected]
    assert 20 < len(kept) < 99
    assert [a for a, _ in kept] == [b for _, b in kept]


def test_a_faults_stream_is_its_own_name() -> None:
    """A fault strikes the same requests behind another, but for those that this one took."""
    one, two = HangBeforeHeaders(rate=0.1), HangBeforeHeaders(rate=0.2)
    alone, behind = (
        [_provider(faults=table).admit(_call(f"r{i}"), 0.0).injected for i in range(99)]
        for table in ({"b": two}, {"a": one, "b": two})
    )
    expected = [("a",) if b == ("a",) else a for a, b in zip(alone, behind, strict=True)]
    assert behind == expected
    assert set(behind) == {(), ("a",), ("b",)}


def test_every_model_meets_the_same_weather() -> None:
    """Routing elsewhere changes what a model does with the draw, not the draw."""
    plans = [_provider().admit(_call(model=model), 0.0) for model in (MINI, SONNET)]
    assert plans[0].first_token_s == plans[1].first_token_s


def test_each_attempt_has_a_draw_of_its_own_but_says_the_same() -> None:
    """A retry meets new times; what the model answers belongs to the request."""
    provider = _provider(profile=Profile(ttft=CALM.ttft, output_tokens=Uniform(low=20, high=99)))
    plans = [provider.admit(_call(), 0.0) for _ in range(3)]
    assert [plan.draw for plan in plans] == [0, 1, 2]
    assert len({plan.first_token_s for plan in plans}) == 3
    assert len({(plan.reply, plan.completion_tokens) for plan in plans}) == 1


def test_transit_is_keyed_by_arrival_and_below_a_millisecond() -> None:
    """No two arrivals share an instant, and every run has the same transit delays."""
    one, two = _provider(), _provider()
    delays = [one.transit_s(key) for key in ("a", "b", "a")]
    assert [two.transit_s(key) for key in ("b", "a", "a")] == [delays[1], delays[0], delays[2]]
    assert len(set(delays)) == 3
    assert all(0 < delay < 1e-3 for delay in delays)


def test_an_unknown_model_is_refused() -> None:
    """A slug that is not on offer gets OpenRouter's 400."""
    expected = Plan(
        status=400,
        error="invalid_request",
        message="no/such is not a valid model ID",
        ending="refused",
        prompt_tokens=100,
    )
    assert _provider().admit(_call(model="no/such"), 0.0) == expected


def test_a_prompt_beyond_the_context_is_refused() -> None:
    """One token over the context length is too many, and the message counts them."""
    model = Model(prompt_usd_per_m=1, completion_usd_per_m=1, context_length=500)
    provider = _provider(models={MINI: model})
    plans = [provider.admit(_call(prompt_tokens=n), 0.0) for n in (500, 501)]
    assert [(p.status, p.error) for p in plans] == [(200, ""), (400, "context_length_exceeded")]
    assert ("500" in plans[1].message, "501" in plans[1].message) == (True, True)


def test_a_throttled_call_hears_the_true_wait() -> None:
    """A 429 costs nothing, uses no draw and knows when a place frees, for its account alone."""
    provider = _provider(throttle=Throttle(requests_per_min=1))
    provider.admit(_call(account="a"), 10.0)
    plan = provider.admit(_call(account="a"), 30.0)
    other = provider.admit(_call(account="b"), 30.0)
    assert (plan.status, plan.error, plan.retry_after_s) == (429, "rate_limit_exceeded", 40.0)
    assert (plan.cost_usd, plan.draw, plan.first_token_s, other.status) == (0.0, -1, 0.0, 200)


def test_bad_requests_take_no_place_in_the_window() -> None:
    """What is refused before the throttle does not count against it."""
    provider = _provider(throttle=Throttle(requests_per_min=1))
    calls = [_call(model="no/such"), _call(prompt_tokens=10**6), _call(), _call()]
    assert [provider.admit(call, 0.0).status for call in calls] == [400, 400, 200, 429]


def test_times_add_up() -> None:
    """Set-up, time to first token and prefill, then the tokens one by one."""
    upstream = Upstream(
        profile=Profile(ttft=0.5, itl=0.01, output_tokens=21, prefill_s_per_1k=0.2),
        connection_setup=0.3,
    )
    plan = Provider(upstream, seed=1).admit(_call(prompt_tokens=3000, new_connection=True), 0.0)
    assert plan.setup_s == 0.3
    assert plan.first_token_s == pytest.approx(0.5 + 3 * 0.2)
    assert plan.last_token_s == pytest.approx(plan.first_token_s + 20 * 0.01)


def test_a_pooled_connection_needs_no_setup() -> None:
    """Only the first answer on a connection pays for it."""
    provider = _provider(profile=Profile(ttft=0.5), connection_setup=0.3)
    assert provider.admit(_call(), 0.0).setup_s == 0.0


def test_a_refusal_on_a_new_connection_pays_the_setup_too() -> None:
    """A 429 and a 5xx are answers like any other."""
    faults = {"bad": ServerError(rate=1, after_s=0.1)}
    throttle = Throttle(requests_per_min=1)
    provider = _provider(connection_setup=0.3, faults=faults, throttle=throttle)
    plans = [provider.admit(_call(new_connection=True), 0.0) for _ in range(2)]
    times = [(plan.status, plan.setup_s, plan.first_token_s) for plan in plans]
    assert times == [(503, 0.3, 0.1), (429, 0.3, 0.0)]


def test_the_draws_come_from_the_named_streams() -> None:
    """Times have streams keyed by request and draw, the length one keyed by the request alone."""
    flat = Uniform(low=0, high=1)
    profile = Profile(ttft=flat, itl=flat, output_tokens=Uniform(low=100, high=900))
    provider = _provider(seed=9, profile=profile, connection_setup=flat)
    provider.admit(_call(), 0.0)
    plan = provider.admit(_call(new_connection=True), 0.0)
    ttft, itl, setup = (Keyed(9).uniform(name, "r1", 1) for name in ("ttft", "itl", "setup"))
    tokens = round(100 + 800 * Keyed(9).uniform("output", "r1"))
    assert plan.completion_tokens == tokens
    assert (plan.setup_s, plan.first_token_s) == (setup, ttft)
    assert plan.last_token_s == pytest.approx(ttft + (tokens - 1) * itl)


def test_an_answer_costs_its_tokens() -> None:
    """Prompt and completion are billed at the model's prices."""
    provider = _fixed()
    plan = provider.admit(_call(model=SONNET, prompt_tokens=1000), 0.0)
    assert plan.cost_usd == pytest.approx((1000 * 3.0 + 21 * 15.0) / 1e6)


def test_a_cached_prefix_is_faster_and_cheaper() -> None:
    """Only fresh tokens are prefilled; cached ones cost their ratio of the price."""
    provider = _fixed(prefill_s_per_1k=1.0, prompt_cache=PromptCache(price_ratio=0.25))
    call = _call(prompt_tokens=1400, prefix=PREFIX)
    again = _call("r2", prompt_tokens=1500, prefix=(PREFIX[0], (b"another", 1500)))
    first, second = provider.admit(call, 0.0), provider.admit(again, 1.0)
    assert [first.cached_tokens, second.cached_tokens] == [0, 1200]
    assert [first.first_token_s, second.first_token_s] == pytest.approx([0.5 + 1.4, 0.5 + 0.3])
    assert second.cost_usd == pytest.approx((300 * 0.15 + 1200 * 0.15 / 4 + 21 * 0.6) / 1e6)


def test_each_model_has_a_cache_of_its_own() -> None:
    """A prefix warmed at one model is cold at another."""
    provider = _fixed(prompt_cache=PromptCache())
    calls = [_call(model=m, prompt_tokens=1400, prefix=PREFIX) for m in (MINI, SONNET, MINI)]
    assert [provider.admit(call, 0.0).cached_tokens for call in calls] == [0, 0, 1400]


def test_what_was_refused_warms_no_cache() -> None:
    """A 5xx leaves nothing to be found by the retry."""
    profile = Profile(prompt_cache=PromptCache())
    provider = _provider(profile=profile, faults={"bad": ServerError(rate=0.5)})
    call = _call(prompt_tokens=1400, prefix=PREFIX)
    plans = [provider.admit(call, 0.0) for _ in range(20)]
    cached = [plan.cached_tokens for plan in plans if plan.status == 200]
    assert plans[0].status == 503
    assert cached == [0] + [1400] * (len(cached) - 1)


def test_a_cold_model_is_slow_at_first() -> None:
    """The extra time falls off from the model's first call, each model on its own."""
    provider = _fixed(cold_start=ColdStart(extra_s=8.0, decay_s=10.0))
    calls = [(MINI, 0.0), (MINI, 10.0), (SONNET, 10.0)]
    actual = [provider.admit(_call(model=m), now).first_token_s for m, now in calls]
    assert actual == pytest.approx([0.5 + 8, 0.5 + 8 * exp(-1), 0.5 + 8])


def test_a_models_own_profile_replaces_the_upstreams() -> None:
    """The profile of a model is used whole, not merged."""
    slow = Model(prompt_usd_per_m=1, completion_usd_per_m=1, profile=Profile(ttft=9.0))
    usual = Model(prompt_usd_per_m=1, completion_usd_per_m=1)
    provider = _provider(
        profile=Profile(ttft=0.1, prefill_s_per_1k=5.0), models={"slow": slow, "usual": usual}
    )
    actual = [provider.admit(_call(model=m), 0.0).first_token_s for m in ("slow", "usual")]
    assert actual == pytest.approx([9.0, 0.1 + 0.5])


def test_a_fault_refuses_for_nothing_and_a_hang_keeps_its_price() -> None:
    """A 5xx is not billed; what a hang would have cost stays known."""
    costs = []
    for fault in (HangBeforeHeaders(rate=1), ServerError(rate=1)):
        plan = _provider(faults={"f": fault}).admit(_call(), 0.0)
        costs.append((plan.ending, plan.cost_usd > 0, plan.injected, plan.draw))
    assert costs == [("hang", True, ("f",), 0), ("refused", False, ("f",), 0)]


def test_faults_strike_at_their_rate() -> None:
    """Of 4,000 requests a fault of rate .05 strikes about 200 (within four deviations)."""
    provider = _provider(faults={"f": HangBeforeHeaders(rate=0.05)})
    struck = sum(provider.admit(_call(f"r{i}"), 0.0).ending == "hang" for i in range(4000))
    assert struck == pytest.approx(200, abs=4 * 14)


def test_known_answers_are_given_at_the_models_skill() -> None:
    """With the truth known, easy reviews are labelled rightly as often as the skill says."""
    answers = {f"r{i}": "negative" for i in range(2000)}
    provider = Provider(Upstream(), seed=1, answers=answers)
    right = dict.fromkeys((MINI, SONNET), 0)
    for model in right:
        plans = [provider.admit(_call(key, model=model, text="Meh"), 0.0) for key in answers]
        right[model] = sum(json.loads(plan.reply)["label"] == "negative" for plan in plans)
    assert [right[MINI] / 2000, right[SONNET] / 2000] == pytest.approx([0.93, 0.985], abs=0.015)


def test_a_better_model_errs_on_fewer_of_the_same_reviews() -> None:
    """Labels are paired across models: what the better one gets wrong, the worse one does too."""
    provider = Provider(Upstream(), seed=1, answers={f"r{i}": "negative" for i in range(500)})
    wrong = {
        model: {
            key
            for key in provider.answers
            if "positive" in provider.admit(_call(key, model=model), 0.0).reply
        }
        for model in (MINI, SONNET)
    }
    assert wrong[SONNET] < wrong[MINI]


def test_the_label_has_a_stream_of_its_own() -> None:
    """Right or wrong is the stream `label` at the request alone, for every attempt at it."""
    answers = {f"r{i}": "negative" for i in range(200)}
    provider = Provider(Upstream(), seed=4, answers=answers)
    expected = [Keyed(4).uniform("label", key) < 0.93 for key in answers] * 2
    plans = [provider.admit(_call(key, text=""), 0.0) for key in (*answers, *answers)]
    assert ["negative" in plan.reply for plan in plans] == expected


def test_answers_may_be_filled_in_later() -> None:
    """The mapping is looked up when a request comes, not copied."""
    answers: dict[str, str] = {}
    provider = Provider(Upstream(), seed=1, answers=answers)
    answers["r1"] = "negative"
    assert provider.answers is answers


def test_the_reply_has_the_drawn_length_within_the_limit() -> None:
    """A drawn length is what is said, counted and timed, unless `max_tokens` is less."""
    provider = _fixed(output_tokens=40, itl=0.1)
    plans = [provider.admit(_call(max_tokens=m), 0.0) for m in (None, 10)]
    actual = [(p.completion_tokens, estimate(p.reply), p.finish_reason) for p in plans]
    assert actual == [(40, 40, "stop"), (10, 10, "length")]
    assert plans[1].last_token_s == pytest.approx(0.5 + 9 * 0.1)


def test_without_a_drawn_length_the_reply_is_as_long_as_it_is() -> None:
    """The classifier's JSON is counted, estimated or exactly."""
    plans = [
        _provider(profile=Profile(), token_counts=kind).admit(_call(), 0.0)
        for kind in ("estimate", "exact")
    ]
    assert plans[0].reply == plans[1].reply == '{"label":"positive","confidence":0.93}'
    assert [plan.completion_tokens for plan in plans] == [8, 11]


@pytest.mark.parametrize(("output_tokens", "tokens"), [(None, 60), (300, 300), (0.2, 1)])
def test_a_text_model_answers_with_words(output_tokens: float | None, tokens: int) -> None:
    """Words of the drawn length, at least one token, or the usual length."""
    provider = _provider(reply="text", profile=Profile(output_tokens=output_tokens, itl=0.25))
    plan = provider.admit(_call(), 0.0)
    assert plan.last_token_s - plan.first_token_s == pytest.approx((tokens - 1) * 0.25)
    assert (plan.completion_tokens, plan.reply[:10]) == (tokens, "the review"[: len(plan.reply)])


def test_what_is_recorded_is_on_offer_for_recordings_only() -> None:
    """A model that only a cassette has stays unknown to other calls once it has been played."""
    provider = Provider(Upstream(), seed=1)
    free = Call(key="r", account="a", model="no/such", prompt_tokens=1)
    recorded = msgspec.structs.replace(free, recording="1")
    plans = [provider.admit(one, 0.0) for one in (free, recorded, free)]
    assert [plan.status for plan in plans] == [400, 200, 400]
