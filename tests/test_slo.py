"""Promises are parsed strictly and judged exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.scenario.slo import KNOWN_METRICS, Bound, parse_slo
from mock_llm.strict import FieldError


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("<= 600", (True, True, False)),
        (">=600", (False, True, True)),
        ("< 6e2", (True, False, False)),
        (" > 600.0 ", (False, False, True)),
        ("== 600", (False, True, False)),
    ],
)
def test_a_bound_is_held_or_broken(text: str, kept: tuple[bool, bool, bool]) -> None:
    """Each operator on values below, at and above the limit; nan keeps no promise."""
    (bound,) = parse_slo({"duration_s": text})
    assert tuple(bound.holds(value) for value in (599.0, 600.0, 601.0)) == kept
    assert bound.holds(float("nan")) is False


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(KNOWN_METRICS))
def test_any_finite_limit_is_read_back(limit: float, metric: str) -> None:
    """However the number is written, it is the number."""
    assert parse_slo({metric: f"<= {limit!r}"}) == (Bound(metric, "<=", limit),)


@pytest.mark.parametrize("text", ["600", "= 600", "=< 600", "<= 600 s", "<=", "<= inf", "<= nan"])
def test_a_bad_bound_is_refused(text: str) -> None:
    """No operator, an unknown one, or no finite number."""
    with pytest.raises(FieldError) as caught:
        parse_slo({"requests": text})
    assert caught.value.path == ("slo", "requests")


def test_without_a_list_of_metrics_any_name_will_do() -> None:
    """The caller may judge results of another kind."""
    assert parse_slo({"gpu.heat": "< 90"}, known=None) == (Bound("gpu.heat", "<", 90.0),)
