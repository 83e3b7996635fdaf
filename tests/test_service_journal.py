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
from harness.errors import InputError
from harness.pipeline.answer import Answer
from harness.pipeline.journal import Begun, Done, Header, Journal, Settled
from harness.pipeline.routing import SingleRouter
from harness.pipeline.service import keeping
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


def answered(story: Story) -> set[str]:
    """Keys of what needs nothing more."""
    ended = {one.key for batch in story.batches.values() for one in batch.results}
    return ended | {key for key, past in story.pasts.items() if past.answer}


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
            ends: list[Line] = [Ended(result(key, n))] if draw(st.booleans()) else []
            flows.append([*draw(attempts(key)), *ends])
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


def test_another_service_cannot_go_on(tmp_path: Path) -> None:
    """With another router, other prices or another prompt one line says what differs."""
    path = tmp_path / "j"
    Keeper.take_up(path, HEADER).close()
    before = path.read_bytes()
    for field in ("router", "prices", "instructions"):
        with pytest.raises(InputError, match=rf"another service \({field} .+ there, x here") as e:
            Keeper.take_up(path, replace(HEADER, **{field: "x"}))
        assert "\n" not in str(e.value)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    "data", [b"notes", b"notes\n", b'{"journal":1,"version":"1"}\n', b"\0\xff"]
)
def test_another_file_is_left_alone(tmp_path: Path, data: bytes) -> None:
    """A file that is no journal of a service is told in one line, and is as it was."""
    path = tmp_path / "notes.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"notes.txt: is no journal of a service"):
        Keeper.take_up(path, HEADER)
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    """What is broken before the last line was not torn off: the file is left as it was."""
    path = tmp_path / "j"
    keeper = Keeper.take_up(path, HEADER)
    keeper.asked("k", "u", "d")
    keeper.close()
    data = path.read_bytes().replace(b'"asked"', b'"askew"')
    path.write_bytes(data)
    with pytest.raises(InputError, match="j: line 3 is damaged"):
        Keeper.take_up(path, HEADER)
    assert path.read_bytes() == data


def test_two_services_do_not_write_one_journal(tmp_path: Path) -> None:
    """Whoever comes second is told in one line, also when the file was shortened."""
    path = tmp_path / "j"
    first = Keeper.take_up(path, HEADER)
    for _ in range(2):
        with pytest.raises(InputError, match="another process is writing it"):
            Keeper.take_up(path, HEADER)
    first.asked("k", "u", "d")
    first.close()
    second = Keeper.take_up(path, HEADER)
    assert list(second.story.asked) == ["k"]
    second.close()


def test_whoever_waited_with_the_old_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that lost its name between being opened and being locked is no journal any more."""
    path = tmp_path / "j"
    Keeper.take_up(path, HEADER).close()
    stale = path.open("ab", buffering=0)
    Keeper.take_up(path, HEADER).close()
    monkeypatch.setattr(keeping, "locked", lambda _: stale)
    with pytest.raises(InputError, match="another process is writing it"):
        Keeper.take_up(path, HEADER)
    stale.close()


def test_a_journal_is_a_file(tmp_path: Path) -> None:
    """A folder, a device and a place in no folder are told in one line."""
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "j", Path("/dev/null")):
        with pytest.raises(InputError):
            Keeper.take_up(path, HEADER)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Where a journal is reached by a link, what it points to is shortened, and not it."""
    (tmp_path / "j").symlink_to(tmp_path / "real")
    for _ in range(2):
        keeper = Keeper.take_up(tmp_path / "j", HEADER)
        keeper.asked("k", "u", "d")
        keeper.close()
    assert (tmp_path / "j").is_symlink()
    assert (tmp_path / "real").read_bytes().count(b"asked") == 2


def test_a_full_disk_leaves_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it cannot be shortened for want of room it is told, and is as it was."""
    path = tmp_path / "j"
    Keeper.take_up(path, HEADER).close()
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="j: cannot be written: No space left on device"):
        Keeper.take_up(path, HEADER)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["j"]


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    """A disk that took a part of a line and then no more leaves a journal that can be read."""

    class Full:
        def __init__(self, file: Any) -> None:
            self._file, self.room = file, 10

        def write(self, data: bytes) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            taken, self.room = self._file.write(data[: self.room]), 0
            return int(taken)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    keeper = Keeper.take_up(tmp_path / "j", HEADER)
    file = keeper._file
    keeper._file = Full(file)  # type: ignore[assignment]
    with pytest.raises(InputError, match="No space left"):
        keeper.asked("k1", "u", "d")
    keeper._file = file
    keeper.asked("k2", "u", "d")
    keeper.close()
    again = Keeper.take_up(tmp_path / "j", HEADER)
    again.close()
    assert list(again.story.asked) == ["k2"]


def test_the_first_line_tells_it_from_a_jobs_journal(tmp_path: Path) -> None:
    """A batch run does not go on with a service's journal either."""
    Keeper.take_up(tmp_path / "j", HEADER).close()
    job = Header(version="1", engine="live", variant="a", seed=1, scenario="s", corpus="c")
    with pytest.raises(InputError):
        Journal.resume(tmp_path / "j", job)
