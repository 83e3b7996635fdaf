"""The stand-in for OpenRouter as an HTTP server: reads requests, and has their plans played.

All time is the running loop's, so the same server runs on a wall clock and on a virtual one.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
from aiohttp import hdrs, web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from mock_llm import envelope, framing, shapes
from mock_llm.asking import REQUEST_KEY, Asking, body_of
from mock_llm.behaviour import Provider
from mock_llm.config import Capacity, Upstream
from mock_llm.connection import Connection, ConnectionServer, Request, Sent
from mock_llm.decider import Decider
from mock_llm.door import Stalled, TlsListener, listening
from mock_llm.eager import Work
from mock_llm.envelope import STOPPING, Refusal
from mock_llm.framing import Framing
from mock_llm.get_pages import Pages, route_of
from mock_llm.ledger import Ledger, Row
from mock_llm.network import Network
from mock_llm.plan import Call
from mock_llm.player import Player, Streams
from mock_llm.receiving import HEADER_TIMEOUT_S
from mock_llm.replay import replay_of
from mock_llm.service import Service

EPOCH_S = 1_793_491_200.0  # 2026-11-01 00:00 UTC
BACKLOG = 4096  # aiohttp's 128 drops connections in a burst

_PREFIXES = ("/api/v1", "/v1", "")
_CHATS = frozenset(f"{prefix}/chat/completions" for prefix in _PREFIXES)
_KEEP, _CLOSE = Sent(close=False), Sent(close=True)


class Page(NamedTuple):
    """An answer that no plan decides about: status, header fields beyond the usual ones, body.

    One that is `private` has no usual fields: they would let any web page read it.
    """

    status: int
    fields: bytes
    body: bytes
    private: bool = False


Endpoint = Callable[[web.BaseRequest, bytes], Awaitable[Page]]


class MockServer:
    """A mock OpenRouter.

    Args:
        upstream: the provider to imitate.
        seed: of all its weather.
        answers: the right label of a request, by request key.
        epoch_s: unix time at loop time 0, for `created`.
        ledger_file: every row is appended to it as it ends (JSONL).
        ledger_limit: rows kept in memory; None for all of them.
        transit: attempts take their keyed transit delay (up to 1 ms), which keeps two from arriving
            at one instant; off for raw speed.
        provider: decides about attempts, in place of a `Provider` of the server's own.
        service: makes the slots of a capacity, in place of slots of the server's own.
        header_timeout_s: limit on receiving one request, head and body; the 408 of a slow client.

    Attributes:
        ledger: what was injected and what was delivered.
        network: what befalls its connections before they are made.
        on_request: is shown the row of every attempt that has just been read, and its body.
        began_s: loop time at which it could first be asked; None before.

    Raises:
        InputError: the ledger's file cannot be written, the upstream's cassette cannot be read, or
            exact token counts are not installed.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        seed: int = 1,
        answers: Mapping[str, str] | None = None,
        epoch_s: float = EPOCH_S,
        ledger_file: Path | None = None,
        ledger_limit: int | None = 10_000,
        transit: bool = True,
        provider: Decider | None = None,
        service: Callable[[Capacity], Service] = Service,
        header_timeout_s: float = HEADER_TIMEOUT_S,
    ) -> None:
        self._provider = provider or Provider(upstream, seed=seed, answers=answers or {})
        self._replay = replay_of(upstream, self._provider.seed)
        self.ledger = Ledger(ledger_file, limit=ledger_limit)
        self._player = Player(
            upstream, self._provider, self.ledger, epoch_s, transit=transit, service=service
        )
        self.network = Network(upstream, seed, self._provider.memory.network)
        self._stalled: set[Stalled] = set()
        self._tls: list[TlsListener] = []
        self._epoch_s = epoch_s
        self._header_timeout_s = header_timeout_s
        self._endpoints: dict[str, Endpoint] = {}
        self.on_request: Callable[[Row, bytes], object] | None = None
        self._read_settings(upstream)
        self.began_s: float | None = None
        self._web: ConnectionServer | None = None
        self._listeners: list[asyncio.Server] = []
        self._stopping = False

    @property
    def upstream(self) -> Upstream:
        """The provider that it imitates at the moment."""
        return self._provider.upstream

    def change(self, upstream: Upstream) -> None:
        """Imitate another provider from the next request on; see `behaviour.Provider.change`.

        Attempts under way end as they were planned.

        Raises:
            InputError: its cassette cannot be read; then nothing is changed.
        """
        if upstream.cassette != self.upstream.cassette:
            self._replay = replay_of(upstream, self.seed)
        self._provider.change(upstream)
        self._player.change(upstream)
        self.network.change(upstream)
        self._read_settings(upstream)
        if self._web is not None:
            self._web.handler_cancellation = upstream.handler_cancellation

    @property
    def seed(self) -> int:
        """Of its weather."""
        return self._provider.seed

    def reset(self, seed: int | None = None) -> None:
        """Forget all that has happened: a new provider of the same kind, and an empty ledger.

        Attempts under way end as they were planned.

        Args:
            seed: of the weather from now on; None: the same again.
        """
        self._provider.reset(seed)
        if self._replay is not None:
            self._replay.begin(self.seed)
        self.network.reset(self.seed)
        self.ledger.reset()

    @property
    def paused(self) -> bool:
        """Whether attempts wait before the provider decides about them."""
        return self._player.gate is not None

    def pause(self) -> None:
        """Let attempts that arrive wait; those under way go on."""
        if self._player.gate is None:
            self._player.gate = asyncio.Event()

    def resume(self) -> None:
        """Let those go on that wait."""
        if self._player.gate is not None:
            self._player.gate.set()
            self._player.gate = None

    def _read_settings(self, upstream: Upstream) -> None:
        self._asking = Asking(upstream)
        self._pages = Pages(upstream, self.ledger, self._epoch_s)
        self._open, self._last, self._http_1_0 = shapes.frames(self._player.style)

    @property
    def open_connections(self) -> int:
        """How many connections clients hold at the moment."""
        links = () if self._web is None else self._web.connections
        return sum(isinstance(link, Connection) and link.left_s is None for link in links)

    def say(self, text_of: Callable[[Call], str | None] | None) -> None:
        """Answer with given texts; where there is none for a call, as the upstream would."""
        if not isinstance(self._provider, Provider):
            raise TypeError("only a mock in one process can be told what to say")
        self._provider.text_of = text_of

    def mount(self, path: str, endpoint: Endpoint) -> None:
        """Serve something of one's own at a path and at everything below it.

        Args:
            path: `/__something`, without a slash at the end.
            endpoint: gets the request and its whole body, returns the answer.
        """
        self._endpoints[path] = endpoint

    def protocol_factory(self) -> asyncio.Protocol:
        """Return the protocol of a new connection; call it in the loop that will serve it."""
        return self._stall() or self._connection()

    def _stall(self) -> Stalled | None:
        """The protocol of a new connection that is struck before anything is said on it."""
        stalls = self.network.stalls
        if not stalls or (fault := stalls.strikes(asyncio.get_running_loop().time())) is None:
            return None
        return Stalled(self.ledger, fault, self._stalled)

    def _connection(self) -> Connection:
        if self._web is None:
            self.began_s = asyncio.get_running_loop().time()
            self._web = ConnectionServer(
                self._handle,
                handler_cancellation=self._provider.upstream.handler_cancellation,
                header_timeout_s=self._header_timeout_s,
                opener=self._begun,
            )
        return self._web()

    async def start(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        sock: socket.socket | None = None,
        ssl: ssl.SSLContext | None = None,
    ) -> int:
        """Listen, and return the port.

        Args:
            host: name or address.
            port: 0 for any free one.
            sock: listens already; host and port are then not looked at.
            ssl: speak HTTPS; see `door.server_context`.

        Raises:
            OSError: the address cannot be had.
        """
        self.began_s = asyncio.get_running_loop().time()
        if ssl is not None:
            tls = TlsListener(ssl, self._stall, self._connection, self._header_timeout_s)
            self._tls.append(tls)
            return tls.listen(listening(host, port, BACKLOG) if sock is None else sock)
        create, factory = asyncio.get_running_loop().create_server, self.protocol_factory
        if sock is None:
            listener = await create(factory, host, port, backlog=BACKLOG)
        else:
            listener = await create(factory, sock=sock, backlog=BACKLOG)
        self._listeners.append(listener)
        return int(listener.sockets[0].getsockname()[1])

    async def close(self, drain_s: float = 0.0, streams: Streams = "finish") -> None:
        """Stop: no row is lost, no task is left.

        New connections are refused at once, new requests on those that are open get a 503 and the
        connection's end. What is under way may go on for a while; what is left then ends as
        `shutdown`, and its connection is closed.

        Args:
            drain_s: how long what is under way may go on.
            streams: how the rest ends: `finish` with an error in OpenRouter's shape, `break` with a
                reset.
        """
        self._stopping = True
        for listener in self._listeners:
            listener.close()
        for tls in self._tls:
            await tls.close()
        await self._player.drain(drain_s)
        self._player.part(streams)
        for stalled in list(self._stalled):
            stalled.abort()
        if self._web is not None:
            await self._web.abort()
        self.ledger.close()

    def hurry(self) -> None:
        """Cut short the waiting of a `close` that is under way."""
        self._player.hurry()

    def _begun(
        self, link: Connection, message: RawRequestMessage, content: StreamReader
    ) -> Work | None:
        """The usual request for a chat, whole and on a connection that goes on; None for others."""
        plain = message.path in _CHATS and message.method == hdrs.METH_POST
        if not plain or message.should_close or message.version < (1, 1):
            return None
        if self._stopping or self._replay or link.writing_paused or content.exception():
            return None
        fresh, link.fresh = link.fresh, False
        row = Row(arrived_s=asyncio.get_running_loop().time(), new_connection=fresh)
        return self._chat(message, content.read_nowait(), row, link, self._open)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        link = request.protocol
        assert isinstance(link, Connection) and isinstance(request, Request)  # noqa: S101, PT018
        if (begun := link.begun) is not None:
            link.begun = None
            await begun
            return _KEEP
        fresh, link.fresh = link.fresh, False
        if link.writing_paused:
            # Or a client that sends requests and never reads would fill the memory with answers.
            await link.drained()
        frame = self._open if request.keep_alive and not self._stopping else self._last
        if request.version < (1, 1):
            frame = self._http_1_0
        path = request.raw_path.partition("?")[0]
        recorded = self._replay is not None and self._replay.has(request.method, path)
        if recorded or (path in _CHATS and request.method == hdrs.METH_POST):
            row = Row(arrived_s=asyncio.get_running_loop().time(), new_connection=fresh)
            if (body := await self._received(request, link, row, frame)) is not None:
                await self._chat(request.message, body, row, link, frame)
        elif own := self._endpoints.get("/" + path[1:].partition("/")[0]):
            if request.method == hdrs.METH_HEAD:
                frame = self._last  # as below
            await self._serve_own(request, link, frame, own)
        else:
            if request.method == hdrs.METH_HEAD:
                frame = self._last  # whose client takes no body: the next would be misread
            await self._get(request, link, frame, path, fresh=fresh)
        return _CLOSE if frame.close else _KEEP

    async def _get(
        self, request: web.BaseRequest, link: Connection, frame: Framing, path: str, *, fresh: bool
    ) -> None:
        """Answer what asks for no model."""
        prefix = next(one for one in _PREFIXES if path.startswith(one))
        name = path.removeprefix(prefix)
        found: bytes | Refusal | None = None
        if path in _CHATS:
            found = envelope.not_allowed(hdrs.METH_POST)
        elif request.method == hdrs.METH_GET:
            found = self._pages.get(
                name, request.query.get("id", ""), self._asking.account(request.headers)
            )
        elif self._pages.get(name, "", envelope.NO_CREDENTIALS) is not None:
            found = envelope.not_allowed(hdrs.METH_GET)
        if isinstance(found, bytes):
            call = Call(
                key=request.headers.get(REQUEST_KEY, ""),
                model="",
                prompt_tokens=0,
                route=route_of(name),
                new_connection=fresh,
            )
            await self._player.play_page(link, frame, call, found)
        else:
            self._refuse(link, frame, found or envelope.not_here(name))

    def _refuse(self, link: Connection, frame: Framing, refusal: Refusal) -> None:
        said = self._player.spoken(refusal)
        link.send(frame.whole(said.status, framing.JSON + said.fields, said.body))

    async def _serve_own(
        self, request: web.BaseRequest, link: Connection, frame: Framing, own: Endpoint
    ) -> None:
        try:
            page = await own(request, await body_of(request, link))
        except web.HTTPRequestEntityTooLarge:
            page = Page(413, framing.JSON, envelope.TOO_LARGE.body)
        if page.private:
            frame = msgspec.structs.replace(frame, usual=b"")
        link.send(frame.whole(page.status, page.fields, page.body))

    async def _received(
        self, request: Request, link: Connection, row: Row, frame: Framing
    ) -> bytes | None:
        """The body of a chat; None when the client has been told what is wrong with it."""
        try:
            # A body that came with its head, as most do, costs no second look at the stream.
            content = request.content
            return content.read_nowait() if content.is_eof() else await body_of(request, link)
        except web.HTTPRequestEntityTooLarge:
            if self.on_request is not None:
                self.on_request(row, b"")
            self._player.refuse(link, frame, row, envelope.TOO_LARGE)
        except (web.RequestPayloadError, OSError):
            # A broken body, or a client that left in the middle of it: never a whole request.
            self._refuse(link, self._last, envelope.invalid("the body is incomplete"))
            link.force_close()
        return None

    async def _chat(
        self, message: RawRequestMessage, body: bytes, row: Row, link: Connection, frame: Framing
    ) -> None:
        call = self._asking.read(message, body, row, self._replay)
        if self._stopping:
            call = STOPPING
        if self.on_request is not None:
            self.on_request(row, body)
        if isinstance(call, Refusal):
            self._player.refuse(link, frame, row, call)
        else:
            await self._player.play(link, frame, row, call, self._replay)
