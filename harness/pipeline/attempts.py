"""One attempt: a slot, a time limit, a call; and the row that tells how it went."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from harness.pipeline.answer import Answer
from harness.pipeline.books import Books, Tokens
from harness.pipeline.client import CallError, ChatClient, Stamps
from harness.pipeline.context import Context
from harness.pipeline.costs import cost_usd
from harness.pipeline.money import Kind, Ticket
from harness.pipeline.prompt import encode
from harness.pipeline.request import Request
from harness.pipeline.toolkit import Toolkit
from harness.records import HEDGE_LOST, Outcome, Record
from harness.scenario.pipeline import Pipeline

HEDGE = "~hedge"
"""What the request key of a second call ends in; see `mock_llm.rng.asked_key`."""

Stopped = tuple[str, Outcome]
ContextOf = Callable[[Request], Context]


class Tried(NamedTuple):
    """How an attempt went: its row, and the answer if there was one."""

    row: Record
    answer: Answer | None = None
    error: CallError | None = None


class Call(NamedTuple):
    """An attempt on its way."""

    request: Request
    attempt: int
    model: str
    body: bytes
    ticket: Ticket
    stamps: Stamps
    hedge: bool = False

    @property
    def key(self) -> str:
        """By which its provider knows it: a hedge must not take the weather of a retry."""
        return f"{self.request.item.key}{HEDGE}" if self.hedge else self.request.item.key

    def row(self, *, outcome: Outcome, **more: object) -> Record:
        """The attempt as a record; it ends now."""
        now = asyncio.get_running_loop().time()
        return self.request.row(
            self.attempt, self.stamps, now, outcome=outcome, model=self.model, **more
        )


class Attempts:
    """Makes attempts, one at a time or side by side.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        client: does the calls.
        books: are kept of every attempt.
        context_of: the conversation that a request belongs to.
        stopped: why a request is being cancelled, and its outcome; None when it is not by us.
    """

    def __init__(
        self,
        settings: Pipeline,
        tools: Toolkit,
        client: ChatClient,
        books: Books,
        context_of: ContextOf,
        stopped: Callable[[Request], Stopped | None],
    ) -> None:
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._set = settings
        self._tools = tools
        self._client = client
        self._books = books
        self._context_of = context_of
        self._stopped = stopped
        self._completion_tokens = 0

    @property
    def in_use(self) -> int:
        """Slots that are taken."""
        return self._set.concurrency - self._slots._value  # noqa: SLF001 - it tells nothing else

    def why(self, request: Request) -> Stopped | None:
        """Why a request is being cancelled, and its outcome; None when it is not by us."""
        return request.stop or self._stopped(request)

    def body(self, request: Request, model: str) -> bytes:
        """What is sent for a request, with what its conversation holds by now."""
        exchanges = self._context_of(request).to_send()
        return encode(self._set, model, exchanges, request.item.review.text)

    async def make(
        self,
        request: Request,
        attempt: int,
        model: str,
        body: bytes,
        ticket: Ticket,
        *,
        hedge: bool = False,
    ) -> Tried:
        """Make one; a cancellation that is ours is written down in `request.cut`."""
        call = Call(request, attempt, model, body, ticket, Stamps(), hedge)
        stamps = call.stamps
        request.t_slot = None
        now = asyncio.get_running_loop().time
        limit, late = self._limit(request, now())
        try:
            async with asyncio.timeout(limit):
                if self._set.slot == "inside_timeout":
                    async with self._slots:
                        found = await self._call(call)
                else:
                    found = await self._call(call)
        except TimeoutError:
            error = CallError(late, stamps.status)
            return Tried(self._failed(call, error, "timed_out", "abandoned"), None, error)
        except CallError as caught:
            # Silence between two tokens is a time limit that struck, as much as any other.
            outcome: Outcome = "timed_out" if caught.word == "stalled" else "failed"
            return Tried(self._failed(call, caught, outcome, "failed"), None, caught)
        except asyncio.CancelledError:
            if (why := self.why(request)) is not None:
                error = CallError(why[0], stamps.status)
                kind: Kind = "duplicate" if why[0] == HEDGE_LOST else "abandoned"
                request.cut = self._failed(call, error, why[1], kind)
            raise
        else:
            return Tried(self._ok(call, found), found)

    def _limit(self, request: Request, now: float) -> tuple[float | None, str]:
        """Seconds that an attempt may take, and what it is called when it takes longer."""
        limit = self._set.attempt_timeout_s
        if request.deadline is None:
            return limit, "attempt_timeout"
        left = max(0.0, request.deadline - now)
        return (left, "deadline") if limit is None or left < limit else (limit, "attempt_timeout")

    async def _call(self, call: Call) -> Answer:
        request = call.request
        request.t_slot = asyncio.get_running_loop().time()
        self._books.begin(
            request, call.attempt, call.model, call.ticket, lambda: self._guess(call.body)
        )
        return await self._client.call(call.body, call.key, call.attempt, call.stamps)

    def _ok(self, call: Call, found: Answer) -> Record:
        item = call.request.item
        self._context_of(call.request).add(item.number, item.review.text, found.text)
        tokens, usd = Tokens(found.prompt_tokens, found.completion_tokens), found.cost_usd
        untold = found.usage != "reported"
        if untold:
            tokens = self._books.own_count(call.body, found.text)
        self._completion_tokens = tokens.completion
        if usd is None:
            usd = cost_usd(self._tools.prices[call.model], *tokens)
        row = call.row(
            outcome="ok",
            prompt_tokens=tokens.prompt,
            cached_tokens=found.cached_tokens,
            completion_tokens=tokens.completion,
            cost_usd=usd,
        )
        floor = 0.0 if untold else self._books.floor_usd(call.model, call.body, found.text)
        self._books.end(
            call.ticket,
            row,
            "useful",
            estimated=untold,
            generation=call.stamps.generation,
            answer=found,
            floor_usd=floor,
        )
        return row

    def _guess(self, body: bytes) -> Tokens:
        """Of a call of which nothing is known but what was sent."""
        return Tokens(self._tools.count_tokens(body.decode()), self._completion_tokens)

    def _failed(self, call: Call, error: CallError, outcome: Outcome, kind: Kind) -> Record:
        # An error status is refused before the model starts and costs nothing, nor does an error
        # reported inside a 200. What else was sent and not answered most providers bill in full.
        billed = call.stamps.t_sent is not None and call.stamps.status in {None, 200}
        billed = billed and error.word not in {"finish_error", "upstream_error"}
        tokens = self._guess(call.body) if billed else Tokens(0, 0)
        row = call.row(
            outcome=outcome,
            error=error.word,
            status=error.status,
            retry_after_s=error.retry_after_s,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            cost_usd=cost_usd(self._tools.prices[call.model], *tokens),
        )
        self._books.end(call.ticket, row, kind, estimated=billed, generation=call.stamps.generation)
        return row
