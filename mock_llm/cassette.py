"""Cassettes: what a real endpoint was asked, what it answered, and when each piece came.

A cassette is JSONL. Its first line says which format and which upstream; each further one is an
exchange, written in one piece when it ended, so that a recording that was cut off stays readable.
Nothing here opens a socket or asks for the time.
"""

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import msgspec

from mock_llm.config import Upstream
from mock_llm.errors import InputError

VERSION = 1
ROOTS = ("/api/v1", "/v1", "")
# Who asks, and how usage is told: they make no other request of it, and name people.
VOLATILE = frozenset({"user", "session_id", "stream_options", "safety_identifier"})

_TORN = "{}: its last line was cut off and is left out"
Ended = Literal["complete", "eof", "reset", "client_left", "stopped", "unreachable"]


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first line.

    Attributes:
        mock_llm_cassette: version of the format.
        upstream: whom the answers are from: scheme, host and path, nothing else.
    """

    mock_llm_cassette: int
    upstream: str


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked, without secrets.

    Attributes:
        method: of HTTP.
        path: below the API's root, such as `/chat/completions`.
        query: without the question mark.
        headers: those that may be stored, names in lower case.
        body: decoded JSON without `VOLATILE` keys; None when there was none.
        text: the body when it is no JSON.
        base64: the body when it is not even UTF-8.
    """

    method: str
    path: str
    query: str = ""
    headers: list[tuple[str, str]] = []
    body: Any = None
    text: str = ""
    base64: bytes = b""

    @property
    def model(self) -> str:
        """The model it asks for, or ""."""
        named = self.body.get("model") if isinstance(self.body, dict) else None
        return named if isinstance(named, str) else ""


class Chunk(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes of a body that arrived together, as text if they are UTF-8.

    Attributes:
        at_s: arrival, seconds from the sending of the request.
        text: what arrived.
        base64: what arrived, when it is not UTF-8.
    """

    at_s: float
    text: str = ""
    base64: bytes = b""

    @property
    def data(self) -> bytes:
        """What arrived, as bytes."""
        return self.base64 or self.text.encode()


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request and its answer. Times are seconds from the sending of the request.

    Attributes:
        request: see `Request`.
        status: of HTTP; 0 when no head came.
        headers: of the answer, those that may be stored, names in lower case.
        length: the `Content-Length` that was declared.
        headers_s: the head came.
        chunks: the body as it was received.
        ended: `complete`; `eof`, the upstream closed too early; `reset`, it reset the connection;
            `client_left`; `stopped`, the recorder was; `unreachable`: no connection was had, and
            the answer is the recorder's own 502.
        error: what an unreachable upstream gave for a reason.
        total_s: it was over.
        connect_s: how long it took to get a connection, before the sending.
        new_connection: it was set up for this request.
        recorded_at: moment of the sending, ISO 8601 in UTC.
    """

    request: Request
    status: int = 0
    headers: list[tuple[str, str]] = []
    length: int | None = None
    headers_s: float | None = None
    chunks: list[Chunk] = []
    ended: Ended
    error: str = ""
    total_s: float
    connect_s: float = 0.0
    new_connection: bool = False
    recorded_at: str = ""


class Cassette(msgspec.Struct, frozen=True, kw_only=True):
    """A cassette as read.

    Attributes:
        header: its first line.
        exchanges: in the order in which they ended.
        size: bytes up to the end of the last whole line.
        warning: what is wrong with the rest of the file, "" when there is none.
    """

    header: Header
    exchanges: list[Exchange]
    size: int
    warning: str = ""


def below_root(path: str) -> str:
    """A path without the API's root."""
    return path.removeprefix(next((root for root in ROOTS if path.startswith(f"{root}/")), ""))


def decoded(body: bytes) -> Any:
    """JSON decoded, or None: an unpaired surrogate, an infinite number or any other rubbish."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def chunk(at_s: float, data: bytes) -> Chunk:
    """Return bytes as they are stored."""
    try:
        return Chunk(round(at_s, 6), data.decode())
    except UnicodeDecodeError:
        return Chunk(round(at_s, 6), base64=data)


def request_of(method: str, path: str, query: str, body: bytes) -> Request:
    """Return a request as it is stored and matched; a JSON body without its volatile keys."""
    value = decoded(body)
    if value is not None:
        if isinstance(value, dict):
            value = {name: one for name, one in value.items() if name not in VOLATILE}
        return Request(method=method, path=path, query=query, body=value)
    raw = chunk(0.0, body)
    return Request(method=method, path=path, query=query, text=raw.text, base64=raw.base64)


def canonical(value: Any) -> bytes:
    """JSON in one form: keys sorted, no blanks, and 1.0 is 1, as RFC 8785 has it."""
    return msgspec.json.encode(_plain(value), order="deterministic")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def identity(request: Request) -> str:
    """What equal requests have in common: a hash of method, path, query and canonical body."""
    parts = [request.method, request.path, request.query, request.text, request.base64]
    return blake2b(canonical([*parts, request.body]), digest_size=16).hexdigest()


def read_cassette(path: Path) -> Cassette:
    """Read a cassette; a last line that was cut off is left out, with a warning.

    Raises:
        InputError: it cannot be read, is no cassette of this version, or a line is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the cassette: {error.strerror}") from error
    whole, _, rest = data.rpartition(b"\n")
    lines = whole.split(b"\n")
    return Cassette(
        header=_header(path, lines[0]),
        exchanges=[_exchange(path, n, line) for n, line in enumerate(lines[1:], 2) if line],
        size=len(data) - len(rest),
        warning=_TORN.format(path) if rest else "",
    )


def torn(upstream: Upstream) -> list[str]:
    """What a reader must know of the cassette that an upstream names: its last line is cut off."""
    if upstream.cassette is None:
        return []
    try:
        with Path(upstream.cassette.file).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            whole = file.read() == b"\n"
    except OSError:  # told by whoever reads all of it
        return []
    return [] if whole else [_TORN.format(upstream.cassette.file)]


def _header(path: Path, line: bytes) -> Header:
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a cassette: record one with `mock_llm record`") from error
    if header.mock_llm_cassette != VERSION:
        found = header.mock_llm_cassette
        raise InputError(f"{path}: a cassette of version {found}, and this one reads {VERSION}")
    return header


def _exchange(path: Path, number: int, line: bytes) -> Exchange:
    try:
        return msgspec.json.decode(line, type=Exchange)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}, line {number}: {error}; delete the line") from error


class CassetteWriter:
    """Appends exchanges to a cassette, which it begins or continues.

    Args:
        path: of the file.
        upstream: address without user, password and query.

    Attributes:
        warning: what had to be repaired, or "".

    Raises:
        InputError: it cannot be written, is no cassette, or is one of another upstream.
    """

    def __init__(self, path: Path, upstream: str) -> None:
        self._path, self.warning, size = path, "", 0
        if path.exists() and path.stat().st_size:
            old = read_cassette(path)
            self.warning, size = old.warning, old.size
            if old.header.upstream != upstream:
                whose = f"{path}: a cassette of {old.header.upstream}, not of {upstream}"
                raise InputError(f"{whose}; name another file")
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise InputError(f"{path}: cannot write the cassette: {error.strerror}") from error
        self._file.truncate(size)  # a line that was cut off would swallow the next one
        if not size:
            self._write(Header(mock_llm_cassette=VERSION, upstream=upstream))

    def add(self, exchange: Exchange) -> None:
        """Append one exchange, in one write.

        Raises:
            InputError: the disk is full, or something like it.
        """
        self._write(exchange)

    def _write(self, line: Header | Exchange) -> None:
        data = msgspec.json.encode(line) + b"\n"
        try:
            written = os.write(self._file.fileno(), data)
        except OSError as error:
            raise InputError(f"{self._path}: cannot write: {error.strerror}") from error
        if written < len(data):
            raise InputError(f"{self._path}: cannot write: no space is left")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
