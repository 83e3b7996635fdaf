"""One attempt: a slot, a time limit, a call; and the row that tells how it went."""

import asyncio
from collections.abc import Callable

from harness.pipeline.answer import Answer
from harness.pipeline.client import CallError, ChatClient, Stamps
from harness.pipeline.money import Ticket
from harness.pipeline.prompt import encode
from harness.pipeline.request import Request
from harness.pipeline.writing import Call, ContextOf, Stopped, Tried, Writer
from harness.scenario.pipeline import Pipeline


class Attempts:
    """Makes attempts, one at a time or side by side.

    Args:
        settings: of the pipeline.
        client: does the calls.
        writer: writes them down.
        context_of: the conversation that a request belongs to.
        why: why a request is being cancelled, and its outcome; None when it is not by us.
    """

    def __init__(
        self,
        settings: Pipeline,
        client: ChatClient,
        writer: Writer,
        context_of: ContextOf,
        why: Callable[[Request], Stopped | None],
    ) -> None:
        self.why = why
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._set = settings
        self._client = client
        self._writer = writer
        self._context_of = context_of

    @property
    def in_use(self) -> int:
        """Slots that are taken."""
        return self._set.concurrency - self._slots._value  # noqa: SLF001 - it tells nothing else

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
        call = Call(request, attempt, model, lambda: body, ticket, Stamps(), hedge)
        request.t_slot = None
        now, writer = asyncio.get_running_loop().time, self._writer
        limit, late = writer.limit(request, now())
        try:
            async with asyncio.timeout(limit):
                if self._set.slot == "inside_timeout":
                    async with self._slots:
                        found = await self._call(call, body)
                else:
                    found = await self._call(call, body)
        except TimeoutError:
            return writer.late(call, late, now())
        except CallError as caught:
            return writer.failed(call, caught, now())
        except asyncio.CancelledError:
            if (why := self.why(request)) is not None:
                writer.cut(call, why, now())
            raise
        else:
            return writer.ok(call, found, now())

    async def _call(self, call: Call, body: bytes) -> Answer:
        call.request.t_slot = asyncio.get_running_loop().time()
        self._writer.begin(call)
        return await self._client.call(body, call.key, call.attempt, call.stamps)
