"""Budgets in a job: no cap is passed at the provider, whatever it reports; the unsent is told."""

from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec
import pytest
from jobs import BY_NAME, Ran, faulty, items, ran, settings, upstream

import mock_llm.wire
from harness.pipeline.costs import Price
from harness.pipeline.money import Purse
from harness.scenario.pipeline import Pipeline
from harness.scenario.resilience import Budget
from mock_llm.config import PromptCache, Upstream
from mock_llm.faults import Fault
from mock_llm.plan import Plan

CAP_USD = 0.10
DEAR = "openai/gpt-4o"
RUNS = 200
FAULTS = (
    *("hang_before_headers", "hang_after_headers", "hang_mid_stream", "keep_alive_hang"),
    *("truncated_json", "empty_content", "error_in_200", "finish_error", "server_error"),
    *("connection_reset", "premature_eof", "no_done", "whitespace_then_eof", "empty_choices"),
    *("rate_limited", "html_error", "slow_trickle", "unclosed_body", "sse_for_json"),
)


# Factors of what is reported to what is billed: None is no report at all.
LIES: list[list[float | None]] = [[1.0], [1.0, None], [0.0], [0.001, 0.3], [0.3, 0.9], [1.0, 3.0]]
LIES.append([None, 0.0, 1e-6, 0.3, 0.9, 1.0, 1.0, 3.0, -1.0])
TRUE = mock_llm.wire.usage_of


def lying(random: Random) -> Callable[[Plan, float], object]:
    """A provider's reports of usage: each run has a way of its own to lie, or several."""
    habits = random.choice(LIES)

    def told(plan: Plan, completion_usd: float) -> object:
        usage = msgspec.to_builtins(TRUE(plan, completion_usd))
        factor = random.choice(habits)
        if factor is None:
            return None
        for name in random.sample(["prompt_tokens", "completion_tokens", "cost"], k=2):
            usage[name] *= factor
            if name != "cost":
                usage[name] = int(usage[name])
        return usage

    return told


def weather(random: Random) -> Upstream:
    """Some faults, one way of billing what is given up, and a cache now and then."""
    kinds = random.sample(FAULTS, k=random.randint(0, 3))
    faults = [
        msgspec.convert({"kind": kind, "rate": random.choice([0.05, 0.2])}, Fault) for kind in kinds
    ]
    provider = faulty(*faults, ttft=random.choice([0.2, 1.0, 5.0]))
    cache = random.choice([None, PromptCache(min_tokens=100)])
    return msgspec.structs.replace(
        provider,
        abort_billing=random.choice(["sent", "full"]),
        handler_cancellation=random.random() < 0.5,
        profile=msgspec.structs.replace(provider.profile, itl=0.01, prompt_cache=cache),
    )


def pipeline(random: Random) -> Pipeline:
    """Any client within a budget of ten cents."""
    return Pipeline(
        rate_limit=None,
        concurrency=random.choice([1, 5, 20]),
        slot=random.choice(["before_timeout", "inside_timeout", "never"]),
        attempt_timeout_s=random.choice([0.5, 3.0, 10.0]),
        retries=random.choice([0, 3]),
        stream=random.random() < 0.5,
        context=random.choice([None, "trim"]),
        max_tokens=random.choice([None, 60]),
        pool=random.random() < 0.8,
        budget=Budget(run_usd=CAP_USD, user_usd=random.choice([None, 0.05])),
    )


def billed(result: Ran) -> float:
    """Dollars in the mock's ledger."""
    return sum(row.billed_usd for row in result.seen)


def test_no_report_makes_the_provider_bill_more_than_the_cap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In 200 random runs with false reports, faults and limits, the ledger stays within the cap."""
    shares, stops = [], Counter[str]()
    for seed in range(RUNS):
        random = Random(seed)
        monkeypatch.setattr(mock_llm.wire, "usage_of", lying(random))
        chosen = pipeline(random)
        purse = Purse(chosen.budget)
        given = items(120, model=DEAR, users=2)
        result = ran(given, chosen, weather(random), seed=seed, purse=purse)
        assert billed(result) <= CAP_USD, f"seed {seed}: {chosen}"
        told = purse.statistics()
        assert told.reserved_usd == 0
        assert told.overruns or told.spent_usd + told.held_usd <= CAP_USD + 1e-9
        assert sum(row.cost_usd for row in result.rows) == pytest.approx(told.spent_usd)
        shares.append(billed(result) / CAP_USD)
        stops[str(result.job.stopped)] += 1
    assert stops["budget"] > RUNS / 3
    assert max(shares) > 0.6  # it is the cap that holds, and not something else


def test_what_the_budget_does_not_cover_is_rejected() -> None:
    """Requests that found no money have a row that says so, and the job tells what stopped it."""
    chosen = settings(budget=Budget(calls=3), concurrency=2)
    result = ran(items(5), chosen, upstream(), purse=Purse(chosen.budget))
    assert result.job.stopped == "budget"
    assert [row.outcome for row in result.rows] == ["ok"] * 3 + ["rejected"] * 2
    assert result.outcomes()[3:] == [
        ("r000003", 0, "rejected", "budget"),
        ("r000004", 0, "rejected", "budget"),
    ]


def test_a_retry_needs_money_too() -> None:
    """A request whose first attempt failed and whose second is not covered is rejected."""
    chosen = settings(budget=Budget(calls=1), retries=3)
    sick = msgspec.convert({"kind": "server_error", "rate": 1.0}, Fault)
    result = ran(items(1), chosen, faulty(sick), purse=Purse(chosen.budget))
    assert result.outcomes() == [
        ("r000000", 1, "failed", "http_503"),
        ("r000000", 2, "rejected", "budget"),
    ]


def test_a_spent_minute_is_waited_out() -> None:
    """With a cap per minute requests wait for their money, in the time before they are let in."""
    body_usd = 0.0001
    chosen = settings(budget=Budget(per_min_usd=body_usd), concurrency=1, max_tokens=60)
    result = ran(items(40), chosen, upstream(), purse=Purse(chosen.budget))
    assert {row.outcome for row in result.rows} == {"ok"}
    assert result.job.stopped is None
    ends = sorted((row.t_end, row.cost_usd) for row in result.rows)
    for end_s, _ in ends:
        assert sum(usd for at, usd in ends if end_s - 60 < at <= end_s) <= body_usd
    assert ends[-1][0] > 60


def test_a_user_without_money_leaves_the_others_alone() -> None:
    """A cap per user rejects that user's requests and does not stop the job."""
    chosen = settings(budget=Budget(user_usd=0.0001), concurrency=1)
    result = ran(items(30, users=2), chosen, upstream(), purse=Purse(chosen.budget))
    assert result.job.stopped is None
    outcomes = Counter((row.user, row.outcome) for row in result.rows)
    assert outcomes["u0", "ok"] == outcomes["u1", "ok"] > 0
    assert outcomes["u0", "rejected"] > 0


def test_an_answer_without_usage_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody told is counted by us, never zero, and booked at its worst case."""
    monkeypatch.setattr(mock_llm.wire, "usage_of", lambda *_: None)
    purse = Purse(None)
    result = ran(items(3), settings(), upstream(), purse=purse)
    true_usd, told = billed(result), purse.statistics()
    assert told.spent_usd == pytest.approx(true_usd)
    assert told.estimated_usd == told.spent_usd
    assert told.held_usd > 0
    assert all(row.prompt_tokens and row.completion_tokens for row in result.rows)


def test_a_call_that_never_left_costs_nothing() -> None:
    """A connection that cannot be had is no call: its reservation is released."""
    purse = Purse(None)
    lost = msgspec.convert({"kind": "dns_failure", "rate": 1.0}, Fault)
    result = ran(items(2), settings(), faulty(lost), purse=purse, base_url=BY_NAME)
    assert {row.t_sent for row in result.rows} == {None}
    told = purse.statistics()
    assert (told.calls, told.reserved_usd) == (0, 0.0)


def test_a_dearer_model_than_its_list_is_an_overrun() -> None:
    """Bills above what we took for the price are counted in full, and told."""
    purse = Purse(None)
    cheap = dict.fromkeys(Upstream().models, Price(1e-6, 1e-6))
    ran(items(1), settings(), upstream(), purse=purse, prices=cheap)
    assert purse.statistics().overruns == 1
