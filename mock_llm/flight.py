"""One call on its way through the recorder: what is noted of it, and how it becomes an exchange."""

from collections.abc import Iterable

import aiohttp

from mock_llm.cassette import Chunk, Ended, Exchange, Request, chunk
from mock_llm.redact import Secrets, allowed_response
from mock_llm.said import read_said

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade"}
)
_OURS = frozenset({"host", "content-length", "content-encoding", "accept-encoding", "expect"})


class Flight:
    """The state of one call; moments are loop time.

    Attributes:
        request: as it will be stored.
        secrets: to be hidden.
        began_s: it was handed to the client.
        sent_s: the head of the request was written; None before.
        new_connection: one was set up for it.
        status: 0 until a head has come.
        ended: how.
        error: why it failed, in words.
    """

    def __init__(self, request: Request, own: Secrets, began_s: float, at: str) -> None:
        self.request, self.secrets = request, own
        self.began_s, self.recorded_at = began_s, at
        self.sent_s: float | None = None
        self.new_connection = False
        self.status = 0
        self.ended: Ended = "complete"
        self.error = ""
        self._headers: list[tuple[str, str]] = []
        self._length: int | None = None
        self._headers_s: float | None = None
        self._pieces: list[tuple[float, bytes]] = []

    def head(
        self, now: float, status: int, headers: Iterable[tuple[str, str]], length: int | None
    ) -> None:
        """Note the head of the answer."""
        self.status, self._length = status, length
        self._headers_s = self._since(now)
        self._headers = [(name, self.secrets.text(one)) for name, one in allowed_response(headers)]

    def piece(self, now: float, data: bytes) -> None:
        """Note bytes of the body."""
        self._pieces.append((self._since(now), data))

    def cost_usd(self) -> tuple[float | None, bool]:
        """What it cost, None when that is unknown; and whether the answer should have said."""
        if self.ended == "unreachable" or self.status not in {0, 200}:
            return 0.0, True
        said = read_said(b"".join(data for _, data in self._pieces))
        free = self.request.method == "GET" or said.failed
        cost_usd = 0.0 if free and said.cost_usd is None else said.cost_usd
        return cost_usd, self.ended == "complete"

    def exchange(self, now: float) -> Exchange:
        """Return what is stored of it."""
        masked = self.secrets.pieces([data for _, data in self._pieces])
        times = [at_s for at_s, _ in self._pieces]
        chunks: list[Chunk] = [chunk(at_s, one) for at_s, one in zip(times, masked, strict=True)]
        return Exchange(
            request=self.request,
            status=self.status,
            headers=self._headers,
            length=self._length,
            headers_s=self._headers_s,
            chunks=chunks,
            ended=self.ended,
            error=self.secrets.text(self.error),
            total_s=self._since(now),
            connect_s=round((self.sent_s or self.began_s) - self.began_s, 6),
            new_connection=self.new_connection,
            recorded_at=self.recorded_at,
        )

    def _since(self, now: float) -> float:
        return round(now - (self.began_s if self.sent_s is None else self.sent_s), 6)


def outward(headers: Iterable[tuple[str, str]], key: str | None) -> list[tuple[str, str]]:
    """The fields of a request to the upstream, which is asked for readable bytes.

    Args:
        headers: the client's.
        key: takes the place of the client's own; None: the client's is passed on.
    """
    kept = end_to_end(headers, _OURS | ({"authorization"} if key is not None else set()))
    given = [] if key is None else [("Authorization", f"Bearer {key}")]
    return [*kept, *given, ("Accept-Encoding", "identity")]


def end_to_end(
    headers: Iterable[tuple[str, str]], without: frozenset[str] | set[str] = frozenset()
) -> list[tuple[str, str]]:
    """The fields that are not about one connection only (RFC 9110, section 7.6.1)."""
    fields = list(headers)
    named = (value for name, value in fields if name.lower() == "connection")
    gone = {one.strip().lower() for value in named for one in value.split(",")}
    gone |= _HOP_BY_HOP | without
    return [(name, value) for name, value in fields if name.lower() not in gone]


def why(error: Exception) -> str:
    """Why the upstream was not reached, in words without its address."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        words = getattr(error.certificate_error, "verify_message", "") or "it is not valid"
        return f"its certificate is refused ({words}); a private authority is named with --ca"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"TLS failed: {getattr(error.os_error, 'reason', None) or 'no handshake'}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__


def broken_by(error: Exception) -> Ended:
    """Whether the upstream reset the connection or merely closed it."""
    # aiohttp tells a body's reader in words only what became of the connection.
    was_reset = isinstance(error, ConnectionResetError | BrokenPipeError)
    was_reset = was_reset or getattr(error, "errno", None) is not None
    return "reset" if was_reset or "ConnectionResetError" in str(error) else "eof"
