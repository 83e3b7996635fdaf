"""The recorder: a proxy before a real endpoint that notes every exchange in a cassette.

It adds nothing and takes nothing away: bytes go on as they come, a client that leaves takes its
call upstream with it, a slow client slows the upstream down, and a connection that the upstream
breaks is broken for the client too.
"""

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
from aiohttp import web
from yarl import URL

from mock_llm import envelope
from mock_llm.budget import Budget
from mock_llm.cassette import CassetteWriter, below_root
from mock_llm.connection import Connection, ConnectionServer, Sent
from mock_llm.envelope import Refusal
from mock_llm.errors import InputError
from mock_llm.flight import Flight, broken_by, end_to_end, outward, why
from mock_llm.redact import stored

CONNECT_S = 30.0
_BACKLOG = 4096
_BREAKS = (aiohttp.ClientError, OSError, ValueError)  # the last: bytes that are no UTF-8


def now_utc() -> str:
    """The wall clock's time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def api_path(path: str) -> str | None:
    """What comes after the API's root; None for a path that leads out of it."""
    rest = below_root(path)
    segments = {one.lower().replace("%2e", ".") for one in rest.split("/")}
    return rest if rest.startswith("/") and not segments & {".", ".."} else None


def checked_upstream(address: str) -> str:
    """An upstream's address without a slash at the end.

    Raises:
        InputError: it is no address of HTTP, or there is more in it, such as a password; what
            exactly is not repeated, for it may be one.
    """
    try:
        url = URL(address.rstrip("/"))
        plain = URL.build(scheme=url.scheme, host=url.host or "", port=url.port, path=url.path)
    except ValueError:
        raise InputError(
            "--upstream: not an address such as https://openrouter.ai/api/v1"
        ) from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise InputError("--upstream: not an address such as https://openrouter.ai/api/v1")
    if url.user or url.password or url.query_string or url.fragment:
        more = "give the key with --key-env, or let the client send it"
        raise InputError(f"--upstream: only scheme, host and path; {more}")
    return str(plain).rstrip("/")


def tls(authority: Path | None = None) -> ssl.SSLContext:
    """The check of certificates: always on, a private authority besides the system's.

    Raises:
        InputError: the file cannot be read or holds no certificate.
    """
    context = ssl.create_default_context()
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{authority}: no certificates in PEM: {error}") from error
    return context


def _raise(error: InputError) -> None:
    raise error


class Recorder:
    """The proxy.

    Args:
        upstream: address of the API, as `checked_upstream` returns it.
        writer: of the cassette.
        budget: what may be spent.
        trust: how certificates are verified, see `tls`.
        key: API key to be sent in place of the client's; never stored or shown.
        clock: the time as it is noted in the cassette.
        on_broken: called when the cassette can no longer be written, with the reason.
    """

    def __init__(
        self,
        upstream: str,
        writer: CassetteWriter,
        budget: Budget,
        *,
        trust: ssl.SSLContext | None = None,
        key: str | None = None,
        clock: Callable[[], str] = now_utc,
        on_broken: Callable[[InputError], object] = _raise,
    ) -> None:
        self._upstream, self._writer, self._budget = upstream, writer, budget
        self._tls, self._key, self._clock = trust or tls(), key, clock
        self._web: ConnectionServer | None = None
        self._listener: asyncio.Server | None = None
        self._session: aiohttp.ClientSession | None = None
        self._on_broken = on_broken

    def protocol_factory(self) -> Connection:
        """Return the protocol of a new connection; call it in the loop that will serve it."""
        if self._web is None:
            self._web = ConnectionServer(self._handle, handler_cancellation=True)
        return self._web()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            self.protocol_factory, host, port, backlog=_BACKLOG
        )
        return int(self._listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop at once; what is under way is noted as `stopped`."""
        if self._listener is not None:
            self._listener.close()
        if self._web is not None:
            await self._web.abort()
        if self._session is not None:
            await self._session.close()
        self._writer.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Content-Type"),
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
                trace_configs=[_trace()],
            )
        return self._session

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = api_path(request.raw_path.partition("?")[0])
        if path is None:
            return _refused(envelope.NOT_FOUND)
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _refused(envelope.TOO_LARGE)
        except (web.RequestPayloadError, OSError):
            return _refused(envelope.invalid("the body is incomplete"))
        if refusal := self._budget.refusal():
            message = f"The recorder's budget is spent: {refusal}"
            more: dict[str, object] = {"reason": "recorder_budget"}
            return _refused(envelope.refusal(402, "payment_required", message, more))
        self._budget.begin()
        return await self._recorded(request, path, body)

    async def _recorded(
        self, request: web.BaseRequest, path: str, body: bytes
    ) -> web.StreamResponse:
        """Pass a call on and note it, however it ends."""
        loop, link = asyncio.get_running_loop(), cast("Connection", request.protocol)
        headers = outward(request.headers.items(), self._key)
        query = request.raw_path.partition("?")[2]
        safe, own = stored(request.method, path, query, headers, body)
        flight = Flight(safe, own, loop.time(), self._clock())
        url = self._upstream + path + (f"?{query}" if query else "")
        try:
            return await self._pass_on(request, flight, url, headers, body)
        except asyncio.CancelledError:
            flight.ended = "stopped" if link.left_s is None else "client_left"
            raise
        finally:
            self._keep(flight, loop.time())

    async def _pass_on(
        self,
        request: web.BaseRequest,
        flight: Flight,
        url: str,
        headers: list[tuple[str, str]],
        body: bytes,
    ) -> web.StreamResponse:
        loop, link = asyncio.get_running_loop(), cast("Connection", request.protocol)
        try:
            async with self._client().request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
                trace_request_ctx=flight,
            ) as answer:
                flight.head(
                    loop.time(), answer.status, answer.headers.items(), answer.content_length
                )
                return await _relay(request, answer, flight)
        except _BREAKS as error:
            if link.left_s is not None:
                flight.ended = "client_left"
            elif flight.sent_s is None:
                return _unreachable(flight, error, loop.time())
            else:
                flight.ended = broken_by(error)
            if flight.ended == "reset":
                link.reset()
            return Sent(close=True)

    def _keep(self, flight: Flight, now: float) -> None:
        usd, whole = flight.cost_usd()
        self._budget.end(usd, whole=whole)
        try:
            self._writer.add(flight.exchange(now))
        except InputError as error:
            self._on_broken(error)


async def _relay(
    request: web.BaseRequest, answer: aiohttp.ClientResponse, flight: Flight
) -> web.StreamResponse:
    """Send an answer on as it comes; waits while the client does not read."""
    loop = asyncio.get_running_loop()
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in end_to_end(answer.headers.items()):
        response.headers.add(name, value)
    await response.prepare(request)
    async for data in answer.content.iter_any():
        flight.piece(loop.time(), data)
        await response.write(data)
    await response.write_eof()
    return response


def _unreachable(flight: Flight, error: Exception, now: float) -> web.Response:
    """Answer for an upstream to which there was no connection."""
    flight.ended, flight.error = "unreachable", why(error)
    message = f"The recorder cannot reach its upstream: {flight.error}"
    refusal = envelope.refusal(502, "provider_unavailable", message)
    response = _refused(refusal)
    flight.head(now, 502, response.headers.items(), len(refusal.body))
    flight.piece(now, refusal.body)
    return response


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(status=refusal.status, body=refusal.body, content_type="application/json")


def _trace() -> aiohttp.TraceConfig:
    """Have the client tell when a request was sent, and on what connection."""
    trace = aiohttp.TraceConfig()

    async def connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        cast("Flight", context.trace_request_ctx).new_connection = True

    async def sent(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
        flight = cast("Flight", context.trace_request_ctx)
        flight.sent_s = asyncio.get_running_loop().time()

    trace.on_connection_create_end.append(connected)
    trace.on_request_headers_sent.append(sent)
    return trace
