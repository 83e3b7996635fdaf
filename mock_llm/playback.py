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


class Script(msgspec.Struct, frozen=True, gc=False):
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

    @property
    def is_bare(self) -> bool:
        """Nothing is opened beforehand, and no keep-alives are sent."""
        return not self.opening


class Playback:
    """One playing of a script.

    Attributes:
        write: what is due next; None when all is sent.
        tick_s: the moment of the next keep-alive, should nothing else be sent before.
    """

    __slots__ = ("_number", "_script", "_since_s", "_unsent", "_writes", "tick_s", "write")

    def __init__(self, script: Script, start_s: float) -> None:
        self._script = script
        self._writes = iter(script.writes)
        self.write: Write | None = next(self._writes, None)
        self._unsent = script.opening
        self._since_s, self._number = start_s, 0
        self.tick_s = inf
        if script.at_once:
            self.tick_s = start_s  # the opening is keep-alive number 0
        elif script.keep_alive:
            self._set_tick()

    def _set_tick(self) -> None:
        """Look forward to the next keep-alive, after one or after something else."""
        self._number += 1
        # Multiplied, since sums would drift.
        after_s = self._number * self._script.interval_s
        forever = self.write is None and after_s >= FOREVER_S
        self.tick_s = inf if forever else self._since_s + after_s

    def tick(self) -> bytes:
        """Return the keep-alive that is due."""
        script = self._script
        data = self._unsent + (script.keep_alive if self._number else b"")
        self._unsent = b""
        if script.keep_alive and (self.write is not None or script.for_ever):
            self._set_tick()
        else:
            self.tick_s = inf
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
        if script.keep_alive and (script.for_ever if self.write is None else script.between):
            # As `_set_tick` would; a stream comes here with every token.
            self._since_s, self._number = due_s, 1
            self.tick_s = due_s + script.interval_s
        else:
            self.tick_s = inf
        return data

    def hush(self) -> None:
        """Send no more keep-alives until the next write: nobody is there to hear them."""
        self.tick_s = inf
