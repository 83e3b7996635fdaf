"""The ledger: what is billed, what is kept, and how late answers were."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from mock_llm.errors import InputError
from mock_llm.ledger import Delays, End, Ledger, Row, billed
from mock_llm.plan import Plan

PLAN = Plan(completion_tokens=10, prompt_tokens=100, cost_usd=3.0)
CUT = replace(PLAN, ending="eof", reach="part")
REFUSED = Plan(status=503, ending="refused", prompt_tokens=100, cost_usd=3.0)


@pytest.mark.parametrize(
    ("plan", "ended", "stream", "expected"),
    [
        (PLAN, "complete", False, (10, 3.0)),
        (PLAN, "complete", True, (10, 3.0)),
        (PLAN, "client_left", False, (10, 3.0)),
        (PLAN, "client_left", True, (4, 1.8)),
        (PLAN, "shutdown", True, (4, 1.8)),
        (REFUSED, "refused", False, (0, 0.0)),
        (REFUSED, "client_left", False, (0, 0.0)),
        (Plan(status=0), "client_left", False, (0, 0.0)),
        (CUT, "broken", False, (10, 3.0)),
        (CUT, "broken", True, (4, 1.8)),
        (replace(CUT, finish_reason="error"), "broken", True, (0, 0.0)),
        (replace(CUT, finish_reason="error"), "client_left", False, (0, 0.0)),
        (replace(CUT, finish_reason="", completion_tokens=0), "broken", False, (0, 0.0)),
        (replace(CUT, finish_reason="stop", completion_tokens=0), "broken", False, (0, 3.0)),
    ],
)
def test_what_is_billed(plan: Plan, ended: End, stream: bool, expected: tuple[int, float]) -> None:
    """All of a non-stream call, a stream as far as it got, nothing of what was refused."""
    actual = billed(plan, ended, stream=stream, delivered_tokens=4, completion_usd=2.0)
    assert actual == pytest.approx(expected)


def test_stream_kept_from_its_first_token_is_free() -> None:
    """No token and no finish reason: nothing is billed, unless it was the client that left."""
    ends: list[tuple[Plan, End]] = [
        (CUT, "broken"),
        (replace(CUT, ending="hang"), "client_left"),
    ]
    costs = [
        billed(plan, ended, stream=True, delivered_tokens=0, completion_usd=2.0)
        for plan, ended in ends
    ]
    assert costs == [(0, 0.0), (0, 0.0)]
    left = billed(PLAN, "client_left", stream=True, delivered_tokens=0, completion_usd=2.0)
    assert left == (0, 1.0)


@pytest.mark.parametrize(
    ("plan", "ended", "delivered", "expected"),
    [
        (PLAN, "client_left", 4, (10, 3.0)),
        (PLAN, "client_left", 0, (10, 3.0)),
        (CUT, "broken", 4, (10, 3.0)),
        (CUT, "broken", 0, (0, 0.0)),
        (replace(CUT, finish_reason="error"), "client_left", 4, (0, 0.0)),
        (REFUSED, "client_left", 0, (0, 0.0)),
    ],
)
def test_some_providers_bill_what_was_cut_in_full(
    plan: Plan, ended: End, delivered: int, expected: tuple[int, float]
) -> None:
    """Leaving a stream saves nothing there; what was free stays free."""
    actual = billed(
        plan,
        ended,
        stream=True,
        delivered_tokens=delivered,
        completion_usd=2.0,
        abort_billing="full",
    )
    assert actual == expected


def test_memory_is_bounded_and_totals_are_not() -> None:
    """Only the last rows are kept, while every one counts."""
    ledger = Ledger(limit=2)
    for number in range(5):
        ledger.add(Row(key=str(number), arrived_s=0.0, ended="complete", billed_usd=0.5))
    assert [row.key for row in ledger.rows] == ["3", "4"]
    assert (ledger.totals.attempts, ledger.totals.billed_usd) == (5, 2.5)
    assert ledger.totals.ended == {"complete": 5}


def test_file_is_appended_to_row_by_row(tmp_path: Path) -> None:
    """A row is in the file at once, behind those of earlier runs."""
    path = tmp_path / "ledger.jsonl"
    for key in ("first", "second"):
        ledger = Ledger(path)
        ledger.add(Row(key=key, arrived_s=1.5))
        assert json.loads(path.read_text().splitlines()[-1])["key"] == key
        ledger.close()
    assert len(path.read_text().splitlines()) == 2


def test_file_that_cannot_be_written(tmp_path: Path) -> None:
    """A bad path is the user's error and is named."""
    path = tmp_path / "missing" / "ledger.jsonl"
    with pytest.raises(InputError, match=r"ledger\.jsonl: cannot write the ledger: No such file"):
        Ledger(path)


def test_delays_are_against_what_was_planned_to_be_seen_first() -> None:
    """A stream is held against its first token, an answer against its last, a refusal as well."""
    ledger = Ledger()
    assert ledger.delays() == Delays(0, 0.0, 0.0)
    planned = {"planned_first_token_s": 1.0, "planned_last_token_s": 2.0}
    times = {"arrived_s": 10.0, "admitted_s": 10.0}
    for row in (
        {**times, **planned, "status": 200, "stream": True, "first_token_s": 11.5},
        {**times, **planned, "status": 200, "first_token_s": 12.25},
        {**times, **planned, "status": 503, "headers_s": 11.125},
        {**times, **planned, "status": 200},
        {"arrived_s": 10.0, "status": 401, "headers_s": 10.0},
    ):
        ledger.add(Row(**row))  # type: ignore[arg-type]
    assert ledger.delays() == Delays(3, 0.25, 0.5)
