"""One attempt: a slot, a time limit, a call; and the row that tells how it went."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from harness.pipeline.answer import Answer
from harness.pipeline.client import CallError, ChatClient, Stamps
from harness.pipeline.context import Context
from harness.pipeline.costs import cost_usd
from harness.pipeline.prompt import encode
from harness.pipeline.request import Request
from harness.pipeline.toolkit import Toolkit
from harness.records import Outcome, Record
from harness.scenario.pipeline import Pipeline

Stopped = tuple[str, Outcome]
ContextOf = Callable[[Request], Context]


class Tried(NamedTuple):
    """How an attempt went: its row, and the answer if there was one."""

    row: Record
    answer: Answer | None = None
    error: CallError | None = None


class Attempts:
    """Makes attempts, one at a time or side by side.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        client: does the calls.
        context_of: the conversation that a request belongs to.
        stopped: why a request is being cancelled, and its outcome; None when it is not by us.
    """

    def __init__(
        self,
        settings: Pipeline,
        tools: Toolkit,
        client: ChatClient,
        context_of: ContextOf,
        stopped: Callable[[Request], Stopped | None],
    ) -> None:
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._set = settings
        self._tools = tools
        self._client = client
        self._context_of = context_of
        self._stopped = stopped
        self._completion_tokens = 0

    @property
    def in_use(self) -> int:
        """Slots that are taken."""
        return self._set.concurrency - self._slots._value  # noqa: SLF001 - it tells nothing else

    def body(self, request: Request, model: str) -> bytes:
        """What is sent for a request, with what its conversation holds by now."""
        exchanges = self._context_of(request).to_send()
        return encode(self._set, model, exchanges, request.item.review.text)

    async def make(self, request: Request, attempt: int, model: str, body: bytes) -> Tried:
        """Make one; a cancellation that is ours is written down in `request.cut`."""
        stamps = Stamps()
        request.t_slot = None
        now = asyncio.get_running_loop().time
        limit, late = self._limit(request, now())
        try:
            async with asyncio.timeout(limit):
                if self._set.slot == "inside_timeout":
                    async with self._slots:
                        found = await self._call(request, body, attempt, stamps)
                else:
                    found = await self._call(request, body, attempt, stamps)
        except TimeoutError:
            error = CallError(late, stamps.status)
            outcome: Outcome = "timed_out"
        except CallError as caught:
            error, outcome = caught, "failed"
        except asyncio.CancelledError:
            if (why := request.stop or self._stopped(request)) is not None:
                error = CallError(why[0], stamps.status)
                request.cut = self._failed(request, attempt, model, stamps, error, why[1], body)
            raise
        else:
            return Tried(self._ok(request, attempt, model, stamps, found), found)
        return Tried(
            self._failed(request, attempt, model, stamps, error, outcome, body), None, error
        )

    def _limit(self, request: Request, now: float) -> tuple[float | None, str]:
        """Seconds that an attempt may take, and what it is called when it takes longer."""
        limit = self._set.attempt_timeout_s
        if request.deadline is None:
            return limit, "attempt_timeout"
        left = max(0.0, request.deadline - now)
        return (left, "deadline") if limit is None or left < limit else (limit, "attempt_timeout")

    async def _call(self, request: Request, body: bytes, attempt: int, stamps: Stamps) -> Answer:
        request.t_slot = asyncio.get_running_loop().time()
        return await self._client.call(body, request.item.key, attempt, stamps)

    def _ok(
        self, request: Request, attempt: int, model: str, stamps: Stamps, found: Answer
    ) -> Record:
        item = request.item
        self._context_of(request).add(item.number, item.review.text, found.text)
        self._completion_tokens = found.completion_tokens
        usd = found.cost_usd
        if usd is None:
            price = self._tools.prices[model]
            usd = cost_usd(price, found.prompt_tokens, found.completion_tokens)
        return request.row(
            attempt,
            stamps,
            asyncio.get_running_loop().time(),
            model=model,
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
        model: str,
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
        return request.row(
            attempt,
            stamps,
            asyncio.get_running_loop().time(),
            model=model,
            outcome=outcome,
            error=error.word,
            status=error.status,
            retry_after_s=error.retry_after_s,
            prompt_tokens=prompt,
            completion_tokens=completion,
            cost_usd=cost_usd(self._tools.prices[model], prompt, completion),
        )
