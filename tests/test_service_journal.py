"""The journal of a service: wherever it was cut off, everything is there exactly once."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hosting import QUICK, Front, lines, serve, toolkit
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from jobs import MODEL, faulty
from msgspec.structs import replace

from harness.corpus.review import Review
from harness.pipeline.answer import Answer
from harness.pipeline.journal import Begun, Done, Settled
from harness.pipeline.routing import SingleRouter
from harness.pipeline.service import lines as parts
from harness.pipeline.service.keeping import Keeper, header_of
from harness.pipeline.service.lines import Asked, Ended, Line, Result, Story, Taken
from harness.records import Record
from harness.scenario.pipeline import Backoff
from mock_llm.faults import ServerError

HEADER = header_of("router", {}, None)
FLAKY = replace(QUICK, retries=2, backoff=Backoff(base_s=0.3))
OWN = header_of(SingleRouter(MODEL).version, toolkit().prices, QUICK.instructions)
ITEMS, KEYS = 8, ("k1", "k2", "k3")
PROVIDER = faulty(ServerError(rate=0.3))


async def everything(front: Front) -> None:
    """Ask for all that there is, each under the key that it always has."""
    asked = [asyncio.create_task(front.review(f"Lamp {key}", X_Request_Key=key)) for key in KEYS]
    name = (await front.batch(ITEMS, X_Request_Key="b")).body["id"]
    found = await front.ended(name)
    replies = [await one for one in asked]
    assert sorted(one["number"] for one in found["results"]) == list(range(ITEMS))
    assert (name, found["status"]) == ("b000001", "done")
    assert found["outcomes"] == dict(Counter(one["outcome"] for one in found["results"]))
    assert {reply.status for reply in replies} <= {200, 502}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of a service that was asked for everything and came to its end."""
    path = tmp_path_factory.mktemp("whole") / "j"
    serve(everything, FLAKY, PROVIDER, journal=path)
    return path


def ended(story: Story) -> list[Result]:
    """Of all items."""
    return [one for batch in story.batches.values() for one in batch.results]


def answered(story: Story) -> set[str]:
    """Keys of what needs nothing more."""
    return {one.key for one in ended(story)} | {
        key for key, past in story.pasts.items() if past.answer
    }


def made(story: Story) -> set[tuple[str, int]]:
    """Attempts of what is not ended."""
    return {(key, row.attempt) for key, past in story.pasts.items() for row in past.rows}


def told_usd(story: Story) -> float:
    """What has been spent, without that of which nobody was told."""
    return sum(one.usd for one in story.spent.values() if not one.estimated)


@tried(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_service_goes_on_after_any_cut(
    tmp_path_factory: pytest.TempPathFactory, whole: Path, data: st.DataObject
) -> None:
    """Cut anywhere, twice, all is there once, and no attempt that was settled is made again."""
    path = tmp_path_factory.getbasetemp() / "cut"
    written, start = whole.read_bytes(), 200  # header and first line are never torn
    for _ in range(2):
        path.write_bytes(written[: data.draw(st.integers(start, len(written)))])
        before = Keeper.take_up(path, OWN)
        before.close()
        start = path.stat().st_size
        front = serve(everything, FLAKY, PROVIDER, journal=path)
        calls = Counter((row.key, int(row.attempt)) for row in front.mock.ledger.rows)
        assert set(calls.values()) <= {1}
        assert calls.keys().isdisjoint(made(before.story))
        assert answered(before.story).isdisjoint(key for key, _ in calls)
        assert len(before.in_doubt) <= FLAKY.workers
        written = path.read_bytes()
        after = Keeper.take_up(path, OWN)
        after.close()
        assert (after.in_doubt, after.story.lost) == ([], before.story.lost)
        spent_usd = told_usd(before.story) + front.mock.ledger.totals.billed_usd
        assert told_usd(after.story) == pytest.approx(spent_usd, abs=1e-12)


def row(key: str, attempt: int, **more: Any) -> Record:
    """A row of an attempt that was sent."""
    fields = {"t_intended": 0, "t_queued": 0, "t_sent": 0, "t_end": 1, "outcome": "failed"}
    return Record(key=key, attempt=attempt, cost_usd=0.5, **{**fields, **more})


def told(written: list[Line]) -> Story:
    """What lines come to."""
    story = Story()
    for line in written:
        story.add(line)
    return story


def result(key: str, number: int) -> Result:
    """Of an item that was answered."""
    return Result(
        number=number,
        id=str(number),
        key=key,
        outcome="ok",
        label="positive",
        model="m",
        attempts=1,
        cost_usd=0.5,
        cache="",
        error="",
    )


@st.composite
def histories(draw: st.DrawFn) -> list[Line]:
    """Lines of a service, its batches, its items and requests in any order that can be."""
    flows: list[list[Line]] = []
    written: list[Line] = []
    for number in range(1, draw(st.integers(0, 3)) + 1):
        total = draw(st.integers(1, 3))
        reviews = [Review(id=str(n), content="x") for n in range(total)]
        name = f"b{number:06d}"
        written.append(
            Taken(
                id=name,
                number=number,
                user="u",
                session="",
                reviews=reviews,
                total=total,
                repeats=0.0,
            )
        )
        for n in range(total):
            key = f"{name}.{n:06d}"
            made = draw(attempts(key))
            if draw(st.booleans()) and not (made and isinstance(made[-1], Begun)):
                made.append(Ended(result(key, n)))
            flows.append(made)
        if draw(st.booleans()):
            flows.append([parts.Withdrawn(name)])
    for n in range(draw(st.integers(0, 3))):
        flows.append([Asked(f"k{n}", "u", "d"), *draw(attempts(f"k{n}"))])
        flows.append(draw(attempts(f"s{n:08d}")))
    while flows := [flow for flow in flows if flow]:
        written.append(draw(st.sampled_from(flows)).pop(0))
    return written


@st.composite
def attempts(draw: st.DrawFn, key: str) -> list[Line]:
    """Attempts of one request: that fail, are cut short or answered, the last perhaps open."""
    made: list[Line] = []
    for attempt in range(1, draw(st.integers(0, 3)) + 1):
        made.append(Begun(row=row(key, attempt, error="killed"), worst_usd=1.0))
        error = draw(st.sampled_from(["http_500", parts.DRAINING]))
        made.append(Settled(row=row(key, attempt, error=error), booked_usd=0.5, kind="failed"))
    end = draw(st.sampled_from(["answered", "done", "in flight", "open"])) if made else ""
    if end == "answered":
        answer = Answer(text="yes", label="positive")
        made[-1] = Settled(row=row(key, attempt, outcome="ok"), booked_usd=0.5, answer=answer)
    elif end == "done":
        made.append(Done(key=key))
    elif end == "in flight":
        made.pop()
    return made


def shown(story: Story) -> dict[str, Any]:
    """All of a story."""
    return {
        "batches": story.batches,
        "pasts": {key: msgspec.to_builtins(past) for key, past in story.pasts.items()},
        "asked": list(story.asked.items()),
        "spent": story.spent,
        "lost": story.lost,
        "numbers": (story.batch_number, story.request_number, story.end_s),
    }


@given(histories())
def test_a_shortened_journal_tells_the_same(written: list[Line]) -> None:
    """Few lines come to the same story as many, and so do few of these."""
    story = told(written)
    story.close()
    assert {one.key for one in ended(story)}.isdisjoint(story.pasts)
    again = story
    for _ in range(2):
        encoded = [msgspec.json.encode(line) for line in again.lines()]
        again = told([msgspec.json.decode(line, type=Line) for line in encoded])
        assert again.close() == []
        assert shown(again) == shown(story)


@given(histories())
def test_all_money_is_kept(written: list[Line]) -> None:
    """Every attempt that was sent, or may have been, is spent once."""
    story = told(written)
    lost = story.close()
    settled = [line for line in written if isinstance(line, Settled)]
    assert sum(one.calls for one in story.spent.values()) == len(settled) + len(lost)
    assert sum(one.usd for one in story.spent.values()) == 0.5 * (len(settled) + len(lost))


def test_what_nobody_can_ask_for_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended batches lose their reviews, all but the newest go, and so do old answers."""
    monkeypatch.setattr(parts, "KEPT", 2)
    monkeypatch.setattr(parts, "REMEMBERED", 2)
    written: list[Line] = []
    for number in range(1, 5):
        name = f"b{number:06d}"
        review = Review(id="0", content="x" * 1000)
        written += [
            Taken(
                id=name,
                number=number,
                user="u",
                session="",
                reviews=[review],
                total=1,
                repeats=0.0,
            ),
            Ended(result(f"{name}.000000", 0)),
            Asked(f"k{number}", "u", "d"),
            Settled(row=row(f"k{number}", 1)),
        ]
    story = told(written)
    story.close()
    assert list(story.batches) == ["b000003", "b000004"]
    assert {tuple(batch.reviews) for batch in story.batches.values()} == {()}
    assert list(story.asked) == ["k3", "k4"] == list(story.pasts)
    assert (story.batch_number, sum(one.calls for one in story.spent.values())) == (4, 4)


def test_the_file_is_shortened_at_each_start(tmp_path: Path) -> None:
    """What came of an answered batch is one line, however many there were."""
    for _ in range(3):
        serve(everything, FLAKY, PROVIDER, journal=tmp_path / "j")
    keeper = (
        Keeper.take_up(tmp_path / "j", header_of("single:openai/gpt-4o-mini", {}, None))
        if (False)
        else None
    )
    assert keeper is None
    kinds = Counter(str(line.get("line")) for line in lines(tmp_path / "j"))
    assert (kinds["batch"], kinds["ended"], kinds["asked"]) == (1, 0, 3)
