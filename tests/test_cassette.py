"""The format of cassettes: what makes two requests one, and what survives a file."""

import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_llm.budget import Budget
from mock_llm.cassette import (
    VOLATILE,
    CassetteWriter,
    Exchange,
    Request,
    canonical,
    chunk,
    decoded,
    identity,
    read_cassette,
    request_of,
)
from mock_llm.errors import InputError
from mock_llm.said import Said, read_said

UPSTREAM = "https://openrouter.ai/api/v1"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(TEXT.filter(lambda name: name not in VOLATILE), JSON, max_size=5)


def shuffled(value: Any) -> Any:
    """The same JSON with the keys of every object the other way round."""
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(one) for one in value] if isinstance(value, list) else value


def asked(body: object, indent: int | None = None) -> str:
    """The identity of a request with this body."""
    raw = json.dumps(body, indent=indent).encode()
    return identity(request_of("POST", "/chat/completions", "", raw))


def exchange(number: int, data: bytes = b"") -> Exchange:
    request = Request(method="POST", path="/chat/completions", body={"n": number})
    chunks = [chunk(0.5, data)] if data else []
    return Exchange(request=request, status=200, chunks=chunks, ended="complete", total_s=1.0)


@given(BODIES, st.sampled_from([None, 0, 3]))
def test_order_and_blanks_make_no_difference(body: dict[str, Any], indent: int | None) -> None:
    """Equal content is one request, however its keys are ordered and its text is laid out."""
    assert asked(shuffled(body), indent) == asked(body)


@given(BODIES, BODIES)
def test_content_makes_a_difference(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two bodies are one request exactly when they are equal as JSON, and true is not 1."""
    same = canonical(one) == canonical(other)
    assert (asked(one) == asked(other)) == same
    if one != other:
        assert not same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"temperature": 1}, {"temperature": 1.0}, True),
        ({"temperature": 0.2}, {"temperature": 0.7}, False),
        ({"stream": True}, {"stream": 1}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"user": "ann", "session_id": "1"}, {"stream_options": {"include_usage": True}}, True),
        ({"a": {"user": "ann"}}, {"a": {}}, False),
    ],
)
def test_requests_that_are_one(one: object, other: object, same: bool) -> None:
    """Numbers are compared by value, lists by order, and volatile keys of the top not at all."""
    assert (asked(one) == asked(other)) is same


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_bytes_survive_the_file(datas: list[bytes]) -> None:
    """Chunks come back as the bytes they were, text or not."""
    stored = msgspec.json.encode([chunk(0.1, data) for data in datas])
    found = msgspec.json.decode(stored, type=list[type(chunk(0.0, b""))])  # type: ignore[misc]
    assert [one.data for one in found] == datas


@given(st.binary(max_size=60))
def test_any_request_body_survives_the_file(body: bytes) -> None:
    """A body that is no JSON is kept to the byte, and its request is found again by it."""
    request = request_of("POST", "/x", "", body)
    again = msgspec.json.decode(msgspec.json.encode(request), type=Request)
    assert identity(again) == identity(request)
    if decoded(body) is None and body != b"null":
        assert (again.base64 or again.text.encode()) == body


def test_text_stays_readable(tmp_path: Path) -> None:
    """UTF-8 is stored as text, other bytes as base64, one line for each exchange."""
    path = tmp_path / "c.jsonl"
    writer = CassetteWriter(path, UPSTREAM)
    writer.add(exchange(1, "déjà vu".encode()))
    writer.add(exchange(2, b"\xff\x00"))
    writer.close()
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert lines[0] == {"mock_llm_cassette": 1, "upstream": UPSTREAM}
    assert lines[1]["chunks"] == [{"at_s": 0.5, "text": "déjà vu"}]
    assert base64.b64decode(lines[2]["chunks"][0]["base64"]) == b"\xff\x00"


def test_cassette_is_continued_and_repaired(tmp_path: Path) -> None:
    """A line that was cut off is left out with a warning, and gone once more is recorded."""
    path = tmp_path / "c.jsonl"
    writer = CassetteWriter(path, UPSTREAM)
    writer.add(exchange(1))
    writer.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"request":{"meth')
    torn = read_cassette(path)
    again = CassetteWriter(path, UPSTREAM)
    again.add(exchange(2))
    again.close()
    assert [one.request.body for one in torn.exchanges] == [{"n": 1}]
    assert torn.warning == again.warning == f"{path}: its last line was cut off and is left out"
    assert path.read_bytes().startswith(whole + b'{"request":{"method"')
    assert [one.request.body["n"] for one in read_cassette(path).exchanges] == [1, 2]


def test_cassette_keeps_to_one_upstream(tmp_path: Path) -> None:
    """Another upstream's answers are refused, and the file stays as it is."""
    path = tmp_path / "c.jsonl"
    CassetteWriter(path, UPSTREAM).close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"a cassette of https://openrouter\.ai/api/v1, not of"):
        CassetteWriter(path, "https://api.openai.com/v1")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n", "not a cassette"),
        ("", "not a cassette"),
        ('{"mock_llm_cassette":9,"upstream":"x"}\n', "a cassette of version 9, and this one reads"),
        ('{"mock_llm_cassette":1,"upstream":"x"}\n{"a":1}\n', "line 2: .*delete the line"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """What is no cassette, or damaged in the middle, is a user's error that says where."""
    path = tmp_path / "c.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_cassette(path)


def test_budget_counts_calls_and_dollars() -> None:
    """It refuses at a limit, takes the dearest answer for an unknown one, and stops when blind."""
    calls, dollars, blind = Budget(max_requests=1), Budget(max_usd=0.5), Budget(max_usd=0.5)
    assert (calls.refusal(), dollars.refusal()) == ("", "")
    calls.begin()
    dollars.end(0.3, whole=True)
    assert dollars.refusal() == ""
    dollars.end(None, whole=False)
    blind.end(None, whole=True)
    assert calls.refusal() == "1 of 1 requests are used (--max-requests)"
    assert dollars.refusal() == "$0.600000 of $0.5 are spent (--max-usd)"
    assert "no usage.cost" in blind.refusal()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            b'\n   \n{"choices":[{"message":{"content":"Hi"}}],"usage":{"completion_tokens":2}}',
            Said(text="Hi", completion_tokens=2),
        ),
        (
            b"\n\n".join(
                [
                    b": OPENROUTER PROCESSING",
                    b'data: {"choices":[{"delta":{"content":"a"}}]}',
                    b'data: {"choices":[{"delta":{"content":"b"}}]}',
                    b'data: {"choices":[],"usage":{"cost":0.5,"prompt_tokens":9}}',
                    b"data: [DONE]",
                ]
            ),
            Said(text="ab", prompt_tokens=9, cost_usd=0.5),
        ),
        (b'{"error":{"code":502}}', Said(failed=True)),
        (b"<html>", Said()),
        (b'{"choices":[null],"usage":[]}', Said()),
    ],
)
def test_bodies_are_read_leniently(body: bytes, said: Said) -> None:
    """Text, tokens and cost are found in answers and streams, and nothing in rubbish."""
    assert read_said(body) == said
