"""One HTTP call to a chat completions endpoint, with a time stamp for everything that can stall.

Foreign exceptions are translated here and nowhere else: a call gives an `Answer` or raises a
`CallError`; a cancellation passes through. Time limits are the caller's (`asyncio.timeout`
is exact; aiohttp's own fire at whole seconds above five).
"""

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.http import HttpProcessingError
from yarl import URL

from harness.pipeline.answer import Answer, BadAnswerError, Usage, answer, decode, whole
from harness.scenario.pipeline import Pipeline

_NO_LIMITS = aiohttp.ClientTimeout(total=None, sock_connect=None, sock_read=None)
_DATA = b"data:"
_DONE = b"[DONE]"
_END_PATIENCE_S = 1.0


class CallError(Exception):
    """A call that gave no answer; `word` goes into the record."""

    def __init__(
        self, word: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(word)
        self.word = word
        self.status = status
        self.retry_after_s = retry_after_s


class Stamps:
    """Times of an attempt in the making; see `harness.records.Record`."""

    __slots__ = (
        "new_connection",
        "status",
        "t_connected",
        "t_first_token",
        "t_headers",
        "t_last_token",
        "t_sent",
    )

    def __init__(self) -> None:
        self.new_connection = False
        self.status: int | None = None
        self.t_connected: float | None = None
        self.t_sent: float | None = None
        self.t_headers: float | None = None
        self.t_first_token: float | None = None
        self.t_last_token: float | None = None


_STAMPS: ContextVar[Stamps] = ContextVar("stamps")


class _Connector(aiohttp.TCPConnector):
    """Stamps connections; aiohttp's tracing tells the same at several times the cost."""

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
        return connection

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> Any:
        _STAMPS.get().new_connection = True
        return await super()._create_connection(req, traces, timeout)


class ChatClient:
    """A client of one endpoint: pooled, or with a session and a connection per call."""

    def __init__(self, settings: Pipeline, base_url: str, api_key: str) -> None:
        self._settings = settings
        self._url = URL(f"{base_url.rstrip('/')}/chat/completions")
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._session: aiohttp.ClientSession | None = None

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
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        # aiohttp's default of 100 connections would be a queue nobody asked for.
        connector = _Connector(limit=self._settings.pool_limit or 0)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=_NO_LIMITS,
            headers=self._headers,
        )

    async def call(self, body: bytes, key: str, attempt: int, stamps: Stamps) -> Answer:
        """Send one request and read its answer, writing down the time of every step.

        Raises:
            CallError: there is no usable answer; says why in one word.
        """
        _STAMPS.set(stamps)
        headers = {"X-Request-Key": key, "X-Attempt": str(attempt)}
        try:
            if self._session is not None:
                return await self._post(self._session, body, headers, stamps)
            async with self._open() as session:
                return await self._post(session, body, headers, stamps)
        except BadAnswerError as error:
            raise CallError(error.word, error.status or stamps.status) from error
        except aiohttp.ClientError as error:
            raise CallError(_word(error), stamps.status) from error
        except HttpProcessingError as error:  # a line of a stream past aiohttp's buffer
            raise CallError("line_too_long", stamps.status) from error
        except OSError as error:
            raise CallError("connection_error", stamps.status) from error

    async def _post(
        self,
        session: aiohttp.ClientSession,
        body: bytes,
        headers: dict[str, str],
        stamps: Stamps,
    ) -> Answer:
        async with session.post(
            self._url, data=body, headers=headers, allow_redirects=False
        ) as response:
            return await self._read(response, stamps)

    async def _read(self, response: aiohttp.ClientResponse, stamps: Stamps) -> Answer:
        now = asyncio.get_running_loop().time
        stamps.status = response.status
        stamps.t_headers = now()
        if response.status != 200:
            await response.read()
            stamps.t_first_token = stamps.t_last_token = now()
            raise CallError(f"http_{response.status}", response.status, _retry_after_s(response))
        read = _read_stream if self._settings.stream else _read_body
        found = await read(response, stamps)
        stamps.t_last_token = now()
        return found


async def _read_body(response: aiohttp.ClientResponse, stamps: Stamps) -> Answer:
    """A JSON body, behind any number of keep-alives made of white space."""
    now = asyncio.get_running_loop().time
    parts: list[bytes] = []
    async for part in response.content.iter_any():
        if stamps.t_first_token is None and not part.isspace():
            stamps.t_first_token = now()
        parts.append(part)
    return whole(b"".join(parts))


async def _read_stream(response: aiohttp.ClientResponse, stamps: Stamps) -> Answer:
    """Server-sent events; a comment is a keep-alive and no token.

    Raises:
        BadAnswerError: also `missing_done` for a stream that ends without its end mark, which both
            official SDKs take for success.
    """
    now = asyncio.get_running_loop().time
    text: list[str] = []
    usage: Usage | None = None
    finish: str | None = None
    async for line in response.content:
        if not line.startswith(_DATA):
            continue
        data = line[len(_DATA) :].strip()
        if data == _DONE:
            await _drain(response)
            return answer("".join(text), usage, finish)
        chunk = decode(data)
        usage = chunk.usage or usage
        for choice in chunk.choices or ():
            finish = choice.finish_reason or finish
            piece = choice.delta.content if choice.delta else None
            if piece:
                if stamps.t_first_token is None:
                    stamps.t_first_token = now()
                text.append(piece)
    raise BadAnswerError("missing_done")


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a body's end, for the connection to be used again; not every server sends one."""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_END_PATIENCE_S):
            await response.content.read()


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """Seconds in Retry-After; its HTTP-date form and nonsense count as no hint."""
    try:
        seconds = float(response.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _word(error: aiohttp.ClientError) -> str:
    """One word for one of aiohttp's errors."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "disconnected"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no_connection"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "truncated"
    if isinstance(error, aiohttp.ServerTimeoutError):
        return "socket_timeout"
    return "connection_error"
