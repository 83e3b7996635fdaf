"""What a processor decides about a request, without any waiting.

The pipeline over sockets and its discrete-event twin decide with this; each waits in its own way.
"""

from collections.abc import Callable

from harness.pipeline.books import NO_MONEY, Books
from harness.pipeline.client import Stamps
from harness.pipeline.guards import Guards
from harness.pipeline.limits import UserLimits
from harness.pipeline.request import Request
from harness.pipeline.retry import backoff_s, may_pass
from harness.pipeline.toolkit import Toolkit
from harness.pipeline.writing import ContextOf, Stopped, Tried, Writer
from harness.records import Record
from harness.scenario.pipeline import Pipeline


class Deciding:
    """Decides about requests, and writes down what needs no call.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        now: tells the time.
        add: is handed every row.
        context_of: the conversation that a request belongs to.
        stopped: why a request is being cancelled, and its outcome; None when it is not by us.
        limits: of the users; None: whoever calls has seen to them.

    Attributes:
        books: of everything that is sent.
        writer: writes attempts down.
        guards: what may hold an attempt back, or send it elsewhere.
        backing_off: requests that wait for their next attempt.
    """

    def __init__(
        self,
        settings: Pipeline,
        tools: Toolkit,
        now: Callable[[], float],
        *,
        add: Callable[[Record], None],
        context_of: ContextOf,
        stopped: Callable[[Request], Stopped | None],
        limits: UserLimits | None = None,
    ) -> None:
        self.books = Books(settings, tools, now)
        self.writer = Writer(settings, tools, self.books, context_of)
        self.guards = Guards(settings)
        self.backing_off = 0
        self._set = settings
        self._tools = tools
        self._now = now
        self._add = add
        self._stopped = stopped
        self._limits = limits

    def why(self, request: Request) -> Stopped | None:
        """Why a request is being cancelled, and its outcome; None when it is not by us."""
        return request.stop or self._stopped(request)

    def _give_up(self, request: Request, why: str) -> None:
        """Reject a request while nothing of it is on the wire."""
        row = request.unsent(self._now(), "rejected", why)
        request.unpaid = why == NO_MONEY
        if not request.unpaid:  # else it is for a run with more money to go on with
            self.books.note(row)
        self._add(row)

    def note(self, row: Record) -> None:
        """Write down a call that does not count."""
        self._add(row)

    def _counted(self, request: Request, tried: Tried) -> Tried:
        """Write an attempt down that has ended."""
        request.made += 1
        self._add(tried.row)
        if tried.row.status == 402:
            self.books.refused(passing=bool(tried.error and tried.error.passing))
        return tried

    def _too_late(self, request: Request) -> Record:
        """The row of a request whose time is over while nothing of it is on the wire."""
        row = request.unsent(self._now(), "timed_out", "deadline")
        self.books.note(row)
        return row

    def _broken(self, request: Request) -> Tried:
        """An attempt that no breaker lets through: it fails at once, and may be tried later."""
        now = self._now()
        row = request.row(
            request.made + 1,
            Stamps(),
            now,
            outcome="failed",
            error="circuit_open",
            retry_after_s=self.guards.opens_again_s(request, now),
        )
        self.books.note(row)
        return Tried(row)

    def _wait_s(self, request: Request, tried: Tried, tries: int) -> float | None:
        """How long to back off before the next attempt; None: there is none."""
        row, now = tried.row, self._now()
        known = tried.error.passing if tried.error else None
        passing = may_pass(row.status, passing=known) or self.guards.may_fall_back(
            request, row, tries
        )
        longest = self._set.backoff.longest_hint_s
        if longest is not None and (row.retry_after_s or 0.0) > longest:
            passing = self.guards.has_other(request, tries)
        if tries > self._set.retries or not passing:
            return None
        wait = 0.0
        if not self.guards.has_other(request, tries):  # else that one has done us no harm
            u = self._tools.uniform("client.backoff", request.item.key, request.made)
            backoff = self._set.backoff
            wait = backoff_s(backoff, tries, row.retry_after_s, u, request.waited_s)
        request.waited_s = wait
        if request.deadline is not None and now + wait >= request.deadline:
            return None  # it would only be late: the cause so far stands
        return wait if self.guards.may_retry(now) else None

    def _turn_s(self, request: Request) -> float | None:
        """How long to wait for one's turn; None: it comes too late, and is booked all the same."""
        if self._limits is None:
            return 0.0
        now = self._now()
        start = self._limits.reserve(request.item.user, now)
        if request.deadline is not None and start >= request.deadline:
            return None
        return start - now

    def _close(self, request: Request) -> None:
        """Write down a request that was stopped."""
        if request.cut is not None:  # in the middle of an attempt
            self._add(request.cut)
            return
        why = self.why(request)
        if why is None:
            return
        if request.made:
            request.back(self._now())
        self._add(request.unsent(self._now(), why[1], why[0]))
