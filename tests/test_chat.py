"""Requests to calls: what is understood, what is ignored, what identifies a request."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mock_llm.chat import Reader, prefixes, read_chat
from mock_llm.config import Profile, PromptCache, Upstream
from mock_llm.envelope import BadRequest
from mock_llm.plan import Call
from mock_llm.rng import request_key
from mock_llm.tokens import PRIMER_TOKENS, chat_tokens, estimate

MESSAGES = [
    {"role": "system", "content": "Classify."},
    {"role": "user", "content": "Good."},
    {"role": "assistant", "content": "positive"},
    {
        "role": "user",
        "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "now"}],
    },
]


def call(body: dict[str, Any], upstream: Upstream | None = None, key: str = "") -> Call:
    chat = read_chat(json.dumps({"messages": MESSAGES, **body}).encode())
    reader = Reader(Upstream() if upstream is None else upstream)
    return reader.call(chat, key=key, account="a", new_connection=True)


def test_text_is_the_last_user_message() -> None:
    """Parts of a content are joined, and the last message of the user is what is asked."""
    actual = call({"model": "m"})
    assert (actual.text, actual.key) == ("And now", request_key("And now"))
    texts = ["Classify.", "Good.", "positive", "And now"]
    assert actual.prompt_tokens == chat_tokens(texts, estimate)


def test_client_may_name_the_request() -> None:
    """A key sent by the client comes before the hash of the message."""
    assert call({}, key="review-1").key == "review-1"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ({"model": "a/b", "models": ["c/d"]}, "a/b"),
        ({"models": ["c/d", "e/f"]}, "c/d"),
        ({}, "openai/gpt-4o-mini"),
    ],
)
def test_model_falls_back(body: dict[str, Any], model: str) -> None:
    """Without a model the first of `models` is used, without those the first on offer."""
    assert call(body).model == model


def test_unknown_keys_are_ignored() -> None:
    """Keys that nobody needs may have any value, images included."""
    image = {"type": "image_url", "image_url": {"url": "data:"}}
    messages = [{"role": "user", "content": [image], "name": 5}]
    actual = call({"messages": messages, "plugins": "hot", "n": 3, "stream": None})
    assert (actual.text, actual.stream, actual.max_tokens) == ("", False, None)


def test_newer_limit_comes_first() -> None:
    """`max_completion_tokens` is what `max_tokens` was."""
    assert call({"max_tokens": 5}).max_tokens == 5
    assert call({"max_tokens": 5, "max_completion_tokens": 7}).max_tokens == 7


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_a_bad_request(body: bytes) -> None:
    """Whatever comes, it is understood or refused."""
    with pytest.raises(BadRequest):
        read_chat(body)


def test_prefixes_only_where_something_is_cached() -> None:
    """Digests cost time, so they are made only when some model has a prompt cache."""
    cached = Upstream(profile=Profile(prompt_cache=PromptCache()))
    assert call({}).prefix == ()
    assert len(call({}, cached).prefix) == 4


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["user", "system"]), st.text(max_size=9)), max_size=5),
    st.lists(st.tuples(st.sampled_from(["user", "system"]), st.text(max_size=9)), max_size=5),
)
def test_prefixes_agree_as_far_as_conversations_do(
    first: list[tuple[str, str]], second: list[tuple[str, str]]
) -> None:
    """Two conversations share digests exactly up to the first message in which they differ."""
    shared = 0
    while shared < min(len(first), len(second)) and first[shared] == second[shared]:
        shared += 1
    left, right = prefixes(first, estimate), prefixes(second, estimate)
    assert left[:shared] == right[:shared]
    assert not {digest for digest, _ in left[shared:]} & {digest for digest, _ in right[shared:]}
    texts = [text for _, text in first]
    if first:
        assert left[-1][1] == chat_tokens(texts, estimate) - PRIMER_TOKENS
