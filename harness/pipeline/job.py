"""A batch job: reviews in, one record per attempt and one answer per review out.

A worker backs off in its slot, so that a throttled provider meets fewer callers and not more. Every
way that an attempt can end becomes a row; what was in flight when the job was stopped does too.
"""

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from harness.pipeline.answer import Answer
from harness.pipeline.cache import ExactCache, cache_key
from harness.pipeline.client import CallError, ChatClient, Stamps
from harness.pipeline.context import Context
from harness.pipeline.costs import Price, cost_usd
from harness.pipeline.dispatch import OUTCOME_OF_STOP, Dispatch, Stop
from harness.pipeline.limits import UserLimits
from harness.pipeline.progress import Meter, Progress
from harness.pipeline.prompt import encode
from harness.pipeline.request import Item, Request
from harness.pipeline.retry import backoff_s, may_pass
from harness.records import Outcome, Record
from harness.scenario.pipeline import Pipeline


class Toolkit(msgspec.Struct, frozen=True, kw_only=True):
    """What a job is handed: no clock, no randomness and no price list of its own.

    Attributes:
        base_url: of the provider, such as `https://host/api/v1`.
        api_key: sent as Bearer token, never stored.
        prices: by model id.
        uniform: keyed uniforms in (0, 1): (stream, key, draw).
        count_tokens: estimates the tokens of a text, for what was sent and never answered.
        router_version: part of every cache key.
        on_progress: called at the end of each batch.
    """

    base_url: str
    api_key: str
    prices: dict[str, Price]
    uniform: Callable[[str, str, int], float]
    count_tokens: Callable[[str], int]
    router_version: str = ""
    on_progress: Callable[[Progress], None] | None = None


class Job:
    """One run of a batch over its items.

    Attributes:
        records: rows so far.
        answers: request key -> answer, of requests that succeeded.
        context: what the conversation holds.
    """

    def __init__(self, items: Sequence[Item], settings: Pipeline, tools: Toolkit) -> None:
        self.records: list[Record] = []
        self.answers: dict[str, Answer] = {}
        self.context = Context(settings.context, settings.context_exchanges)
        self._items = items
        self._set = settings
        self._tools = tools
        self._dispatch = Dispatch(items, settings, self._handle)
        self._client = ChatClient(settings, tools.base_url, tools.api_key)
        self._cache = ExactCache() if settings.cache == "memory" else None
        self._flights: dict[bytes, asyncio.Event] = {}
        self._limits = UserLimits(settings.rate_limit) if settings.rate_limit else None
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._meter = Meter(len(items), settings.batch_size or 10, tools.on_progress)
        self._completion_tokens = 0

    @property
    def stopped(self) -> Stop | None:
        """Why the job was ended before its end, or None."""
        return self._dispatch.stopped

    def stop(self, reason: Stop) -> None:
        """End the job now; to be called from the loop."""
        self._dispatch.stop(reason)

    async def run(self) -> None:
        """Serve every item; after it each of them has a row, unless the job was interrupted."""
        self._now = asyncio.get_running_loop().time
        self._meter.start(self._now())
        async with self._client:
            await self._dispatch.run()
        if self.stopped == "job_deadline":
            self._close_unstarted()

    async def _handle(self, item: Item, worker: int, queued: float) -> None:
        request = Request(item, worker, queued, self._now(), "miss" if self._cache else "")
        if self._cache is None:
            await self._send(request)
        else:
            await self._send_once(self._cache, request)
        self._meter.done(self._now())

    async def _send_once(self, cache: ExactCache, request: Request) -> None:
        """Answer from the cache; of identical requests in flight only the first is sent."""
        item = request.item
        key = cache_key(item.review.text, self._tools.router_version, item.route.model)
        while (flight := self._flights.get(key)) is not None:
            try:
                await flight.wait()
            except asyncio.CancelledError:
                self._close(request, 0)
                raise
        if (held := cache.get(key, self._now())) is not None:
            self._add(request.hit(held, self._now()))
            self.answers[item.key] = held
            return
        flight = self._flights[key] = asyncio.Event()
        try:
            await self._send(request)
            if (found := self.answers.get(item.key)) is not None:
                cache.put(key, found, self._now())
        finally:
            del self._flights[key]
            flight.set()

    async def _send(self, request: Request) -> None:
        """Attempt after attempt, until one is answered or it makes no sense to go on."""
        attempt = 0
        try:
            await self._pass_limit(request)
            for attempt in range(1, self._set.retries + 2):
                row = await self._attempt(request, attempt)
                self._add(row)
                if row.outcome == "ok" or not may_pass(row.status):
                    return
                if attempt <= self._set.retries:
                    u = self._tools.uniform("client.backoff", request.item.key, attempt)
                    wait = backoff_s(self._set.backoff, attempt, row.retry_after_s, u)
                    await asyncio.sleep(wait)
                    request.back(self._now())
        except asyncio.CancelledError:
            self._close(request, attempt)
            raise

    async def _pass_limit(self, request: Request) -> None:
        if self._limits is not None:
            now = self._now()
            start = self._limits.reserve(request.item.user, now)
            if start > now:
                await asyncio.sleep(start - now)
        request.t_limited = self._now()

    async def _attempt(self, request: Request, attempt: int) -> Record:
        item = request.item
        body = encode(self._set, item.route.model, self.context.to_send(), item.review.text)
        stamps = Stamps()
        request.t_slot = None
        try:
            async with asyncio.timeout(self._set.attempt_timeout_s):
                if self._set.slot == "inside_timeout":
                    async with self._slots:
                        found = await self._call(request, body, attempt, stamps)
                else:
                    found = await self._call(request, body, attempt, stamps)
        except TimeoutError:
            error = CallError("attempt_timeout", stamps.status)
            outcome: Outcome = "timed_out"
        except CallError as caught:
            error, outcome = caught, "failed"
        except asyncio.CancelledError:
            if self.stopped is None:
                raise
            error = CallError(self.stopped, stamps.status)
            self._add(self._failed(request, attempt, stamps, error, self._stop_outcome, body))
            request.closed = True
            raise
        else:
            return self._ok(request, attempt, stamps, found)
        return self._failed(request, attempt, stamps, error, outcome, body)

    async def _call(self, request: Request, body: bytes, attempt: int, stamps: Stamps) -> Answer:
        request.t_slot = self._now()
        return await self._client.call(body, request.item.key, attempt, stamps)

    def _ok(self, request: Request, attempt: int, stamps: Stamps, found: Answer) -> Record:
        item = request.item
        self.answers[item.key] = found
        self.context.add(item.number, item.review.text, found.text)
        self._completion_tokens = found.completion_tokens
        usd = found.cost_usd
        if usd is None:
            price = self._tools.prices[item.route.model]
            usd = cost_usd(price, found.prompt_tokens, found.completion_tokens)
        return request.row(
            attempt,
            stamps,
            self._now(),
            outcome="ok",
            prompt_tokens=found.prompt_tokens,
            cached_tokens=found.cached_tokens,
            completion_tokens=found.completion_tokens,
            cost_usd=usd,
        )

    def _failed(
        self,
        request: Request,
        attempt: int,
        stamps: Stamps,
        error: CallError,
        outcome: Outcome,
        body: bytes,
    ) -> Record:
        # An error status is refused before the model starts and costs nothing, nor does an error
        # reported inside a 200. What else was sent and not answered most providers bill in full.
        billed = stamps.t_sent is not None and stamps.status in {None, 200}
        billed = billed and error.word not in {"finish_error", "upstream_error"}
        prompt = self._tools.count_tokens(body.decode()) if billed else 0
        completion = self._completion_tokens if billed else 0
        price = self._tools.prices[request.item.route.model]
        return request.row(
            attempt,
            stamps,
            self._now(),
            outcome=outcome,
            error=error.word,
            status=error.status,
            retry_after_s=error.retry_after_s,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_usd=cost_usd(price, prompt, completion),
        )

    @property
    def _stop_outcome(self) -> Outcome:
        return OUTCOME_OF_STOP[self.stopped or "interrupted"]

    def _close(self, request: Request, attempt: int) -> None:
        """Write down a request that was stopped while nothing of it was on the wire."""
        if self.stopped is None or request.closed:
            return
        if attempt:
            request.back(self._now())
        row = request.row(
            attempt + 1 if attempt else 0,
            Stamps(),
            self._now(),
            outcome=self._stop_outcome,
            error=self.stopped,
        )
        self._add(row)

    def _close_unstarted(self) -> None:
        """After a missed deadline every review that never started is late as well."""
        began, now = self._dispatch.began, self._now()
        for item in self._items:
            if item.key not in self._dispatch.started:
                # Late since the job began: nobody ever let it in.
                request = Request(item, 0, began, began, "")
                request.t_admitted = None
                row = request.row(0, Stamps(), now, outcome="timed_out", error="job_deadline")
                self._add(row)

    def _add(self, row: Record) -> None:
        self.records.append(row)
        self._meter.spent(row)
