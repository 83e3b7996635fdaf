"""The client against endpoints of every kind: what it takes for an answer, and what it times."""

import asyncio
import socket

import pytest
from aiohttp import web
from endpoints import (
    ANSWER,
    COMMENT,
    DONE,
    HOST,
    PLAIN,
    STREAM,
    STREAMED,
    TEXT,
    Called,
    Clock,
    Handler,
    ask,
    breaks,
    call,
    completion,
    endpoint,
    event,
    plays,
    replies,
    run,
)

from harness.pipeline.answer import Answer
from harness.pipeline.client import ChatClient, Stamps
from harness.scenario.pipeline import Pipeline

SEPARATE = Pipeline(pool=False)
BLANKS = b"\n         \n"
HTML = b"<html><title>524: A timeout occurred</title></html>"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + completion()
both_clocks = pytest.mark.parametrize("clock", ["virtual", "wall"])


@both_clocks
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(
    ("handler", "stream"),
    [
        (replies(completion()), False),
        (replies(BLANKS * 3 + completion()), False),
        (plays(BLANKS, BLANKS + completion()[:20], completion()[20:]), False),
        (plays(*STREAM), True),
        (plays(b"".join(STREAM)), True),
        (plays(*(bytes([byte]) for byte in b"".join(STREAM))), True),
    ],
    ids=["json", "blanks", "pieces", "stream", "one piece", "byte by byte"],
)
def test_answer_is_read(clock: Clock, handler: Handler, stream: bool, pool: bool) -> None:
    """An answer is the same however it is cut up on its way."""
    called = run(clock, ask(handler, Pipeline(stream=stream, pool=pool)))
    assert called.answer == ANSWER
    assert called.stamps.status == 200


@both_clocks
@pytest.mark.parametrize(
    ("handler", "word", "status"),
    [
        (replies(b"{}", 429, {"Retry-After": "7"}), "http_429", 429),
        (replies(b"{}", 402), "http_402", 402),
        (replies(b"{}", 500), "http_500", 500),
        (replies(HTML, 524, {"Content-Type": "text/html"}), "http_524", 524),
        (replies(completion(), 201), "http_201", 201),
        (replies(HTML, 200, {"Content-Type": "text/html"}), "html", 200),
        (replies(b"no healthy upstream", 200, {"Content-Type": "text/html"}), "html", 200),
        (replies(b"upstream", headers={"Content-Type": "text/plain"}), "wrong_content_type", 200),
        (replies(b"upstream", headers={"Content-Type": "application/json"}), "not_json", 200),
        (replies(b"".join(STREAM)), "sse_for_json", 200),
        (replies(completion()[:-1]), "truncated_json", 200),
        (replies(completion().replace(b"label", b"\xff\xfe")), "not_utf8", 200),
        (replies(b""), "empty_body", 200),
        (plays(BLANKS, BLANKS), "empty_body", 200),
        (replies(b'{"choices":[]}'), "empty_choices", 200),
        (replies(completion(None)), "empty_content", 200),
        (replies(completion(" \n")), "empty_content", 200),
        (replies(completion(finish="error")), "finish_error", 200),
        (replies(b'{"error":{"message":"Upstream","code":502}}'), "upstream_error", 502),
        (replies(b'{"error":{"message":"x","code":"server_error"}}'), "upstream_error", 200),
        (breaks(SHORT), "truncated", 200),
        (breaks(CHUNKED + b"11\r\n" + completion()[:17] + b"\r\n"), "truncated", 200),
        (breaks(CHUNKED + b"11\r\n" + completion()[:5]), "truncated", 200),
        (breaks(CHUNKED + b"nonsense\r\n"), "connection_error", None),
        (breaks(b""), "disconnected", None),
        (breaks(b"220 mail.example.org ESMTP\r\n\r\n"), "connection_error", None),
    ],
)
def test_unusable_answer_has_a_word(
    clock: Clock, handler: Handler, word: str, status: int | None
) -> None:
    """Whatever the peer breaks becomes one word and, where there is one, a status."""
    called = run(clock, ask(handler, PLAIN))
    assert called.error is not None
    assert (called.word, called.error.status) == (word, status)


@both_clocks
@pytest.mark.parametrize(
    ("handler", "word", "status"),
    [
        (plays(*STREAM[:-1]), "missing_done", 200),
        (plays(COMMENT, COMMENT), "missing_done", 200),
        (replies(completion()), "json_for_sse", 200),
        (replies(HTML, 200, {"Content-Type": "text/html"}), "html", 200),
        (replies(b'{"error":{"message":"Upstream","code":502}}'), "upstream_error", 502),
        (replies(b""), "empty_body", 200),
        (plays(BLANKS, BLANKS), "empty_body", 200),
        (plays(event("{"), event("\xe9").replace(b"\\u00e9", b"\xe9"), DONE), "not_utf8", 200),
        (plays(COMMENT, DONE), "empty_content", 200),
        (plays(event("{"), event(finish="error"), DONE), "finish_error", 200),
        (plays(event("{"), event(error={"code": 502, "message": "x"})), "upstream_error", 502),
        (plays(event("{"), event(error={"code": "server_error"})), "upstream_error", 200),
        (plays(event("{"), b'data: {"choices":[{"del\n\n', DONE), "truncated_json", 200),
        (plays(b'data: {"choices":3}\n\n', DONE), "wrong_shape", 200),
        (plays(b"data:\n\n", DONE), "empty_body", 200),
        (breaks(CHUNKED + b"8\r\ndata: {\r\n"), "truncated", 200),
    ],
)
def test_unusable_stream_has_a_word(clock: Clock, handler: Handler, word: str, status: int) -> None:
    """A stream that breaks off, ends without its mark or carries an error is no answer."""
    called = run(clock, ask(handler, STREAMED))
    assert called.error is not None
    assert (called.word, called.error.status) == (word, status)


@pytest.mark.parametrize(("clock", "word"), [("virtual", "disconnected"), ("wall", "reset")])
def test_reset_connection(clock: Clock, word: str) -> None:
    """A reset is told from a hang-up where the network tells them apart."""
    called = run(clock, ask(breaks(b"", reset=True), PLAIN))
    assert called.word == word.replace("reset", "connection_error")


@both_clocks
@pytest.mark.parametrize("settings", [PLAIN, SEPARATE])
def test_refused_connection(clock: Clock, settings: Pipeline) -> None:
    """Where nobody listens there is no connection, no status and nothing was sent."""

    async def test() -> Called:
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        async with ChatClient(settings, f"http://{HOST}:{port}/api/v1", "key") as client:
            return await call(client)

    called = run(clock, test())
    stamps = called.stamps
    assert called.word == "connection_refused"
    assert (stamps.new_connection, stamps.t_connected, stamps.t_sent) == (True, None, None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-1", None),
        ("inf", None),
        ("nan", None),
        ("soon", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Seconds to wait are a hint; nonsense and nothing are none."""
    for status in (429, 503):
        called = run("virtual", ask(replies(b"{}", status, {"Retry-After": value}), PLAIN))
        assert called.error is not None
        assert called.error.retry_after_s == seconds
    bare = run("virtual", ask(replies(b"{}", 429), PLAIN))
    assert bare.error is not None
    assert bare.error.retry_after_s is None


def stamps_of(handler: Handler, settings: Pipeline = PLAIN) -> tuple[float | None, ...]:
    """Virtual times of a call: connected, sent, headers, first token, last token."""
    got = run("virtual", ask(handler, settings)).stamps
    return got.t_connected, got.t_sent, got.t_headers, got.t_first_token, got.t_last_token


def test_keep_alives_are_no_tokens() -> None:
    """White space before the JSON brings headers early and the first token not at all."""
    slow = plays(BLANKS, 0.4, BLANKS, 0.4, completion()[:9], 0.25, completion()[9:])
    assert stamps_of(slow) == (0.0, 0.0, 0.0, 0.8, 1.05)


def test_blanks_for_ever_have_no_first_token() -> None:
    """White space and then the end: headers came, a token never did."""
    assert stamps_of(plays(BLANKS, 0.4, BLANKS)) == (0.0, 0.0, 0.0, None, None)


def test_stream_comments_are_no_tokens() -> None:
    """Comments and the empty first delta are keep-alives; text is the first token."""
    slow = plays(COMMENT, 0.4, COMMENT, event(), 0.5, event("{"), 1.0, event("}"), 0.1, DONE)
    assert stamps_of(slow, STREAMED) == (0.0, 0.0, 0.0, 0.9, 2.0)


def test_first_token_at_time_zero_stays() -> None:
    """A first token at the clock's zero is not taken for a missing one."""
    assert stamps_of(plays(event("{"), 1.0, event("}"), DONE), STREAMED)[3:] == (0.0, 1.0)


def test_refusal_is_timed_to_its_last_byte() -> None:
    """The body of an error is read to its end, which is the time of its token as well."""

    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        await response.prepare(request)
        await response.write(b"{")
        await asyncio.sleep(0.5)
        return response

    assert stamps_of(refuse) == (0.0, 0.0, 0.0, 0.5, 0.5)


@both_clocks
@pytest.mark.parametrize(("pool", "fresh"), [(True, [True, False, False]), (False, [True] * 3)])
def test_pool_keeps_connections(clock: Clock, pool: bool, fresh: list[bool]) -> None:
    """With a pool only the first call connects, without one every call does."""
    peers: set[object] = set()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=completion())

    async def test() -> list[bool]:
        settings = Pipeline(pool=pool)
        async with endpoint(handler) as url, ChatClient(settings, url, "key") as client:
            calls = [await call(client) for _ in range(3)]
        return [called.stamps.new_connection for called in calls]

    assert run(clock, test()) == fresh
    assert len(peers) == sum(fresh)


@both_clocks
def test_pooled_stream_keeps_its_connection(clock: Clock) -> None:
    """The body's end may come after the stream's own mark; the connection is used again."""

    async def test() -> list[bool]:
        late = plays(*STREAM, 0.05)
        settings = Pipeline(stream=True)
        async with endpoint(late) as url, ChatClient(settings, url, "key") as client:
            calls = [await call(client) for _ in range(3)]
        return [called.stamps.new_connection for called in calls]

    assert run(clock, test()) == [True, False, False]


@both_clocks
def test_pooled_connection_that_was_closed_is_replaced(clock: Clock) -> None:
    """A connection that its server ended after the answer is not used again."""
    last = replies(completion(), headers={"Connection": "close"})

    async def test() -> list[Called]:
        async with endpoint(last) as url, ChatClient(PLAIN, url, "key") as client:
            return [await call(client) for _ in range(2)]

    calls = run(clock, test())
    assert [called.answer for called in calls] == [ANSWER, ANSWER]
    assert [called.stamps.new_connection for called in calls] == [True, True]


@pytest.mark.parametrize(
    ("limit", "connected"),
    [(1, [0.0, 1.0, 2.0, 3.0]), (2, [0.0, 0.0, 1.0, 1.0]), (None, [0.0] * 4)],
)
def test_pool_limit_makes_calls_wait(limit: int | None, connected: list[float]) -> None:
    """More calls than connections wait for one, and their connection time says so."""

    async def test() -> list[Called]:
        settings = Pipeline(pool_limit=limit)
        slow = plays(1.0, completion())
        async with endpoint(slow) as url, ChatClient(settings, url, "key") as client:
            return await asyncio.gather(*(call(client) for _ in range(4)))

    calls = run("virtual", test())
    assert [called.answer for called in calls] == [ANSWER] * 4
    assert [called.stamps.t_connected for called in calls] == connected
    assert sum(called.stamps.new_connection for called in calls) == (limit or 4)


def test_no_limit_of_its_own() -> None:
    """A call waits as long as its caller does: no time-out of aiohttp's is left on."""
    called = run("virtual", ask(plays(4000.0, completion()), PLAIN))
    assert called.answer == ANSWER
    assert called.stamps.t_last_token == 4000.0


@both_clocks
@pytest.mark.parametrize("settings", [PLAIN, SEPARATE, STREAMED])
def test_cancelled_call_hangs_up(clock: Clock, settings: Pipeline) -> None:
    """A cancellation passes through, and the server sees its client leave."""
    arrived = asyncio.Event()

    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        arrived.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def test() -> Stamps:
        stamps = Stamps()
        async with endpoint(hang) as url, ChatClient(settings, url, "key") as client:
            calling = asyncio.create_task(client.call(b"{}", "r1", 1, stamps))
            await arrived.wait()
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
        return stamps

    stamps = run(clock, test())
    assert stamps.t_sent is not None
    assert stamps.t_headers is None


def test_request_on_the_wire() -> None:
    """The path, the credentials, the request's identity and the bytes arrive as they are."""
    seen: list[tuple[object, ...]] = []

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        names = ("Authorization", "Content-Type", "X-Request-Key", "X-Attempt")
        fields = [request.headers[name] for name in names]
        seen.append((request.method, request.path, *fields, await request.read()))
        return web.Response(body=completion())

    async def test() -> Answer:
        async with endpoint(note) as url, ChatClient(PLAIN, url + "/", "sk-1") as client:
            return await client.call(b'{"model":"m"}', "r000007", 3, Stamps())

    assert run("virtual", test()).text == TEXT
    expected = ("Bearer sk-1", "application/json", "r000007", "3", b'{"model":"m"}')
    assert seen == [("POST", "/api/v1/chat/completions", *expected)]
