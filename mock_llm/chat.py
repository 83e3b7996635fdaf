"""Reads a chat completion request: strict about what it needs, lenient about the rest."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Annotated

import msgspec
from msgspec import Meta

from mock_llm.config import Upstream
from mock_llm.envelope import BadRequest
from mock_llm.plan import Call
from mock_llm.rng import request_key
from mock_llm.tokens import PRIMER_TOKENS, Counter, chat_tokens, counter

Limit = Annotated[int, Meta(ge=1)]


class Part(msgspec.Struct):
    """A part of a message's content; only text is read."""

    type: str = "text"
    text: str | None = None


class ChatMessage(msgspec.Struct):
    """A message with its content as it came."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """All its text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text or "" for part in self.content or ())


class Chat(msgspec.Struct):
    """The body of a request. Unknown keys are ignored, as OpenRouter does."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    model: str | None = None
    models: list[str] | None = None
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    stream: bool | None = None


_decode = msgspec.json.Decoder(Chat).decode


def read_chat(body: bytes) -> Chat:
    """Decode a request body.

    Raises:
        BadRequest: not JSON, or not of the right shape; the text names the field.
    """
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BadRequest("nested too deeply") from error


def prefixes(messages: Iterable[tuple[str, str]], count: Counter) -> tuple[tuple[bytes, int], ...]:
    """Chained digest, and tokens, of every prefix of whole messages, shortest first.

    Args:
        messages: role and text of each.
        count: counts a text's tokens.
    """
    found: list[tuple[bytes, int]] = []
    digest, tokens = b"", 0
    for role, text in messages:
        link = f"{role}\0{text}".encode("utf-8", "surrogatepass")
        digest = blake2b(digest + link, digest_size=16).digest()
        tokens += chat_tokens((text,), count) - PRIMER_TOKENS
        found.append((digest, tokens))
    return tuple(found)


class Reader:
    """Turns requests into calls, for one upstream."""

    def __init__(self, upstream: Upstream) -> None:
        profiles = [model.profile or upstream.profile for model in upstream.models.values()]
        self._cached = any(profile.prompt_cache for profile in profiles)
        self._count = counter(upstream.token_counts)
        self._default_model = next(iter(upstream.models), "")

    def call(self, chat: Chat, *, key: str, account: str, new_connection: bool) -> Call:
        """Return what behaviour needs to know of a request.

        Args:
            chat: the decoded body.
            key: the client's `X-Request-Key`, "" when it sent none.
            account: its API key.
            new_connection: first request on its connection.
        """
        said = [(message.role, message.text) for message in chat.messages]
        text = next((text for role, text in reversed(said) if role == "user"), "")
        return Call(
            key=key or request_key(text),
            model=chat.model or next(iter(chat.models or ()), self._default_model),
            account=account,
            prompt_tokens=chat_tokens([text for _, text in said], self._count),
            prefix=prefixes(said, self._count) if self._cached else (),
            text=text,
            max_tokens=chat.max_completion_tokens or chat.max_tokens,
            stream=bool(chat.stream),
            new_connection=new_connection,
        )
