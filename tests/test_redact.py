"""Nothing secret gets into a cassette, in whatever clothes it comes."""

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording import KEY

from mock_llm.redact import Secrets, allowed_response, stored

FIELDS = [("Authorization", f"Bearer {KEY}"), ("Cookie", "sid=chocolate-chip; theme=1")]
ODD = 'p"a/ss wörd'


def shown(method: str, query: str, headers: list[tuple[str, str]], body: bytes) -> str:
    """All that is stored of a request."""
    return repr(stored(method, "/chat/completions", query, headers, body)[0])


@given(st.integers(0, 60), st.integers(1, 30), st.sampled_from([KEY, "opaque-token-of-mine"]))
def test_key_is_found_across_pieces(before: int, size: int, key: str) -> None:
    """An echoed key is masked wherever the pieces of a body are cut, and lengths stay."""
    secrets = Secrets([("X-Api-Key", key)])
    body = b"." * before + key.encode() + b" and on"
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    masked = secrets.pieces(pieces)
    assert [len(one) for one in masked] == [len(one) for one in pieces]
    assert b"".join(masked) == b"." * before + b"*" * len(key) + b" and on"


def test_key_is_found_across_events() -> None:
    """A key that a model spells out over several events is masked in each of them."""
    parts = [KEY[:5], KEY[5:30], KEY[30:]]
    events = [{"choices": [{"delta": {"content": part}}]} for part in ["It is ", *parts, "!"]]
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    masked = Secrets(FIELDS).masked(body)
    said = [
        json.loads(line[6:])["choices"][0]["delta"]["content"]
        for line in masked.split(b"\n\n")[:-1]
    ]
    assert said == ["It is ", *("*" * len(part) for part in parts), "!"]


@pytest.mark.parametrize(
    "body",
    [
        {"api_key": "opaque-1234567"},
        {"provider": {"options": [{"token": "opaque-1234567"}]}},
        {"plugins": [{"openaiApiKey": "opaque-1234567", "webhook_secret": "opaque-1"}]},
        {"password": "opaque"[:5]},
        {"messages": [{"role": "user", "content": f"my key is {KEY}"}]},
        {"messages": [{"role": "user", "content": "another, sk-proj-abcdefghijkl"}]},
    ],
)
def test_keys_in_bodies_are_hidden(body: object) -> None:
    """What is named like a key or looks like one is not stored with a body."""
    text = shown("POST", "", FIELDS, json.dumps(body).encode())
    assert "opaqu" not in text
    assert KEY not in text
    assert "abcdefghijkl" not in text


def test_headers_are_stored_by_a_list_of_the_allowed() -> None:
    """Of a request only what it accepts and who it says it is; of a response no cookie."""
    sent = [*FIELDS, ("X-Unheard-Of", "private"), ("Accept", "*/*"), ("User-Agent", f"me {KEY}")]
    request, _ = stored("POST", "/x", "", sent, b"{}")
    assert request.headers == [("accept", "*/*"), ("user-agent", "me " + "*" * len(KEY))]
    found = allowed_response(
        [("Set-Cookie", "a=b"), ("Retry-After", "3"), ("X-RateLimit-Limit", "9"), ("X-Org", "us")]
    )
    assert found == [("retry-after", "3"), ("x-ratelimit-limit", "9")]


def test_query_loses_its_keys() -> None:
    """A key in the address is not stored, other parameters are."""
    text = shown("GET", f"id=gen-1&key={KEY}&api_key=abc", [], b"")
    assert "query='id=gen-1&key=***&api_key=***'" in text
    assert KEY not in text


def test_odd_secrets_are_found_in_every_form() -> None:
    """A secret is masked as plain text, inside JSON and inside an address."""
    secrets = Secrets([], body={"password": ODD})
    for form in (ODD, json.dumps(ODD)[1:-1], quote(ODD, safe="")):
        size = len(form.encode())
        assert secrets.masked(f"<{form}>".encode()) == b"<" + b"*" * size + b">"


def test_people_are_hidden() -> None:
    """User ids and the provider's own shortening of a key are masked, and JSON stays JSON."""
    body = {"user_id": "user_2abcdefghijklmnopqrst", "data": {"label": "sk-or-v1-0e6...1c96"}}
    hidden = json.loads(Secrets([]).masked(json.dumps(body).encode()))
    assert hidden == {"user_id": "*" * 26, "data": {"label": "*" * 19}}


@given(st.text(max_size=80))
def test_harmless_text_stays(text: str) -> None:
    """Without anything secret in it, text is stored to the letter."""
    plain = text.encode("utf-8", "replace")
    assert Secrets([("Authorization", "Bearer " + KEY)]).masked(plain) == plain
