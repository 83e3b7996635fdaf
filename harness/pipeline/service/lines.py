"""The lines of a service's journal, and what they come to: pure, one line at a time.

Theory of operation. To the lines of a job's journal (`harness.pipeline.journal`: an attempt is
begun, an attempt is settled) a service adds what it has promised: a batch that it took, an item
that needs nothing more, a batch that was withdrawn, the key by which a client will ask again.
Read in their order they come to a `Story`. A story can be written as lines again, far fewer of
them, which come to the same story: that is how a journal is kept short.

What had been begun and has no end when the lines end was in flight when the service died. It may
have been paid for. Where it is sent again it may be paid for twice, and is named.
"""

import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Literal

import msgspec

from harness.corpus.review import Review
from harness.pipeline.answer import Answer
from harness.pipeline.books import KILLED
from harness.pipeline.journal import Begun, Done, Settled
from harness.pipeline.money import Kind
from harness.pipeline.service.tickets import Served
from harness.records import Outcome, Record, moved

Status = Literal["running", "done", "cancelled", "stopped"]

FORMAT = 1
REMEMBERED = 10_000
"""Ended requests, and sessions, that are remembered; the oldest are forgotten."""

KEPT = 1_000
"""Ended batches that are remembered; the oldest are forgotten."""

NAMED = 1_000
"""Attempts in doubt that are named; of more, the newest."""

OWN_KEY = re.compile(r"s(\d{8,})|(b\d{6,})\.\d{6,}")
"""Keys that the service makes, of single requests and of items; no client's may look like them."""

DRAINING = "draining"
"""The error word of what a service that stops has left undone."""


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="service", tag_field="journal"):
    """What a service must agree in with the one whose journal it goes on with.

    Limits, pool, caches, endpoint may be others. What decides about an answer and its price may
    not, or one batch would have been labelled in two ways, and one purse filled at two prices.

    Attributes:
        format: version of it.
        router: version of the router.
        prices: digest of the price list.
        instructions: digest of the prompt's fixed part.
    """

    format: int = FORMAT
    router: str
    prices: str
    instructions: str


class Result(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of one item; see `harness.records.Record`."""

    number: int
    id: str
    key: str
    outcome: Outcome
    label: str | None
    model: str
    attempts: int
    cost_usd: float
    cache: str
    error: str


class Doubt(msgspec.Struct, frozen=True, gc=False):
    """An attempt that may have been paid for and came to nothing; `usd` is an estimate."""

    key: str
    attempt: int
    usd: float


class Taken(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="batch", tag_field="line"
):
    """A batch was taken in; written again when it is shortened, with what has come of it.

    Attributes:
        id: by which it is asked for.
        number: in order of coming.
        user: who handed it in.
        session: of that user.
        key: given by the client, "" for none.
        digest: of its reviews, where it has a key.
        reviews: its items; none when it has ended.
        total: how many there are.
        repeats: share of them that repeat an earlier one.
        results: of the items that have ended.
        status: of the batch.
        doubts: attempts that were made again though they may have been paid.
    """

    id: str
    number: int
    user: str
    session: str
    key: str = ""
    digest: str = ""
    reviews: list[Review] = []
    total: int
    repeats: float
    results: list[Result] = []
    status: Status = "running"
    doubts: list[Doubt] = []


class Ended(msgspec.Struct, frozen=True, tag="ended", tag_field="line"):
    """An item needs nothing more."""

    result: Result


class Withdrawn(msgspec.Struct, frozen=True, tag="withdrawn", tag_field="line"):
    """A batch is served no more."""

    id: str


class Asked(msgspec.Struct, frozen=True, tag="asked", tag_field="line"):
    """A request came with a key of the client's, by which it may come again."""

    key: str
    user: str
    digest: str


class Kept(msgspec.Struct, frozen=True, omit_defaults=True, tag="kept", tag_field="line"):
    """An attempt of which the money is in `Before`."""

    row: Record
    answer: Answer | None = None


class Spent(msgspec.Struct, kw_only=True):
    """What some calls have cost; see `money.Purse.carry`."""

    user: str
    kind: Kind
    estimated: bool
    usd: float = 0.0
    booked_usd: float = 0.0
    calls: int = 0


class Before(msgspec.Struct, frozen=True, kw_only=True, tag="before", tag_field="line"):
    """What lines came to that are here no more.

    Attributes:
        batches: number of the last.
        requests: number of the last that had no key of its client's.
        end_s: the last moment they told of, seconds.
        spent: the money.
        lost: attempts that were in flight when a service died.
    """

    batches: int
    requests: int
    end_s: float
    spent: list[Spent]
    lost: list[Doubt]


Line = Before | Taken | Ended | Withdrawn | Asked | Kept | Begun | Settled | Done


class Past(msgspec.Struct):
    """What earlier processes did for a request that they did not end.

    Attributes:
        rows: its attempts.
        answer: None if there is none.
        done: it has come to nothing.
    """

    rows: list[Record] = []
    answer: Answer | None = None
    done: bool = False

    @property
    def usd(self) -> float:
        """Dollars that it has cost."""
        return sum(row.cost_usd for row in self.rows)

    @property
    def made(self) -> int:
        """Number of the last attempt."""
        return max((row.attempt for row in self.rows), default=0)

    @property
    def failures(self) -> int:
        """Attempts that count against its retries: not those that died with their service."""
        return sum(row.attempt > 0 and not is_cut(row) for row in self.rows)

    def ended(self) -> Served | None:
        """What became of it, if only its end was not written down."""
        is_over = self.answer is not None or (self.done and bool(self.rows))
        return Served(tuple(self.rows), self.answer) if is_over else None

    def moved(self, by_s: float) -> "Past":
        """The same on a clock that is so much ahead."""
        return Past([moved(row, by_s) for row in self.rows], self.answer, self.done)


class Story:
    """What the lines of a journal come to.

    Attributes:
        batches: by id, in order of coming.
        pasts: by key, of items that have not ended, and of requests with a key of their client's.
        asked: these requests, by key; the newest last.
        spent: the money.
        lost: attempts that were in flight when a service died, the newest last.
        batch_number: of the last batch.
        request_number: of the last request without a key of its client's.
        end_s: the last moment that the lines tell of.
    """

    def __init__(self) -> None:
        self.batches: OrderedDict[str, Taken] = OrderedDict()
        self.pasts: dict[str, Past] = {}
        self.asked: OrderedDict[str, Asked] = OrderedDict()
        self.spent: dict[tuple[str, Kind, bool], Spent] = {}
        self.lost: list[Doubt] = []
        self.batch_number = 0
        self.request_number = 0
        self.end_s = 0.0
        self._begun: dict[tuple[str, int], Begun] = {}

    def add(self, line: Line) -> None:
        """Go on by one line."""
        match line:
            case Begun():
                self._seen(line.row)
                self._begun[line.row.key, line.row.attempt] = line
            case Settled():
                self._settled(line)
            case Ended(result):
                self._ended(result)
            case Kept(row, answer):
                self._keep(row, answer)
            case Done():
                if self._is_open(line.key):
                    self._past(line.key).done = True
            case Asked(key):
                self.asked[key] = line
                self.asked.move_to_end(key)
                if len(self.asked) > REMEMBERED:
                    self.pasts.pop(self.asked.popitem(last=False)[0], None)
            case Taken():
                self.batches[line.id] = line
                self.batch_number = max(self.batch_number, line.number)
            case Withdrawn(name):
                if name in self.batches:
                    self._finish(self.batches[name], "cancelled")
            case Before():
                self._before(line)

    def close(self) -> list[Doubt]:
        """There are no more lines; returns the attempts that were in flight."""
        fresh = []
        for (key, attempt), line in self._begun.items():
            row = line.row
            fresh.append(Doubt(key, attempt, row.cost_usd))
            self._spend(row, line.worst_usd, "abandoned", estimated=True)
            self._keep(row, None)
        self._begun.clear()
        self.lost = [*self.lost, *fresh][-NAMED:]
        self.pasts = {key: past for key, past in self.pasts.items() if self._is_open(key)}
        return fresh

    def lines(self) -> Iterator[Line]:
        """The same story in few lines; it has to be closed."""
        yield Before(
            batches=self.batch_number,
            requests=self.request_number,
            end_s=self.end_s,
            spent=list(self.spent.values()),
            lost=self.lost,
        )
        yield from self.batches.values()
        yield from self.asked.values()
        for key, past in self.pasts.items():
            for n, row in enumerate(past.rows, start=1):
                yield Kept(row, past.answer if n == len(past.rows) else None)
            if past.done:
                yield Done(key=key)

    def _ended(self, result: Result) -> None:
        batch = self.batches.get(batch_of(result.key))
        if batch is None:  # ended and forgotten
            return
        batch.results.append(result)
        self.pasts.pop(result.key, None)
        if len(batch.results) == batch.total and batch.status == "running":
            self._finish(batch, "done")

    def _finish(self, batch: Taken, status: Status) -> None:
        changed = msgspec.structs.replace(batch, status=status, reviews=[])
        self.batches[batch.id] = changed
        ended = [name for name, one in self.batches.items() if one.status != "running"]
        for name in ended[: max(0, len(ended) - KEPT)]:
            del self.batches[name]

    def _settled(self, line: Settled) -> None:
        row = line.row
        self._seen(row)
        self._begun.pop((row.key, row.attempt), None)
        if row.t_sent is not None:
            self._spend(row, line.booked_usd, line.kind, estimated=line.estimated)
        self._keep(row, line.answer)

    def _keep(self, row: Record, answer: Answer | None) -> None:
        if not self._is_open(row.key):
            return
        past = self._past(row.key)
        past.rows.append(row)
        past.answer = past.answer or answer
        batch = self.batches.get(batch_of(row.key))
        if batch is not None and is_cut(row) and (row.error == KILLED or row.t_sent is not None):
            doubt = Doubt(row.key, row.attempt, row.cost_usd)
            if doubt not in batch.doubts:
                batch.doubts.append(doubt)

    def _spend(self, row: Record, booked_usd: float, kind: Kind, *, estimated: bool) -> None:
        by = row.user, kind, estimated
        found = self.spent.get(by)
        if found is None:
            found = self.spent[by] = Spent(user=row.user, kind=kind, estimated=estimated)
        found.usd += row.cost_usd
        found.booked_usd += booked_usd
        found.calls += 1

    def _before(self, line: Before) -> None:
        self.batch_number = line.batches
        self.request_number = line.requests
        self.end_s = line.end_s
        self.lost = line.lost
        self.spent = {(one.user, one.kind, one.estimated): one for one in line.spent}

    def _seen(self, row: Record) -> None:
        self.end_s = max(self.end_s, row.t_end)
        own = OWN_KEY.fullmatch(row.key)
        if own is not None and own[1]:
            self.request_number = max(self.request_number, int(own[1]))

    def _is_open(self, key: str) -> bool:
        """Whether it may be asked, or gone on with, again."""
        if key in self.asked:
            return True
        batch = self.batches.get(batch_of(key))
        return batch is not None and batch.status == "running"

    def _past(self, key: str) -> Past:
        return self.pasts.setdefault(key, Past())


def batch_of(key: str) -> str:
    """The id of the batch of which an item has this key; "" for none."""
    own = OWN_KEY.fullmatch(key)
    return (own[2] or "") if own else ""


def is_cut(row: Record) -> bool:
    """Whether it ended because its service did."""
    return row.error in {KILLED, DRAINING}
