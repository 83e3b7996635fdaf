"""Faults: each strikes at its rate, fails a plan in its own way, and leaves failed plans alone."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playing import played

from mock_llm.behaviour import Provider
from mock_llm.config import Model, Upstream
from mock_llm.distributions import Uniform
from mock_llm.faults import EmptyContent, Fault, FaultBase, HangBeforeHeaders, NoDone, ServerError
from mock_llm.framing import Framing
from mock_llm.plan import Call, Plan
from mock_llm.timeline import timeline

PLAN = Plan(
    first_token_s=1.0,
    last_token_s=2.0,
    reply="yes",
    completion_tokens=1,
    prompt_tokens=9,
    cached_tokens=4,
    cost_usd=0.5,
    draw=3,
)
RATES = st.floats(0, 1)
INSIDE = st.floats(2**-53, 1 - 2**-53)


class Box(msgspec.Struct):
    """Something with faults in it, as a scenario has."""

    faults: dict[str, Fault]


def _read(table: object) -> Fault:
    return msgspec.convert({"faults": {"f": table}}, Box).faults["f"]


@given(rate=RATES, uniform=INSIDE)
def test_a_fault_strikes_below_its_rate(rate: float, uniform: float) -> None:
    """The plan is the very same unless the uniform is below the rate."""
    for fault in (HangBeforeHeaders(rate=rate), ServerError(rate=rate)):
        assert (fault.apply(PLAN, "f", uniform) is not PLAN) == (uniform < rate)


def test_a_hang_changes_the_ending_only() -> None:
    """What would have been said and billed stays in the plan of a hang."""
    expected = msgspec.structs.replace(PLAN, ending="hang", injected=("storm",))
    assert HangBeforeHeaders(rate=0.5).apply(PLAN, "storm", 0.1) == expected


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (500, "server", "Internal Server Error"),
        (502, "provider_unavailable", "Provider returned error"),
        (503, "provider_overloaded", "Service temporarily unavailable"),
        (524, "timeout", "Request timed out. Please try again later."),
        (529, "provider_overloaded", "Provider returned error"),
    ],
)
def test_a_server_error_refuses_for_nothing(status: Any, error: str, message: str) -> None:
    """A 5xx has OpenRouter's words, says nothing, costs nothing and keeps its draw."""
    expected = Plan(
        status=status,
        error=error,
        message=message,
        retry_after_s=7.0,
        ending="refused",
        first_token_s=0.05,
        last_token_s=0.05,
        prompt_tokens=9,
        draw=3,
        injected=("bad",),
    )
    assert ServerError(rate=1, status=status, retry_after_s=7.0).apply(PLAN, "bad", 0.9) == expected


def test_the_time_to_a_refusal_is_drawn_over_its_whole_range() -> None:
    """The uniform left below the rate is rescaled for the delay."""
    fault = ServerError(rate=0.2, after_s=Uniform(low=1, high=2))
    times = [fault.apply(PLAN, "f", u).first_token_s for u in (0.02, 0.1, 0.18)]
    assert times == pytest.approx([1.1, 1.5, 1.9])


@pytest.mark.parametrize("ending", ["hang", "refused"])
def test_a_failed_plan_is_left_alone(ending: Any) -> None:
    """The first fault of the table that strikes decides."""
    failed = msgspec.structs.replace(PLAN, ending=ending)
    faults = (HangBeforeHeaders(rate=1), ServerError(rate=1))
    assert [fault.apply(failed, "f", 0.5) is failed for fault in faults] == [True, True]


def test_faults_are_told_by_their_kind() -> None:
    """A scenario names a fault's kind and gets its struct, with defaults."""
    tables: list[object] = [
        {"kind": "hang_before_headers", "rate": 0.005},
        {"kind": "server_error", "rate": 0.1, "status": 529},
    ]
    expected = [HangBeforeHeaders(rate=0.005), ServerError(rate=0.1, status=529, after_s=0.05)]
    assert [_read(table) for table in tables] == expected


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"kind": "gremlin", "rate": 0.1}, "Invalid value 'gremlin'"),
        ({"kind": "server_error"}, "missing required field `rate`"),
        ({"kind": "server_error", "rate": 1.5}, "<= 1.0 - at `$.faults[...].rate`"),
        ({"kind": "server_error", "rate": 0.1, "status": 418}, "Invalid enum value 418"),
        ({"kind": "server_error", "rate": 0.1, "retry_after_s": -1}, ">= 0.0"),
        ({"kind": "hang_before_headers", "rate": 0.1, "after_s": 1}, "unknown field `after_s`"),
    ],
)
def test_nonsense_is_refused(table: object, sentence: str) -> None:
    """A wrong fault is refused where it stands."""
    with pytest.raises(msgspec.ValidationError) as caught:
        _read(table)
    assert sentence in str(caught.value)


def _admitted(fault: Fault, calls: list[tuple[str, bool, float]]) -> list[bool]:
    """Whether the fault struck, by model, stream and time of each call."""
    models = {slug: Model(prompt_usd_per_m=1, completion_usd_per_m=1) for slug in ("a", "b")}
    provider = Provider(Upstream(models=models, faults={"f": fault}), seed=1)
    plans = [
        provider.admit(Call(key=f"r{n}", model=model, stream=stream, prompt_tokens=1), 100.0 + at_s)
        for n, (model, stream, at_s) in enumerate(calls)
    ]
    return [plan.injected == ("f",) for plan in plans]


def test_a_fault_keeps_to_its_models() -> None:
    """Only the named models are struck."""
    calls = [("a", False, 0.0), ("b", False, 0.0), ("a", True, 0.0)]
    assert _admitted(HangBeforeHeaders(rate=1, models=("b",)), calls) == [False, True, False]


def test_a_fault_keeps_to_its_window() -> None:
    """It strikes from its first second on and before its last, counted from the first call."""
    calls = [("a", False, at_s) for at_s in (0.0, 9.9, 10.0, 19.9, 20.0)]
    burst = ServerError(rate=1, from_s=10, until_s=20)
    assert _admitted(burst, calls) == [False, False, True, True, False]


def test_the_first_n_then_fine() -> None:
    """Only calls that it could strike count as the first ones."""
    calls = [("b", True, 0.0), ("a", False, 0.0), ("a", True, 0.0), ("a", True, 1.0)]
    fault = NoDone(rate=1, models=("a",), first_n=1)
    assert _admitted(fault, calls) == [False, False, True, False]


@pytest.mark.parametrize("seed", range(3))
def test_limits_do_not_change_the_weather(seed: int) -> None:
    """Of the calls inside a window the same are struck as without it."""
    always, later = (
        Provider(Upstream(faults={"f": fault}), seed=seed)
        for fault in (ServerError(rate=0.5), ServerError(rate=0.5, from_s=20))
    )
    calls = [Call(key=f"r{n}", model="openai/gpt-4o", prompt_tokens=1) for n in range(60)]
    struck, kept = (
        [provider.admit(call, float(n)).status for n, call in enumerate(calls)]
        for provider in (always, later)
    )
    assert kept == [200] * 20 + struck[20:]
    assert 503 in kept


def test_an_empty_answer_costs_its_prompt() -> None:
    """With a finish reason the prompt is billed and the text that never came is not."""
    models = {"a": Model(prompt_usd_per_m=1, completion_usd_per_m=10)}
    costs = []
    for fault in (EmptyContent(rate=1), EmptyContent(rate=1, finish_reason="null")):
        provider = Provider(Upstream(models=models, faults={"f": fault}), seed=1)
        plan = provider.admit(Call(key="r", model="a", prompt_tokens=50), 0.0)
        costs.append((plan.completion_tokens, plan.cost_usd))
    assert costs == [(0, pytest.approx(50e-6)), (0, 0.0)]


@given(
    kinds=st.lists(st.sampled_from(Fault.__args__), max_size=5),
    stream=st.booleans(),
    first_s=st.sampled_from([0.0, 0.3, 2.0]),
    keep_alive_s=st.sampled_from([None, 0.4]),
    chunked=st.booleans(),
)
def test_any_mix_of_faults_can_be_sent(
    kinds: list[type[FaultBase]],
    stream: bool,
    first_s: float,
    keep_alive_s: float | None,
    chunked: bool,
) -> None:
    """Whatever faults come together, what goes out is in order of time and begins with a head."""
    call = Call(key="r", model="openai/gpt-4o", stream=stream, prompt_tokens=9)
    plan = msgspec.structs.replace(PLAN, first_token_s=first_s, last_token_s=first_s + 1)
    for kind in kinds:
        plan = kind(rate=1).apply(plan, kind.__name__, 0.5)
    frame = Framing(chunked=chunked, close=not chunked)
    script = timeline(call, plan, 1_800_000_000, keep_alive_s=keep_alive_s, frame=frame)
    sent = played(script, limit=300)
    times = [write.at_s for write in sent]
    assert times == sorted(times)
    assert b"".join(write.data for write in sent[:1]).startswith(b"HTTP/1.1 ") == bool(sent)
