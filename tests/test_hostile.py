"""Clients that mean harm, or know no better, one by one: over loopback and on the virtual clock."""

import asyncio
import json
from typing import Any

import pytest
from fuzzing import BOUND_S, Conversation, Target
from loopback import PATH, QUICK, head, mock, post, run

from harness.engines.virtual_loop import VirtualLoop, run_virtual
from mock_llm.connection import MAX_BODY_BYTES
from mock_llm.server import MockServer

PORT = 8000
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: mock\r\nAuthorization: Bearer key-1\r\n".encode()
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = b"100000\r\n" + b" " * 2**20 + b"\r\n"


def dripped(*drips: bytes, every_s: float = 7.0) -> tuple[float, bytes, MockServer]:
    """When the mock hung up on a client that drips, virtual seconds; what it said; itself."""
    server = MockServer(QUICK)

    async def client() -> tuple[float, bytes]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.route("mock", PORT, server.protocol_factory)
        reader, writer = await asyncio.open_connection("mock", PORT)
        listening = asyncio.create_task(_listened(reader))
        for drip in drips:
            if listening.done():
                break
            writer.write(drip)
            await asyncio.sleep(every_s)
        ended = await listening
        writer.close()
        await server.close()
        return ended

    async def _listened(reader: asyncio.StreamReader) -> tuple[float, bytes]:
        heard = b""
        while data := await reader.read(2**16):
            heard += data
        return asyncio.get_running_loop().time(), heard

    return *run_virtual(client()), server


@pytest.mark.parametrize(
    "drips",
    [
        [post()[:20], *[b"a"] * 99],
        [post()[:-40], *[b" "] * 99],
        [CHUNKED, *[b"1\r\na\r\n"] * 99],
        [b"GET /v1/models HTTP/1.1\r\nHost: a\r\n", *[b"X: y\r\n"] * 99],
        [post()[:-40]],
    ],
    ids=["request line", "body", "chunks", "fields", "no drip at all"],
)
def test_dripped_request_is_ended_on_the_clock(drips: list[bytes]) -> None:
    """A request that has not come in whole after 30 s is a 408, however it drips."""
    ended_s, heard, _ = dripped(*drips)
    assert ended_s == pytest.approx(30.0)
    assert heard.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert json.loads(heard.partition(b"\r\n\r\n")[2])["error"]["metadata"] == {
        "error_type": "timeout"
    }


def test_what_drips_behind_an_answered_request_gets_no_second_answer() -> None:
    """A body of which nobody asked is thrown away for ten seconds, then its connection ends."""
    request = head("POST", "/nowhere", size=100)
    ended_s, heard, _ = dripped(request, *[b"a"] * 20, every_s=0.7)
    assert ended_s == pytest.approx(10.0, abs=1.0)
    assert heard.count(b"HTTP/1.1 ") == heard.count(b"HTTP/1.1 404 ") == 1


def test_body_that_will_be_too_large_is_refused_at_once() -> None:
    """Nobody waits for a terabyte: its head alone is a 413, and what comes is thrown away."""
    ended_s, heard, server = dripped(HEAD + b"Content-Length: 999999999999\r\n\r\n", b"abc")
    assert heard.startswith(b"HTTP/1.1 413 ")
    assert ended_s == pytest.approx(10.0, abs=1.0)
    assert [row.ended_s for row in server.ledger.rows] == [0.0]


def test_slow_request_that_comes_in_whole_is_answered() -> None:
    """A request that takes 20 s is in time, and after it no timer is left on the connection."""
    request = post()
    step = len(request) // 5 + 1
    parts = [request[start : start + step] for start in range(0, len(request), step)]
    close = head("GET", "/v1/nothing", {"Connection": "close"})
    ended_s, heard, server = dripped(*parts, *[b""] * 20, close, every_s=5.0)
    assert [row.ended for row in server.ledger.rows] == ["complete"]
    assert (ended_s, heard.count(b"HTTP/1.1 200 OK")) == (125.0, 1)


def test_idle_connection_has_no_timer() -> None:
    """When a request has been answered nothing can wake any more, though it came in two parts."""
    stuck: list[float] = []
    server = MockServer(QUICK)

    async def client() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.route("mock", PORT, server.protocol_factory)
        waiting = asyncio.current_task()
        assert waiting is not None

        def no_timer_is_left() -> None:
            stuck.append(loop.time())
            waiting.cancel()

        loop.on_stuck = no_timer_is_left
        reader, writer = await asyncio.open_connection("mock", PORT)
        writer.write(post()[:50])
        await asyncio.sleep(1.0)
        writer.write(post()[50:])
        try:
            await reader.read(2**16)
            await reader.read(2**16)  # for ever
        finally:
            writer.close()
            await server.close()

    with pytest.raises(asyncio.CancelledError):
        run_virtual(client())
    assert stuck == [pytest.approx(1.0, abs=0.01)]


@pytest.mark.parametrize(
    ("pieces", "statuses"),
    [
        # aiohttp leaves whoever reads a body for ever waiting when its framing breaks later.
        ((CHUNKED, b"3\r\nabc\r\n", b"zz\r\n"), [400]),
        ((CHUNKED.replace(b"/chat", b"/chit"), b"3\r\nabc\r\n", b"zz\r\n"), [404]),
        ((CHUNKED, b"fffffffffffffffff\r\n"), [400]),
        ((CHUNKED, *[MEGABYTE] * 11, b"0\r\n\r\n"), [413, 200]),
        ((HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", b"{}"), [100, 400, 200]),
        ((HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",), [400, 200]),
        ((post(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),), [400, 200]),
        ((b"GET /v1/models HTTP/1.1\r\n\r\n",), [400]),
        ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 99,), [400]),
        ((post() * 40,), [200] * 41),
        ((b"GET /v1/models HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000,), [400]),
    ],
)
def test_oddity_and_what_it_gets(pieces: tuple[bytes, ...], statuses: list[int]) -> None:
    """Every oddity has these answers, after which comes the good last request, or the end."""
    with Target(slow_client_s=BOUND_S) as target:
        assert [one.status for one in target.fire(Conversation(pieces))] == statuses
        assert target.settled() == []


def test_client_that_never_reads_is_not_served_without_end() -> None:
    """Answers wait in memory for one slow reader up to the transport's limit, then he has to."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for _ in range(200):
                client.writer.write(head("GET", "/v1/models") * 50)
                await asyncio.sleep(0)
            (link,) = running.links()
            web = running.server._web
            while web is None or not link.writing_paused:  # noqa: ASYNC110 - it has no such event
                await asyncio.sleep(0)
            served = web.requests_count
            for _ in range(200):
                await asyncio.sleep(0)
            assert (web.requests_count <= served + 1, len(link._messages) <= 64) == (True, True)
            client.writer.transport.abort()

    run(test())


def test_fault_of_our_own_is_a_500_in_the_envelope(caplog: pytest.LogCaptureFixture) -> None:
    """An endpoint that raises is logged and answered as OpenRouter would, and its client let go."""

    async def fails(*_: object) -> Any:
        raise LookupError("what was never there")

    async def test() -> None:
        async with mock() as running:
            running.server.mount("/__own", fails)
            error = await (await running.client()).error(head("GET", "/__own"))
            assert error == (500, "server", "Internal Server Error")
            assert (await (await running.client()).ask(post()))[0] == 200

    run(test())
    assert "what was never there" in caplog.text


def test_an_attempt_that_fails_by_our_own_fault_is_counted_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An attempt whose plan cannot be made has a row, and is in flight no longer."""

    def fails(*_: object) -> Any:
        raise LookupError("what was never there")

    async def test() -> None:
        async with mock() as running:
            running.provider.admit = fails  # type: ignore[assignment,method-assign]
            error = await (await running.client()).error(post())
            ledger = running.server.ledger
            assert error == (500, "server", "Internal Server Error")
            assert ([row.ended for row in ledger.rows], ledger.in_flight) == (["broken"], 0)

    run(test())
    assert "what was never there" in caplog.text


def test_largest_body_is_read() -> None:
    """Ten megabytes, to the byte, are not too much."""

    async def test() -> None:
        body = json.dumps({"messages": [{"role": "user", "content": "x"}], "model": "no/such"})
        async with mock() as running:
            error = await (await running.client()).error(post(body.ljust(MAX_BODY_BYTES).encode()))
            assert error[:2] == (400, "invalid_request")

    run(test())


def test_what_is_thrown_away_may_end_at_any_moment(caplog: pytest.LogCaptureFixture) -> None:
    """Time that runs out just as more of a refused body comes in is no error of the mock's."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            client.writer.write(HEAD + b"Content-Length: 11000000\r\n\r\n")
            assert (await client.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
            (link,) = running.links()
            link.data_received(MEGABYTE)
            link._give_up()
            await client.reader.read()

    run(test())
    assert caplog.messages == []
