"""One request from its admission to its final outcome, whoever asked for it.

A batch job and the service hand their requests to the same object. It looks into the cache, waits
for the limit per user, and makes attempt after attempt until one is answered or it makes no sense
to go on. Every way that an attempt can end becomes a row; so does what was in flight when the
request was stopped.

A request keeps its worker while it backs off, so that a throttled provider meets fewer callers and
not more.
"""

import asyncio
from collections.abc import Callable

from harness.pipeline.answer import Answer
from harness.pipeline.attempts import Attempts, ContextOf, Stopped, Tried
from harness.pipeline.books import NO_MONEY, Books
from harness.pipeline.cache import ExactCache, cache_key
from harness.pipeline.client import ChatClient
from harness.pipeline.limits import UserLimits
from harness.pipeline.money import Refused
from harness.pipeline.request import Request
from harness.pipeline.retry import backoff_s, may_pass
from harness.pipeline.toolkit import Toolkit
from harness.records import Record
from harness.scenario.pipeline import Pipeline


class Processor:
    """Serves requests.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        client: does the calls; opened and closed by whoever made it.
        add: is handed every row.
        context_of: the conversation that a request belongs to.
        stopped: why a request is being cancelled, and its outcome; None when it is not by us.
        limits: of the users; None: whoever calls has seen to them.
    """

    def __init__(
        self,
        settings: Pipeline,
        tools: Toolkit,
        client: ChatClient,
        *,
        add: Callable[[Record], None],
        context_of: ContextOf,
        stopped: Callable[[Request], Stopped | None],
        limits: UserLimits | None = None,
    ) -> None:
        self.books = Books(settings, tools)
        self.attempts = Attempts(settings, tools, client, self.books, context_of, stopped)
        self.flights: dict[bytes, asyncio.Event] = {}
        self._set = settings
        self._tools = tools
        self._add = add
        self._stopped = stopped
        self._limits = limits
        self._cache = ExactCache() if settings.cache == "memory" else None
        self._now = asyncio.get_running_loop().time

    async def handle(self, request: Request) -> Answer | None:
        """Serve a request; afterwards it has its rows, unless a cancellation was not ours.

        Returns:
            The answer; None when it came to nothing.
        """
        if self._cache is None:
            answer = await self._send(request)
        else:
            answer = await self._send_once(self._cache, request)
        if answer is None and not request.unpaid:
            self.books.done(request.item.key)
        return answer

    async def _send_once(self, cache: ExactCache, request: Request) -> Answer | None:
        """Answer from the cache; of identical requests in flight only the first is sent."""
        request.cache = "miss"
        item = request.item
        key = cache_key(item.review.text, self._tools.router_version, item.route.model)
        while (flight := self.flights.get(key)) is not None:
            try:
                await flight.wait()
            except asyncio.CancelledError:
                self._close(request)
                raise
        if (held := cache.get(key, self._now())) is not None:
            row = request.hit(held, self._now())
            self.books.note(row, held)
            self._add(row)
            return held
        flight = self.flights[key] = asyncio.Event()
        try:
            found = await self._send(request)
            if found is not None:
                cache.put(key, found, self._now())
        finally:
            del self.flights[key]
            flight.set()
        return found

    async def _send(self, request: Request) -> Answer | None:
        """Attempt after attempt, until one is answered or it makes no sense to go on."""
        try:
            if self.books.broke or not await self._pass_limit(request):
                self._give_up(request, NO_MONEY if self.books.broke else "rate_limit")
                return None
            for failures in range(request.failures + 1, self._set.retries + 2):
                tried = await self._try(request)
                if tried is None:
                    self._give_up(request, NO_MONEY)
                    return None
                if tried.answer is not None or not await self._again(request, tried, failures):
                    return tried.answer
        except asyncio.CancelledError:
            self._close(request)
            raise
        return None

    def _give_up(self, request: Request, why: str) -> None:
        """Reject a request while nothing of it is on the wire."""
        row = request.unsent(self._now(), "rejected", why)
        request.unpaid = why == NO_MONEY
        if not request.unpaid:  # else it is for a run with more money to go on with
            self.books.note(row)
        self._add(row)

    async def _try(self, request: Request) -> Tried | None:
        """One attempt; None when there is no money for it."""
        model = request.item.route.model
        body = self.attempts.body(request, model)
        ticket = await self.books.reserve(request, model, body)
        if isinstance(ticket, Refused):
            return None
        tried = await self.attempts.make(request, request.made + 1, model, body, ticket)
        request.made += 1
        self._add(tried.row)
        if tried.row.status == 402:
            self.books.refused(passing=bool(tried.error and tried.error.passing))
        return tried

    async def _again(self, request: Request, tried: Tried, failures: int) -> bool:
        """Back off; return whether there shall be another attempt."""
        row, known = tried.row, tried.error.passing if tried.error else None
        if failures > self._set.retries or not may_pass(row.status, passing=known):
            return False
        u = self._tools.uniform("client.backoff", request.item.key, request.made)
        wait = backoff_s(self._set.backoff, failures, row.retry_after_s, u)
        if request.deadline is not None and self._now() + wait >= request.deadline:
            return False  # it would only be late: the cause so far stands
        await asyncio.sleep(wait)
        request.back(self._now())
        return True

    async def _pass_limit(self, request: Request) -> bool:
        """Wait for one's turn; a request whose turn comes too late is rejected at once."""
        if self._limits is not None:
            now = self._now()
            start = self._limits.reserve(request.item.user, now)
            if request.deadline is not None and start >= request.deadline:
                return False
            if start > now:
                await asyncio.sleep(start - now)
        request.t_limited = self._now()
        return True

    def _close(self, request: Request) -> None:
        """Write down a request that was stopped."""
        if request.cut is not None:  # in the middle of an attempt
            self._add(request.cut)
            return
        why = request.stop or self._stopped(request)
        if why is None:
            return
        if request.made:
            request.back(self._now())
        self._add(request.unsent(self._now(), why[1], why[0]))

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is in use: no slot, no flight."""
        return not self.flights and not self.attempts.in_use
