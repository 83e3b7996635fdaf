"""A request on its way through the job, and the rows made from it."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from harness.corpus.review import Review
from harness.pipeline.answer import Answer
from harness.pipeline.client import Stamps
from harness.pipeline.routing import Route
from harness.records import Outcome, Record
from harness.workload import batch_key, user_name


class Item(msgspec.Struct, frozen=True, gc=False):
    """A review on its way through the job."""

    number: int
    key: str
    user: str
    batch: int
    review: Review
    route: Route
    tier: int


def items_of(
    reviews: Sequence[Review],
    routes: Sequence[Route],
    tiers: dict[str, int],
    *,
    users: int,
    batch_size: int | None,
) -> list[Item]:
    """Number the reviews, deal them to users in turn and cut them into batches."""
    size = batch_size or 10
    return [
        Item(
            n,
            batch_key(n),
            user_name(n % users),
            n // size,
            review,
            route,
            tiers.get(route.model, 0),
        )
        for n, (review, route) in enumerate(zip(reviews, routes, strict=True))
    ]


class Request(msgspec.Struct, eq=False, gc=False):
    """Times of a request on its way, and the rows made from them.

    Attributes:
        item: what is asked.
        worker: who serves it.
        t_queued: as the times below: of its next row.
        deadline: loop time after which nobody waits for it; None: there is none.
        session: it belongs to.
        cache: what the cache had, as in the record.
        made: attempts so far.
        failures: of these, those before this process that count against its retries.
        waited_s: its last backoff.
        unpaid: it was given up for lack of money.
        stop: why it is being cancelled, and its outcome, where that concerns it alone.
        cut: the row of an attempt that was cut short by its being stopped.
    """

    item: Item
    worker: int
    t_queued: float
    t_intended: float
    t_admitted: float | None
    t_limited: float | None = None
    t_slot: float | None = None
    deadline: float | None = None
    session: str = ""
    cache: Literal["", "miss"] = ""
    made: int = 0
    failures: int = 0
    waited_s: float = 0.0
    unpaid: bool = False
    stop: tuple[str, Outcome] | None = None
    cut: Record | None = None

    def back(self, now: float) -> None:
        """The backoff is over: the next attempt starts here."""
        self.t_queued = now
        self.t_admitted = now
        self.t_limited = now
        self.t_slot = None

    def row(
        self,
        attempt: int,
        stamps: Stamps,
        now: float,
        outcome: Outcome,
        model: str = "",
        error: str = "",
        status: int | None = None,
        retry_after_s: float | None = None,
        prompt_tokens: int = 0,
        cached_tokens: int = 0,
        completion_tokens: int = 0,
        cost_usd: float = 0.0,
    ) -> Record:
        """One attempt as a record; its model is the router's choice, its status the stamped one."""
        item = self.item
        return Record(  # by position: so many names would cost ten times as much
            item.key,
            attempt,
            item.user,
            item.batch,
            self.worker,
            model or item.route.model,
            item.tier,
            stamps.new_connection,
            self.t_intended,
            self.t_queued,
            self.t_admitted,
            self.t_limited,
            self.t_slot,
            stamps.t_connected,
            stamps.t_sent,
            stamps.t_headers,
            stamps.t_first_token,
            stamps.t_last_token,
            now,
            stamps.status if status is None else status,
            outcome,
            error,
            retry_after_s,
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            cost_usd,
            self.cache,
        )

    def unsent(self, now: float, outcome: Outcome, error: str) -> Record:
        """Stopped while nothing of it was on the wire."""
        number = self.made + 1 if self.made else 0
        return self.row(number, Stamps(), now, outcome=outcome, error=error)

    def hit(self, held: Answer, now: float, *, near: bool = False) -> Record:
        """Served from the cache: it waited for an answer, but for nothing else."""
        self.t_limited = self.t_slot = self.t_admitted
        stamps = Stamps()
        stamps.t_connected = self.t_admitted
        stamps.t_first_token = stamps.t_last_token = now
        row = self.row(
            0,
            stamps,
            now,
            outcome="ok",
            prompt_tokens=held.prompt_tokens,
            completion_tokens=held.completion_tokens,
        )
        return msgspec.structs.replace(row, cache="near" if near else "hit")
