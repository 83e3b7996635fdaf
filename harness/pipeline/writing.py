"""What an attempt came to, as a row: in the books, and in the conversation that it belongs to.

Nothing here waits or knows a clock: whoever makes the call says when it ended. A client over
sockets and a discrete-event twin write with the same object.
"""

from collections.abc import Callable

import msgspec

from harness.pipeline.answer import Answer
from harness.pipeline.books import Books, Tokens
from harness.pipeline.client import CallError, Stamps
from harness.pipeline.context import Context
from harness.pipeline.costs import cost_usd
from harness.pipeline.money import Kind, Ticket
from harness.pipeline.request import Request
from harness.pipeline.toolkit import Toolkit
from harness.records import HEDGE_LOST, Outcome, Record
from harness.scenario.pipeline import Pipeline

HEDGE = "~hedge"
"""What the request key of a second call ends in; see `mock_llm.rng.HEDGE`."""

Stopped = tuple[str, Outcome]
ContextOf = Callable[[Request], Context]


class Tried(msgspec.Struct, frozen=True, gc=False):
    """How an attempt went: its row, and the answer if there was one."""

    row: Record
    answer: Answer | None = None
    error: CallError | None = None


class Call(msgspec.Struct, frozen=True, gc=False):
    """An attempt on its way; `body` makes the bytes that are sent, for whoever needs them."""

    request: Request
    attempt: int
    model: str
    body: Callable[[], bytes]
    ticket: Ticket
    stamps: Stamps
    hedge: bool = False

    @property
    def key(self) -> str:
        """By which its provider knows it: a hedge must not take the weather of a retry."""
        return f"{self.request.item.key}{HEDGE}" if self.hedge else self.request.item.key


class Writer:
    """Writes attempts down.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        books: are kept of every attempt.
        context_of: the conversation that a request belongs to.
    """

    def __init__(
        self, settings: Pipeline, tools: Toolkit, books: Books, context_of: ContextOf
    ) -> None:
        self._set = settings
        self._tools = tools
        self._books = books
        self._context_of = context_of
        self._completion_tokens = 0

    def limit(self, request: Request, now: float) -> tuple[float | None, str]:
        """Seconds that an attempt may take, and what it is called when it takes longer."""
        limit = self._set.attempt_timeout_s
        if request.deadline is None:
            return limit, "attempt_timeout"
        left = max(0.0, request.deadline - now)
        return (left, "deadline") if limit is None or left < limit else (limit, "attempt_timeout")

    def begin(self, call: Call) -> None:
        """An attempt has its slot and is about to be sent; see `Books.begin`."""
        self._books.begin(
            call.request, call.attempt, call.model, call.ticket, lambda: self._guess(call.body())
        )

    def ok(self, call: Call, found: Answer, now: float) -> Tried:
        """An attempt was answered."""
        item = call.request.item
        self._context_of(call.request).add(item.number, item.review.text, found.text)
        prompt, completion, usd = found.prompt_tokens, found.completion_tokens, found.cost_usd
        untold = found.usage != "reported"
        if untold:
            prompt, completion = self._books.own_count(call.body(), found.text)
        self._completion_tokens = completion
        if usd is None:
            usd = cost_usd(self._tools.prices[call.model], prompt, completion)
        # By position, for names take their time: no error, no status but the stamped one, no hint.
        attempt, stamps, cached = call.attempt, call.stamps, found.cached_tokens
        row = call.request.row(
            attempt, stamps, now, "ok", call.model, "", None, None, prompt, cached, completion, usd
        )
        floor_usd = 0.0
        if self._set.budget is not None and not untold:
            floor_usd = self._books.floor_usd(call.model, call.body(), found.text)
        self._books.end(call.ticket, row, "useful", untold, stamps.generation, found, floor_usd)
        return Tried(row, found)

    def late(self, call: Call, word: str, now: float) -> Tried:
        """A time limit has struck an attempt."""
        error = CallError(word, call.stamps.status)
        return Tried(self._failed(call, error, "timed_out", "abandoned", now), None, error)

    def failed(self, call: Call, error: CallError, now: float) -> Tried:
        """An attempt gave no answer."""
        # Silence between two tokens is a time limit that struck, as much as any other.
        outcome: Outcome = "timed_out" if error.word == "stalled" else "failed"
        return Tried(self._failed(call, error, outcome, "failed", now), None, error)

    def cut(self, call: Call, why: Stopped, now: float) -> None:
        """An attempt was stopped by us: its row is left with its request."""
        error = CallError(why[0], call.stamps.status)
        kind: Kind = "duplicate" if why[0] == HEDGE_LOST else "abandoned"
        call.request.cut = self._failed(call, error, why[1], kind, now)

    def _guess(self, body: bytes) -> Tokens:
        """Of a call of which nothing is known but what was sent."""
        return Tokens(self._tools.count_tokens(body.decode()), self._completion_tokens)

    def _failed(
        self, call: Call, error: CallError, outcome: Outcome, kind: Kind, now: float
    ) -> Record:
        # An error status is refused before the model starts and costs nothing, nor does an error
        # reported inside a 200. What else was sent and not answered most providers bill in full.
        billed = call.stamps.t_sent is not None and call.stamps.status in {None, 200}
        billed = billed and error.word not in {"finish_error", "upstream_error"}
        tokens = self._guess(call.body()) if billed else Tokens(0, 0)
        row = call.request.row(
            call.attempt,
            call.stamps,
            now,
            outcome=outcome,
            model=call.model,
            error=error.word,
            status=error.status,
            retry_after_s=error.retry_after_s,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            cost_usd=cost_usd(self._tools.prices[call.model], *tokens),
        )
        self._books.end(call.ticket, row, kind, estimated=billed, generation=call.stamps.generation)
        return row
