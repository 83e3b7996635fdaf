"""Batches of the service: handed in at once, fed to the queue little by little.

Theory of operation. A batch has a feeder, which waits for its user's limit instead of being refused
by it, and never has more of its items in the queue than the pool can use soon: so batches take
turns, and an interactive request finds a short queue. Whoever watches a batch is woken when it has
changed, and looks for itself: a slow watcher costs nothing.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from typing import Literal

import msgspec

from harness.corpus.review import Review
from harness.pipeline.service.core import Service
from harness.pipeline.service.tickets import Ask, Refused, Served
from harness.pipeline.shared import Limits

MOST_ITEMS = 100_000
KEPT = 1_000
"""Ended batches that are remembered; the oldest are forgotten."""

Status = Literal["running", "done", "cancelled", "stopped"]


class Result(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of one item; see `harness.records.Record`."""

    number: int
    id: str
    key: str
    outcome: str
    label: str | None
    model: str
    attempts: int
    cost_usd: float
    cache: str
    error: str


class Batch:
    """One batch and how far it has come.

    Attributes:
        id: by which it is asked for.
        user: who handed it in.
        reviews: its items.
        results: of the items that have ended, in the order in which they ended.
        outcomes: how many have ended how.
        cost_usd: so far.
        hits: answered by the cache.
        repeats: share of the reviews in 0-1 that repeat an earlier one: what a cache can give.
        status: `stopped` when the service was, before its end.
    """

    def __init__(
        self, name: str, number: int, user: str, session: str, reviews: Sequence[Review]
    ) -> None:
        self.id = name
        self.number = number
        self.user = user
        self.session = session
        self.reviews = reviews
        self.results: list[Result] = []
        self.outcomes: Counter[str] = Counter()
        self.cost_usd = 0.0
        self.hits = 0
        distinct = len({" ".join(review.text.split()) for review in reviews})
        self.repeats = 1 - distinct / len(reviews)
        self.status: Status = "running"
        self.ended: set[str] = set()
        self.task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def key(self, number: int) -> str:
        """Of one of its requests."""
        return f"{self.id}.{number:06d}"

    def add(self, number: int, served: Served) -> None:
        """An item has ended."""
        last, answer = served.rows[-1], served.answer
        usd = sum(row.cost_usd for row in served.rows)
        result = Result(
            number=number,
            id=self.reviews[number].id,
            key=last.key,
            outcome=last.outcome,
            label=None if answer is None else answer.label,
            model=last.model,
            attempts=sum(row.t_sent is not None for row in served.rows),
            cost_usd=usd,
            cache=last.cache,
            error=last.error,
        )
        self.results.append(result)
        self.ended.add(last.key)
        self.outcomes[result.outcome] += 1
        self.cost_usd += usd
        self.hits += last.cache == "hit"
        self.tell()

    def end(self, status: Status) -> None:
        """Nothing more will happen to it."""
        if self.status == "running":
            self.status = status
            self.tell()

    def tell(self) -> None:
        """Wake all who watch."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self) -> AsyncIterator[None]:
        """Step once now, and whenever it has changed, until it has ended."""
        while True:
            changed = self._changed
            yield
            if self.status != "running":
                return
            await changed.wait()


class Batches:
    """All batches of a service.

    Args:
        service: serves their items.
        limits: of the users, for whose items the feeders wait.
    """

    def __init__(self, service: Service, limits: Limits | None = None) -> None:
        self._service = service
        self._limits = limits
        self._batches: OrderedDict[str, Batch] = OrderedDict()
        self._numbers = 0
        self._now = asyncio.get_running_loop().time

    def begin(self, user: str, session: str, reviews: Sequence[Review]) -> Batch:
        """Take a batch in; its items are served from now on.

        Raises:
            Refused: the service is stopping.
        """
        if self._service.draining:
            raise Refused("draining")
        self._numbers += 1
        name = f"b{self._numbers:06d}"
        batch = Batch(name, self._numbers, user, session, reviews)
        self._batches[name] = batch
        self._forget()
        batch.task = asyncio.create_task(self._feed(batch))
        return batch

    def get(self, name: str) -> Batch | None:
        """A batch by its id; None: there is none, or it is forgotten."""
        return self._batches.get(name)

    def cancel(self, batch: Batch) -> None:
        """Serve no more of a batch; what is in flight is cut short."""
        if batch.task is not None:
            batch.end("cancelled")
            batch.task.cancel()

    async def close(self) -> None:
        """Feed no more; batches that are not done stay as they are."""
        running = [batch for batch in self._batches.values() if batch.status == "running"]
        for batch in running:
            batch.end("stopped")
            if batch.task is not None:
                batch.task.cancel()
        tasks = [batch.task for batch in running if batch.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    @property
    def running(self) -> int:
        """How many are not done."""
        return sum(batch.status == "running" for batch in self._batches.values())

    async def _feed(self, batch: Batch) -> None:
        room = asyncio.Semaphore(2 * self._service.workers)
        async with asyncio.TaskGroup() as group:
            for number in range(len(batch.reviews)):
                if batch.key(number) in batch.ended:
                    continue
                await room.acquire()
                await self._turn(batch.user)
                group.create_task(self._one(batch, number, room))
        batch.end("done")

    async def _turn(self, user: str) -> None:
        """Wait until the user's limit lets one more through."""
        while self._limits is not None:
            wait_s = await self._limits.take(user, self._now())
            if wait_s <= 0:
                return
            await asyncio.sleep(wait_s)

    async def _one(self, batch: Batch, number: int, room: asyncio.Semaphore) -> None:
        ask = Ask(
            review=batch.reviews[number],
            user=batch.user,
            session=batch.session,
            key=batch.key(number),
            interactive=False,
            batch=batch.number,
        )
        try:
            while (served := await self._served(ask)) is None:
                pass
        finally:
            room.release()
        batch.add(number, served)

    async def _served(self, ask: Ask) -> Served | None:
        """Serve an item; None when it has been refused, and it is time to try again."""
        try:
            return await self._service.submit(ask)
        except Refused as refused:
            if refused.retry_after_s is None:
                raise
            await asyncio.sleep(refused.retry_after_s)
            return None

    def _forget(self) -> None:
        ended = [name for name, batch in self._batches.items() if batch.status != "running"]
        for name in ended[: max(0, len(ended) - KEPT)]:
            del self._batches[name]
