"""What a conversation remembers: the fourth root cause as an object that can be weighed."""

from bisect import insort
from typing import Literal

import msgspec


class Exchange(msgspec.Struct, frozen=True, order=True, gc=False):
    """A review and the reply to it, with their size; ordered by place in the input."""

    number: int
    prompt: str
    reply: str
    size_bytes: int = 0


class Context:
    """Earlier exchanges: `trim` keeps the last k, `grow` keeps all, both send the last k.

    "Last" is by the input's order among those that have ended, so growing and trimming put the same
    bytes on the wire and differ in memory alone. `send_all` keeps and sends everything.

    Attributes:
        size_bytes: held now.
        peak_bytes: held at most so far.
    """

    def __init__(self, mode: Literal["trim", "grow", "send_all"] | None, k: int) -> None:
        self._mode = mode
        self._k = k
        self._kept: list[Exchange] = []
        self.size_bytes = 0
        self.peak_bytes = 0

    def add(self, number: int, prompt: str, reply: str) -> None:
        """Remember one exchange."""
        if self._mode is None:
            return
        kept, size = self._kept, _bytes(prompt) + _bytes(reply)
        insort(kept, Exchange(number, prompt, reply, size))
        size += self.size_bytes
        if self._mode == "trim" and len(kept) > self._k:
            size -= kept.pop(0).size_bytes
        self.size_bytes = size
        self.peak_bytes = max(self.peak_bytes, size)

    def to_send(self) -> list[Exchange]:
        """The exchanges that go along with the next request, oldest first."""
        if self._mode == "send_all":
            return list(self._kept)
        return self._kept[-self._k :] if self._k else []


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
