"""A client of the user's own in the pipeline's place: what is seen of it, and what is refused."""

import asyncio
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import clients
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import flown

from harness.corpus import Review
from harness.engines.base import Target
from harness.engines.target import Span, load_target, records_of
from harness.errors import InputError
from harness.experiments.run import Run
from harness.invariants import violations
from harness.pipeline.request import Item
from harness.pipeline.routing import Route
from harness.records import Record, requests
from mock_llm.ledger import End, Row
from mock_llm.rng import request_key

SMALL = ("workload.reviews=40", "pipeline.rate_limit=none")
REFUSED = r"cannot run synchronous clients.*`--engine live`"
QUICK = ("upstream.profile.ttft=0.05", "upstream.connection_setup=0.0", "workload.reviews=12")


def tried(target: Target, *sets: str, engine: str = "virtual") -> Run:
    """The target on a calm provider, or on another."""
    return flown("after", *SMALL, *sets, engine=engine, target=target)


def hangs(rate: float) -> str:
    """A provider that is silent at that rate."""
    return f'upstream.faults.hangs={{kind="hang_before_headers",rate={rate}}}'


@pytest.mark.parametrize("target", [clients.sdk(), clients.careful, clients.bare])
def test_asynchronous_client_runs_as_it_is(target: Target) -> None:
    """Every call of it becomes a record of its request, with model, price and label."""
    run = tried(target)
    assert run.report["invalid_reasons"] == []
    assert (run.report["ok"], run.report["attempts"]) == (40, 40)
    assert run.report["routing"] == {clients.MODEL: 1.0}
    assert {row.tier for row in run.result.records} == {1}
    assert run.report["cost_usd"] == pytest.approx(
        math.fsum(
            (row.prompt_tokens * 0.15 + row.completion_tokens * 0.60) / 1e6
            for row in run.result.records
        )
    )
    assert run.report["accuracy"]["n"] == 40
    assert run.report["accuracy"]["value"] > 0.75


def test_target_meets_the_weather_of_our_own_pipeline() -> None:
    """With the headers sent along a request's answer takes as long as our pipeline's did."""
    theirs, ours = tried(clients.careful).result.records, flown("after", *SMALL).result.records

    def took_s(records: Sequence[Record]) -> dict[str, float]:
        sent = [row for row in records if row.t_sent is not None]
        return {r.key: r.t_end - (r.t_sent or 0.0) - 0.2 * r.new_connection for r in sent}

    assert len(took_s(theirs)) == 40
    assert took_s(theirs) == pytest.approx(took_s(ours), abs=1e-6)


def test_sdks_retries_repeat_themselves() -> None:
    """The SDK draws its jitter from the global generator, which a run seeds: two runs are one."""
    sick = 'upstream.faults.sick={kind="server_error",rate=0.3,status=503}'
    runs = [tried(clients.sdk(), sick).report for _ in range(2)]
    assert runs[0]["attempts"] > 45
    assert runs[0]["records_sha256"] == runs[1]["records_sha256"]


def test_sdks_patience_is_found_out() -> None:
    """A hang costs the SDK its default 600 s: seen in the records, the verdicts and the why."""
    run = tried(clients.sdk(), hangs(0.5))
    gone = [row for row in run.result.records if row.outcome == "timed_out"]
    assert len(gone) > 10
    assert {round(row.t_end - (row.t_sent or 0.0)) for row in gone} == {600}
    assert {row.error for row in gone} == {"gave_up", "APITimeoutError"}
    lost = [rows[-1] for rows in requests(run.result.records) if rows[-1].outcome != "ok"]
    assert run.report["verdicts"] == {"no_first_token": len(lost)}
    assert {row.attempt for row in lost} == {3}
    first = run.bottlenecks[0]
    assert first.cause == "patience"
    assert first.text.startswith(f"{len(gone)} calls waited 600 s for a first token before")
    assert 0.8 < first.lost <= 1.0


def test_texts_that_repeat_are_told_apart_by_their_time() -> None:
    """Without headers each of many equal texts gets the one call made while it was under way."""
    run = tried(clients.bare, "workload.corpus=templates8", "workload.reviews=64")
    assert run.report["invalid_reasons"] == []
    assert (run.report["ok"], run.report["attempts"]) == (64, 64)
    assert [row.attempt for row in run.result.records] == [1] * 64


def test_calls_that_belong_to_no_review_are_counted_and_paid() -> None:
    """A client that sends neither headers nor bare text loses no request and hears what to do."""
    run = tried(clients.anonymous)
    assert (run.report["valid"], run.report["ok"], run.report["attempts"]) == (True, 40, 0)
    note = run.result.notes[0]
    assert note.startswith("40 calls ($0.00")
    assert note.endswith("send review.headers along")
    assert "$0.0000" not in note


def test_target_may_make_several_calls_of_one_review() -> None:
    """A second call after a success is no fault of a foreign client."""
    run = tried(clients.twice)
    assert run.report["invalid_reasons"] == []
    assert (run.report["ok"], run.report["attempts"]) == (40, 80)


def test_target_without_any_call_has_its_records() -> None:
    """A request for which nothing was sent has one row, of no model."""
    run = tried(clients.silent)
    assert {(row.attempt, row.model, row.outcome) for row in run.result.records} == {(0, "", "ok")}
    assert len(run.result.records) == 40


async def fails(review: Review, base_url: str) -> None:
    raise RuntimeError("bad\nday")


async def times_out(review: Review, base_url: str) -> None:
    async with asyncio.timeout(2.5):
        await asyncio.sleep(60)


async def cancels(review: Review, base_url: str) -> None:
    raise asyncio.CancelledError


async def leaves(review: Review, base_url: str) -> None:
    sys.exit(5)


@pytest.mark.parametrize(
    ("target", "outcome", "told"),
    [
        (fails, "failed", "RuntimeError: bad day"),
        (times_out, "timed_out", "TimeoutError:"),
        (cancels, "failed", "CancelledError:"),
        (leaves, "failed", "SystemExit: 5"),
    ],
)
def test_whatever_a_target_raises_is_its_result(target: Target, outcome: str, told: str) -> None:
    """Every request ends with what its call raised, and a note tells of the first in one line."""
    run = tried(target)
    assert run.report["valid"] is True
    assert run.report[outcome] == 40
    assert {row.error for row in run.result.records} == {told.partition(":")[0]}
    assert run.result.notes == (f"40 calls of the target raised, first r000000: {told}",)


def test_spinning_target_is_named() -> None:
    """A target that never waits makes the run invalid, and the report says on which reviews."""
    run = tried(clients.spinning, "pipeline.concurrency=2")
    (reason,) = run.report["invalid_reasons"]
    assert "no time passed" in reason
    assert "target on r000000, target on r000001" in reason
    assert run.report["ok"] == 0
    assert {row.outcome for row in run.result.records} == {"failed"}


def test_target_that_waits_for_ever_is_named() -> None:
    """What can never wake again ends the run, which is invalid."""
    run = tried(clients.stuck, "pipeline.concurrency=2")
    assert run.report["invalid_reasons"] == [
        "nothing can ever wake again: r000000 waits, r000001 waits"
    ]


def test_job_deadline_holds_for_a_target() -> None:
    """At the deadline the target is cancelled, and what never started is late as well."""
    run = tried(clients.careful, "pipeline.job_deadline_s=4")
    assert (run.report["valid"], run.result.stopped) == (True, "job_deadline")
    assert (run.report["requests"], run.report["timed_out"]) == (40, 40)
    assert 0 < run.report["answered"] < 40
    assert run.report["duration_s"] == 4.0


@pytest.mark.parametrize(
    "target", [clients.blocking, clients.threaded, clients.synchronous_sdk, clients.sleeping]
)
def test_synchronous_client_is_refused(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever blocks cannot run on the virtual clock, and one sentence points to the live one."""
    with pytest.raises(InputError, match=REFUSED) as told:
        tried(target)
    assert "\n" not in str(told.value)
    assert caplog.records == []  # asyncio would log a traceback of all that was taken down


def test_targets_module_has_the_virtual_time() -> None:
    """A client that measures itself by `time.monotonic` finds what its call took."""
    run = tried(clients.stopwatch, "upstream.profile.ttft=7.5", "upstream.connection_setup=0.0")
    error = run.result.notes[0].rpartition(" ")[2]
    assert float(error) == pytest.approx(7.5, abs=0.002)


@pytest.mark.parametrize("target", [clients.sdk(), clients.careful, clients.threaded])
def test_target_runs_live(target: Target) -> None:
    """On the wall clock the same client gives a valid run, synchronous ones in threads too."""
    run = tried(target, *QUICK, engine="live")
    assert [reason for reason in run.report["invalid_reasons"] if "invariant" in reason] == []
    assert (run.report["ok"], run.report["attempts"]) == (12, 12)
    assert run.report["routing"] == {clients.MODEL: 1.0}


def test_blocking_target_runs_live_and_is_told_so() -> None:
    """A call that blocks the loop is one call at a time: a valid result with a remark."""
    run = tried(clients.blocking, *QUICK, engine="live")
    assert (run.report["ok"], run.report["attempts"]) == (12, 12)
    assert run.report["latency_s"]["max"] < run.report["duration_s"] / 2
    assert [note for note in run.result.notes if "keeps the event loop busy" in note] != []
    assert "event-loop lag" not in "".join(run.report["invalid_reasons"])
    assert "serial" in {bottleneck.cause for bottleneck in run.bottlenecks}


@pytest.mark.parametrize(
    ("returned", "label"),
    [
        ('{"label": "negative"}', "negative"),
        ("Positive\n", "positive"),
        ({"label": "negative", "why": 1}, "negative"),
        ({"label": 1}, None),
        ("who knows", None),
        (None, None),
    ],
)
def test_label_is_read_out_of_what_a_target_returns(returned: object, label: str | None) -> None:
    """JSON, a plain word or a mapping give a label, and anything else gives none."""

    async def target(review: Review, base_url: str) -> object:
        return returned

    run = tried(target, "workload.reviews=1")
    assert run.result.labels == {"r000000": label}


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    """Calls of a target on reviews of which some have the same text."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        review = Review(id=str(number), content=draw(st.sampled_from(["good", "bad"])))
        item = Item(number, f"r{number}", "u0", 0, review, Route("m", None, ""), 1)
        began = draw(st.floats(0, 5))
        took = draw(st.floats(0, 5))
        found.append(Span(item, 0, 0.0, began, began + took, "ok", ""))
    return found


@st.composite
def wire_rows(draw: st.DrawFn) -> Row:
    """A call as the mock might note it, at any time, with any part of an answer."""
    ways: tuple[End, ...] = ("complete", "client_left", "refused", "shutdown")
    keys = ["r0", "r1", "stranger", request_key("good"), request_key("bad")]
    moments = sorted(draw(st.lists(st.floats(0, 12), min_size=5, max_size=5)))
    reached = draw(st.integers(0, 3))
    arrived, *stamps, ended = moments
    headers, first, last = [at if n < reached else None for n, at in enumerate(stamps)]
    return Row(
        key=draw(st.sampled_from(keys)),
        arrived_s=arrived,
        status=200,
        headers_s=headers,
        first_token_s=first,
        last_token_s=last,
        ended_s=ended,
        ended=draw(st.sampled_from(ways)),
    )


@given(spans(), st.lists(wire_rows(), max_size=8))
def test_every_call_on_the_wire_is_one_record_or_a_stray(made: list[Span], rows: list[Row]) -> None:
    """Whatever the clocks say, none is lost or counted twice, and no time runs backwards."""
    records, strays = records_of(made, rows, {})
    keys = [span.item.key for span in made]
    assert violations(records, keys, one_success=False) == []
    assert sum(record.attempt > 0 for record in records) + len(strays) == len(rows)
    for span in made:
        mine = [record for record in records if record.key == span.item.key]
        assert all(span.began <= record.t_end <= span.ended for record in mine)
        assert mine[-1].t_end == span.ended


def test_call_goes_to_the_request_that_was_under_way() -> None:
    """Of two reviews with one text the one that made no call, from a cache say, gets none."""
    review = Review(id="0", content="good")
    items = [Item(n, f"r{n}", "u0", 0, review, Route("m", None, ""), 1) for n in range(2)]
    early = Span(items[0], 0, 0.0, 0.0, 1.0, "ok", "")
    late = Span(items[1], 0, 0.0, 1.5, 3.0, "ok", "")
    call = Row(key=request_key("good"), arrived_s=1.6, ended_s=2.9, ended="complete", status=200)
    records, strays = records_of([early, late], [call], {})
    assert [(record.key, record.attempt) for record in records] == [("r0", 0), ("r1", 1)]
    assert strays == []


def test_answer_that_comes_after_the_end_was_never_seen() -> None:
    """What the mock sent when the target had long given up is no time stamp of its record."""
    review = Review(id="0", content="good")
    item = Item(0, "r0", "u0", 0, review, Route("m", None, ""), 1)
    span = Span(item, 0, 0.0, 1.0, 2.0, "timed_out", "TimeoutError")
    late = Row(key="r0", arrived_s=0.999, headers_s=1.5, first_token_s=2.004, last_token_s=2.5)
    (record,), strays = records_of([span], [late], {})
    assert strays == []
    assert (record.t_sent, record.t_headers, record.t_first_token) == (1.0, 1.5, 2.0)
    assert (record.t_last_token, record.t_end, record.outcome) == (None, 2.0, "timed_out")


MODULE = """
def plain(review, base_url): ...
async def narrow(review): ...
async def fine(review, base_url, more=None): ...
class Client:
    async def __call__(self, review, base_url): ...
client = Client()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module `mine` and broken ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    texts = {"mine": MODULE, "broken": "def (", "raising": "1 / 0", "leaving": "exit(3)"}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["fine", "client"])
def test_target_is_found_in_the_current_folder(folder: Path, name: str) -> None:
    """An async function, or an object with an async `__call__`, is taken as it is."""
    assert load_target(f"mine:{name}") is getattr(sys.modules["mine"], name)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("mine", "--target mine: write it as package.module:function"),
        (":fine", "--target :fine: write it as package.module:function"),
        ("gone:f", "cannot import gone: ModuleNotFoundError"),
        ("broken:f", "cannot import broken: SyntaxError"),
        ("raising:f", "cannot import raising: ZeroDivisionError"),
        ("leaving:f", "cannot import leaving: SystemExit"),
        ("mine:gone", "--target mine:gone: mine has no gone"),
        ("mine:plain", "must be an async callable of (review, base_url)"),
        ("mine:__doc__", "mine has no __doc__"),
        ("mine:Client", "must be an async callable of (review, base_url)"),
        ("mine:narrow", "must take (review, base_url): too many positional arguments"),
    ],
)
def test_bad_target_is_one_clear_line(folder: Path, spec: str, told: str) -> None:
    """What cannot be a target is refused with the reason, before anything runs."""
    with pytest.raises(InputError) as error:
        load_target(spec)
    assert told in str(error.value)
    assert "\n" not in str(error.value)
