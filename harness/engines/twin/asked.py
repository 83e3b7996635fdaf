"""What a request asks, without its bytes: their number and the tokens, by text.

The mock counts what it reads in a body, the purse counts the body. Both counts are sums over texts
that come again with every request, so each text is counted once and no body is made, unless
somebody needs its bytes: an attempt that nobody answered is billed by them.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import msgspec

from harness.pipeline.context import Exchange
from harness.pipeline.prompt import INSTRUCTIONS, encode
from harness.scenario.pipeline import Pipeline
from mock_llm.chat import Reader
from mock_llm.plan import Call
from mock_llm.tokens import MESSAGE_TOKENS, PRIMER_TOKENS

_QUOTES = 2
_MOST_TEXTS = 200_000


class Asked(msgspec.Struct, eq=False, gc=False):
    """One prompt.

    Attributes:
        settings: of the pipeline.
        model: that is asked.
        exchanges: that go along.
        text: the last message.
        tokens: as the provider counts them.
        size: of the body, in bytes.
    """

    settings: Pipeline
    model: str
    exchanges: Sequence[Exchange]
    text: str
    tokens: int
    size: int

    def body(self) -> bytes:
        """The bytes that are sent."""
        return encode(self.settings, self.model, self.exchanges, self.text)

    def call(self, reader: Reader, key: str, account: str, new_connection: bool) -> Call:
        """What the provider's `Reader.call` makes of those bytes."""
        return Call(
            key=key,
            model=reader.model(self.model),
            account=account,
            prompt_tokens=self.tokens,
            prefix=reader.prefix(self.said),
            text=self.text,
            max_tokens=self.settings.max_tokens,
            stream=self.settings.stream,
            new_connection=new_connection,
        )

    def said(self) -> Iterator[tuple[str, str]]:
        """Role and text of each message."""
        fixed = self.settings.instructions
        yield "system", INSTRUCTIONS if fixed is None else fixed
        for exchange in self.exchanges:
            yield "user", exchange.prompt
            yield "assistant", exchange.reply
        yield "user", self.text


class Texts:
    """Counts prompts.

    Args:
        settings: of the pipeline.
        count: tokens of a text, as the provider counts them.
    """

    def __init__(self, settings: Pipeline, count: Callable[[str], int]) -> None:
        self._set = settings
        self._count = count
        self._known: dict[str, tuple[int, int]] = {}
        self._pairs: dict[int, tuple[int, int]] = {}
        fixed = INSTRUCTIONS if settings.instructions is None else settings.instructions
        self._fixed_tokens = PRIMER_TOKENS + 2 * MESSAGE_TOKENS + count(fixed)
        self._fixed_size: dict[str, int] = {}
        pair = len(encode(settings, "", [Exchange(0, "", "")], ""))
        self._pair_size = pair - len(encode(settings, "", [], "")) - 2 * _QUOTES

    def asked(self, model: str, exchanges: Sequence[Exchange], text: str) -> Asked:
        """A prompt, counted."""
        known, counted = self._known, self._counted
        size, tokens = known.get(text) or counted(text)
        fixed = self._fixed_size.get(model)
        if fixed is None:
            fixed = self._fixed_size[model] = len(encode(self._set, model, [], "")) - _QUOTES
        size += fixed
        tokens += self._fixed_tokens
        pairs = self._pairs
        for exchange in exchanges:
            pair = pairs.get(exchange.number) or self._pair(exchange)
            size += pair[0]
            tokens += pair[1]
        return Asked(self._set, model, exchanges, text, tokens, size)

    def _pair(self, exchange: Exchange) -> tuple[int, int]:
        """A review and its answer as two messages; a number is one exchange."""
        if len(self._pairs) >= _MOST_TEXTS:
            self._pairs.clear()
        asked, told = self._counted(exchange.prompt), self._counted(exchange.reply)
        tokens = 2 * MESSAGE_TOKENS + asked[1] + told[1]
        found = self._pairs[exchange.number] = self._pair_size + asked[0] + told[0], tokens
        return found

    def _counted(self, text: str) -> tuple[int, int]:
        """Bytes as JSON, and tokens."""
        if len(self._known) >= _MOST_TEXTS:
            self._known.clear()
        found = self._known[text] = _counted(text, self._count)
        return found


@lru_cache(maxsize=50_000)
def _counted(text: str, count: Callable[[str], int]) -> tuple[int, int]:
    """Bytes as JSON, and tokens; a process that simulates many runs counts each text once."""
    return len(msgspec.json.encode(text)), count(text)
