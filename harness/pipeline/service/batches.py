"""Batches of the service: handed in at once, fed to the queue little by little.

Theory of operation. A batch has a feeder, which waits for its user's limit instead of being refused
by it, and never has more of its items in the queue than the pool can use soon: so batches take
turns, and an interactive request finds a short queue. Whoever watches a batch is woken when it has
changed, and looks for itself: a slow watcher costs nothing.

Each item is a task. One that is withdrawn is not cancelled: its request is, and it then waits for
what became of that, because an attempt that was cut short has cost something.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from harness.corpus.review import Review
from harness.errors import InputError
from harness.pipeline.service.core import Service
from harness.pipeline.service.keeping import Keeper, digest
from harness.pipeline.service.lines import (
    DRAINING,
    KEPT,
    Doubt,
    Past,
    Result,
    Status,
    Story,
    Taken,
    batch_of,
)
from harness.pipeline.service.tickets import Ask, Reason, Refused, Served, Ticket
from harness.pipeline.shared import Limits

_NEVER: frozenset[str] = frozenset({DRAINING, "journal"})
"""Error words of items that are not over: they are left for the next service, if there is one."""


class Batch:
    """One batch and how far it has come.

    Args:
        taken: what is known of it.

    Attributes:
        id: by which it is asked for.
        number: in order of coming.
        user: who handed it in.
        session: of that user.
        key: given by the client, "" for none.
        digest: of its reviews, where it has a key.
        total: how many items it has.
        reviews: its items; none when it has ended.
        results: of the items that have ended, in the order in which they ended.
        outcomes: how many have ended how.
        cost_usd: so far.
        hits: answered by the cache.
        repeats: share of the reviews in 0-1 that repeat an earlier one: what a cache can give.
        status: `stopped` when the service was, before its end.
        doubts: attempts that were made again though they may have been paid.
        why: what it is about to be, once what is in flight has ended.
        pasts: key -> what an earlier process did for an item that it did not end.
        items: tasks of the feeder and of items, with the requests of those that have one.
    """

    def __init__(self, taken: Taken) -> None:
        self.id = taken.id
        self.number = taken.number
        self.user = taken.user
        self.session = taken.session
        self.key = taken.key
        self.digest = taken.digest
        self.total = taken.total
        self.reviews: Sequence[Review] = taken.reviews
        self.repeats = taken.repeats
        self.results = list(taken.results)
        self.outcomes: Counter[str] = Counter(one.outcome for one in self.results)
        self.cost_usd = sum(one.cost_usd for one in self.results)
        self.hits = sum(one.cache == "hit" for one in self.results)
        self.status = taken.status
        self.doubts: Sequence[Doubt] = taken.doubts
        self.why: Status | None = None
        self.pasts: dict[str, Past] = {}
        self.items: dict[asyncio.Task[None], Ticket | None] = {}
        self.task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def item_key(self, number: int) -> str:
        """Of one of its requests."""
        return f"{self.id}.{number:06d}"

    def result(self, number: int, served: Served) -> Result:
        """What became of an item."""
        last, answer = served.rows[-1], served.answer
        return Result(
            number=number,
            id=self.reviews[number].id,
            key=last.key,
            outcome=last.outcome,
            label=None if answer is None else answer.label,
            model=last.model,
            attempts=sum(row.t_sent is not None for row in served.rows),
            cost_usd=sum(row.cost_usd for row in served.rows),
            cache=last.cache,
            error=last.error,
        )

    def refusal(self, number: int, reason: Reason) -> Result:
        """What became of an item that is never let in."""
        return Result(
            number=number,
            id=self.reviews[number].id,
            key=self.item_key(number),
            outcome="rejected",
            label=None,
            model="",
            attempts=0,
            cost_usd=0.0,
            cache="",
            error=reason,
        )

    def add(self, result: Result) -> None:
        """An item has ended."""
        self.results.append(result)
        self.outcomes[result.outcome] += 1
        self.cost_usd += result.cost_usd
        self.hits += result.cache == "hit"
        self.tell()

    def end(self, status: Status) -> None:
        """Nothing more will happen to it."""
        if self.status == "running":
            self.status = status
            self.reviews, self.pasts, self.task = (), {}, None
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
        journal: where it is written what was taken in, and what has ended; None: nowhere.
    """

    def __init__(
        self, service: Service, limits: Limits | None = None, journal: Keeper | None = None
    ) -> None:
        self._service = service
        self._limits = limits
        self._journal = journal
        self._batches: OrderedDict[str, Batch] = OrderedDict()
        self._keys: dict[str, Batch] = {}
        self._numbers = 0
        self._now = asyncio.get_running_loop().time

    def begin(self, user: str, session: str, reviews: list[Review], key: str = "") -> Batch:
        """Take a batch in; its items are served from now on.

        With a key that is known already it is the batch that came with it.

        Raises:
            Refused: the service is stopping, cannot write it down, or the key is of another batch.
        """
        mark = digest(reviews) if key else ""
        if (known := self._keys.get(key)) is not None:
            if (known.user, known.digest) != (user, mark):
                raise Refused("key_taken")
            return known
        if self._service.draining:
            raise Refused("draining")
        distinct = len({" ".join(review.text.split()) for review in reviews})
        taken = Taken(
            id=f"b{self._numbers + 1:06d}",
            number=self._numbers + 1,
            user=user,
            session=session,
            key=key,
            digest=mark,
            reviews=reviews,
            total=len(reviews),
            repeats=1 - distinct / len(reviews),
        )
        if self._journal is not None:
            try:
                self._journal.taken(taken)
            except (InputError, OSError):
                raise Refused("journal") from None
        self._numbers += 1
        batch = self._known(taken)
        self._forget()
        self._start(batch)
        return batch

    def take_over(self, story: Story) -> None:
        """Know the batches of earlier processes; `go_on` goes on with them."""
        self._numbers = story.batch_number
        origin = self._service.origin
        for taken in story.batches.values():
            self._known(taken)
        for key, past in story.pasts.items():
            if (batch := self._batches.get(batch_of(key))) is not None:
                batch.pasts[key] = past.moved(origin)

    def go_on(self) -> None:
        """Serve what has been taken over."""
        for batch in self._batches.values():
            if batch.status == "running" and batch.task is None:
                self._start(batch)

    def get(self, name: str) -> Batch | None:
        """A batch by its id; None: there is none, or it is forgotten."""
        return self._batches.get(name)

    async def cancel(self, batch: Batch) -> None:
        """Serve no more of a batch; what is in flight is cut short, and told among the results.

        Raises:
            Refused: it cannot be written down.
        """
        if batch.status != "running":
            return
        if self._journal is not None and batch.why is None:
            try:
                self._journal.withdrawn(batch.id)
            except (InputError, OSError):
                raise Refused("journal") from None
        self._stop(batch, "cancelled")
        for ticket in list(batch.items.values()):
            if ticket is not None:
                self._service.withdraw(ticket, "cancelled")
        if batch.task is None:
            batch.end("cancelled")
        else:
            await asyncio.wait([batch.task])

    def stop(self) -> None:
        """Begin no more items; those in flight may end."""
        for batch in self._batches.values():
            if batch.status == "running":
                self._stop(batch, "stopped")
                if batch.task is None:
                    batch.end("stopped")
                for ticket in list(batch.items.values()):
                    if ticket is not None and ticket.served_by is None:
                        self._service.withdraw(ticket, DRAINING)

    async def ended(self) -> None:
        """Wait until nothing of any batch is under way; needs `stop` or `cancel` before it."""
        tasks = [batch.task for batch in self._batches.values() if batch.task is not None]
        if tasks:
            await asyncio.wait(tasks)

    @property
    def running(self) -> int:
        """How many are not done."""
        return sum(batch.status == "running" for batch in self._batches.values())

    def _known(self, taken: Taken) -> Batch:
        batch = self._batches[taken.id] = Batch(taken)
        if batch.key:
            self._keys[batch.key] = batch
        return batch

    def _start(self, batch: Batch) -> None:
        batch.task = asyncio.create_task(self._run(batch))

    @staticmethod
    def _stop(batch: Batch, why: Status) -> None:
        """Let nothing more of it wait for its turn."""
        batch.why = batch.why or why
        for task, ticket in batch.items.items():
            if ticket is None:
                task.cancel()

    async def _run(self, batch: Batch) -> None:
        async with asyncio.TaskGroup() as group:
            feeder = group.create_task(self._feed(batch, group))
            batch.items[feeder] = None
        whole = len(batch.results) == batch.total
        batch.end("done" if whole else batch.why or "stopped")

    async def _feed(self, batch: Batch, group: asyncio.TaskGroup) -> None:
        room = asyncio.Semaphore(2 * self._service.workers)
        ended = {result.number for result in batch.results}
        for number in range(batch.total):
            if number in ended:
                continue
            await room.acquire()
            await self._turn(batch.user)
            item = group.create_task(self._one(batch, number))
            batch.items[item] = None
            item.add_done_callback(batch.items.pop)
            item.add_done_callback(lambda _: room.release())

    async def _turn(self, user: str) -> None:
        """Wait until the user's limit lets one more through."""
        while self._limits is not None:
            wait_s = await self._limits.take(user, self._now())
            if wait_s <= 0:
                return
            await asyncio.sleep(wait_s)

    async def _one(self, batch: Batch, number: int) -> None:
        past = batch.pasts.pop(batch.item_key(number), None)
        try:
            served = past.ended() if past else None
            result = batch.result(number, served or await self._served(batch, number, past))
        except Refused as refused:
            result = batch.refusal(number, refused.reason)
        if result.error in _NEVER:
            batch.cost_usd += result.cost_usd
            return
        if self._journal is not None:
            with suppress(InputError, OSError):  # its last attempt's line tells the same
                self._journal.ended(result)
        batch.add(result)

    async def _served(self, batch: Batch, number: int, past: Past | None) -> Served:
        """Have an item served, as soon as it is let in.

        Raises:
            Refused: it never is.
        """
        ask = Ask(
            review=batch.reviews[number],
            user=batch.user,
            session=batch.session,
            key=batch.item_key(number),
            interactive=False,
            batch=batch.number,
        )
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - it is a task's code
        while True:
            try:
                ticket = await self._service.enter(ask, past)
            except Refused as refused:
                if refused.retry_after_s is None:
                    raise
                await asyncio.sleep(refused.retry_after_s)
                continue
            if isinstance(ticket, Served):
                return ticket
            batch.items[task] = ticket
            return await self._service.wait(ticket)

    def _forget(self) -> None:
        ended = [name for name, batch in self._batches.items() if batch.status != "running"]
        for name in ended[: max(0, len(ended) - KEPT)]:
            self._keys.pop(self._batches.pop(name).key, None)
