"""What the client bounds by itself: silence within a stream, the size of an answer, connections."""

import asyncio
import gzip
import tracemalloc
from collections.abc import Iterator

import pytest
from aiohttp import web
from endpoints import (
    ANSWER,
    COMMENT,
    DONE,
    HOST,
    PLAIN,
    PORT,
    STREAM,
    Clock,
    Handler,
    ask,
    call,
    completion,
    endpoint,
    event,
    plays,
    replies,
    run,
)
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.virtual_loop import VirtualLoop
from harness.pipeline.answer import BadAnswerError
from harness.pipeline.client import ChatClient, Stamps, Statistics
from harness.pipeline.events import EventStream
from harness.scenario.pipeline import Pipeline

WATCHED = Pipeline(stream=True, stall_s=2.0)
SMALL = 1000
WHOLE, STREAMED = Pipeline(max_answer_bytes=SMALL), Pipeline(max_answer_bytes=SMALL, stream=True)
BLANKS = b"\n         \n"
KEPT_ALIVE = (COMMENT, 0.4) * 20
JSON = {"Content-Type": "application/json"}


async def timed(handler: Handler, settings: Pipeline) -> tuple[str, float]:
    """The word of a call, and the time of its end."""
    async with endpoint(handler) as url, ChatClient(settings, url, "key") as client:
        word = (await call(client)).word
        return word, round(asyncio.get_running_loop().time(), 6)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((event("{"), 9.0, event("}"), DONE), ("stalled", 2.0)),
        ((event("{"), *KEPT_ALIVE, event("}"), DONE), ("stalled", 2.0)),
        ((event("{"), 0.5, event(), 0.5, event(), *KEPT_ALIVE, DONE), ("stalled", 2.0)),
        ((event("{"), *(BLANKS, 0.4) * 20, DONE), ("stalled", 2.0)),
        ((event("{"), 1.9, event("}"), 1.9, event("}"), 9.0, DONE), ("stalled", 5.8)),
        ((event("{"), 1.0, event("}"), 9.0, event(finish="stop"), DONE), ("stalled", 3.0)),
        ((event("{"), 1.9, event("}"), 1.9, DONE), ("", 3.8)),
        ((COMMENT, 60.0, event("{"), DONE), ("", 60.0)),
        ((*KEPT_ALIVE, event("{"), DONE), ("", 8.0)),
        ((event("{"), DONE, 9.0), ("", 1.0)),
    ],
)
def test_silence_after_a_token_is_bounded(
    pieces: tuple[bytes | float, ...], expected: tuple[str, float]
) -> None:
    """The limit counts from the last token to the instant: keep-alives are none, nor is the end."""
    assert run("virtual", timed(plays(*pieces), WATCHED)) == expected


def test_stall_is_told_with_its_status() -> None:
    """The headers came, so the status is known; the connection is closed, and the next call new."""

    async def test() -> list[tuple[str, int | None, bool]]:
        quick, slow = (plays(event("{"), pause, DONE) for pause in (0.0, 9.0))
        handlers = iter((slow, quick))

        async def handler(request: web.BaseRequest) -> web.StreamResponse:
            return await next(handlers)(request)

        async with endpoint(handler) as url, ChatClient(WATCHED, url, "key") as client:
            calls = [await call(client) for _ in range(2)]
        return [(one.word, one.stamps.status, one.stamps.new_connection) for one in calls]

    assert run("virtual", test()) == [("stalled", 200, True), ("", 200, True)]


def test_watch_has_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of a thousand tokens in ten seconds arms its timer as often as its limit passed."""
    armed: list[float] = []
    call_at = VirtualLoop.call_at

    def noted(
        loop: VirtualLoop, when: float, callback: object, *args: object, **more: object
    ) -> object:
        if "Watch." in getattr(callback, "__qualname__", ""):
            armed.append(round(when, 6))
        return call_at(loop, when, callback, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(VirtualLoop, "call_at", noted)
    tokens = [part for _ in range(1000) for part in (event("x"), 0.01)]
    assert run("virtual", timed(plays(*tokens, DONE), WATCHED)) == ("", 10.0)
    assert len(armed) == 6
    armed.clear()
    assert run("virtual", timed(plays(*tokens, DONE), Pipeline(stream=True))) == ("", 10.0)
    assert armed == []


def endless(piece: bytes, status: int = 200, encoding: str = "") -> Handler:
    """An endpoint that says the same for ever, and notes in `sent` how often."""

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Content-Encoding": encoding} if encoding else {}
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        while True:
            await response.write(piece)
            await asyncio.sleep(0.001)

    return handler


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize(
    ("handler", "settings", "status"),
    [
        (endless(BLANKS), WHOLE, 200),
        (endless(BLANKS), STREAMED, 200),
        (endless(COMMENT), STREAMED, 200),
        (endless(event("x")), STREAMED, 200),
        (endless(b"x"), STREAMED, 200),
        (endless(b"x", 503), WHOLE, 503),
        (endless(b"x", 503), STREAMED, 503),
        (replies(completion("x" * SMALL)), WHOLE, 200),
        (plays(event("x" * SMALL), DONE), STREAMED, 200),
        (replies(b"", headers={"X-Long": "x" * 100_000}), WHOLE, None),
    ],
)
def test_too_much_is_given_up(
    clock: Clock, handler: Handler, settings: Pipeline, status: int | None
) -> None:
    """What grows past the limit is dropped, connection and all, whatever it is made of."""
    called = run(clock, ask(handler, settings))
    assert called.error is not None
    assert (called.word, called.error.status) == ("too_large", status)


def test_limit_is_the_last_good_size() -> None:
    """An answer of exactly so many bytes is read, whole or as a stream."""
    stream = b"".join(STREAM)
    for body, streamed in ((completion(), False), (stream, True)):
        for spare, word in ((0, ""), (-1, "too_large")):
            settings = Pipeline(stream=streamed, max_answer_bytes=len(body) + spare)
            assert run("virtual", ask(plays(body), settings)).word == word


BOMB = gzip.compress(b" " * 2**28)  # 256 MB of blanks in a quarter of one


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("stream", [False, True])
def test_bomb_does_not_unfold(status: int, stream: bool) -> None:
    """Of what a small body unfolds to, only so much is unpacked as may be read."""
    handler = replies(BOMB, status, {"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        called = run("virtual", ask(handler, Pipeline(stream=stream)))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert called.word == "too_large"
    assert most < 60 * 2**20


def test_compressed_answers_are_read() -> None:
    """What a provider packs is unpacked; what it packed badly is a word."""
    packed = gzip.compress(completion())
    headers = {"Content-Encoding": "gzip", **JSON}
    assert run("virtual", ask(replies(packed, headers=headers), PLAIN)).answer == ANSWER
    assert run("virtual", ask(replies(b"x" + packed, headers=headers), PLAIN)).word == "truncated"


@given(st.data())
def test_stream_is_the_same_however_it_is_cut(data: st.DataObject) -> None:
    """Any cutting of a stream gives the same answer, or the same word, and as many tokens."""
    raw = data.draw(st.sampled_from([b"".join(STREAM), b"".join(STREAM[:-1]), completion()]))
    raw = raw.replace(b"\n", data.draw(st.sampled_from([b"\n", b"\r\n"])))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=20)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert outcome(iter(pieces)) == outcome(iter([raw]))


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"data: ", b"{}", b"\n", DONE])))
def test_any_bytes_are_an_answer_or_a_word(pieces: list[bytes]) -> None:
    """No bytes whatever raise anything else."""
    assert outcome(iter(pieces))


def outcome(pieces: Iterator[bytes]) -> object:
    """What a stream comes to."""
    events = EventStream()
    try:
        for piece in pieces:
            events.feed(piece)
            if events.done:
                break
        return events.answer()
    except BadAnswerError as error:
        return error.word


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("pool", [True, False])
def test_cancelled_call_does_not_wait_for_its_peer(clock: Clock, pool: bool) -> None:
    """A request that its peer does not read is thrown away, and the connection with it."""

    async def test() -> tuple[int, Statistics]:
        loop = asyncio.get_running_loop()
        deaf, port = asyncio.Event(), PORT
        protocol = Deaf(deaf)
        if isinstance(loop, VirtualLoop):
            loop.route(HOST, PORT, lambda: protocol)
        else:
            listener = await loop.create_server(lambda: protocol, HOST, 0)
            port = listener.sockets[0].getsockname()[1]
        url = f"http://{HOST}:{port}/api/v1"
        async with ChatClient(Pipeline(pool=pool), url, "key") as client:
            calling = asyncio.create_task(client.call(b"x" * 50_000_000, "r1", 1, Stamps()))
            await deaf.wait()
            await asyncio.sleep(0.01)
            during = client.statistics()
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            after = client.statistics()
        assert protocol.transport is not None
        protocol.transport.abort()
        if not isinstance(loop, VirtualLoop):
            listener.close()
        return during.in_use, after

    assert run(clock, test()) == (1, Statistics(0, 0, 0, 1, 0))


class Deaf(asyncio.Protocol):
    """A peer that takes a connection and does not read from it."""

    def __init__(self, connected: asyncio.Event) -> None:
        self._connected = connected
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stop listening at once."""
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        self.transport = transport
        self._connected.set()


def test_statistics_count_what_is_there() -> None:
    """Connections and calls are counted as they come and go, those that wait for a pool too."""

    async def test() -> list[Statistics]:
        settings = Pipeline(pool_limit=2)
        slow = plays(1.0, completion())
        async with endpoint(slow) as url, ChatClient(settings, url, "key") as client:
            calls = [asyncio.create_task(call(client)) for _ in range(3)]
            await asyncio.sleep(0.5)
            seen = [client.statistics()]
            await asyncio.sleep(1.0)
            seen.append(client.statistics())
            await asyncio.gather(*calls)
            seen.append(client.statistics())
        return [*seen, client.statistics()]

    assert run("virtual", test()) == [
        Statistics(open=2, in_use=2, waiting=1, made=2, in_flight=3),
        Statistics(open=2, in_use=1, waiting=0, made=2, in_flight=1),
        Statistics(open=2, in_use=0, waiting=0, made=2, in_flight=0),
        Statistics(open=0, in_use=0, waiting=0, made=2, in_flight=0),
    ]


def test_statistics_without_a_pool() -> None:
    """A connection per call is counted while the call goes on, and made for good."""

    async def test() -> list[Statistics]:
        slow = plays(1.0, completion())
        async with endpoint(slow) as url, ChatClient(Pipeline(pool=False), url, "key") as client:
            calls = [asyncio.create_task(call(client)) for _ in range(3)]
            await asyncio.sleep(0.5)
            seen = client.statistics()
            await asyncio.gather(*calls)
            return [seen, client.statistics()]

    assert run("virtual", test()) == [
        Statistics(open=3, in_use=3, waiting=0, made=3, in_flight=3),
        Statistics(open=0, in_use=0, waiting=0, made=3, in_flight=0),
    ]
