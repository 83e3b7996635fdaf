"""A provider's slots when several processes serve its attempts: one station, which the hub has.

Theory of operation. A worker asks the hub for a place and tells it when the place is free again.
The hub tells a worker whose service begins, and all of them every new rate, with its moment; so the
clocks of work pass alike everywhere, and the way of a message adds no time to an answer.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from mock_llm.capacity import Station
from mock_llm.config import Capacity
from mock_llm.link import Link
from mock_llm.service import Seat, Service

ENTER, LEAVE, SERVED = "enter", "leave", "served"


class Moved(NamedTuple):
    """One who enters or leaves.

    Attributes:
        number: of the seat, among those of its worker.
        now: the worker's clock, which is the machine's.
    """

    number: int
    now: float


class Served(NamedTuple):
    """What a worker has to know.

    Attributes:
        at_s: since when, by the machine's clock.
        rate: of everybody's work.
        begun: numbers of the seats whose service begins.
    """

    at_s: float
    rate: float
    begun: list[int]


_decode_moved = msgspec.msgpack.Decoder(Moved).decode
_decode_served = msgspec.msgpack.Decoder(Served).decode
_decode_room = msgspec.msgpack.Decoder(bool).decode


class SharedService(Service):
    """A worker's side: the attempts that it plays, at places which the hub gives.

    There is one as long as the worker lives, for its clock has to hear of every rate. So attempts
    that began under an earlier capacity count under the next, even if there was none in between.

    Args:
        link: to the hub.
    """

    def __init__(self, link: Link) -> None:
        super().__init__(Capacity())
        self._link = link
        self._seats: dict[int, Seat] = {}

    def of(self, capacity: Capacity) -> Service:
        """Return it, once it is of this capacity."""
        self.change(capacity)
        return self

    def change(self, capacity: Capacity) -> None:
        """Be of another capacity; what that does, the hub will tell."""
        self.station.capacity = capacity

    async def enter(self, now: float) -> Seat | None:
        """See `Service.enter`; the hub decides, even for one who leaves in the meantime."""
        seat = Seat(self, now, next(self._numbers))
        self._seats[seat.number] = seat
        has_room = False
        try:
            asked = self._link.ask(ENTER, Moved(seat.number, now))
            has_room = _decode_room(await asked)
        finally:
            if not has_room:
                seat.leave(now)
        return seat if has_room else None

    def leave(self, seat: Seat, now: float) -> None:
        """See `Seat.leave`."""
        del self._seats[seat.number]
        self._link.tell(LEAVE, Moved(seat.number, now))
        self._set_timer()

    def served(self, body: msgspec.Raw) -> None:
        """Hear the hub: a new rate, and whose service begins, if they are still here."""
        at_s, rate, begun = _decode_served(body)
        seats = [self._seats[number] for number in begun if number in self._seats]
        self._begin(seats, rate, at_s)


class HubSlots:
    """The hub's side: one station, and one clock that never falls, whoever asks.

    Args:
        capacity: of the provider; None: no end of it.
        links: to the workers, by number.

    Attributes:
        station: has each attempt as its worker's number and its own.
    """

    def __init__(self, capacity: Capacity | None, links: Mapping[int, Link]) -> None:
        self.station: Station[tuple[int, int]] = Station(capacity or Capacity())
        self._links = links
        self._now = 0.0
        self._told: dict[int, float] = {}
        self._here: defaultdict[int, set[int]] = defaultdict(set)

    def change(self, capacity: Capacity | None, now: float) -> None:
        """Be of another capacity; see `Station.change`."""
        self._go_on(self.station.change(capacity or Capacity(), self._moment(now)))

    def enter(self, worker: int, body: msgspec.Raw) -> bool:
        """Take in a worker's attempt, if there is room; whether its service begins comes first."""
        number, now = _decode_moved(body)
        place = self.station.enter((worker, number), self._moment(now))
        if place == "full":
            return False
        self._here[worker].add(number)
        self._go_on([(worker, number)] if place == "serving" else [])
        return True

    def leave(self, worker: int, body: msgspec.Raw) -> None:
        """Let go of a worker's attempt, if it was taken in."""
        number, now = _decode_moved(body)
        if number in self._here[worker]:
            self._here[worker].discard(number)
            self._go_on(self.station.leave((worker, number), self._moment(now)))

    def bury(self, worker: int, now: float) -> None:
        """Let go of all that a dead worker had; its link must be gone."""
        now, begun = self._moment(now), list[tuple[int, int]]()
        for number in self._here.pop(worker, ()):
            begun += self.station.leave((worker, number), now)
        self._told.pop(worker, None)
        self._go_on(begun)

    def _moment(self, now: float) -> float:
        self._now = max(self._now, now)
        return self._now

    def _go_on(self, begun: list[tuple[int, int]]) -> None:
        """Tell every worker what is new to it; at first its clock is at full speed."""
        rate, numbers = self.station.rate, defaultdict[int, list[int]](list)
        for worker, number in begun:
            numbers[worker].append(number)
        for worker, link in self._links.items():
            if worker in numbers or self._told.get(worker, 1.0) != rate:
                self._told[worker] = rate
                link.tell(SERVED, Served(self._now, rate, numbers[worker]))
