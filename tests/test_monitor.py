"""What is counted and logged of a service, and that the documents name all of it."""

import io
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from service_process import service_process
from source_tree import ROOT

from harness.corpus.review import Review
from harness.pipeline.service import replies
from harness.pipeline.service.logs import JsonFormatter, logging_to, told
from harness.pipeline.service.monitor import BOUNDS_S, MOST_TEXTS, Histogram, Monitor, how_ended
from harness.pipeline.service.tickets import Ask, Served
from harness.records import Record

PAGE = (ROOT / "docs" / "service.md").read_text("utf-8")
REVIEW = {"text": "A great book, I loved it."}
KEY = "sk-or-v1-not-to-be-seen"


def row(**more: Any) -> Record:
    """An attempt that was answered after a second, half of which it waited for a worker."""
    times: dict[str, Any] = dict.fromkeys(
        ("t_admitted", "t_limited", "t_slot", "t_connected", "t_sent"), 0.5
    )
    times |= dict.fromkeys(("t_headers", "t_first_token", "t_last_token"), 1.0)
    known: dict[str, Any] = {
        "key": "k",
        "attempt": 1,
        "t_intended": 0.0,
        "t_queued": 0.0,
        "t_end": 1.0,
    }
    known |= {"model": "m", "status": 200, "outcome": "ok", **times, **more}
    return Record(**known)


def ask(text: str = "Fine.", *, interactive: bool = True) -> Ask:
    """A request of Ann's."""
    review = Review(id="1", title="", content=text, category="")
    return Ask(review, "ann", "", "k", interactive=interactive)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "2xx"),
        ({"outcome": "failed", "error": "http_503", "status": 503}, "5xx"),
        ({"outcome": "failed", "error": "http_429", "status": 429}, "4xx"),
        ({"outcome": "failed", "error": "html", "status": 200}, "bad_answer"),
        ({"outcome": "failed", "error": "disconnected", "status": None}, "no_answer"),
        ({"outcome": "timed_out", "error": "attempt_timeout", "status": None}, "timed_out"),
        ({"outcome": "timed_out", "error": "deadline", "status": 200}, "timed_out"),
        ({"outcome": "failed", "error": "client_left", "status": None}, "given_up"),
        ({"outcome": "failed", "error": "hedge_lost", "status": None}, "given_up"),
    ],
)
def test_attempts_are_told_apart_by_their_end(given: dict[str, Any], expected: str) -> None:
    """Each way in which an attempt can end has one label."""
    assert how_ended(row(**given)) == expected


def test_a_request_is_counted_once_with_all_its_attempts() -> None:
    """Outcome, latency from arrival, stages, attempts and tokens come from the rows."""
    monitor = Monitor()
    first = row(outcome="failed", error="http_503", status=503, prompt_tokens=7)
    stamps = ("t_queued", "t_admitted", "t_limited", "t_slot", "t_connected", "t_sent")
    times: dict[str, float] = dict.fromkeys(stamps, 2.0)
    times |= dict.fromkeys(("t_headers", "t_first_token", "t_last_token", "t_end"), 4.5)
    second = row(attempt=2, completion_tokens=5, **times)
    monitor.ended(ask(), Served((first, second), None), 0.0)
    assert monitor.requests == {("interactive", "ok"): 1}
    assert monitor.attempts == {("m", "5xx"): 1, ("m", "2xx"): 1}
    assert monitor.latency["interactive"].sum_s == 4.5
    assert monitor.service.sum_s == 0.5 + 2.5
    assert monitor.stages_s["queue"] == 0.5
    assert monitor.stages_s["backoff"] == 1.0
    assert sum(monitor.stages_s.values()) == pytest.approx(4.5)
    assert (monitor.tokens["prompt"], monitor.tokens["completion"]) == (7, 5)


def test_refusals_end_a_request_but_not_an_item() -> None:
    """Who is refused has been rejected; an item of a batch comes again, and is not counted yet."""
    monitor = Monitor()
    monitor.refused(ask(), "full", 1.0)
    monitor.refused(ask(interactive=False), "full", 1.0)
    assert monitor.refusals == {("interactive", "full"): 1, ("batch", "full"): 1}
    assert monitor.requests == {("interactive", "rejected"): 1}


def test_repeats_are_known_by_their_words_and_bounded() -> None:
    """White space does not make a text new, and the oldest text is forgotten."""
    monitor = Monitor()
    for text in ("a b", " a  b ", "c"):
        monitor.ended(ask(text), Served((row(),), None), 0.0)
    assert monitor.texts == {"first": 2, "before": 1}
    for number in range(MOST_TEXTS):
        monitor._note(str(number))
    assert len(monitor._seen) == MOST_TEXTS
    monitor._note("a b")
    assert monitor.texts["first"] == MOST_TEXTS + 3


def test_buckets_hold_what_is_at_most_their_end() -> None:
    """A duration on a bound is in that bound's bucket, and one past all bounds in the last."""
    durations = Histogram()
    for seconds in (0.0, BOUNDS_S[0], BOUNDS_S[0] + 1e-9, BOUNDS_S[-1], BOUNDS_S[-1] + 1):
        durations.add(seconds)
    assert durations.counts[:2] == [2, 1]
    assert durations.counts[-2:] == [1, 1]


def logged(monkeypatch: pytest.MonkeyPatch) -> tuple[io.StringIO, logging.Logger]:
    """A logger of its own and what is written to it."""
    stream, logger = io.StringIO(), logging.getLogger("tests.monitor")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(timed=False))
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    logger.setLevel(logging.INFO)
    return stream, logger


@pytest.mark.parametrize(
    ("given", "level", "verdict"),
    [
        ({}, "info", None),
        ({"outcome": "failed", "error": "http_503", "status": 503}, "error", "server_error"),
        ({"outcome": "timed_out", "error": "deadline"}, "warning", "no_first_token"),
        ({"outcome": "rejected", "error": "too_late"}, "warning", "too_late"),
        ({"outcome": "failed", "error": "client_left"}, "info", "client_left"),
    ],
)
def test_a_request_is_one_line_of_json(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], level: str, verdict: str | None
) -> None:
    """It has the request's key and verdict, a level by its outcome, and without a clock no time."""
    stream, logger = logged(monkeypatch)
    Monitor(logger).ended(ask(), Served((row(**given),), None), 0.0)
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert (found["event"], found["key"], found["user"]) == ("request", "k", "ann")
    assert (found["level"], found["verdict"], found["attempts"]) == (level, verdict, 1)
    assert found["latency_s"] == 1.0
    assert sum(found["stages_s"].values()) == 1.0
    assert "time" not in found


def test_changes_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong is a warning when it does, information when it is over, and else silent."""
    stream, logger = logged(monkeypatch)
    monitor = Monitor(logger)
    for state in (True, True, False, False, True):
        monitor.changed("redis up", state, good=True)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(one["level"], one["event"], one["state"]) for one in lines] == [
        ("warning", "redis up", False),
        ("info", "redis up", True),
    ]


def test_libraries_complaints_become_lines_too() -> None:
    """A warning of a library, and a traceback, are one line of JSON each, and end with the log."""
    stream = io.StringIO()
    with logging_to(stream) as logger:
        logger.info("request", extra=told({"key": "k"}))
        try:
            int("two\nlines")
        except ValueError:
            logging.getLogger("aiohttp.server").exception("Error handling request")
    logger.info("after")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["event"] for one in lines] == ["request", "Error handling request"]
    assert lines[1]["exception"].splitlines()[0] == "Traceback (most recent call last):"


EVERYTHING = (
    "pipeline.cache=redis",
    "pipeline.redis_url=redis://127.0.0.1:1/0",  # where nobody listens
    "pipeline.retry_budget={}",
    "pipeline.breaker={}",
    "pipeline.adaptive={kind='aimd'}",
    "upstream.profile.ttft=0.01",
    "pipeline.rate_limit=3",
)


def test_a_live_service_tells_what_the_page_says(tmp_path: Path) -> None:
    """Its metrics are those of the documents and count right; its log has a line for each event."""
    sets = [word for one in EVERYTHING for word in ("--set", one)]
    with service_process(tmp_path, *sets, "--log", "log.jsonl") as service:
        fields = {"X_User": "ann", "Authorization": f"Bearer {KEY}"}
        statuses = [service.ask("POST", "/v1/reviews", REVIEW, **fields).status for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        text = service.ask("GET", "/metrics").body.decode()
        service.running.terminate()
        assert service.ended()[0] == 0
    families = list(text_string_to_metric_families(text))
    samples = {(s.name, *sorted(s.labels.values())): s.value for f in families for s in f.samples}
    assert samples["flight_requests_total", "interactive", "ok"] == 3
    assert samples["flight_requests_total", "interactive", "rejected"] == 1
    assert samples["flight_refusals_total", "interactive", "rate_limit"] == 1
    assert samples["flight_request_seconds_count", "interactive"] == 3
    assert samples["flight_cache_hits_total", "exact", "memory"] == 2
    assert samples["flight_cache_lookups_total",] == 3
    assert samples["flight_texts_total", "before"] == 2
    assert samples["flight_redis_up",] == 0
    assert samples["flight_resident_bytes",] > 2**20
    named = set(re.findall(r"^\| `(flight_\w+)` \|", PAGE, re.MULTILINE))
    shown = {f"{f.name}_total" if f.type == "counter" else f.name for f in families}
    assert {"flight_build_info" if name == "flight_build" else name for name in shown} == named
    log = (tmp_path / "log.jsonl").read_text()
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert events.count("request") == 3
    assert events.count("refused") == 1
    assert {"redis up", "draining"} <= set(events)
    assert KEY not in log + text


def test_errors_are_documented() -> None:
    """Every refusal's status and type is in the table of errors, and so is every alert's name."""
    rows = set(re.findall(r"^\| (\d{3}) \| `(\w+)`", PAGE, re.MULTILINE))
    known = {(str(status), kind) for status, kind, _ in replies._REFUSALS.values()}
    assert known - rows == set()
    rules = (ROOT / "harness" / "pipeline" / "service" / "alerts.yml").read_text("utf-8")
    alerts = set(re.findall(r"^\| `(Flight\w+)`", PAGE, re.MULTILINE))
    assert alerts == set(re.findall(r"alert: (\w+)", rules))
