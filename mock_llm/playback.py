"""What one attempt sends, and how it passes the time until then: a script, and where in it we are.

A script says what is due after how much work of the provider. That work may take longer than
planned, so keep-alives cannot be written down beforehand: they follow the clock, wherever the
request waits. OpenRouter sends one whenever it has been silent for the interval, before the first
token and, in a stream, between any two. Pure: whoever plays it knows the time.
"""

from collections.abc import Iterable
from math import inf

import msgspec

from mock_llm.pacing import Write

FOREVER_S = 6 * 3600.0
"""Keep-alives for ever end after six hours, in silence: no run is to be endless by itself."""


class Script(msgspec.Struct, frozen=True):
    """Everything that one attempt sends.

    Attributes:
        writes: what is due, in order of time, framed as for a response that has been opened.
        opening: the head of a 200 whose body comes in pieces; empty: the writes bring their own.
        at_once: the response opens at the start, before anything is due.
        unopened: the whole response, in place of the first write where nothing has been opened.
        keep_alive: one keep-alive, framed; empty: silence.
        interval_s: time of silence before each.
        between: keep-alives come between writes too.
        for_ever: and after the last.
    """

    writes: Iterable[Write] = ()
    opening: bytes = b""
    at_once: bool = False
    unopened: bytes = b""
    keep_alive: bytes = b""
    interval_s: float = inf
    between: bool = False
    for_ever: bool = False


class Playback:
    """One playing of a script.

    Attributes:
        write: what is due next; None when all is sent.
    """

    __slots__ = ("_number", "_quiet", "_script", "_since_s", "_unsent", "_writes", "write")

    def __init__(self, script: Script, start_s: float) -> None:
        self._script = script
        self._writes = iter(script.writes)
        self.write: Write | None = next(self._writes, None)
        self._unsent = script.opening
        # The opening of a response that opens at once is keep-alive number 0.
        self._since_s, self._number = start_s, 0 if script.at_once else 1
        self._quiet = not script.keep_alive or (self.write is None and not script.for_ever)

    def tick_s(self) -> float:
        """Return the moment of the next keep-alive, should nothing else be sent before."""
        if self._number == 0:
            return self._since_s
        if self._quiet:
            return inf
        # Multiplied, since sums would drift.
        after_s = self._number * self._script.interval_s
        return inf if self.write is None and after_s >= FOREVER_S else self._since_s + after_s

    def tick(self) -> bytes:
        """Return the keep-alive that is due."""
        data = self._unsent + (self._script.keep_alive if self._number else b"")
        self._unsent = b""
        self._number += 1
        return data

    def content(self, write: Write, due_s: float) -> bytes:
        """Return the bytes of the write that is due, and go on to the next one.

        Args:
            write: the present `write`.
            due_s: the moment from which silence counts.
        """
        script = self._script
        data = write.data
        if self._unsent:
            data = script.unopened or self._unsent + data
            self._unsent = b""
        self.write = next(self._writes, None)
        self._since_s, self._number = due_s, 1
        on = script.for_ever if self.write is None else script.between
        self._quiet = not (on and script.keep_alive)
        return data

    def hush(self) -> None:
        """Send no more keep-alives: nobody is there to hear them."""
        self._quiet = True
        self._number = self._number or 1
