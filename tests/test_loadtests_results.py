"""A load test becomes the same run as every engine's, and an exit code that can be trusted."""

import json
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from load_worlds import World, asked, certificate, counts_of, driver, flown, record, world
from rich.console import Console
from rich.table import Table

from harness.experiments.run import Run, save
from harness.records import read_jsonl
from harness.report.cases import Case, cases_of
from harness.report.load_test import told
from loadtests.junit import FAILED, INVALID, exit_code, junit
from loadtests.results import added, lines_of, records_of, run_of_test


def judged(one: World, *sets: str, lag_s: float = 0.001, **changes: Any) -> Run:
    """A test as it is told of."""
    return run_of_test(flown(one, sets, **changes), certificate(driver(lag_s)), counts_of(one))


def refused(one: World, at: int) -> None:
    """A request of which the service would know nothing."""
    key = one.asked[at].key
    one.asked[at] = asked(key, float(at), status=0, outcome="failed", attempts=0, cost_usd=0.0)
    del one.records[at], one.rows[at]


def test_figures_are_what_users_saw(tmp_path: Path) -> None:
    """Latency runs from the intended start until the user had the answer; rows count from 0."""
    run = judged(world())
    assert run.report["engine"] == "live"
    assert (run.report["valid"], run.report["ok"], run.report["requests"]) == (True, 3, 3)
    assert run.report["latency_s"]["max"] == pytest.approx(1.01)
    assert run.report["users"]["review"]["service_s"]["max"] == pytest.approx(1.009)
    kept = read_jsonl(save(run, tmp_path) / "records.jsonl")
    assert [row.t_intended for row in kept] == pytest.approx([0.0, 2.0, 1.0])
    assert [row.t_queued for row in kept] == pytest.approx([0.003, 2.003, 1.003])
    assert (tmp_path / "base-live-1" / "run.json").exists()


def test_users_rows_are_kept_too() -> None:
    """One line a request, in the order of their ends, from the start of the test."""
    first = json.loads(next(lines_of(flown(world()))))
    assert first["key"] == "u0.0"
    assert [first[name] for name in ("t_intended", "t_sent")] == pytest.approx([0.0, 0.001])


def test_a_lost_request_has_a_row_and_breaks_a_promise() -> None:
    """It is a failure of ours, whatever the scenario promises, unless it promises a number."""
    one = world()
    refused(one, 1)
    run = judged(one)
    assert run.report["lost"] == 1
    assert run.report["verdicts"] == {"lost": 1}
    assert exit_code(cases_of(run.report)) == FAILED
    allowed = judged(one, 'slo.lost="<= 1"')
    assert exit_code(cases_of(allowed.report)) == 0


def test_a_user_without_its_answer_breaks_a_promise() -> None:
    """Though the service says that it has answered."""
    one = world()
    one.asked[0] = asked("u0.0", 0.0, status=0, outcome="failed", attempts=0, cost_usd=0.0)
    run = judged(one)
    assert (run.report["lost"], run.report["unanswered"]) == (0, 1)
    assert exit_code(cases_of(run.report)) == FAILED


def test_an_abusers_refusal_breaks_no_promise() -> None:
    """Promises are judged by everybody else's requests; a reviewer's refusal still breaks one."""
    one = world()
    refusal: dict[str, Any] = {"status": 429, "outcome": "rejected"}
    one.asked[1] = asked("u1.0", 1.0, kind="abuse", **refusal)
    one.records[1] = record("u1.0", 1.0, error="rate_limit", **refusal)
    run = judged(one, 'slo.success_rate=">= 1"', 'slo.attempts="== 3"')
    assert exit_code(cases_of(run.report)) == 0
    assert (run.report["requests"], run.report["rejected"]) == (3, 1)
    assert run.report["reconciliation"]["kinds"]["abuse"]["users"]["requests"] == 1
    assert "the promises are judged without 1 requests: an abuser's" in run.report["notes"]
    one.asked[1] = one.asked[1]._replace(kind="review")
    assert exit_code(cases_of(judged(one, 'slo.success_rate=">= 1"').report)) == FAILED


def test_a_dead_workers_requests_break_no_promise() -> None:
    """Nobody saw them end: the service and the mock count them in a row of their own."""
    one = world()
    del one.asked[1]
    one.records[1] = record("u1.0", 1.0, status=None, outcome="failed", error="client_left")
    counts = counts_of(one, orphaned=lambda key: key == "u1.0")
    run = run_of_test(flown(one, ['slo.success_rate=">= 1"']), certificate(driver()), counts)
    cases = cases_of(run.report)
    assert exit_code(cases) == 0
    assert run.report["verdicts"] == {"client_left": 1}
    (note,) = [note for note in run.report["notes"] if "judged without" in note]
    assert note == "the promises are judged without 1 requests: unseen, of a lost worker"
    orphans = run.report["reconciliation"]["orphans"]
    assert (orphans["service"]["attempts"], orphans["mock"]["attempts"]) == (1, 1)
    counted = next(
        table for table in told(run.report, cases) if getattr(table, "title", "") == "counts"
    )
    assert isinstance(counted, Table)
    assert list(counted.columns[0].cells)[-3:] == ["unseen"] * 3


@pytest.mark.parametrize(("late", "code"), [(9, 0), (10, 0), (11, FAILED)])
def test_a_share_is_held_exactly(late: int, code: int) -> None:
    """Where at most 1 % may time out, 0.9 and 1 % pass and 1.1 % does not."""
    one = world([f"u{n}.0" for n in range(1_000)])
    for n in range(late):
        key = f"u{n}.0"
        one.asked[n] = asked(key, float(n), status=504, outcome="timed_out")
        one.records[n] = record(key, float(n), outcome="timed_out", error="deadline", status=None)
    run = judged(one, 'slo.timeout_rate="<= 0.01"')
    assert run.report["timeout_rate"] == late / 1_000
    assert exit_code(cases_of(run.report)) == code


def test_an_invalid_test_is_no_false_alarm() -> None:
    """Of a starved generator nothing is said but that: exit code 3, and promises are skipped."""
    run = judged(world(), 'slo."latency_s.p95"="<= 0.5"', lag_s=0.3)
    cases = cases_of(run.report)
    assert exit_code(cases) == INVALID
    assert [case.state for case in cases] == ["error", "", "skipped", "skipped", "skipped"]
    assert cases[0].why.startswith("the generator is starved")


def test_counts_that_differ_void_the_test() -> None:
    """What was measured of requests that nobody can find is not worth a verdict."""
    one = world()
    del one.rows[1]
    run = judged(one)
    cases = {case.name: case for case in cases_of(run.report)}
    assert cases["certificate"].state == ""
    assert cases["reconciliation"].state == "error"
    assert "u1.0: the service sent 1 calls, the mock has 0" in cases["reconciliation"].why


def test_junit_has_a_case_for_each_promise() -> None:
    """The file can be read back, and adds up."""
    run = judged(world(), 'slo."latency_s.p95"="<= 0.5"')
    cases = cases_of(run.report, [{"figure": "x", "live": 1, "low": 0, "high": 2, "inside": True}])
    (suite,) = ET.fromstring(junit(run.report, cases))  # noqa: S314 - made a line before
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("6", "1", "0")
    failures = {case.get("name"): case.find("failure") for case in suite}
    missed = failures.pop("latency_s.p95 <= 0.5")
    assert missed is not None
    assert missed.get("message") == "1.01"
    assert set(failures.values()) == {None}


def test_what_is_added_is_told_apart() -> None:
    """A request of 1.01 s, of which the mock meant to take 0.9905: the rest, and whose it is."""
    found = added(flown(world()))
    assert found is not None
    assert found["requests"] == 3
    assert found["mean"] == pytest.approx(1.01 - 0.99 - 0.0005)
    assert found["sent_late"] == pytest.approx(0.001)
    assert found["mock_late"] == pytest.approx(0.002)
    assert found["service_p50"] == pytest.approx(found["p50"] - 0.001 - 0.002)


def test_what_is_added_can_be_promised() -> None:
    """A bound on it is judged by what was measured, and missed where nothing was."""
    bounds = ('slo."added_s.p50"="<= 0.1"', 'slo."added_s.p99"="<= 0.001"')
    run = judged(world(), *bounds)
    cases = {case.name: case.state for case in cases_of(run.report)}
    assert cases["added_s.p50 <= 0.1"] == ""
    assert cases["added_s.p99 <= 0.001"] == "failure"
    unknown = {case.name: case for case in cases_of(judged(world(), *bounds, rows=None).report)}
    assert unknown["added_s.p50 <= 0.1"].why == "nothing was measured"
    assert unknown["added_s.p50 <= 0.1"].state == "failure"


def test_waiting_in_line_is_not_added() -> None:
    """Queue, limiter, slot and backoff are what the settings make users wait."""
    one = world(["u0.0"])
    spent = {"queue": 0.004, "limiter": 0.003, "slot": 0.002, "first_token": 1.0}
    one.records[0] = record("u0.0", 0.0, spent=spent)
    found = added(flown(one))
    assert found is not None
    assert found["mean"] == pytest.approx(1.01 - 0.99 - 0.0005 - 0.009)


def test_without_records_users_are_the_witnesses() -> None:
    """Of a service that somebody else has started: what they saw is all there is."""
    one = world()
    one.asked[2] = asked("u0.1", 2.0, status=0, outcome="failed", attempts=0, cost_usd=0.0)
    it = flown(one, records=None, rows=None)
    assert added(it) is None
    rows = {row.key: row for row in records_of(it)}
    assert rows["u0.0"].outcome == "ok"
    assert rows["u0.0"].t_sent == pytest.approx(0.001)
    assert (rows["u0.1"].error, rows["u0.1"].t_sent) == ("lost", None)


def test_the_terminal_hears_it_all() -> None:
    """Promises, counts, latencies, what was added, causes, and notes."""
    one = world()
    refused(one, 1)
    run = judged(one)
    heard = StringIO()
    console = Console(width=200, file=heard)
    for part in told(run.report, cases_of(run.report)):
        console.print(part)
    text = heard.getvalue()
    for wanted in ("VALID", "lost == 0", "missed", "review", "mock", "lost 1", "mean 1,010.0 ms"):
        assert wanted in text
    assert "1 requests never reached the service, first u1.0" in text


def test_nothing_to_hold_is_held() -> None:
    """No cases, no complaint."""
    assert exit_code([]) == 0
    assert exit_code([Case("x", "skipped"), Case("y", "failure"), Case("z")]) == FAILED
