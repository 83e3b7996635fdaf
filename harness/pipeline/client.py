"""One HTTP call to a chat completions endpoint, with a time stamp for everything that can stall.

Foreign exceptions are translated here and nowhere else: a call gives an `Answer` or raises a
`CallError`; a cancellation passes through. Time limits are the caller's (`asyncio.timeout`
is exact; aiohttp's own fire at whole seconds above five). Only the silence in the middle of a
stream is watched here, where tokens are told from keep-alives, and the size of what comes.
"""

import asyncio
import errno
import ssl
from contextlib import suppress
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp
from aiohttp.http import HttpProcessingError
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from harness.errors import InputError
from harness.pipeline.answer import Answer, BadAnswerError, whole
from harness.pipeline.hints import metadata, passing, retry_after_s
from harness.pipeline.reading import Body, Stamps, read_stream
from harness.scenario.pipeline import Pipeline

__all__ = ["CallError", "ChatClient", "Stamps", "Statistics"]

END_PATIENCE_S = 1.0
_LARGE_BODY = 2**20  # aiohttp warns of one this large: it would be sent in one go
_NO_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)


class CallError(Exception):
    """A call that gave no answer.

    Attributes:
        word: goes into the record.
        status: of HTTP, or of the error inside a 200.
        retry_after_s: the provider's hint, wherever it stood.
        passing: whether a retry may succeed, where something tells more than the status does; None:
            as `retry.may_pass` judges the status.
    """

    def __init__(
        self,
        word: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        passing: bool | None = None,
    ) -> None:
        super().__init__(word)
        self.word = word
        self.status = status
        self.retry_after_s = retry_after_s
        self.passing = passing


class Statistics(NamedTuple):
    """A client's connections and calls at this moment.

    Attributes:
        open: connections, those being set up included.
        in_use: of these, with a call.
        waiting: calls that wait for a connection of the pool.
        made: connections begun so far.
        in_flight: calls.
    """

    open: int
    in_use: int
    waiting: int
    made: int
    in_flight: int


_STAMPS: ContextVar[Stamps] = ContextVar("stamps")


class _Connector(aiohttp.TCPConnector):
    """Stamps connections; aiohttp's tracing tells the same at several times the cost.

    Attributes:
        made: connections begun.
    """

    made = 0

    async def connect(  # the signatures are aiohttp's
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Any:
        """Wait for a connection, from the pool or new; the request is written at once after it."""
        connection = await super().connect(req, traces, timeout)
        stamps = _STAMPS.get()
        stamps.t_connected = stamps.t_sent = self._loop.time()
        stamps.transport = connection.transport
        return connection

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Any:
        _STAMPS.get().new_connection = True
        self.made += 1
        return await super()._create_connection(req, traces, timeout)

    def counts(self) -> tuple[int, int, int]:
        """Connections that are open, those of them in use, and calls that wait for one."""
        idle = sum(map(len, self._conns.values()))
        in_use = len(self._acquired)
        return idle + in_use, in_use, sum(map(len, self._waiters.values()))


class ChatClient:
    """A client of one endpoint: pooled, or with a session and a connection per call.

    Args:
        settings: knobs.
        base_url: of the endpoint, such as `https://host/api/v1`.
        api_key: sent as Bearer token.
        ca_file: PEM file of the only authorities that are trusted; None: those that the system
            trusts. That certificates are checked cannot be switched off.

    Raises:
        InputError: the file cannot be read, or has no certificate in it.
    """

    def __init__(
        self, settings: Pipeline, base_url: str, api_key: str, ca_file: Path | None = None
    ) -> None:
        self._settings = settings
        self._url = URL(f"{base_url.rstrip('/')}/chat/completions")
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._tls = True if ca_file is None else trust(ca_file)
        self._session: aiohttp.ClientSession | None = None
        self._connectors: set[_Connector] = set()
        self._made = 0
        self._in_flight = 0

    async def __aenter__(self) -> Self:
        if self._settings.pool:
            self._session = self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await self._close(session)

    def _open(self) -> aiohttp.ClientSession:
        # aiohttp's default of 100 connections would be a queue nobody asked for.
        connector = _Connector(limit=self._settings.pool_limit or 0, ssl=self._tls)
        self._connectors.add(connector)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=_NO_LIMITS,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),  # no call shall depend on what came before it
        )

    async def _close(self, session: aiohttp.ClientSession) -> None:
        connector = session.connector
        if isinstance(connector, _Connector):
            self._connectors.discard(connector)
            self._made += connector.made
        await session.close()

    def statistics(self) -> Statistics:
        """Count connections and calls; costs nothing between the questions."""
        counts = [connector.counts() for connector in self._connectors]
        opened, in_use, waiting = (sum(column) for column in zip((0, 0, 0), *counts, strict=True))
        made = self._made + sum(connector.made for connector in self._connectors)
        return Statistics(opened, in_use, waiting, made, self._in_flight)

    async def call(self, body: bytes, key: str, attempt: int, stamps: Stamps) -> Answer:
        """Send one request and read its answer, writing down the time of every step.

        A call that is cancelled, or gives up before the body's end, ends its connection.

        Raises:
            CallError: there is no usable answer; says why in one word.
        """
        _STAMPS.set(stamps)
        headers = {"X-Request-Key": key, "X-Attempt": str(attempt)}
        self._in_flight += 1
        try:
            if self._session is not None:
                return await self._post(self._session, body, headers, stamps)
            session = self._open()
            try:
                return await self._post(session, body, headers, stamps)
            finally:
                await self._close(session)
        except BadAnswerError as error:
            status = error.status or stamps.status
            raise CallError(error.word, status, error.retry_after_s, error.passing) from error
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            word = _word(error)
            never = False if word == "certificate" else None
            raise CallError(word, stamps.status, passing=never) from error
        finally:
            self._in_flight -= 1

    async def _post(
        self,
        session: aiohttp.ClientSession,
        body: bytes,
        headers: dict[str, str],
        stamps: Stamps,
    ) -> Answer:
        data = body if len(body) < _LARGE_BODY else BytesIO(body)
        try:
            async with session.post(
                self._url, data=data, headers=headers, allow_redirects=False
            ) as response:
                return await self._read(response, stamps)
        finally:
            # A connection that is to be closed would first send what a peer does not read.
            if stamps.transport is not None and stamps.transport.is_closing():
                stamps.transport.abort()
            stamps.transport = None

    async def _read(self, response: aiohttp.ClientResponse, stamps: Stamps) -> Answer:
        now = asyncio.get_running_loop().time
        stamps.status = response.status
        stamps.generation = response.headers.get("X-Generation-Id", "")
        stamps.t_headers = now()
        body = Body(response.content, self._settings.max_answer_bytes)
        if response.status != 200:
            found = metadata(await body.read())
            stamps.t_first_token = stamps.t_last_token = now()
            raise CallError(
                f"http_{response.status}",
                response.status,
                retry_after_s(response.headers, found),
                passing(response.status, found),
            )
        content_type = response.headers.get("Content-Type", "")
        if self._settings.stream:
            events = await read_stream(body, stamps, self._settings.stall_s)
            if events.done:
                await _drain(body)
            answer = events.answer(content_type)
        else:
            answer = whole(await body.read(stamps), content_type)
        stamps.t_last_token = now()
        return answer


async def _drain(body: Body) -> None:
    """Read a body's end, for the connection to be used again; not every server sends one."""
    with suppress(TimeoutError, aiohttp.ClientError, BadAnswerError):
        async with asyncio.timeout(END_PATIENCE_S):
            while await body.piece():
                pass


def trust(ca_file: Path) -> ssl.SSLContext:
    """The check of certificates by a private authority.

    Raises:
        InputError: the file cannot be read, or has no certificate in it.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        why = f"no certificate in PEM ({error.reason or error})"
        raise InputError(f"{ca_file}: {why}; name the file of your authority") from error
    except OSError as error:
        raise InputError(f"{ca_file}: cannot be read: {error.strerror}") from error


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ServerDisconnectedError, "disconnected"),
    (aiohttp.ClientConnectorCertificateError, "certificate"),
    (aiohttp.ClientConnectorDNSError, "dns_failure"),
    (aiohttp.ClientSSLError, "tls_failure"),
    (aiohttp.ClientConnectorError, "no_connection"),
    (aiohttp.ClientPayloadError, "truncated"),
)


def _word(error: Exception) -> str:
    """One word for one of aiohttp's errors, the first that fits."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LineTooLong):
            return "too_large"
        cause = cause.__cause__
    word = next((word for kind, word in _WORDS if isinstance(error, kind)), "connection_error")
    if word == "no_connection" and isinstance(error, OSError):
        if error.errno == errno.ECONNREFUSED:
            return "connection_refused"
        if isinstance(error.__cause__, ConnectionAbortedError):  # asyncio's limit on a handshake
            return "tls_failure"
    return word
