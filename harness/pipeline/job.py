"""A batch job: reviews in, one record per attempt and one answer per review out."""

import asyncio
from collections.abc import Sequence

from harness.errors import InputError
from harness.pipeline.answer import Answer
from harness.pipeline.client import ChatClient
from harness.pipeline.common import Common
from harness.pipeline.context import Context
from harness.pipeline.dispatch import OUTCOME_OF_STOP, Dispatch, Stop
from harness.pipeline.journal import Replayed
from harness.pipeline.limits import UserLimits
from harness.pipeline.money import Statistics
from harness.pipeline.processor import Processor
from harness.pipeline.progress import Meter
from harness.pipeline.request import Item, Request
from harness.pipeline.toolkit import Toolkit
from harness.records import Outcome, Record, moved
from harness.scenario.pipeline import Pipeline


class Job:
    """One run of a batch over its items.

    Attributes:
        records: rows so far.
        answers: request key -> answer, of requests that succeeded.
        context: what the conversation holds.
        origin: the loop's time at its start; see `Books`.
        processor: what serves the requests; None before the run.
    """

    def __init__(self, items: Sequence[Item], settings: Pipeline, tools: Toolkit) -> None:
        self.records: list[Record] = []
        self.answers: dict[str, Answer] = {}
        self.context = Context(settings.context, settings.context_exchanges)
        self.origin = 0.0
        self.processor: Processor | None = None
        self._items = items
        self._set = settings
        self._tools = tools
        self._before = before = tools.replayed or Replayed()
        self._dispatch = Dispatch(
            [item for item in items if item.key not in before.done], settings, self._handle
        )
        self._meter = Meter(len(items), settings.batch_size or 10, tools.on_progress)

    @property
    def stopped(self) -> Stop | None:
        """Why the job was ended before its end, or None."""
        broke = self.processor is not None and self.processor.books.broke
        return self._dispatch.stopped or ("budget" if broke else None)

    @property
    def money(self) -> Statistics:
        """Where the money of the run is."""
        return self._tools.purse.statistics()

    @property
    def in_doubt(self) -> tuple[Record, ...]:
        """Attempts of an earlier process that may have been paid, and are made again."""
        return tuple(self._before.in_doubt)

    @property
    def generations(self) -> dict[str, Record]:
        """The provider's id -> row, of an endpoint that is metered."""
        return {} if self.processor is None else self.processor.books.generations

    def stop(self, reason: Stop) -> None:
        """End the job now; to be called from the loop."""
        self._dispatch.stop(reason)

    async def run(self) -> None:
        """Serve every item; after it each of them has a row, unless the job was interrupted."""
        self._now = asyncio.get_running_loop().time
        self._meter.start(self._now())
        common, tools = Common(self._set), self._tools
        client = ChatClient(self._set, tools.base_url, tools.api_key.reveal(), tools.ca_file)
        async with client:
            self.processor = Processor(
                self._set,
                self._tools,
                client,
                add=self._add,
                context_of=lambda _: self.context,
                stopped=self._why_stopped,
                limits=limits_of_job(self._set),
                cache=common.cache,
            )
            self.origin = self.processor.books.origin
            await self._go_on(self.processor)
            try:
                await self._dispatch.run()
            except ExceptionGroup as group:
                bad, _ = group.split(InputError)
                raise bad.exceptions[0] if bad else group from None
            finally:
                await common.close()
        if self.stopped == "job_deadline":
            self._close_unstarted(self._now())

    async def _go_on(self, processor: Processor) -> None:
        """Take over what an earlier process has done."""
        before = self._before
        self.records += [moved(row, self.origin) for row in before.rows]
        self.answers.update(before.answers)
        for item in self._items:
            if (answer := before.answers.get(item.key)) is not None:
                self.context.add(item.number, item.review.text, answer.text)
                await processor.remember(item, answer)
        self._meter.skip(len(before.done))

    async def _handle(self, item: Item, worker: int, queued: float) -> None:
        assert self.processor is not None  # noqa: S101 - made before anything is dispatched
        request = self._request(item, worker, queued, self._now())
        self._done(item, await self.processor.handle(request), self._now())

    def _request(self, item: Item, worker: int, queued: float, now: float) -> Request:
        limit = self._set.deadline_s
        deadline = None if limit is None else now + limit
        request = Request(item, worker, queued, now, now, deadline=deadline)
        request.made = self._before.made.get(item.key, 0)
        request.failures = self._before.failures.get(item.key, 0)
        return request

    def _done(self, item: Item, answer: Answer | None, now: float) -> None:
        if answer is not None:
            self.answers[item.key] = answer
        self._meter.done(now)

    def _why_stopped(self, _: Request) -> tuple[str, Outcome] | None:
        why = self._dispatch.stopped
        return why and (why, OUTCOME_OF_STOP[why])

    def _close_unstarted(self, now: float) -> None:
        """After a missed deadline every review that never started is late as well."""
        began = self._dispatch.began
        for item in self._items:
            if item.key not in self._dispatch.started | self._before.done:
                # Late since the job began: nobody ever let it in.
                request = Request(item, 0, began, began, began)
                request.t_admitted = None
                self._add(request.unsent(now, "timed_out", "job_deadline"))

    def _add(self, row: Record) -> None:
        self.records.append(row)
        self._meter.spent(row)


def limits_of_job(settings: Pipeline) -> UserLimits | None:
    """A job waits for its users' turns, which it can book: it is alone with them."""
    if settings.rate_limit is None:
        return None
    return UserLimits(settings.rate_limit, kind=settings.limiter)
