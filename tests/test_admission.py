"""Limits and credits: what is admitted, what is refused, and what is given back at the end."""

from itertools import count
from typing import Any, Literal, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.behaviour import Provider
from mock_llm.config import ColdStart, Model, Profile, PromptCache, Throttle, Upstream
from mock_llm.credits import Credits
from mock_llm.envelope import planned
from mock_llm.faults import ServerError
from mock_llm.faults.rate_limited import Known
from mock_llm.plan import Call, Plan
from mock_llm.throttled import hints

MODEL = Model(prompt_usd_per_m=1.0, completion_usd_per_m=10.0, max_completion_tokens=1000)
BODY = {"reason": "in_flight_budget_exhausted", "limit_source": "openrouter_in_flight_budget"}


def _provider(credits_usd: float | None = None, **throttle: Any) -> Provider:
    """Answers of 50 tokens: with a prompt of 100 each costs 600e-6 dollars."""
    upstream = Upstream(
        profile=Profile(ttft=0.0, output_tokens=50),
        models={"m": MODEL},
        throttle=Throttle(**throttle),
        credits_usd=credits_usd,
    )
    return Provider(upstream, seed=1)


def _call(account: str = "a", tokens: int = 100, max_tokens: int | None = 200) -> Call:
    return Call(key="r", model="m", account=account, prompt_tokens=tokens, max_tokens=max_tokens)


def _end(provider: Provider, plan: Plan) -> None:
    provider.finish(plan, plan.completion_tokens, plan.cost_usd)


def _statuses(provider: Provider, *calls: tuple[Call, float]) -> list[int]:
    return [provider.admit(call, now).status for call, now in calls]


def test_a_greedy_client_gets_the_limit_in_every_minute() -> None:
    """Whoever retries at the very end of each wait is admitted 100 times in any full minute."""
    provider, now, admitted = _provider(requests_per_min=100), 0.0, list[float]()
    for _ in range(700):
        plan = provider.admit(_call(), now)
        if plan.status == 200:
            admitted.append(now)
            now += 0.1
        else:
            now += plan.retry_after_s or 0.0
    for start in range(0, 120, 7):
        assert sum(start <= t < start + 60 for t in admitted) == 100


def test_tokens_are_reserved_and_settled() -> None:
    """Prompt and cap count while an attempt is under way, then what it used."""
    provider = _provider(tokens_per_min=600)
    first, second = provider.admit(_call(), 0.0), provider.admit(_call(), 1.0)
    third = provider.admit(_call(), 2.0)
    assert [first.status, second.status, third.status] == [200, 200, 429]
    assert third.retry_after_s == 58.0
    _end(provider, first)  # 150 of 300: with 300 under way another 150 is left
    assert _statuses(provider, (_call(tokens=101, max_tokens=50), 3.0)) == [429]
    assert _statuses(provider, (_call(max_tokens=50), 3.0)) == [200]


def test_without_a_cap_the_prompt_is_reserved_alone() -> None:
    """What such an answer had counts once it is known, and then others may have to wait."""
    provider = _provider(tokens_per_min=220)
    plans = [provider.admit(_call(max_tokens=None), now) for now in (0.0, 1.0)]
    for plan in plans:
        _end(provider, plan)
    refused = provider.admit(_call(tokens=10, max_tokens=None), 2.0)
    assert ([plan.status for plan in plans], refused.retry_after_s) == ([200, 200], 58.0)


def test_refused_by_a_fault_uses_no_tokens() -> None:
    """What fails after its admission has used nothing, but was a request."""
    provider = _provider(tokens_per_min=300, requests_per_min=2)
    down = msgspec.structs.replace(provider.upstream, faults={"f": ServerError(rate=1, first_n=1)})
    provider.change(down)
    plan = provider.admit(_call(), 0.0)
    assert (plan.status, plan.ticket > 0) == (503, True)
    _end(provider, plan)
    assert _statuses(provider, (_call(), 1.0), (_call(tokens=1), 2.0)) == [200, 429]


def test_too_many_tokens_for_any_minute_is_told_so() -> None:
    """A request beyond the limit by itself hears no wait, for none would help."""
    plan = _provider(tokens_per_min=250).admit(_call(), 0.0)
    assert (plan.status, plan.retry_after_s) == (429, None)
    assert plan.message == "Request too large: 300 tokens, and the limit is 250 per minute"


def test_places_under_way_are_free_again_at_the_end() -> None:
    """One more than the limit is refused without a hint until one has ended, once."""
    provider = _provider(concurrent=2)
    first, second, third = (provider.admit(_call(), 0.0) for _ in range(3))
    assert [first.status, second.status, third.status] == [200, 200, 429]
    assert third.retry_after_s is None
    _end(provider, first)
    _end(provider, first)
    assert _statuses(provider, (_call(), 1.0), (_call(), 1.0)) == [200, 429]


@pytest.mark.parametrize("limit", ["requests_per_min", "concurrent"])
@pytest.mark.parametrize(("per", "expected"), [("key", [200, 200]), ("account", [200, 429])])
def test_keys_are_limited_each_or_together(limit: str, per: str, expected: list[int]) -> None:
    """Two keys have a limit each, unless it is the account's."""
    provider = _provider(**{limit: 1}, per=per)
    assert _statuses(provider, (_call("a"), 0.0), (_call("b"), 0.0)) == expected


def test_fixed_minutes_begin_with_the_run() -> None:
    """The minute that the run began with ends 60 s later, whenever that was."""
    provider = _provider(requests_per_min=1, window="fixed")
    times = (1000.5, 1060.4, 1060.5, 1061.0)
    plans = [provider.admit(_call(), now) for now in times]
    assert [plan.status for plan in plans] == [200, 429, 200, 429]
    assert [plans[1].retry_after_s, plans[3].retry_after_s] == pytest.approx([0.1, 59.5])


@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.floats(0, 20),
            st.integers(0, 300),
            st.integers(1, 300) | st.none(),
            st.booleans(),
        ),
        max_size=40,
    ),
    fixed=st.booleans(),
    one=st.booleans(),
)
def test_a_refused_attempt_consumes_nothing(
    asked: list[tuple[str, float, int, int | None, bool]], fixed: bool, one: bool
) -> None:
    """With every limit on, callers fare the same whether or not the refused had ever asked."""
    limits: dict[str, Any] = {"requests_per_min": 6, "tokens_per_min": 900, "concurrent": 3}
    kind = {"window": "fixed" if fixed else "sliding", "per": "account" if one else "key"}
    asker, spared = (_provider(0.02, **limits, **kind) for _ in range(2))
    now, open_plans = 0.0, list[Plan]()
    for provider in (asker, spared):
        provider.memory.began(0.0)
    for account, gap, tokens, cap, ends in asked:
        now += gap
        call = _call(account, tokens, cap)
        plan = asker.admit(call, now)
        if plan.status == 200:
            assert spared.admit(call, now) == plan
            open_plans.append(plan)
        if ends and open_plans:
            ended = open_plans.pop(0)
            _end(asker, ended)
            _end(spared, ended)
    assert asker.admission.under_way == spared.admission.under_way == len(open_plans)


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 30)), min_size=1, max_size=30))
def test_the_hint_of_all_windows_together_is_true(asked: list[tuple[int, float]]) -> None:
    """A refused attempt is admitted after its wait, if nobody else came."""
    provider, now = _provider(requests_per_min=3, tokens_per_min=900), 0.0
    for tokens, gap in asked:
        now += gap
        plan = provider.admit(_call(tokens=tokens), now)
        if plan.status == 429:
            assert plan.retry_after_s is not None
            now += plan.retry_after_s
            assert provider.admit(_call(tokens=tokens), now).status == 200


@pytest.mark.parametrize(
    ("form", "field", "told"),
    [
        ("upstream_2025", "", None),
        ("upstream_2026", "Retry-After", "50"),
        ("free_per_day", "X-RateLimit-Reset", "1800000051000"),
        ("free_per_minute", "X-RateLimit-Reset", "1800000051000"),
        ("bare", "", None),
    ],
)
def test_throttle_has_all_forms(form: Known, field: str, told: str | None) -> None:
    """Each form tells what it tells of the same true wait, and its limit where it names one."""
    provider = _provider(requests_per_min=1, form=form)
    provider.admit(_call(), 0.0)
    plan = provider.admit(_call(), 10.0)
    said = hints(_call(), plan, 1_800_000_000)
    assert said.headers.get(field) == told
    assert said.headers.get("X-RateLimit-Limit", "1") == "1"
    assert ("retry_after_seconds_raw" in said.metadata) == (form == "upstream_2026")
    assert len(get_args(Known)) == 5


@pytest.mark.parametrize("place", ["headers", "body", "both"])
def test_throttle_puts_its_hints_where_it_is_told(place: Literal["headers", "body"]) -> None:
    """Real header fields, metadata or both."""
    provider = _provider(requests_per_min=1, hints=place)
    provider.admit(_call(), 0.0)
    said = hints(_call(), provider.admit(_call(), 10.0), 0)
    assert ("Retry-After" in said.headers) == (place != "body")
    assert ("retry_after_seconds" in said.metadata) == (place != "headers")


def test_credits_are_reserved_at_their_greatest_cost() -> None:
    """Prompt and cap are reserved, the model's own cap where the request has none."""
    provider = _provider(1.0)
    provider.admit(_call(), 0.0)
    assert provider.admission.credits.reserved_usd == pytest.approx(100e-6 + 2000e-6)
    provider.admit(_call(max_tokens=None), 0.0)
    assert provider.admission.credits.reserved_usd == pytest.approx(2100e-6 + 100e-6 + 10_000e-6)


def test_budget_in_flight_is_a_402_that_passes() -> None:
    """What is reserved by another is free again when that one has ended."""
    provider = _provider(0.003)
    first, second = provider.admit(_call(), 0.0), provider.admit(_call(), 0.0)
    refusal = planned(_call(), second)
    error = msgspec.json.decode(refusal.body)["error"]
    assert (first.status, second.status, error["metadata"] | BODY) == (200, 402, error["metadata"])
    assert refusal.fields == b"Retry-After: 5\r\n"
    _end(provider, first)
    assert _statuses(provider, (_call(), 1.0)) == [200]


def test_spent_credits_are_a_402_for_good() -> None:
    """Where nothing in flight could make room, there is no hint and another word."""
    provider = _provider(0.0022)
    _end(provider, provider.admit(_call(), 0.0))
    plan = provider.admit(_call(), 1.0)
    assert (plan.status, plan.message, plan.retry_after_s) == (402, "Insufficient credits", None)
    assert planned(_call(), plan).fields == b""
    assert _statuses(provider, (_call(max_tokens=100), 2.0)) == [200]


def test_a_402_counts_against_no_limit() -> None:
    """Who cannot pay has not used up a request, and no draw."""
    provider = _provider(0.0025, requests_per_min=2)
    plans = [provider.admit(_call(), 0.0) for _ in range(3)]
    _end(provider, plans[0])
    assert [plan.status for plan in plans] == [200, 402, 402]
    assert provider.admit(_call(max_tokens=10), 1.0).draw == 1


@given(
    balance_usd=st.floats(0, 1e-4),
    steps=st.lists(st.tuples(st.floats(0, 3e-5), st.floats(0, 1), st.booleans()), max_size=60),
)
def test_credits_conserve(balance_usd: float, steps: list[tuple[float, float, bool]]) -> None:
    """Bought = left + reserved + spent, none below nothing, and at the end nothing is reserved."""
    balance, held, bills = Credits(), list[tuple[int, float]](), list[float]()
    balance.change(balance_usd)
    for cost_usd, share, ends in steps:
        if balance.covers(cost_usd) == "yes":
            held.append((balance.reserve(cost_usd), cost_usd * share))
        if ends and held:
            reserved, bill = held.pop(0)
            bills.append(bill)
            balance.settle(reserved, bill)
        used = balance.spent_usd + balance.reserved_usd
        assert balance.reserved_usd >= 0
        assert used <= balance.bought_usd + 1e-12
    for reserved, bill in held:
        bills.append(bill)
        balance.settle(reserved, bill)
    assert balance.reserved_usd == 0
    assert balance.spent_usd == pytest.approx(sum(bills), abs=1e-12 * len(bills))


def test_change_keeps_what_stays() -> None:
    """Windows of the same limit, places under way and spent credits outlive a change."""
    provider = _provider(0.0047, requests_per_min=2, tokens_per_min=10_000, concurrent=5)
    first = provider.admit(_call(), 0.0)
    before, upstream = provider.admit(_call(), 1.0), provider.upstream
    limits = msgspec.structs.replace(upstream.throttle, concurrent=1, tokens_per_min=300)
    provider.change(msgspec.structs.replace(upstream, throttle=limits))
    assert provider.admit(_call(), 2.0).retry_after_s is None  # for want of a place under way
    _end(provider, first)
    _end(provider, before)
    assert provider.admit(_call(), 3.0).retry_after_s == 57.0  # by the requests
    assert _statuses(provider, (_call(), 61.0)) == [200]  # tokens of the old limit are forgotten
    assert provider.admission.credits.spent_usd == pytest.approx(2 * 600e-6)


def test_credits_can_be_bought() -> None:
    """A greater balance leaves what is spent as it is; without one nobody is asked."""
    provider = _provider(0.0022)
    _end(provider, provider.admit(_call(), 0.0))
    seen = [provider.admit(_call(), 1.0).status]
    for credits_usd in (0.0028, 0.0026, None):
        provider.change(msgspec.structs.replace(provider.upstream, credits_usd=credits_usd))
        plan = provider.admit(_call(), 2.0)
        seen.append(plan.status)
        provider.finish(plan, 0, 0.0)
    assert seen == [402, 200, 402, 200]


def test_without_limits_there_is_nothing_to_finish() -> None:
    """Requests per minute alone, or nothing, need no word at the end of an attempt."""
    plans = [
        provider.admit(_call(), 0.0) for provider in (_provider(), _provider(requests_per_min=9))
    ]
    assert [plan.ticket for plan in plans] == [0, 0]


@pytest.mark.parametrize(
    "settings",
    [
        {"throttle": Throttle(requests_per_min=1)},
        {"throttle": Throttle(tokens_per_min=1)},
        {"throttle": Throttle(concurrent=1)},
        {"credits_usd": 1.0},
        {"faults": {"f": ServerError(rate=1, first_n=0)}},
        {"profile": Profile(cold_start=ColdStart(extra_s=1.0))},
        {
            "models": {
                "m": msgspec.structs.replace(MODEL, profile=Profile(prompt_cache=PromptCache()))
            }
        },
    ],
)
def test_what_processes_must_share_is_known(settings: dict[str, Any]) -> None:
    """A provider says whether it remembers more than how often a request was tried."""
    provider = Provider(Upstream(), seed=1)
    before = provider.remembers
    provider.change(Upstream(**settings))
    after = provider.remembers
    provider.change(Upstream(faults={"f": ServerError(rate=1, until_s=9, every_s=60)}))
    assert (before, after, provider.remembers) == (False, True, False)


def test_the_cap_of_the_model_ends_an_answer() -> None:
    """No completion is longer than its model can be, whatever is asked for."""
    provider = _provider()
    long = msgspec.structs.replace(provider.upstream, profile=Profile(output_tokens=5000))
    provider.change(long)
    plans = [
        provider.admit(_call(max_tokens=cap), float(n)) for n, cap in zip(count(), (None, 9000))
    ]
    assert [(plan.completion_tokens, plan.finish_reason) for plan in plans] == [
        (1000, "length")
    ] * 2
