"""What the hub knows of all workers together: their rows, their warnings, their last figures."""

import asyncio
from collections import Counter
from collections.abc import Mapping

import msgspec

from mock_llm.control.commands import Journal, Result
from mock_llm.control.snapshot import Snapshot, merge
from mock_llm.control.watch import WARN_EVERY_S, Tell, summary
from mock_llm.ledger import Ledger
from mock_llm.link import Link

_MOST_ROWS = 10_000

_decode_result = msgspec.msgpack.Decoder(Result).decode
_decode_line = msgspec.msgpack.Decoder(str).decode
_decode_snapshot = msgspec.msgpack.Decoder(Snapshot).decode


class Board:
    """Collects what several processes say, and says it once.

    Args:
        tell: gets every line that somebody should read.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._warned_s: float | None = None
        self._last: list[Snapshot] = []
        self._rows = Ledger()
        self._read: Counter[int] = Counter()

    def warn(self, body: msgspec.Raw) -> None:
        """Pass on a warning, unless there has just been one."""
        now = asyncio.get_running_loop().time()
        if self._warned_s is None or now - self._warned_s >= WARN_EVERY_S:
            self._warned_s = now
            self._tell(_decode_line(body))

    def last(self, body: msgspec.Raw) -> None:
        """Keep the last figures of a worker that stops."""
        self._last.append(_decode_snapshot(body))

    def sum_up(self) -> None:
        """Say what all have done."""
        if self._last:
            seen = merge(self._last)
            for line in summary(seen.total, seen.warnings):
                self._tell(line)

    async def journal(self, command: Journal, links: Mapping[int, Link]) -> Result:
        """Read rows under numbers of the hub's own, for every worker counts for itself."""
        for worker, link in sorted(links.items()):
            asked = link.ask("command", Journal(self._read[worker], _MOST_ROWS))
            await asyncio.wait([asked])
            if asked.cancelled():  # it has died
                continue
            for number, row in _decode_result(asked.result()).rows:
                if number > self._read[worker]:  # else another reader's answer came first
                    self._read[worker] = number
                    self._rows.add(row)
        return Result(rows=self._rows.after(command.after, command.limit))

    def reset(self) -> None:
        """Forget all rows; the numbers go on, as the workers' own do."""
        self._rows.reset()

    def bury(self, worker: int) -> None:
        """Expect the first row again, for its successor's numbers begin anew."""
        del self._read[worker]
