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
from harness.pipeline.cache import AnswerCache, cache_key
from harness.pipeline.client import ChatClient, Stamps
from harness.pipeline.gate import Gate
from harness.pipeline.guards import Guards, was_dropped
from harness.pipeline.limits import UserLimits
from harness.pipeline.money import Refused
from harness.pipeline.race import Racer
from harness.pipeline.request import Item, Request
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
        cache: of answers; None: every request is sent.

    Attributes:
        flights: by cache key, what is being asked and others wait for.
        backing_off: requests that wait for their next attempt.
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
        cache: AnswerCache | None = None,
    ) -> None:
        self.books = Books(settings, tools)
        self.attempts = Attempts(settings, tools, client, self.books, context_of, stopped)
        self.flights: dict[bytes, asyncio.Event] = {}
        self.backing_off = 0
        self._set = settings
        self._tools = tools
        self._add = add
        self._stopped = stopped
        self._limits = limits
        self._cache = cache
        self.guards = Guards(settings)
        hedger = self.guards.hedger
        self._racer = Racer(self.attempts, self.books, hedger, add) if hedger else None
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

    async def remember(self, item: Item, answer: Answer) -> None:
        """An earlier process was answered: repeats need not be sent."""
        if self._cache is not None:
            text = item.review.text
            key = cache_key(text, self._tools.router_version, item.route.model)
            await self._cache.put(key, text, answer, self._now())

    async def _send_once(self, cache: AnswerCache, request: Request) -> Answer | None:
        """Answer from the cache; of identical requests in flight only the first is sent."""
        request.cache = "miss"
        item = request.item
        text = item.review.text
        key = cache_key(text, self._tools.router_version, item.route.model)
        while (flight := self.flights.get(key)) is not None:
            if not await self._outlive(flight, request):
                return None
        flight = self.flights[key] = asyncio.Event()
        try:
            if (held := await self._held(cache, key, request)) is not None:
                return held
            found = await self._send(request)
            if found is not None:
                await cache.put(key, text, found, self._now())
        finally:
            del self.flights[key]
            flight.set()
        return found

    async def _outlive(self, flight: asyncio.Event, request: Request) -> bool:
        """Wait for somebody's identical request; return whether there was time for it."""
        try:
            async with asyncio.timeout_at(request.deadline):
                await flight.wait()
        except TimeoutError:
            row = request.unsent(self._now(), "timed_out", "deadline")
            self.books.note(row)
            self._add(row)
            return False
        except asyncio.CancelledError:
            self._close(request)
            raise
        return True

    async def _held(self, cache: AnswerCache, key: bytes, request: Request) -> Answer | None:
        """An answer out of the cache, written down as a hit."""
        try:
            held = await cache.get(key, request.item.review.text, self._now())
        except asyncio.CancelledError:
            self._close(request)
            raise
        if held is None:
            return None
        row = request.hit(held.answer, self._now(), near=held.how == "near")
        self.books.note(row, held.answer)
        self._add(row)
        return held.answer

    async def _send(self, request: Request) -> Answer | None:
        """Attempt after attempt, until one is answered or it makes no sense to go on."""
        try:
            if self.books.broke or not await self._pass_limit(request):
                self._give_up(request, NO_MONEY if self.books.broke else "rate_limit")
                return None
            for failures in range(request.failures + 1, self._set.retries + 2):
                tried = await self._try(request, failures)
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

    async def _try(self, request: Request, tries: int) -> Tried | None:
        """One attempt within the slots that there are; None when there is no money for it."""
        gate = self.guards.gate
        if gate is None:
            tried = await self._chosen(request, tries)
        else:
            tried = await self._through(gate, request, tries)
        if tried is not None:
            request.made += 1
            self._add(tried.row)
            if tried.row.status == 402:
                self.books.refused(passing=bool(tried.error and tried.error.passing))
        return tried

    async def _through(self, gate: Gate, request: Request, tries: int) -> Tried | None:
        try:
            async with asyncio.timeout_at(request.deadline):
                await gate.enter()
        except TimeoutError:
            late = request.unsent(self._now(), "timed_out", "deadline")
            self.books.note(late)
            return Tried(late)
        row = None
        try:
            tried = await self._chosen(request, tries)
            row = tried and tried.row
        finally:
            if row is None or row.t_sent is None:
                gate.leave()
            else:
                latency_s = row.t_end - row.t_sent
                gate.ended(self._now(), latency_s, dropped=was_dropped(row))
        return tried

    async def _chosen(self, request: Request, tries: int) -> Tried | None:
        """An attempt at the model whose turn it is, of which the guards are told."""
        begun = self._now()
        model = self.guards.model(request, tries, begun)
        if model is None:
            return self._broken(request)
        # At once: who asks next has to find that this one is let through.
        self.guards.begin(model, begun, first=tries == 1)
        try:
            tried = await self._paid(request, model)
        except BaseException:
            self.guards.given_up(model, begun, self._now())
            raise
        if tried is None:
            self.guards.given_up(model, begun, self._now())
        else:
            self.guards.end(tried.row, begun, self._now())
        return tried

    async def _paid(self, request: Request, model: str) -> Tried | None:
        """An attempt, for which there has to be money."""
        body = self.attempts.body(request, model)
        ticket = await self.books.reserve(request, model, body)
        if isinstance(ticket, Refused):
            return None
        if self._racer is not None:
            return await self._racer.run(request, model, body, ticket)
        return await self.attempts.make(request, request.made + 1, model, body, ticket)

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

    async def _again(self, request: Request, tried: Tried, tries: int) -> bool:
        """Back off; return whether there shall be another attempt."""
        row, now = tried.row, self._now()
        known = tried.error.passing if tried.error else None
        passing = may_pass(row.status, passing=known) or self.guards.may_fall_back(
            request, row, tries
        )
        longest = self._set.backoff.longest_hint_s
        if longest is not None and (row.retry_after_s or 0.0) > longest:
            passing = self.guards.has_other(request, tries)
        if tries > self._set.retries or not passing:
            return False
        wait = 0.0
        if not self.guards.has_other(request, tries):  # else that one has done us no harm
            u = self._tools.uniform("client.backoff", request.item.key, request.made)
            backoff = self._set.backoff
            wait = backoff_s(backoff, tries, row.retry_after_s, u, request.waited_s)
        request.waited_s = wait
        if request.deadline is not None and now + wait >= request.deadline:
            return False  # it would only be late: the cause so far stands
        if not self.guards.may_retry(now):
            return False
        self.backing_off += 1
        try:
            await asyncio.sleep(wait)
        finally:
            self.backing_off -= 1
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
        gate = self.guards.gate
        return not (self.flights or self.attempts.in_use or (gate and gate.in_flight))
