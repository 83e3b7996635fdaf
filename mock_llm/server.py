"""The stand-in for OpenRouter as an HTTP server: reads requests, and has their plans played.

All time is the running loop's, so the same server runs on a wall clock and on a virtual one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy, istr

from mock_llm import envelope, framing, shapes
from mock_llm.behaviour import Provider
from mock_llm.chat import Reader, read_chat
from mock_llm.config import Upstream
from mock_llm.connection import Connection, ConnectionServer, Sent
from mock_llm.envelope import BadRequest, Refusal
from mock_llm.framing import Framing
from mock_llm.get_pages import Pages
from mock_llm.ledger import Ledger, Row
from mock_llm.plan import Call
from mock_llm.player import Player

EPOCH_S = 1_793_491_200.0  # 2026-11-01 00:00 UTC
BACKLOG = 4096  # aiohttp's 128 drops connections in a burst

_PREFIXES = ("/api/v1", "/v1", "")
_CHATS = frozenset(f"{prefix}/chat/completions" for prefix in _PREFIXES)
_KEEP, _CLOSE = Sent(close=False), Sent(close=True)
_REQUEST_KEY, _ATTEMPT = istr("X-Request-Key"), istr("X-Attempt")


class Page(NamedTuple):
    """An answer that no plan decides about: status, header fields beyond the usual ones, body."""

    status: int
    fields: bytes
    body: bytes


Endpoint = Callable[[web.BaseRequest, bytes], Awaitable[Page]]


class MockServer:
    """A mock OpenRouter.

    Args:
        upstream: the provider to imitate.
        seed: of all its weather.
        answers: the right label of a request, by request key.
        epoch_s: unix time at loop time 0, for `created`.
        ledger_file: every row is appended to it as it ends (JSONL).
        transit: attempts take their keyed transit delay (up to 1 ms), which keeps two from arriving
            at one instant; off for raw speed.

    Attributes:
        ledger: what was injected and what was delivered.

    Raises:
        InputError: the ledger's file cannot be written, or exact token counts are not installed.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        seed: int = 1,
        answers: Mapping[str, str] | None = None,
        epoch_s: float = EPOCH_S,
        ledger_file: Path | None = None,
        transit: bool = True,
    ) -> None:
        self._provider = Provider(upstream, seed=seed, answers=answers or {})
        self.ledger = Ledger(ledger_file)
        self._player = Player(upstream, self._provider, self.ledger, epoch_s, transit=transit)
        self._epoch_s = epoch_s
        self._cancel = upstream.handler_cancellation
        self._endpoints: dict[str, Endpoint] = {}
        self._read_settings(upstream)
        self._web: ConnectionServer | None = None
        self._listener: asyncio.Server | None = None

    @property
    def upstream(self) -> Upstream:
        """The provider that it imitates at the moment."""
        return self._provider.upstream

    def change(self, upstream: Upstream) -> None:
        """Imitate another provider from the next request on; see `behaviour.Provider.change`.

        Attempts under way end as they were planned.
        """
        self._provider.change(upstream)
        self._player.change(upstream)
        self._read_settings(upstream)

    def _read_settings(self, upstream: Upstream) -> None:
        self._reader = Reader(upstream)
        self._keys = frozenset(upstream.keys)
        self._pages = Pages(upstream, self.ledger, self._epoch_s)
        self._open, self._last, self._http_1_0 = shapes.frames(self._player.style)

    def mount(self, path: str, endpoint: Endpoint) -> None:
        """Serve something of one's own at a path and at everything below it.

        Args:
            path: `/__something`, without a slash at the end.
            endpoint: gets the request and its whole body, returns the answer.
        """
        self._endpoints[path] = endpoint

    def protocol_factory(self) -> Connection:
        """Return the protocol of a new connection; call it in the loop that will serve it."""
        if self._web is None:
            self._web = ConnectionServer(self._handle, handler_cancellation=self._cancel)
        return self._web()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self.protocol_factory, host, port, backlog=BACKLOG
        )
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop at once: what is under way ends as `shutdown`; no row is lost, no task is left."""
        if self._listener is not None:
            self._listener.close()
        if self._web is not None:
            await self._web.abort()
        self.ledger.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        link = request.protocol
        assert isinstance(link, Connection)  # noqa: S101 - no other kind is made here
        fresh, link.fresh = link.fresh, False
        frame = self._open if request.keep_alive else self._last
        if request.version < (1, 1):
            frame = self._http_1_0
        path = request.raw_path.partition("?")[0]
        if path in _CHATS and request.method == hdrs.METH_POST:
            await self._chat(request, link, frame, fresh=fresh)
        elif own := self._endpoints.get("/" + path[1:].partition("/")[0]):
            await self._serve_own(request, link, frame, own)
        else:
            if request.method == hdrs.METH_HEAD:
                frame = self._last  # whose client takes no body: the next would be misread
            self._get(request, link, frame, path)
        return _CLOSE if frame.close else _KEEP

    def _get(self, request: web.BaseRequest, link: Connection, frame: Framing, path: str) -> None:
        """Answer what asks for no model."""
        prefix = next(one for one in _PREFIXES if path.startswith(one))
        name = path.removeprefix(prefix)
        found: bytes | Refusal | None = None
        if path in _CHATS:
            found = envelope.not_allowed(hdrs.METH_POST)
        elif request.method == hdrs.METH_GET:
            found = self._pages.get(name, request.query.get("id", ""), self._account(request))
        elif self._pages.get(name, "", envelope.NO_CREDENTIALS) is not None:
            found = envelope.not_allowed(hdrs.METH_GET)
        if isinstance(found, bytes):
            fields = framing.JSON + self._player.fields("")
            link.send(frame.whole(200, fields, found))
        else:
            self._refuse(link, frame, found or envelope.not_here(name))

    def _refuse(self, link: Connection, frame: Framing, refusal: Refusal) -> None:
        said = self._player.spoken(refusal)
        link.send(frame.whole(said.status, framing.JSON + said.fields, said.body))

    async def _serve_own(
        self, request: web.BaseRequest, link: Connection, frame: Framing, own: Endpoint
    ) -> None:
        try:
            page = await own(request, await request.read())
        except web.HTTPRequestEntityTooLarge:
            page = Page(413, framing.JSON, envelope.TOO_LARGE.body)
        link.send(frame.whole(page.status, page.fields, page.body))

    async def _chat(
        self, request: web.BaseRequest, link: Connection, frame: Framing, *, fresh: bool
    ) -> None:
        row = Row(arrived_s=asyncio.get_running_loop().time(), new_connection=fresh)
        try:
            # A body that came with its head, as most do, costs no second look at the stream.
            content = request.content
            body = content.read_nowait() if content.is_eof() else await request.read()
        except web.HTTPRequestEntityTooLarge:
            self._player.refuse(link, frame, row, envelope.TOO_LARGE)
        except (web.RequestPayloadError, OSError):
            # A broken body, or a client that left in the middle of it: never a whole request.
            self._refuse(link, self._last, envelope.invalid("the body is incomplete"))
            link.force_close()
        else:
            call = self._read(request.headers, body, row)
            if isinstance(call, Refusal):
                self._player.refuse(link, frame, row, call)
            else:
                await self._player.play(link, frame, row, call)

    def _account(self, request: web.BaseRequest) -> str | Refusal:
        """Whose page is asked for, as the ledger has it."""
        account = _bearer(request.headers.get(hdrs.AUTHORIZATION, ""))
        if not account:
            return envelope.NO_CREDENTIALS
        if self._keys and account not in self._keys:
            return envelope.UNKNOWN_KEY
        return _masked(account)

    def _read(self, headers: CIMultiDictProxy[str], body: bytes, row: Row) -> Call | Refusal:
        """Make a call of a request, or say what is wrong with it; fills in who asked for what."""
        row.attempt = _clean(headers.get(_ATTEMPT, ""))
        key = headers.get(_REQUEST_KEY, "")
        account = _bearer(headers.get(hdrs.AUTHORIZATION, ""))
        row.key, row.account = _clean(key), _masked(account)
        if not account:
            return envelope.NO_CREDENTIALS
        if self._keys and account not in self._keys:
            return envelope.UNKNOWN_KEY
        try:
            chat = read_chat(body)
            call = self._reader.call(
                chat, key=key, account=account, new_connection=row.new_connection
            )
        except BadRequest as error:
            return envelope.unread(error)
        row.key, row.model, row.stream = _clean(call.key), call.model, call.stream
        return call


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _masked(account: str) -> str:
    """An account as it may be stored: what is as long as a real key is cut to its ends."""
    account = _clean(account)
    return account if len(account) <= 32 else f"{account[:12]}...{account[-4:]}"


def _clean(text: str) -> str:
    """Header text without the lone surrogates that stand for bytes which are not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
