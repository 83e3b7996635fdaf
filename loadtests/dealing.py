"""Who has which users, and what has come from whom: the pure part of a run over several processes.

Theory of operation. Locust's master tells a worker only how many users it has, never which; but it
deals them out in turn, in an order of its own. So the worker at place `k` of that order, of `w`,
takes the users k, k + w, k + 2w, ...: together they are exactly 0 to N - 1, whatever N is. A
worker that joins later finds no place free; it has a range of numbers for itself, far above. No
number is ever in two processes, so no request key is, and no review before the corpus is used up.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from harness.corpus import Review
from harness.scenario.workload import Workload

LATECOMERS = 1_000_000
"""The first user of the first worker that joined late; each of them has as many to itself."""


class Deal(msgspec.Struct, frozen=True):
    """The users of one process: `first`, `first + step`, ... below `end`."""

    first: int = 0
    step: int = 1
    end: int = LATECOMERS

    def owns(self, user: int) -> bool:
        """Whether a user, or an arrival, is one of them."""
        return self.first <= user < self.end and (user - self.first) % self.step == 0


def late_deal(place: int) -> Deal:
    """For the `place`-th worker to join a run that goes on, from 0."""
    return Deal((place + 1) * LATECOMERS, 1, (place + 2) * LATECOMERS)


def in_turn(workers: Iterable[str]) -> list[str]:
    """Ids of workers, in the order in which Locust's dispatcher deals users out.

    An id is `HOST_UNIQUE`; one of every host first, then the second of every host, and so on
    (`locust.dispatch.UsersDispatcher._sort_workers`).
    """
    before: Counter[str] = Counter()
    places = []
    for worker in sorted(workers):
        host = worker.split("_")[0]
        places.append((before[host], worker))
        before[host] += 1
    return [worker for _, worker in sorted(places)]


class Flight(msgspec.Struct, frozen=True, kw_only=True):
    """What users need to know, in any process.

    Attributes:
        work: what they ask, and when.
        seed: of their thinking.
        mock_url: base URL of the provider, for those who ask it directly; None: unknown.
        model: the one that they ask.
        shaped: users come and go with a shape: whoever comes begins with a pause.
        trace: of arrivals that follow one.
        most_in_flight: arrivals of one process that wait for an answer, at most.
        tag: ends the keys that the service is sent; one that it knows is answered from memory.
    """

    work: Workload
    seed: int
    mock_url: str | None = None
    model: str = ""
    shaped: bool = False
    trace: tuple[float, ...] = ()
    most_in_flight: int = 1
    tag: str = ""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told when a test begins.

    Attributes:
        test: counts the tests of a master: a late report of an earlier one is no row of this.
        flight: what they need.
        deal: the worker's users.
        began_s: monotonic time of the master from which the plan counts.
        sent_s: when this was sent, of the same clock.
        machine: whose clock it is.
        reviews: the corpus, which the worker may not have; packed.
    """

    test: int
    flight: Flight
    deal: Deal
    began_s: float
    sent_s: float
    machine: str
    reviews: bytes

    def texts(self) -> tuple[Review, ...]:
        """The corpus."""
        return msgspec.msgpack.decode(self.reviews, type=tuple[Review, ...])

    def ahead_s(self, now: float, machine: str) -> float:
        """By how much a clock is ahead of the master's.

        On another machine the way of one message counts as time that has passed.
        """
        return 0.0 if machine == self.machine else now - self.sent_s


class Worker(msgspec.Struct, kw_only=True):
    """One worker, as its master knows it.

    Attributes:
        index: as Locust counts them.
        deal: its users.
        rows: that have come from it.
        made: that it says it has made.
        heard_s: when it was last heard of, seconds from the start of the test.
        state: `here`; `done`, its last row has come; `lost`, it was not heard of any more.
    """

    index: int
    deal: Deal
    rows: int = 0
    made: int = 0
    heard_s: float = 0.0
    state: str = "here"

    def owns(self, key: str) -> bool:
        """Whether a user (`u12`), its request (`u12.3`) or an arrival (`a000012`) is its own."""
        number = key[1:].partition(".")[0]
        return key[:1] in {"u", "a"} and number.isdecimal() and self.deal.owns(int(number))


class Roll:
    """Who works for a master, and what has come from whom."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self._late = 0

    def begin(self, indexes: dict[str, int]) -> None:
        """A test begins with these workers: id -> index."""
        order, self._late = in_turn(indexes), 0
        self.workers = {
            one: Worker(index=indexes[one], deal=Deal(place, len(order)))
            for place, one in enumerate(order)
        }

    def join(self, worker: str, index: int) -> Deal:
        """A worker came while the test went on; its users."""
        if worker not in self.workers:
            self.workers[worker] = Worker(index=index, deal=late_deal(self._late))
            self._late += 1
        return self.workers[worker].deal

    def waiting(self) -> list[str]:
        """Those whose last row is still to come."""
        return [name for name, one in self.workers.items() if one.state == "here"]

    def lost(self) -> list[Worker]:
        """Those who are not heard of any more."""
        return [one for one in self.workers.values() if one.state == "lost"]

    def owner(self, key: str) -> Worker | None:
        """The lost worker whose request this is, if it is one's."""
        return next((one for one in self.lost() if one.owns(key)), None)

    def gaps(self) -> list[str]:
        """Workers that are done, of whose rows some never came: one sentence each."""
        return [
            f"worker {one.index}: {one.made - one.rows} of its {one.made} rows did not arrive"
            for one in self.workers.values()
            if one.state == "done" and one.made != one.rows
        ]

    def lines(self) -> list[str]:
        """A line for each worker."""
        return [
            f"worker {one.index}: {one.rows} rows"
            + ("" if one.state == "here" else f", {one.state} at {one.heard_s:.1f} s")
            for one in self.workers.values()
        ]

    def obituaries(self, unseen: Sequence[str]) -> list[str]:
        """One sentence for each lost worker.

        Args:
            unseen: keys of requests that the service has, and no user has told of.
        """
        said = []
        for one in self.lost():
            open_ = sum(map(one.owns, unseen))
            said.append(
                f"worker {one.index} was lost at {one.heard_s:.1f} s: "
                f"{one.rows} rows of its users are known, "
                f"what became of {open_} more requests only the service knows"
            )
        return said
