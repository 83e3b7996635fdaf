"""Requests that nobody should send, as strategies: bodies, heads, and how they are sent."""

import json
from collections.abc import Sequence

from fuzzing import Conversation
from hypothesis import strategies as st
from loopback import PATH, QUESTION

MESSAGES = QUESTION["messages"]
DEEP = 100_000

# Values of no sensible kind, as JSON text: half of them are not even JSON.
ODD = st.sampled_from(
    [
        "null",
        "true",
        "0",
        "-1",
        "1.5",
        "1e999",
        "-1e-999",
        "NaN",
        "Infinity",
        "-Infinity",
        "9" * 40,
        "9223372036854775808",
        "1" + "0" * 5000,
        '""',
        '"\\ud800"',
        '"\\udfff\\ud800"',
        '"\\u0000"',
        '"\\x"',
        '"ÿ"',
        '"' + "a" * 70000 + '"',
        "[]",
        "{}",
        "[[]]",
        '[{"role":"user"}]',
        "[null]",
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"a":' * DEEP,
        '[{"role":7,"content":"x"}]',
        "'x'",
        '[{"role":"user","content":[{"type":"image_url","image_url":{}},null]}]',
        '{"a":1,"a":2}',
        "",
    ]
)
KEYS = st.sampled_from(
    [
        "messages",
        "model",
        "models",
        "provider",
        "temperature",
        "top_p",
        "max_tokens",
        "stop",
        "seed",
        "max_completion_tokens",
        "stream",
        "stream_options",
        "response_format",
        "tools",
        "usage",
        "tool_choice",
        "user",
        "session_id",
        "metadata",
        "transforms",
        "unknown",
        "\\u006dodel",
    ]
)


def _object(fields: Sequence[tuple[str, str]]) -> bytes:
    inner = ",".join(f'"{key}":{value}' for key, value in fields)
    return f"{{{inner}}}".encode("latin-1")


GOOD = json.dumps(QUESTION).encode()
BODIES = st.one_of(
    st.lists(st.tuples(KEYS, ODD), min_size=1, max_size=3).map(
        lambda odd: _object([("messages", json.dumps(MESSAGES)), *odd])
    ),
    st.lists(st.tuples(KEYS, ODD), max_size=2).map(_object),
    ODD.map(lambda text: text.encode("latin-1")),
    st.binary(max_size=20),
    st.integers(0, len(GOOD)).map(lambda size: GOOD[:size]),
    st.just(GOOD),
)
METHODS = st.sampled_from(
    [b"POST"] * 6
    + [
        b"GET",
        b"HEAD",
        b"OPTIONS",
        b"PUT",
        b"TRACE",
        b"CONNECT",
        b"PRI",
        b"BREW",
        b"",
        b"P\0ST",
        b"post",
    ]
)
TARGETS = st.sampled_from(
    [PATH.encode()] * 6
    + [b"/v1/models", b"/", b"*", b"", b"/v1/../../etc/passwd", b"/v1/%6dodels", b"/%zz%00", b"//"]
    + [
        b"http://mock/v1/models",
        b"http://[::1",
        b"/v1/models?" + b"a" * 9000,
        b"/\xff",
        b"mock:443",
    ]
    + [b"/v1/models#x", b"/api/v1/chat/completions/", b"/__nothing/at/all", b"/a b"]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"http/1.1", b"", b"ICE/1.0"]
)
FIELDS = st.sampled_from(
    [
        b"Host: again",
        b"Host:",
        b"X: " + b"a" * 9000,
        b"X:" + b" " * 50,
        b"X: a\r\n b",
        b"X: a\x00b",
        b"X : a",
        b": a",
        b"X",
        b"X: \xff\xfe",
        b"X-Request-Key: \xff",
        b"X-Request-Key: " + b"k" * 8000,
        b"Expect: 100-continue",
        b"Expect: a-miracle",
        b"Connection: close",
        b"Connection: \xff",
        b"Connection: Upgrade\r\nUpgrade: websocket",
        b"Content-Length: 5",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 11000000",
        b"Content-Length: 0x5",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: \t",
        b"Content-Encoding: gzip",
        b"Content-Encoding: br",
        b"Content-Encoding: nonsense",
        b"Range: x",
        b"Authorization: Basic eDp5",
        b"Authorization: Bearer",
        b"Authorization: \xff",
        b"Cookie: ;;=",
        b"\r\n".join([b"Y: 1"] * 200),
        b"Content-Type: text/html; charset=utf-16",
        b"Accept: text/html",
    ]
)
SIZES = st.sampled_from(
    [b"%x", b"%X", b"0%x", b"%x;a=b", b"-%x", b"0x%x", b"%xg", b" %x", b"%x" + b"f" * 16, b"%x\n"]
)


def _chunked(body: bytes, size: bytes, end: bytes) -> bytes:
    return size % len(body) + b"\r\n" + body + b"\r\n" + end


CHUNKED = st.builds(
    _chunked,
    BODIES,
    SIZES,
    st.sampled_from(
        [b"0\r\n\r\n", b"0\r\nTrailer: x\r\n\r\n", b"0\r\n\0: x\r\n\r\n", b"0\n\n", b""]
    ),
)


def _head(method: bytes, target: bytes, version: bytes, fields: Sequence[bytes]) -> bytes:
    return b"\r\n".join([b" ".join([method, target, version]), *fields, b"", b""])


def _sized(body: bytes) -> tuple[bytes, bytes]:
    return b"Content-Length: %d" % len(body), body


USUAL = (b"Host: mock", b"Authorization: Bearer key-1")
_TOO_LARGE = 10 * 2**20 + 1
_MEGABYTE = b"100000\r\n" + b" " * 2**20 + b"\r\n"
# Bodies past the limit: announced only, sent behind their length, and sent in chunks.
HUGE = [
    _head(b"POST", PATH.encode(), b"HTTP/1.1", [*USUAL, field]) + body
    for field, body in (
        (b"Content-Length: 11000000", b""),
        (b"Content-Length: %d" % _TOO_LARGE, b" " * _TOO_LARGE),
        (b"Transfer-Encoding: chunked", _MEGABYTE * 11 + b"0\r\n\r\n"),
    )
]
FRAMED = st.one_of(
    BODIES.map(_sized),
    CHUNKED.map(lambda body: (b"Transfer-Encoding: chunked", body)),
)
REQUESTS = st.one_of(
    # A good head with a body of any kind; any head at all; and what is no HTTP.
    FRAMED.map(lambda one: _head(b"POST", PATH.encode(), b"HTTP/1.1", (*USUAL, one[0])) + one[1]),
    st.builds(
        lambda method, target, version, fields, one: (
            _head(method, target, version, [*USUAL, *fields, one[0]]) + one[1]
        ),
        *(METHODS, TARGETS, VERSIONS, st.lists(FIELDS, max_size=2), FRAMED),
    ),
    st.builds(
        lambda target, fields: _head(b"GET", target, b"HTTP/1.1", fields),
        *(TARGETS, st.lists(FIELDS, max_size=3)),
    ),
    st.sampled_from(
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60,
            b"\r\n" * 9,
            b"\x00" * 9000,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /v1/models\r\n\r\n",
            b"hello\n\n",
            b"a" * 20000,
            *HUGE,
        ]
    ),
)


def _pieces(data: bytes, cuts: Sequence[float]) -> tuple[bytes, ...]:
    ends = sorted(int(len(data) * cut) for cut in cuts)
    return tuple(data[a:b] for a, b in zip((0, *ends), (*ends, len(data)), strict=True))


# What is sent, in so many packets, and how many requests it is made of.
SENT = st.one_of(
    REQUESTS.map(lambda one: ((one,), 1)),
    st.builds(
        lambda one, cuts: (_pieces(one, cuts), 1),
        REQUESTS,
        st.lists(st.floats(0, 1), min_size=1, max_size=3),
    ),
    st.lists(REQUESTS, min_size=2, max_size=3).map(
        lambda several: ((b"".join(several),), len(several))
    ),
    st.builds(lambda one, cut: ((one[: int(len(one) * cut)],), 1), REQUESTS, st.floats(0, 1)),
)
ENDS = st.sampled_from(["finish", "finish", "finish", "finish", "leave", "reset"])
CONVERSATIONS = st.builds(lambda sent, then: Conversation(sent[0], then, sent[1]), SENT, ENDS)
