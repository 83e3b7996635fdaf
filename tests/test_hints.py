"""What a refusal says of its own passing, wherever it says it."""

import json
from typing import Any

import pytest
from endpoints import PLAIN, ask, replies, run
from hypothesis import given
from hypothesis import strategies as st
from jobs import faulty, items, ran, settings

from harness.pipeline.hints import metadata, passing, retry_after_s
from harness.pipeline.retry import may_pass
from mock_llm.faults import NoCredit, RateLimited

NOW = "Tue, 20 Oct 2026 23:59:00 GMT"
MIDNIGHT_MS = "1792540800000"


@pytest.mark.parametrize(
    ("headers", "said", "seconds"),
    [
        ({}, None, None),
        ({"Retry-After": "7"}, None, 7.0),
        ({"Retry-After": "7"}, {"retry_after_seconds": 17, "headers": {"Retry-After": "18"}}, 7.0),
        ({"Retry-After": "soon"}, {"retry_after_seconds": 17}, 17.0),
        ({}, {"retry_after_seconds": 17, "headers": {"Retry-After": "18"}}, 18.0),
        ({}, {"retry_after_seconds": 17, "retry_after_seconds_raw": 16.007}, 17.0),
        ({}, {"headers": {"retry-after": "18"}}, 18.0),
        ({}, {"retry_after_seconds": -1}, None),
        ({}, {"retry_after_seconds": True}, None),
        ({}, {"retry_after_seconds": 10**400}, None),
        ({}, {"headers": "none"}, None),
        ({}, "none", None),
        ({"Date": NOW, "Retry-After": "Wed, 21 Oct 2026 00:00:00 GMT"}, None, 60.0),
        ({"Date": NOW, "Retry-After": "Wednesday, 21-Oct-26 00:00:00 GMT"}, None, 60.0),
        ({"Date": NOW, "Retry-After": "Wed Oct 21 00:00:00 2026"}, None, 60.0),
        ({"Date": NOW, "Retry-After": "Tue, 20 Oct 2026 23:58:00 GMT"}, None, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 00:00:00 GMT"}, None, None),
        ({"Date": NOW, "X-RateLimit-Reset": MIDNIGHT_MS}, None, 60.0),
        ({"Date": NOW}, {"headers": {"X-RateLimit-Reset": MIDNIGHT_MS}}, 60.0),
        ({"X-RateLimit-Reset": MIDNIGHT_MS}, None, None),
    ],
)
def test_wait_is_found_where_it_is_told(
    headers: dict[str, str], said: object, seconds: float | None
) -> None:
    """Headers come before metadata, seconds before times of day, and those need the server's."""
    assert retry_after_s(headers, said) == seconds


@given(st.binary(max_size=60), st.text(max_size=30))
def test_nonsense_is_no_hint(body: bytes, value: str) -> None:
    """Whatever a refusal says is a number of seconds to wait, or no hint."""
    found = retry_after_s({"Retry-After": value, "Date": value}, metadata(body))
    assert found is None or 0 <= found < float("inf")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"metadata": {"raw": "x"}}}, {"raw": "x"}),
        ({"error": "x"}, None),
        ({"error": None}, None),
        ([], None),
    ],
)
def test_metadata_is_where_openrouter_has_it(body: object, said: object) -> None:
    """Only an envelope of OpenRouter's has metadata; anything else has none, and no error."""
    assert metadata(json.dumps(body).encode()) == said
    assert metadata(b"<html>") is None
    assert metadata(b"[" * 100_000) is None


def test_only_a_402_in_flight_passes() -> None:
    """A balance that is used up stays so; one that is only reserved does not."""
    in_flight = {"reason": "in_flight_budget_exhausted"}
    found = [passing(402, in_flight), passing(402, {}), passing(402, None), passing(403, in_flight)]
    assert found == [True, None, None, None]
    assert [may_pass(402, passing=one) for one in found] == [True, False, False, False]
    assert [may_pass(500, passing=one) for one in (None, False)] == [True, False]


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            402,
            {"metadata": {"reason": "in_flight_budget_exhausted"}},
            ("http_402", 402, None, True),
        ),
        (402, {"metadata": {}}, ("http_402", 402, None, None)),
        (429, {"metadata": {"retry_after_seconds": 17}}, ("http_429", 429, 17.0, None)),
        (
            200,
            {"code": 429, "metadata": {"retry_after_seconds": 17}},
            ("upstream_error", 429, 17.0, None),
        ),
        (
            200,
            {"code": 402, "metadata": {"reason": "in_flight_budget_exhausted"}},
            ("upstream_error", 402, None, True),
        ),
    ],
)
def test_call_hands_on_what_the_body_says(
    status: int, body: dict[str, Any], expected: tuple[object, ...]
) -> None:
    """An error says the same in a refusal and inside a 200."""
    handler = replies(json.dumps({"error": body}).encode(), status)
    error = run("virtual", ask(handler, PLAIN)).error
    assert error is not None
    assert (error.word, error.status, error.retry_after_s, error.passing) == expected


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (RateLimited(rate=1, form="upstream_2025"), None),
        (RateLimited(rate=1), 17.0),
        (RateLimited(rate=1, hints="headers"), 17.0),
        (RateLimited(rate=1, hints="body"), 17.0),
        (RateLimited(rate=1, form="free_per_day"), None),
        (RateLimited(rate=1, form="free_per_minute"), None),
        (RateLimited(rate=1, form="bare"), None),
        (NoCredit(rate=1), 5.0),
        (NoCredit(rate=1, retry_after_s=None), None),
    ],
)
def test_every_refusal_of_the_mock_is_read(fault: RateLimited, seconds: float | None) -> None:
    """The wait of each form is in the record, in whichever place the form has it."""
    (row,) = ran(items(1), settings(), faulty(fault)).rows
    assert row.retry_after_s == seconds
