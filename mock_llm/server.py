"""The stand-in for OpenRouter as an HTTP server: reads requests, and has their plans played.

All time is the running loop's, so the same server runs on a wall clock and on a virtual one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy, istr

from mock_llm import envelope, framing, wire
from mock_llm.behaviour import Provider
from mock_llm.chat import Reader, read_chat
from mock_llm.config import Upstream
from mock_llm.connection import Connection, ConnectionServer, Sent
from mock_llm.envelope import BadRequest, Refusal
from mock_llm.framing import Framing
from mock_llm.ledger import Ledger, Row
from mock_llm.masking import masked
from mock_llm.plan import Call
from mock_llm.player import Player

EPOCH_S = 1_793_491_200.0  # 2026-11-01 00:00 UTC
BACKLOG = 4096  # aiohttp's 128 drops connections in a burst

_METHODS = {
    f"{prefix}{path}": method
    for prefix in ("/api/v1", "/v1", "")
    for path, method in (("/chat/completions", hdrs.METH_POST), ("/models", hdrs.METH_GET))
}
_KEEP, _CLOSE = Sent(close=False), Sent(close=True)
_OPEN, _LAST, _HTTP_1_0 = Framing(), Framing(close=True), Framing(chunked=False, close=True)
_REQUEST_KEY, _ATTEMPT = istr("X-Request-Key"), istr("X-Attempt")


LONGEST_NAME = 256  # of a model, in a row: a client must not fill the memory with what it makes up


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

    Attributes:
        ledger: what was injected and what was delivered.
        began_s: loop time at which it could first be asked; None before.

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
        ledger_limit: int | None = 10_000,
        transit: bool = True,
    ) -> None:
        self._provider = Provider(upstream, seed=seed, answers=answers or {})
        self.ledger = Ledger(ledger_file, limit=ledger_limit)
        self._player = Player(upstream, self._provider, self.ledger, epoch_s, transit=transit)
        self._epoch_s = epoch_s
        self._cancel = upstream.handler_cancellation
        self._endpoints: dict[str, Endpoint] = {}
        self._read_settings(upstream)
        self.began_s: float | None = None
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
        kept = self._provider
        seed = kept.seed if seed is None else seed
        self._provider = Provider(kept.upstream, seed=seed, answers=kept.answers)
        self._player.restart(self._provider)
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
        self._reader = Reader(upstream)
        self._keys = frozenset(upstream.keys)
        self._models = wire.models(upstream.models, int(self._epoch_s))

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
            self.began_s = asyncio.get_running_loop().time()
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
        self.began_s = loop.time()
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
        frame = _OPEN if request.keep_alive else _LAST
        if request.version < (1, 1):
            frame = _HTTP_1_0
        path = request.raw_path.partition("?")[0]
        method = _METHODS.get(path)
        if method is None and (own := self._endpoints.get("/" + path[1:].partition("/")[0])):
            if request.method == hdrs.METH_HEAD:
                frame = _LAST  # as below
            await self._serve_own(request, link, frame, own)
        elif request.method != method:
            if request.method == hdrs.METH_HEAD:
                frame = _LAST  # whose client takes no body: the next response would be misread
            _send(link, frame, envelope.not_allowed(method) if method else envelope.NOT_FOUND)
        elif method == hdrs.METH_GET:
            link.send(frame.whole(200, framing.JSON, self._models))
        else:
            await self._chat(request, link, frame, fresh=fresh)
        return _CLOSE if frame.close else _KEEP

    async def _serve_own(
        self, request: web.BaseRequest, link: Connection, frame: Framing, own: Endpoint
    ) -> None:
        try:
            page = await own(request, await request.read())
        except web.HTTPRequestEntityTooLarge:
            page = Page(413, framing.JSON, envelope.TOO_LARGE.body)
        usual = b"" if page.private else framing.USUAL
        link.send(frame.whole(page.status, page.fields, page.body, usual))

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
            _send(link, _LAST, envelope.invalid("the body is incomplete"))
            link.force_close()
        else:
            call = self._read(request.headers, body, row)
            if isinstance(call, Refusal):
                self._player.refuse(link, frame, row, call)
            else:
                await self._player.play(link, frame, row, call)

    def _read(self, headers: CIMultiDictProxy[str], body: bytes, row: Row) -> Call | Refusal:
        """Make a call of a request, or say what is wrong with it; fills in who asked for what."""
        row.attempt = _clean(headers.get(_ATTEMPT, ""))
        key = headers.get(_REQUEST_KEY, "")
        account = _bearer(headers.get(hdrs.AUTHORIZATION, ""))
        row.key, row.account = _clean(key), masked(_clean(account))
        if not account:
            return envelope.NO_CREDENTIALS
        if self._keys and account not in self._keys:
            return envelope.UNKNOWN_KEY
        try:
            chat = read_chat(body)
        except BadRequest as error:
            return envelope.invalid(str(error))
        call = self._reader.call(chat, key=key, account=account, new_connection=row.new_connection)
        row.key, row.model, row.stream = _clean(call.key), call.model[:LONGEST_NAME], call.stream
        return call


def _send(link: Connection, frame: Framing, refusal: Refusal) -> None:
    link.send(frame.whole(refusal.status, framing.JSON + refusal.fields, refusal.body))


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _clean(text: str) -> str:
    """Header text without the lone surrogates that stand for bytes which are not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
