"""Attribution: where a request's time went and why it failed, held against what was injected."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import STAMPS, attempt, run_toml, verdicts

from harness import attribution
from harness.attribution import STAGES, Stage, attempt_stages, stages, verdict
from harness.records import Record
from mock_llm.ledger import Row

SECONDS = st.floats(0, 1e4)
STAGES_OF_AN_ATTEMPT = st.dictionaries(st.sampled_from(list(STAMPS)), SECONDS)
ENDED_IN = st.sampled_from([None, *STAMPS])


@st.composite
def requests_of_any_kind(draw: st.DrawFn) -> list[Record]:
    """Attempts one after another, with pauses between them, each ended in any stage."""
    rows: list[Record] = []
    now = draw(SECONDS)
    for number in range(1, draw(st.integers(1, 5)) + 1):
        spent, ended_in = draw(STAGES_OF_AN_ATTEMPT), draw(ENDED_IN)
        rows.append(attempt("r1", number, since=now, spent=spent, ended_in=ended_in))
        now = rows[-1].t_end + draw(SECONDS)
    return rows


@given(requests_of_any_kind())
def test_stages_add_up_to_the_whole_time(rows: list[Record]) -> None:
    """From the first moment in the queue to the last end no second is lost or counted twice."""
    spent = stages(rows)
    assert list(spent) == list(STAGES)
    assert min(spent.values()) >= 0
    assert sum(spent.values()) == pytest.approx(rows[-1].t_end - rows[0].t_queued, abs=1e-6)


@given(STAGES_OF_AN_ATTEMPT, ENDED_IN)
def test_each_stage_gets_its_own_seconds(spent: dict[Stage, float], ended_in: Stage | None) -> None:
    """A stage has what was spent in it, and what was never reached is left out."""
    reached = list(STAMPS)[: len(STAMPS) if ended_in is None else 1 + list(STAMPS).index(ended_in)]
    found = attempt_stages(attempt(spent=spent, ended_in=ended_in))
    expected = {stage: pytest.approx(spent.get(stage, 0.0), abs=1e-6) for stage in reached}
    assert found == expected


def test_time_after_the_last_token_belongs_to_the_body() -> None:
    """Reading to the end and closing a connection is part of receiving the answer."""
    row = attempt(spent={"first_token": 1.0, "body": 2.0}, t_end=3.5)
    assert attempt_stages(row)["body"] == 2.5


def test_the_pause_between_attempts_is_backoff() -> None:
    """What lies between one attempt's end and the next one's start is no attempt's own."""
    spent = stages([attempt(ended_in="first_token"), attempt("r1", 2, since=3.5)])
    assert spent == {**dict.fromkeys(STAGES, 0.0), "backoff": 2.5, "first_token": 2.0}


def _cut(ended_in: Stage, *, job: bool = False, **changes: Any) -> Record:
    """Ten seconds in a stage that never came to its end."""
    changes.setdefault("error", "job_deadline" if job else "attempt_timeout")
    return attempt(spent={ended_in: 10.0}, ended_in=ended_in, **changes)


TIMED_OUT = [
    ("queue", [_cut("queue", error="queue_timeout")]),
    ("job_deadline", [_cut("queue", job=True)]),
    ("job_deadline", [attempt(spent={"queue": 9.0}, ended_in="limiter", error="job_deadline")]),
    ("limiter", [_cut("limiter")]),
    ("limiter", [_cut("limiter", job=True)]),
    ("slot", [_cut("slot")]),
    ("pool", [_cut("connect")]),
    ("connect", [_cut("connect", new_connection=True)]),
    ("no_first_token", [_cut("first_token")]),
    ("no_first_token", [_cut("first_token", job=True)]),
    ("stall", [_cut("body")]),
    ("backoff", [attempt(ended_in="body", status=429), _cut("limiter", number=2, since=20.0)]),
]
BLAMED_ON_WHAT_TOOK_MOST = [
    ("slot", {"slot": 6.0, "first_token": 4.0}, "first_token"),
    ("no_first_token", {"slot": 4.0, "first_token": 6.0}, "first_token"),
    ("no_first_token", {"first_token": 6.0, "body": 4.0}, "body"),
    ("no_first_token", {"queue": 99.0, "first_token": 6.0}, "first_token"),
    ("pool", {"connect": 9.0, "first_token": 1.0}, "first_token"),
]
REFUSED = [
    ("refused", 429, "http_429"),
    ("refused", 402, "http_402"),
    ("server_error", 500, "http_500"),
    ("server_error", 529, "http_529"),
    ("http_400", 400, "http_400"),
    ("truncated", 200, "truncated"),
    ("disconnected", None, "disconnected"),
]


@pytest.mark.parametrize(("cause", "rows"), TIMED_OUT)
def test_a_time_out_is_laid_to_the_stage_that_used_up_the_time(
    cause: str, rows: list[Record]
) -> None:
    """Every verdict on a time-out has a request that gets it."""
    assert verdict(rows) == cause


@pytest.mark.parametrize(("cause", "spent", "ended_in"), BLAMED_ON_WHAT_TOOK_MOST)
def test_the_stage_that_the_limit_struck_in_is_not_always_to_blame(
    cause: str, spent: dict[Stage, float], ended_in: Stage
) -> None:
    """The stage with most of the time since admission is, whichever was the last."""
    assert verdict([attempt(spent=spent, ended_in=ended_in)]) == cause


@pytest.mark.parametrize(("cause", "status", "error"), REFUSED)
def test_an_answer_that_is_none_has_its_own_cause(
    cause: str, status: int | None, error: str
) -> None:
    """A refusal and a server error are told apart from what else can go wrong."""
    row = attempt(outcome="failed", status=status, error=error)
    assert verdict([row]) == cause


def test_a_rejected_request_is_called_so() -> None:
    """Without an error word the outcome is the cause."""
    assert verdict([attempt(outcome="rejected", status=None, ended_in="queue")]) == "rejected"


@pytest.mark.parametrize(
    ("cause", "stage"), [("queue", "queue"), ("slot", "slot"), ("no_first_token", "first_token")]
)
def test_what_waits_for_ever_is_laid_to_what_it_waits_for(cause: str, stage: Stage) -> None:
    """A request that no time limit ended is judged like one that ran out of time."""
    assert verdict([_cut(stage, outcome="failed", error="never_answered")]) == cause


def test_success_has_no_cause_whatever_went_before() -> None:
    """A request that was answered in the end did not fail."""
    rows = [_cut("first_token"), attempt("r1", 2, since=11.0)]
    assert verdict(rows) is None


def test_only_the_last_attempt_decides_what_kind_of_failure_it_is() -> None:
    """A time-out followed by a refusal is a refusal."""
    rows = [_cut("first_token"), attempt("r1", 2, since=11.0, outcome="failed", status=429)]
    assert verdict(rows) == "refused"


def test_attribution_reads_records_and_nothing_else() -> None:
    """The module knows no mock, no settings and no clock."""
    tree = ast.parse(inspect.getsource(attribution))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == {"collections.abc", "typing", "harness.records"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


CALM = """
[upstream.profile]
ttft = { kind = "lognormal", mean = 1.19, sigma = 0.65 }
"""


def _injected(rows: list[Row]) -> dict[str, str | None]:
    """What the mock did to the last attempt at each request."""
    causes = {"hangs": "no_first_token", "outages": "server_error", "": None}
    sheet = {}
    for row in sorted(rows, key=lambda row: row.arrived_s):
        refused = row.status == 429
        sheet[row.key] = "refused" if refused else causes["".join(row.injected)]
    return sheet


STORM = """
[upstream.throttle]
requests_per_min = 60
[upstream.faults]
hangs = { kind = "hang_before_headers", rate = 0.15 }
outages = { kind = "server_error", rate = 0.15, status = 503 }
[pipeline]
attempt_timeout_s = 10.0
backoff = { cap_s = 4.0, honour_retry_after = false }
"""


@pytest.mark.parametrize("retries", [0, 1])
def test_verdicts_are_what_was_injected(tmp_path: Path, retries: int) -> None:
    """Of a storm of hangs, 5xx and 429 every request is told the last thing that befell it."""
    result, ledger = run_toml(tmp_path, f"{CALM}{STORM}retries = {retries}\n", reviews=150)
    found = verdicts(result.records)
    assert found == _injected(ledger)
    assert set(found.values()) == {None, "no_first_token", "server_error", "refused"}


def test_the_queue_for_a_slot_is_not_laid_to_the_provider(tmp_path: Path) -> None:
    """With the slot awaited inside the limit those who never called are told apart by the slot."""
    pipeline = '[pipeline]\nslot = "inside_timeout"\nattempt_timeout_s = 5.0\nretries = 0\n'
    result, ledger = run_toml(tmp_path, f"{CALM}{pipeline}concurrency = 2\n")
    answered = {row.key for row in ledger if row.ended == "complete"}
    called = {row.key for row in ledger}
    found = verdicts(result.records)
    assert {key for key, cause in found.items() if cause is None} == answered
    assert {found[key] for key in found.keys() - called} == {"slot"}
    assert 0 < len(answered) < len(called) < len(found)


def test_waiting_for_a_pooled_connection_is_told_from_connecting(tmp_path: Path) -> None:
    """Five slots on one connection time out for want of it, with a provider that is well."""
    pipeline = "[pipeline]\npool_limit = 1\nattempt_timeout_s = 2.5\nretries = 0\n"
    result, ledger = run_toml(tmp_path, f"[upstream.profile]\nttft = 1.0\n{pipeline}", reviews=10)
    found = verdicts(result.records)
    never_called = found.keys() - {row.key for row in ledger}
    assert {found[key] for key in never_called} == {"pool"}
    assert never_called


def test_an_answer_that_stops_coming_is_a_stall(tmp_path: Path) -> None:
    """A stream that has begun and is too slow to end in time is no missing first token."""
    upstream = "[upstream.profile]\nttft = 0.1\nitl = 1.0\noutput_tokens = 40\n"
    pipeline = "[pipeline]\nstream = true\nattempt_timeout_s = 5.0\nretries = 0\n"
    result, ledger = run_toml(tmp_path, upstream + pipeline, reviews=5)
    assert set(verdicts(result.records).values()) == {"stall"}
    assert all(row.first_token_s is not None and row.ended == "client_left" for row in ledger)


def test_the_end_of_a_job_meets_requests_in_the_stage_they_are_in(tmp_path: Path) -> None:
    """The per-user limit holds some, the others were never let in, and those served are fine."""
    pipeline = "[pipeline]\nconcurrency = 2\nrate_limit = 3\njob_deadline_s = 30.0\n"
    result, ledger = run_toml(tmp_path, f"{CALM}{pipeline}", reviews=10)
    found = verdicts(result.records)
    assert result.stopped == "job_deadline"
    assert sorted(map(str, found.values())) == ["None"] * 3 + ["job_deadline"] * 5 + ["limiter"] * 2
    assert {key for key, cause in found.items() if cause is None} == {row.key for row in ledger}


def test_a_throttled_job_ends_in_its_backoff(tmp_path: Path) -> None:
    """Requests told to come back in a minute are waiting for it when the job ends."""
    text = f"[upstream.throttle]\nrequests_per_min = 1\n{CALM}[pipeline]\nconcurrency = 3\n"
    result, ledger = run_toml(tmp_path, f"{text}job_deadline_s = 30.0\n", reviews=5)
    refused = {row.key for row in ledger if row.status == 429}
    found = verdicts(result.records)
    assert {key for key, cause in found.items() if cause == "backoff"} == refused
    assert len(refused) == 3


def test_a_call_that_nothing_ends_is_laid_to_the_provider(tmp_path: Path) -> None:
    """Without any limit the run is stopped when all wait for ever, and each is told for what."""
    faults = '[upstream.faults]\nhangs = { kind = "hang_before_headers", rate = 0.1 }\n'
    pipeline = '[pipeline]\nattempt_timeout_s = "none"\n'
    result, ledger = run_toml(tmp_path, f"{faults}{CALM}{pipeline}", reviews=80)
    hung = {row.key for row in ledger if row.injected}
    found = verdicts(result.records)
    assert result.stopped == "never_answered"
    assert {key for key, cause in found.items() if cause is not None} == hung
    assert {found[key] for key in hung} == {"no_first_token"}
