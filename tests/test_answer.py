"""What is taken for an answer, and the word for everything that is not."""

import json
from typing import Any

import msgspec
import pytest
from endpoints import ANSWER, COMMENT, STREAM, TEXT, USAGE, completion
from hypothesis import given
from hypothesis import strategies as st

from harness.pipeline.answer import (
    NO_USAGE,
    Answer,
    BadAnswerError,
    UsageWord,
    answer,
    decode,
    label_of,
    whole,
)


def test_whole_answer() -> None:
    """Text, label, tokens and the provider's own cost are taken from a good body."""
    assert whole(completion()) == ANSWER


def test_keep_alives_before_the_answer() -> None:
    """White space around the JSON means nothing."""
    assert whole(b"\n         \n" * 40 + completion() + b"\r\n") == ANSWER


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        (None, "missing"),
        ({}, "missing"),
        ({"prompt_tokens": 9}, "missing"),
        ({**USAGE, "completion_tokens": None}, "missing"),
        ({**USAGE, "cost": -0.01}, "implausible"),
        ({**USAGE, "cost": 1e4}, "implausible"),
        ({**USAGE, "cost": float("nan")}, "implausible"),
        ({**USAGE, "cost": float("inf")}, "implausible"),
        ({**USAGE, "cost": "0.01"}, "implausible"),
        ({**USAGE, "prompt_tokens": 0}, "implausible"),
        ({**USAGE, "prompt_tokens": -550}, "implausible"),
        ({**USAGE, "prompt_tokens": 550.5}, "implausible"),
        ({**USAGE, "completion_tokens": 0}, "implausible"),
        ({**USAGE, "completion_tokens": 10**8}, "implausible"),
        ({**USAGE, "completion_tokens": 10**40}, "implausible"),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": 551}}, "implausible"),
        ({**USAGE, "prompt_tokens_details": {"cached_tokens": -1}}, "implausible"),
        ([550, 15], "implausible"),
    ],
)
def test_usage_that_cannot_be_is_no_figure(usage: object, said: UsageWord) -> None:
    """An answer whose bill is missing or nonsense is an answer, and says that its cost is open."""
    assert whole(completion(usage=usage)) == Answer(text=TEXT, label="positive", usage=said)


@pytest.mark.parametrize(
    ("more", "changes"),
    [
        ({"cost": 0}, {"cost_usd": 0.0}),
        ({"cost": None}, {"cost_usd": None}),
        ({"prompt_tokens_details": None}, {"cached_tokens": 0}),
        ({"prompt_tokens": 10**7}, {"prompt_tokens": 10**7}),
        ({"audio_tokens": "none"}, {}),
    ],
)
def test_usage_is_taken_where_it_can_be(more: dict[str, Any], changes: dict[str, Any]) -> None:
    """A cost of zero is known, a cost that is not told is not, and both are reported usage."""
    expected = msgspec.structs.replace(ANSWER, **changes)
    assert whole(completion(usage={**USAGE, **more})) == expected


def error_of(data: bytes) -> tuple[str, int | None]:
    """The word and the status of an unusable body."""
    with pytest.raises(BadAnswerError) as caught:
        whole(data)
    return caught.value.word, caught.value.status


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty_body"),
        (b"\n         \n" * 3, "empty_body"),
        (b" \n<html><body>524</body></html>", "html"),
        (b"<html><p>\xe9</p></html>", "html"),
        (b"".join(STREAM), "sse_for_json"),
        (COMMENT, "sse_for_json"),
        (completion()[:-1], "truncated_json"),
        (
            completion("\u00e9").replace(b"\\u00e9", b"\xc3\xa9").partition(b"\xa9")[0],
            "truncated_json",
        ),
        (completion() + b"{}", "not_json"),
        (completion().replace(b"label", b"\xff\xfe"), "not_utf8"),
        (b"\xff\xfe", "not_utf8"),
        (completion("\ud83d"), "not_utf8"),
        (completion().decode().encode("utf-16"), "not_utf8"),
        (b'"text"', "wrong_shape"),
        (b"[]", "wrong_shape"),
        (b"null", "wrong_shape"),
        (b'{"choices":"none"}', "wrong_shape"),
        (b'{"choices":NaN}', "wrong_shape"),
        (b'{"x":' + b"[" * 100_000, "too_deep"),
        (b'{"usage":' + b"[" * 100_000, "too_deep"),
        (b"upstream connect error", "not_json"),
        (b'{"choices":[]}', "empty_choices"),
        (b"{}", "empty_choices"),
        (completion(None), "empty_content"),
        (completion(""), "empty_content"),
        (completion(" \n"), "empty_content"),
        (b'{"choices":[{}]}', "empty_content"),
        (b'{"choices":[{"message":null}]}', "empty_content"),
        (completion(finish="error"), "finish_error"),
        (completion(None, finish="error"), "finish_error"),
    ],
)
def test_bad_body_has_a_word(data: bytes, word: str) -> None:
    """Nothing, something else, half of it, no choice, no text, broken off: each has its word."""
    assert error_of(data) == (word, None)


@pytest.mark.parametrize(
    ("code", "status"), [(502, 502), (429, 429), ("server_error", None), ("502", None)]
)
def test_error_inside_a_200(code: object, status: int | None) -> None:
    """An error object wins over whatever else is there; only a number is a status."""
    error = {"message": "Upstream error", "code": code, "metadata": {}}
    assert error_of(json.dumps({"id": "gen-1", "error": error}).encode()) == (
        "upstream_error",
        status,
    )
    assert error_of(completion(error=error)) == ("upstream_error", status)


@given(st.binary(max_size=40))
def test_any_bytes_are_an_answer_or_a_word(data: bytes) -> None:
    """No bytes whatever raise anything else."""
    with pytest.raises(BadAnswerError):
        whole(data)


@given(at=st.integers(0, len(completion()) - 1), byte=st.integers(0, 255))
def test_a_flipped_byte_is_an_answer_or_a_word(at: int, byte: int) -> None:
    """A body with one byte wrong is read or refused, and nothing else."""
    data = bytearray(completion())
    data[at] = byte
    try:
        found = whole(bytes(data)).text
    except BadAnswerError as error:
        found = error.word
    assert found


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"x":' + "[" * 100_000, None),
        (TEXT, "positive"),
        ('{"confidence": 0.5, "label": "negative", "reason": "broke"}', "negative"),
        (' {"label":"positive"} \n', "positive"),
        ('{"label":"neutral"}', None),
        ('{"label":null}', None),
        ('{"label":1}', None),
        ('{"sentiment":"positive"}', None),
        ('{"label":"positive"', None),
        ('```json\n{"label":"positive"}\n```', None),
        ('"positive"', None),
        ("positive", None),
        ("", None),
    ],
)
def test_label(text: str, label: str | None) -> None:
    """Only the two labels that were asked for, in the JSON that was asked for, are labels."""
    assert label_of(text) == label


def test_reply_without_a_label_is_an_answer() -> None:
    """A reply that does not classify was paid for all the same."""
    expected = Answer(text="I cannot say.", usage="missing")
    assert answer("I cannot say.", NO_USAGE, "length") == expected


def test_chunk_of_a_stream_is_decoded_alike() -> None:
    """A delta is read as a choice without a message."""
    chunk = decode(b'{"choices":[{"index":0,"delta":{"role":"assistant","content":"Hi"}}]}')
    assert [
        (choice.message, choice.delta and choice.delta.content) for choice in chunk.choices or ()
    ] == [(None, "Hi")]
