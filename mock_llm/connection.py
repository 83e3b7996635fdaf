"""The low-level aiohttp server, bent in four places.

Connections know when their client left, so that a hanging answer can wait for that without polling.
They have no idle timer: a pending timer an hour ahead would keep a virtual clock from seeing that
nothing can ever wake. A handler writes to the transport itself, because a plan decides about every
byte; aiohttp is then handed a response that has already been sent. And a request that came in one
piece may be begun at once: most are answered before aiohttp has made a request of it.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from mock_llm.eager import Begun, Work, begin
from mock_llm.receiving import HEADER_TIMEOUT_S, Receiver, Sent

__all__ = ["MAX_BODY_BYTES", "Connection", "ConnectionServer", "Sent"]

MAX_BODY_BYTES = 10 * 1024 * 1024

T = TypeVar("T")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Opener = Callable[["Connection", RawRequestMessage, StreamReader], Work | None]
"""Returns what is to be done for a whole request, or None to leave it to the handler."""


class Request(web.BaseRequest):
    """A request as a handler gets it."""

    @property
    def message(self) -> RawRequestMessage:
        """Its head, as it was parsed."""
        return self._message


class _Inline:
    """A connection's event loop on which a request is handled in the task of its connection.

    aiohttp starts a task for each request, so that each has context variables of its own. Nobody
    sets any here, and a task costs a turn of the loop.
    """

    __slots__ = ("_loop", "call_at", "call_later", "create_future", "time")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.time, self.create_future = loop.time, loop.create_future
        self.call_at, self.call_later = loop.call_at, loop.call_later

    def create_task(self, handling: Coroutine[Any, Any, T]) -> Coroutine[Any, Any, T]:
        """Return what is to be awaited in any case."""
        return handling

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Connection(Receiver):
    """One client's connection.

    Attributes:
        begun: the rest of a request that was begun at once; its handler has to take it.
        fresh: no request has come yet; whoever handles the first one clears it.
        left_s: loop time at which the client was gone; None while it is there.
    """

    __slots__ = ("_gone", "_opener", "begun", "fresh", "left_s")

    def __init__(self, manager: "ConnectionServer", loop: asyncio.AbstractEventLoop) -> None:
        # aiohttp takes None for no access log at all, though it declares a Logger.
        super().__init__(
            manager,
            loop=loop,
            keepalive_timeout=0,
            tcp_keepalive=False,
            access_log=cast("Any", None),
            header_timeout_s=manager.header_timeout_s,
        )
        # Occupied, so that aiohttp never schedules an idle timer.
        self._keepalive_handle = asyncio.Handle(int, (), loop)
        self._gone: asyncio.Future[None] | None = None
        self._opener = manager.opener
        self.begun: Begun | None = None
        self.fresh = True
        self.left_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the task that serves this connection."""
        super().connection_made(transport)
        self._loop = cast("asyncio.AbstractEventLoop", _Inline(self._loop))
        manager = cast("ConnectionServer", self._manager)
        if (task := self._task_handler) is not None:
            manager.tasks.add(task)
            task.add_done_callback(manager.tasks.discard)
            task.add_done_callback(self._abandon)

    def _abandon(self, _: object) -> None:
        """End what was begun, for a task that was cancelled before it took it."""
        if (begun := self.begun) is not None:
            self.begun = None
            begun.cancel()

    def data_received(self, data: bytes) -> None:
        """Begin with a request that is whole, if nothing else is going on."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            super().data_received(data)
            return
        self._waiter = None  # or aiohttp would wake the connection's task, which costs a turn
        super().data_received(data)
        if len(self._messages) == 1:
            self._begin(*self._messages[0])
        self._waiter = waiter
        if self._force_close or self._close:
            waiter.cancel()
        elif self._messages:
            waiter.set_result(None)

    def _begin(self, message: object, body: StreamReader) -> None:
        """Do what can be done at once; a request that needs more stays where aiohttp finds it."""
        if not isinstance(message, RawRequestMessage) or self._upgraded or not body.is_eof():
            return
        work = None if self._opener is None else self._opener(self, message, body)
        if work is None:
            return
        self.begun = begin(work)
        if self.begun is None:
            self._messages.popleft()
            if self._manager is not None and self._parser is not None:  # as aiohttp's own loop does
                self._manager.requests_count += 1
                self._parser.message_consumed()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note when, and wake whoever waits for it."""
        self.left_s = self._loop.time()
        super().connection_lost(exc)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Do nothing unless reading is paused: aiohttp asks for it after every piece of a body."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Do next to nothing for what is already sent; a declined upgrade is aiohttp's business."""
        if self._upgraded or not isinstance(resp, Sent):
            return await super().finish_response(request, resp, start_time)
        request._finish()  # noqa: SLF001 - as aiohttp does
        return resp, False

    async def gone(self) -> None:
        """Wait until the client has left; no timer is involved."""
        if self.left_s is None:
            self._gone = self._loop.create_future()
            await self._gone

    def send(self, data: bytes) -> bool:
        """Write to the client; False when it is gone.

        There is no backpressure: what a slow reader can leave in memory is one answer.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        transport.write(data)
        return True

    def reset(self) -> None:
        """End the connection with a TCP reset; one that is no TCP just closes."""
        self.reset_on_close()
        if self.transport is not None:
            self.transport.abort()

    def reset_on_close(self) -> None:
        """Let the connection's end, whenever it comes, be a TCP reset."""
        sock = None if self.transport is None else self.transport.get_extra_info("socket")
        if sock is not None:
            # Lingering for no time at all makes TCP send a reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class ConnectionServer(web.Server):
    """Makes connections, and ends them all at once.

    Attributes:
        tasks: one for every connection that is being served.
        header_timeout_s: see `receiving.Receiver`.
        opener: may begin with a request before the handler gets it.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        handler_cancellation: bool,
        header_timeout_s: float = HEADER_TIMEOUT_S,
        opener: Opener | None = None,
    ) -> None:
        super().__init__(
            handler, request_factory=self._request, handler_cancellation=handler_cancellation
        )
        self.tasks: set[asyncio.Task[None]] = set()
        self.header_timeout_s = header_timeout_s
        self.opener = opener

    def __call__(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self, self._loop)

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> Request:
        loop = self._loop
        return Request(
            message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES
        )

    async def abort(self) -> None:
        """Cancel every handler, wait for them, close every connection."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.shutdown()
        await asyncio.sleep(0)  # the transports tell their protocols in the next iteration
