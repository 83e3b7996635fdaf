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
from harness.pipeline.attempts import Attempts
from harness.pipeline.books import NO_MONEY
from harness.pipeline.cache import AnswerCache, cache_key
from harness.pipeline.client import ChatClient
from harness.pipeline.deciding import Deciding
from harness.pipeline.gate import Gate
from harness.pipeline.guards import was_dropped
from harness.pipeline.limits import UserLimits
from harness.pipeline.money import Refused
from harness.pipeline.race import Racer
from harness.pipeline.request import Item, Request
from harness.pipeline.toolkit import Toolkit
from harness.pipeline.writing import ContextOf, Stopped, Tried
from harness.records import Record
from harness.scenario.pipeline import Pipeline


class Processor(Deciding):
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
        now = asyncio.get_running_loop().time
        super().__init__(
            settings,
            tools,
            now,
            add=add,
            context_of=context_of,
            stopped=stopped,
            limits=limits,
        )
        self.attempts = Attempts(settings, client, self.writer, context_of, self.why)
        self.flights: dict[bytes, asyncio.Event] = {}
        self._cache = cache
        hedger = self.guards.hedger
        self._racer = Racer(self.attempts, self.books, hedger, add) if hedger else None

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
            self._add(self._too_late(request))
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

    async def _try(self, request: Request, tries: int) -> Tried | None:
        """One attempt within the slots that there are; None when there is no money for it."""
        gate = self.guards.gate
        if gate is None:
            tried = await self._chosen(request, tries)
        else:
            tried = await self._through(gate, request, tries)
        return None if tried is None else self._counted(request, tried)

    async def _through(self, gate: Gate, request: Request, tries: int) -> Tried | None:
        try:
            async with asyncio.timeout_at(request.deadline):
                await gate.enter()
        except TimeoutError:
            return Tried(self._too_late(request))
        row = None
        try:
            tried = await self._chosen(request, tries)
            row = None if tried is None else tried.row
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

    async def _again(self, request: Request, tried: Tried, tries: int) -> bool:
        """Back off; return whether there shall be another attempt."""
        wait = self._wait_s(request, tried, tries)
        if wait is None:
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
        wait = self._turn_s(request)
        if wait is None:
            return False
        if wait > 0:
            await asyncio.sleep(wait)
        request.t_limited = self._now()
        return True

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is in use: no slot, no flight."""
        gate = self.guards.gate
        return not (self.flights or self.attempts.in_use or (gate and gate.in_flight))
