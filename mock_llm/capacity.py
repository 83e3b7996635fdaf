"""What a provider with finite capacity does: slots, a queue before them, and sharing of its speed.

Theory of operation. A `Station` knows who is served and who waits; a `work_clock.WorkClock` knows
how far the served have come, for under processor sharing all of them progress at one rate
(Kleinrock, Queueing Systems II, 4.4). Neither has a clock, a timer or a byte in it: whoever drives
them (`service` on an event loop, a discrete-event twin) calls `enter` and `leave`, and tells the
clock the station's new rate each time.
"""

from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import Generic, Literal, TypeVar

from mock_llm.config import Capacity
from mock_llm.faults.base import refused
from mock_llm.faults.errors import ERRORS
from mock_llm.plan import Plan

Ticket = TypeVar("Ticket", bound=Hashable)
Place = Literal["serving", "waiting", "full"]


class Station(Generic[Ticket]):
    """Who is served and who waits: first come, first served, or the last to come.

    A ticket is whatever tells one attempt from another.
    """

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        # Dictionaries are sets that keep their order: leaving the queue's middle is one step.
        self._serving: dict[Ticket, None] = {}
        self._waiting: OrderedDict[Ticket, None] = OrderedDict()  # so is finding its first
        self._busy_s = self._since = 0.0

    @property
    def serving(self) -> int:
        """Attempts in service."""
        return len(self._serving)

    @property
    def waiting(self) -> int:
        """Attempts in the queue."""
        return len(self._waiting)

    @property
    def rate(self) -> float:
        """Speed of every attempt in service, as a share of full speed."""
        capacity, count = self.capacity, len(self._serving)
        if capacity.full_speed is None or count <= capacity.full_speed:
            return 1.0
        return float((capacity.full_speed / count) ** capacity.exponent)

    def busy_s(self, now: float) -> float:
        """Return the slot seconds used until now: the integral of `serving`."""
        return self._busy_s + len(self._serving) * (now - self._since)

    def enter(self, ticket: Ticket, now: float) -> Place:
        """Take in an attempt; one for which there is no room is `full` and not taken in."""
        capacity = self.capacity
        self._pass(now)
        if capacity.slots is None or len(self._serving) < capacity.slots:
            self._serving[ticket] = None
            return "serving"
        if capacity.queue is None or len(self._waiting) < capacity.queue:
            self._waiting[ticket] = None
            return "waiting"
        return "full"

    def leave(self, ticket: Ticket, now: float) -> list[Ticket]:
        """Let go of an attempt, served or waiting; return those whose service begins now.

        Raises:
            KeyError: it is not here.
        """
        self._pass(now)
        if ticket in self._waiting:
            del self._waiting[ticket]
            return []
        del self._serving[ticket]
        return self._filled()

    def change(self, capacity: Capacity, now: float) -> list[Ticket]:
        """Be of another capacity; return those whose service begins now.

        Nobody is sent away: where there is less room than before, it empties as attempts leave.
        """
        self._pass(now)
        self.capacity = capacity
        return self._filled()

    def _filled(self) -> list[Ticket]:
        slots = self.capacity.slots
        free = len(self._waiting) if slots is None else slots - len(self._serving)
        lifo = self.capacity.order == "lifo"
        line = reversed(self._waiting) if lifo else iter(self._waiting)
        begun = list(islice(line, max(0, free)))
        for ticket in begun:
            del self._waiting[ticket]
            self._serving[ticket] = None
        return begun

    def _pass(self, now: float) -> None:
        self._busy_s, self._since = self.busy_s(now), now


def occupies(plan: Plan) -> bool:
    """Whether an attempt needs a slot: what is refused, or cut off at once, never gets so far.

    A hang does: the answer that is lost on its way has been made.
    """
    return plan.status == 200 and plan.reach != "nothing" and "html" not in plan.forms


def overloaded(plan: Plan, status: Literal[503, 529]) -> Plan:
    """Return the refusal that an attempt meets when slots and queue are full."""
    error, message = ERRORS[status]
    return refused(plan, status, error, message, at_s=0.0)
