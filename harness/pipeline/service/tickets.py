"""What is asked of the service, what became of it, and the ways in which it says no."""

from typing import Any, Literal, Protocol

import msgspec

from harness.corpus.review import Review
from harness.pipeline.answer import Answer
from harness.pipeline.request import Request
from harness.records import Record

Reason = Literal[
    "rate_limit",
    "full",
    "too_late",
    "budget",
    "draining",
    "key_taken",
    "cancelled",
    "expired",
    "internal",
    "journal",
]


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One review to be labelled.

    Attributes:
        review: the work.
        user: who asks; limits and costs are theirs.
        session: of that user, "" when it belongs to none.
        key: identity of the request; asked again with the same key, it is not paid again.
        deadline: loop time after which nobody waits for the answer; None: somebody always does.
        interactive: goes before batch items.
        batch: number of the batch it is part of; 0 for none.
        named: the key is its client's, who may come again by it; else it is ours.
    """

    review: Review
    user: str
    session: str
    key: str
    deadline: float | None = None
    interactive: bool = True
    batch: int = 0
    named: bool = False


class Refused(Exception):  # noqa: N818 - a refusal is no error of ours
    """A request that is not served; `retry_after_s` says when it might be."""

    def __init__(self, reason: Reason, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class Served(msgspec.Struct, frozen=True, gc=False):
    """What became of a request.

    Attributes:
        rows: its records, in order.
        answer: None when it came to nothing; the last row says why.
    """

    rows: tuple[Record, ...]
    answer: Answer | None


class Ended(Protocol):
    """What those who wait for a request are told by: a future, or a twin's."""

    def done(self) -> bool:
        """Whether they have been."""

    def set_result(self, result: Served, /) -> None:
        """Tell them what became of it."""


class Timer(Protocol):
    """What looks at the clock again, unless it is cancelled."""

    def cancel(self) -> object:
        """Do not."""


class Ticket(msgspec.Struct, eq=False):
    """A request on its way through the service.

    Attributes:
        ask: what is asked.
        digest: of the review, where its client may come again with it.
        request: its times.
        ended: what became of it, once it is known.
        rows: its records so far.
        served_by: the task, or process, that serves it; None while it waits.
        timer: of its deadline.
        waiting: how many wait for what becomes of it.
    """

    ask: Ask
    digest: str
    request: Request
    ended: Any
    rows: list[Record] = []
    served_by: Any = None
    timer: Timer | None = None
    waiting: int = 0
