"""Messages between processes: whole, in order, many to a write, and an end that nobody misses."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import run

from mock_llm.link import Handler, Link, LinkError

BODIES = st.lists(st.binary(max_size=40), max_size=8)


def decoded(body: msgspec.Raw) -> object:
    return msgspec.msgpack.decode(body)


@asynccontextmanager
async def pair(handlers: Mapping[str, Handler]) -> AsyncIterator[tuple[Link, Link]]:
    """Who asks, and who answers."""
    ends = socket.socketpair()
    asks, answers = Link({}), Link(handlers)
    await asks.connect(ends[0])
    await answers.connect(ends[1])
    yield asks, answers
    asks.close()
    answers.close()
    await asyncio.gather(asks.closed, answers.closed)


class Recorded(asyncio.WriteTransport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        """Never."""
        return False


@settings(deadline=None)  # the machine may have other things to do
@given(BODIES, st.lists(st.integers(min_value=0, max_value=400)))
def test_frames_arrive_whole_and_in_order(bodies: list[bytes], cuts: list[int]) -> None:
    """All notices of one turn go out in one write, and arrive as sent wherever it is cut."""

    async def test() -> None:
        seen: list[object] = []
        sends, receives = Link({}), Link({"note": lambda body: seen.append(decoded(body))})
        wire = Recorded()
        sends.connection_made(wire)
        for body in bodies:
            sends.tell("note", body)
        await asyncio.sleep(0)
        assert len(wire.writes) == bool(bodies)
        data = b"".join(wire.writes)
        edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        for start, end in pairwise(edges):
            receives.data_received(data[start:end])
        assert seen == bodies

    asyncio.run(test())


def test_answers_find_their_questions() -> None:
    """Answers that are made at once and later ones in another order all reach who asked."""

    async def test() -> None:
        gate = asyncio.Event()

        async def later(body: msgspec.Raw) -> object:
            await gate.wait()
            return decoded(body)

        def at_once(body: msgspec.Raw) -> object:
            gate.set()
            return decoded(body)

        async with pair({"later": later, "now": at_once}) as (asks, _):
            answers = await asyncio.gather(asks.ask("later", 1), asks.ask("now", [2, "x"]))
        assert [decoded(one) for one in answers] == [1, [2, "x"]]

    run(test())


@pytest.mark.parametrize("slow", [False, True])
def test_a_failure_is_told_to_who_asked(slow: bool) -> None:
    """What goes wrong at the other end is an error here, is reported there, and ends nothing."""

    async def fails() -> None:
        raise ValueError("no")

    def handler(_: msgspec.Raw) -> object:
        if slow:
            return fails()
        raise ValueError("no")

    async def test() -> None:
        reported: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context["message"]))
        async with pair({"bad": handler, "good": decoded}) as (asks, _):
            with pytest.raises(LinkError, match=r"bad: ValueError\('no'\)"):
                await asks.ask("bad")
            assert decoded(await asks.ask("good", "still")) == "still"
        assert reported == ["in bad"]

    run(test())


def test_questions_end_with_the_link() -> None:
    """What waits for an answer when the other end goes is cancelled, as is what asks later."""

    async def test() -> None:
        forever = asyncio.get_running_loop().create_future()
        async with pair({"wait": lambda _: forever}) as (asks, answers):
            waiting = asks.ask("wait")
            await asyncio.sleep(0)
            answers.close()
            await asks.closed
            await asyncio.wait([waiting])
            assert (waiting.cancelled(), asks.ask("wait").cancelled()) == (True, True)
        forever.cancel()
        await asyncio.sleep(0)

    run(test())
