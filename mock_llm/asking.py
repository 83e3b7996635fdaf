"""What a request asks, and whose it is."""

from functools import lru_cache

from aiohttp import hdrs, web
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDictProxy, istr

from mock_llm import envelope
from mock_llm.chat import Reader, read_chat
from mock_llm.config import Upstream
from mock_llm.connection import MAX_BODY_BYTES, Connection
from mock_llm.envelope import BadRequest, Refusal
from mock_llm.ledger import Row
from mock_llm.masking import masked
from mock_llm.plan import Call
from mock_llm.replay import Replay, asked

REQUEST_KEY, ATTEMPT = istr("X-Request-Key"), istr("X-Attempt")
LONGEST_NAME = 256  # of a model, in a row: a client must not fill the memory with what it makes up
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Asking:
    """Makes calls of requests, for one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        self._reader = Reader(upstream)
        self._keys = frozenset(upstream.keys)

    def account(self, headers: CIMultiDictProxy[str]) -> str | Refusal:
        """Return whose page is asked for, as the ledger has it, or why nobody is known."""
        account, shown = _asker(headers.get(hdrs.AUTHORIZATION, ""))
        return self._unknown(account) or shown

    def read(
        self, message: RawRequestMessage, body: bytes, row: Row, replay: Replay | None
    ) -> Call | Refusal:
        """Make a call of a request, or say what is wrong with it; fills in who asked for what.

        A cassette is looked at first. It knows clients without a key, unless `keys` is set.
        """
        headers = message.headers
        row.attempt = _clean(headers.get(ATTEMPT, ""))
        key = headers.get(REQUEST_KEY, "")
        account, row.account = _asker(headers.get(hdrs.AUTHORIZATION, ""))
        row.key = _clean(key)
        unknown, call = self._unknown(account), None
        if replay is not None and (unknown is None or not (account or self._keys)):
            wanted = asked(message.method, message.path, headers, body)
            call = replay.call(wanted, key, account, row)
        if call is None and unknown is not None:
            return unknown
        if call is None:
            call = self._chat(body, key, account, row)
        if isinstance(call, Refusal):
            return call
        row.key, row.model, row.stream = _clean(call.key), call.model[:LONGEST_NAME], call.stream
        return call

    def _chat(self, body: bytes, key: str, account: str, row: Row) -> Call | Refusal:
        try:
            chat, fresh = read_chat(body), row.new_connection
            return self._reader.call(chat, key=key, account=account, new_connection=fresh)
        except BadRequest as error:
            return envelope.unread(error)

    def _unknown(self, account: str) -> Refusal | None:
        if not account:
            return envelope.NO_CREDENTIALS
        return envelope.UNKNOWN_KEY if self._keys and account not in self._keys else None


async def body_of(request: web.BaseRequest, link: Connection) -> bytes:
    """A body that may not be here yet.

    Raises:
        HTTPRequestEntityTooLarge: it is too large, or says of itself that it will be.
    """
    size = request.content_length or 0
    if size > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, size)
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        link.send(_CONTINUE)
    return await request.read()


@lru_cache(maxsize=1024)
def _asker(authorization: str) -> tuple[str, str]:
    """An account, and how the ledger shows it; a client sends the same with every request."""
    scheme, _, token = authorization.partition(" ")
    account = token.strip() if scheme.lower() == "bearer" else ""
    return account, masked(_clean(account))


def _clean(text: str) -> str:
    """Header text without the lone surrogates that stand for bytes which are not UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
