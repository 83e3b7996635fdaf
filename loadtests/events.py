"""A provider's streamed answer, event by event: when its tokens came, and how it ended."""

import msgspec


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)


class _Usage(msgspec.Struct):
    cost: float | None = None


class _Error(msgspec.Struct):
    message: str = ""


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


_DECODE = msgspec.json.Decoder(_Chunk).decode
_DATA = b"data:"


class Stream:
    """One answer that is being read.

    Args:
        sent_s: when it was asked for.

    Attributes:
        done: all of it has come, and no error.
        error: what the stream says went wrong, or is wrong with it.
        cost_usd: as its last chunk tells.
    """

    def __init__(self, sent_s: float) -> None:
        self.done = False
        self.error = ""
        self.cost_usd = 0.0
        self._sent_s = sent_s
        self._tokens_s: list[float] = []

    def add(self, event: bytes, now: float) -> None:
        """Take one event; comments, which only keep the connection alive, are none."""
        for line in event.splitlines():
            if line.startswith(_DATA):
                self._take(line[len(_DATA) :].strip(), now)

    def _take(self, data: bytes, now: float) -> None:
        if data == b"[DONE]":
            self.done = not self.error
            return
        try:
            chunk = _DECODE(data)
        except msgspec.MsgspecError as error:
            self.error = f"a chunk is no JSON: {error}"
            return
        if chunk.error is not None:
            self.error = chunk.error.message or "an error in the stream"
        if any(choice.delta.content for choice in chunk.choices):
            self._tokens_s.append(now)
        if chunk.usage is not None:
            self.cost_usd = chunk.usage.cost or 0.0

    @property
    def times_s(self) -> dict[str, float]:
        """Seconds to the first token, and between two of them on average, where there were any."""
        seen = self._tokens_s
        if not seen:
            return {}
        first = {"ttft": seen[0] - self._sent_s}
        return first | ({"itl": (seen[-1] - seen[0]) / (len(seen) - 1)} if len(seen) > 1 else {})
