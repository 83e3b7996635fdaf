"""Faults: each strikes at its rate, fails a plan in its own way, and leaves failed plans alone."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.distributions import Uniform
from mock_llm.faults import Fault, HangBeforeHeaders, ServerError
from mock_llm.plan import Plan

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
