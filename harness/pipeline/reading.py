"""The body of an answer as it comes in: its size bounded, its tokens timed, its silence too."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from harness.pipeline.answer import BadAnswerError
from harness.pipeline.events import EventStream


class Stamps(msgspec.Struct, eq=False, gc=False):
    """Times of an attempt in the making; see `harness.records.Record`."""

    generation: str = ""
    new_connection: bool = False
    status: int | None = None
    t_connected: float | None = None
    t_sent: float | None = None
    t_headers: float | None = None
    t_first_token: float | None = None
    t_last_token: float | None = None
    transport: asyncio.WriteTransport | None = None


class Breakable(Protocol):
    """A body that can be given up."""

    def set_exception(self, exc: BaseException) -> None:
        """End the reading, a read that is waiting included."""
        ...


class Content(Breakable, Protocol):
    """What a body is read from: aiohttp's `StreamReader`."""

    async def readany(self) -> bytes:
        """What has come, as soon as there is some; b"" at the end."""
        ...


class Alarm(Protocol):
    """A timer that can be taken back."""

    def cancel(self) -> object:
        """Ring no more."""


class Clock(Protocol):
    """What tells the time and wakes: an event loop, or a simulation's clock."""

    def time(self) -> float:
        """Seconds since some origin."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> Alarm:
        """Call at a moment."""


class Body:
    """A response's body, of bounded size; what is counted is what a compressed one unfolds to.

    aiohttp unfolds no more than is read, a few hundred kB at a time, unless all of it is asked for
    at once.
    """

    def __init__(self, content: Content, most_bytes: int) -> None:
        self.content = content
        self._left = most_bytes

    async def piece(self) -> bytes:
        """What has come, b"" at the end.

        Raises:
            BadAnswerError: `too_large`; the rest is not read.
        """
        piece = await self.content.readany()
        self._left -= len(piece)
        if self._left < 0:
            raise BadAnswerError("too_large")
        return piece

    async def read(self, stamps: Stamps | None = None) -> bytearray:
        """All of it; its first token is what is no keep-alive made of white space."""
        now = asyncio.get_running_loop().time
        data = bytearray()
        while piece := await self.piece():
            if stamps is not None and stamps.t_first_token is None and not piece.isspace():
                stamps.t_first_token = now()
            data += piece
        return data


class Watch:
    """Ends the reading of a body when no token has come for too long: one timer, not one a token.

    The first token is not waited for here: a model that is cold needs long for it, and the limit of
    the attempt rules.
    """

    def __init__(self, content: Breakable, limit_s: float, clock: Clock) -> None:
        self._clock = clock
        self._content = content
        self._limit_s = limit_s
        self._due = 0.0
        self._timer: Alarm | None = None

    def token(self, now: float) -> None:
        """Note a token."""
        self._due = now + self._limit_s
        if self._timer is None:
            self._timer = self._clock.call_at(self._due, self._check)

    def _check(self) -> None:
        if self._clock.time() < self._due:
            self._timer = self._clock.call_at(self._due, self._check)
        else:
            self._content.set_exception(BadAnswerError("stalled"))

    def stop(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()


async def read_stream(body: Body, stamps: Stamps, stall_s: float | None) -> EventStream:
    """Read server-sent events, to the end mark or the body's end.

    Args:
        body: of the response.
        stamps: gets the time of the first token.
        stall_s: limit on the silence after a token; None: none.

    Raises:
        BadAnswerError: `stalled`, `too_large`, or see `EventStream.feed`.
    """
    now = asyncio.get_running_loop().time
    events = EventStream()
    loop = asyncio.get_running_loop()
    watch = None if stall_s is None else Watch(body.content, stall_s, loop)
    try:
        while not events.done and (piece := await body.piece()):
            if events.feed(piece):
                if stamps.t_first_token is None:
                    stamps.t_first_token = now()
                if watch is not None:
                    watch.token(now())
    finally:
        if watch is not None:
            watch.stop()
    return events
