"""What must never get into a cassette: keys, cookies, and who asked.

Header fields are stored by a list of those allowed, not of those forbidden. In everything else the
request's own secrets are masked wherever they turn up, and whatever looks like a key or names a
user. A mask has the length of what it hides, so that the pieces of a body keep their bounds and
`Content-Length` stays right; and a body is searched as a whole, for a key may come in two pieces.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_plus

import msgspec

from mock_llm.cassette import Request, canonical, decoded, request_of

REQUEST_FIELDS = frozenset({"accept", "content-type", "user-agent"})
RESPONSE_FIELDS = frozenset(
    {"access-control-allow-origin", "cache-control", "cf-ray", "content-encoding", "content-type"}
    | {"openai-processing-ms", "openai-version", "retry-after", "retry-after-ms", "server"}
    | {"x-generation-id", "x-request-id", "x-should-retry"}
)
_NO_SECRETS = REQUEST_FIELDS | {"x-request-key", "idempotency-key"}
_RATE_LIMITS = ("x-ratelimit-", "ratelimit-")
_SECRET_FIELD = re.compile(r"auth|cookie|key|token|secret|session|password", re.IGNORECASE)
_SECRET_NAME = re.compile(
    r".*(api|access|auth|secret|private)[-_]?key|(.*[-_])?(api|access|auth)?[-_]?token"
    r"|(.*[-_])?secret|password|authorization",
    re.IGNORECASE,
)
_SHORTEST = 6  # masking anything shorter would riddle the text with accidental finds
_LOOKS_SECRET = re.compile(
    rb"""(?<![\w-])sk-[\w.*-]{8,}|Bearer\s+[\w.~+/-]{20,}=*|(?<![\w-])user_\w{16,}"""
    rb"""|"(?:\w*user_id|org_id|workspace_id|email)"\s*:\s*"([^"]+)\""""
)
_SAID = re.compile(rb'"(?:content|reasoning|text|arguments)"\s*:\s*"((?:[^"\\]|\\.)*)"')


def allowed_request(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of a request that are stored, names in lower case."""
    return [(name.lower(), value) for name, value in headers if name.lower() in REQUEST_FIELDS]


def allowed_response(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The fields of a response that are stored, names in lower case."""
    lower = ((name.lower(), value) for name, value in headers)
    return [
        (name, value)
        for name, value in lower
        if name in RESPONSE_FIELDS or name.startswith(_RATE_LIMITS)
    ]


class Secrets:
    """The secrets of one request, and how to hide them.

    Args:
        headers: of the request as it goes to the upstream.
        query: as it came.
        body: decoded JSON, or None.
    """

    def __init__(
        self, headers: Iterable[tuple[str, str]], query: str = "", body: Any = None
    ) -> None:
        found = set(_of_headers(headers)) | set(_of_query(query)) | set(_of_body(body))
        forms = {form for one in found if len(one) >= _SHORTEST for form in _forms(one)}
        # The longest first: one secret may be the beginning of another.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._own = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None

    def masked(self, data: bytes) -> bytes:
        """The same number of bytes, secrets made unreadable."""
        hidden = {place for span in self._found(data) for place in range(*span)}
        # A streamed text is cut by its events: what was said is searched without them.
        spans = [found.span(1) for found in _SAID.finditer(data)] if b"data:" in data else []
        if whole := list(self._found(b"".join(data[start:end] for start, end in spans))):
            places = [place for span in spans for place in range(*span)]
            hidden.update(place for start, end in whole for place in places[start:end])
        if not hidden:
            return data
        return bytes(42 if place in hidden else byte for place, byte in enumerate(data))

    def text(self, text: str) -> str:
        """The same for text."""
        return self.masked(text.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    def query(self, query: str) -> str:
        """A query without the values that may not be stored."""
        parts = [part.partition("=") for part in query.split("&") if part]
        kept = (
            f"{name}{equals}{'***' if _in_address(unquote_plus(name)) else value}"
            for name, equals, value in parts
        )
        return self.text("&".join(kept))

    def pieces(self, pieces: list[bytes]) -> list[bytes]:
        """Mask a body that came in pieces, as one."""
        whole = self.masked(b"".join(pieces))
        cut, start = [], 0
        for piece in pieces:
            cut.append(whole[start : start + len(piece)])
            start += len(piece)
        return cut

    def _found(self, data: bytes) -> Iterator[tuple[int, int]]:
        """From where to where secrets are."""
        for pattern in (self._own, _LOOKS_SECRET):
            for found in pattern.finditer(data) if pattern else ():
                yield found.span(found.lastindex or 0)


def stored(
    method: str, path: str, query: str, headers: Iterable[tuple[str, str]], body: bytes
) -> tuple[Request, Secrets]:
    """Return a request as a cassette has it, and the secrets that it came with.

    Args:
        method: of HTTP.
        path: below the API's root.
        query: as it came, without the question mark.
        headers: as they go to the upstream.
        body: as it came.
    """
    fields = list(headers)
    own = Secrets(fields, query, decoded(body))
    request = request_of(method, own.text(path), own.query(query), own.masked(body))
    if request.body is not None:
        # Once more in one form: escapes may have hidden a secret from the first look.
        plain = decoded(own.masked(canonical(_without_secrets(request.body))))
        request = msgspec.structs.replace(request, body=plain)
    allowed = [(name, own.text(value)) for name, value in allowed_request(fields)]
    return msgspec.structs.replace(request, headers=allowed), own


def _without_secrets(body: Any) -> Any:
    """A decoded body, the values of all that is named like a key replaced by `***`."""
    if isinstance(body, Mapping):
        return {
            name: "***" if _is_secret(name, value) else _without_secrets(value)
            for name, value in body.items()
        }
    return [_without_secrets(one) for one in body] if isinstance(body, list) else body


def _is_secret(name: str, value: object) -> bool:
    return isinstance(value, str) and bool(_SECRET_NAME.fullmatch(name))


def _in_address(name: str) -> bool:
    return name.lower() == "key" or bool(_SECRET_NAME.fullmatch(name))


def _of_headers(headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, value in headers:
        if name.lower() in _NO_SECRETS or not _SECRET_FIELD.search(name):
            continue
        if "cookie" in name.lower():
            yield from (one.partition("=")[2].strip() for one in value.split(";"))
        else:
            yield value.rpartition(" ")[2]  # of "Bearer KEY" the scheme is no secret


def _of_query(query: str) -> Iterator[str]:
    for name, value in parse_qsl(query):
        if _in_address(name):
            yield value


def _of_body(body: Any) -> Iterator[str]:
    for name, value in body.items() if isinstance(body, Mapping) else ():
        if _is_secret(name, value):
            yield value
        yield from _of_body(value)
    for one in body if isinstance(body, list) else ():
        yield from _of_body(one)


def _forms(secret: str) -> set[bytes]:
    """A secret as it may be written: plain, in a JSON string, in an address."""
    in_json = json.dumps(secret)[1:-1]
    written = (secret, in_json, in_json.replace("/", r"\/"), quote(secret, safe=""))
    return {form.encode("utf-8", "surrogatepass") for form in written}
