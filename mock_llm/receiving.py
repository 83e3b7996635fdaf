"""Requests on their way in: aiohttp's protocol, made to give every client a decent end.

What cannot be understood is answered in OpenRouter's envelope, where aiohttp has a page of its own
and a traceback in the log. And a client that drips its request for ever ("slowloris") is ended on
the clock. There is a timer only while a request is incomplete: none on an idle connection, none
while an answer is played, and a request that comes in one piece never sees one.
"""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.streams import StreamReader

from mock_llm import envelope, framing
from mock_llm.envelope import Refusal

HEADER_TIMEOUT_S = 30.0
_LAST = framing.Framing(close=True)
_LONGEST_REASON = 200


class Sent(web.StreamResponse):
    """A response that is already on the wire; it has no state of its own and can be shared."""

    def __init__(self, *, close: bool) -> None:
        super().__init__()
        self._keep_alive = not close

    async def prepare(self, request: web.BaseRequest) -> Any:
        """Do nothing: the head is sent."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing: the body is sent."""


class Receiver(web.RequestHandler):
    """The half of a connection that takes requests in.

    Attributes:
        header_timeout_s: limit on receiving one request, head and body, from its first byte.
    """

    __slots__ = ("_incoming", "_overdue", "header_timeout_s")

    def __init__(self, *args: Any, header_timeout_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.header_timeout_s = header_timeout_s
        self._incoming: StreamReader | None = None
        self._overdue: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the parser; see to it that what they begin is ended some time."""
        super().data_received(data)
        messages = self._messages
        if messages and messages[-1][1].is_eof():
            if self._overdue is not None:
                self._break_off()
                self._incoming = None
                self._complete()
        elif data:
            self._watch()

    def _watch(self) -> None:
        """Start the clock on an incomplete request, or stop it when these bytes completed it."""
        if self._messages:
            self._incoming = self._messages[-1][1]
        elif self._incoming is not None and self._incoming.is_eof():
            self._incoming = None
            self._complete()
            return
        if self._overdue is None and not (self._force_close or self._close):
            self._overdue = self._loop.call_later(self.header_timeout_s, self._give_up)

    def _break_off(self) -> None:
        """Tell who reads a body that it will never end: aiohttp leaves him waiting for ever."""
        body = self._incoming
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(web.RequestPayloadError("the body is no HTTP"))

    def _complete(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _give_up(self) -> None:
        """End a request that has not come in whole."""
        waiting = self._incoming is not None and not self._incoming.is_eof()
        self._complete()
        if self._request_in_progress and not waiting:
            return  # an answer is being played; what drips behind it starts the clock anew
        if self._request_in_progress or not waiting:  # else it was answered before it was whole
            self._refuse(envelope.TOO_SLOW)
        self._break_off()  # before whoever throws the body away finds its transport gone
        self.force_close()

    async def drained(self) -> None:
        """Wait until the client has read most of what it was sent.

        Raises:
            ConnectionError: it has left instead.
        """
        await self._drain_helper()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the clock."""
        self._break_off()
        self._complete()
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **options: Any) -> None:
        """Log an error of ours; a client's broken body is none, whoever comes upon it."""
        if not isinstance(options.get("exc_info"), web.RequestPayloadError):
            super().log_exception(*args, **options)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP with 400, a fault of our own with 500, and end the connection."""
        if status >= 500:
            self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
            self._refuse(envelope.INTERNAL)
        else:
            reason = " ".join((message or "").split())
            self._refuse(envelope.invalid(reason[:_LONGEST_REASON]))
        return Sent(close=True)

    def _refuse(self, refusal: Refusal) -> None:
        transport = self.transport
        if transport is not None and not transport.is_closing():
            fields = framing.JSON + refusal.fields
            transport.write(_LAST.whole(refusal.status, fields, refusal.body))
