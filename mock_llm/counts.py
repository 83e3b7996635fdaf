"""How often a key has been seen, in bounded memory."""

from collections import OrderedDict
from typing import Protocol


class Counts:
    """A counter for each key; the keys least recently counted are forgotten first.

    Attributes:
        limit: keys remembered. A forgotten key starts again at 0, which makes its next attempt
            repeat the weather of its first: harmless unless more than `limit` other requests came
            between two attempts at one.
    """

    def __init__(self, limit: int = 200_000) -> None:
        self.limit = limit
        self._seen: OrderedDict[str, int] = OrderedDict()

    def next(self, key: str) -> int:
        """Return how often the key was counted before this call, and count it."""
        seen = self._seen
        count = seen.get(key, 0)
        seen[key] = count + 1
        if count:
            seen.move_to_end(key)
        elif len(seen) > self.limit:
            seen.popitem(last=False)
        return count

    def clear(self) -> None:
        """Forget all keys."""
        self._seen.clear()


class Counting(Protocol):
    """What counts as `Counts` does."""

    def clear(self) -> None:
        """See `Counts.clear`."""

    def next(self, key: str) -> int:
        """See `Counts.next`."""


class Memory:
    """What keyed weather needs of the past, whatever the upstream; see also `shared`.

    Args:
        began: when the run did; None: with its first attempt.

    Attributes:
        arrived: attempts by request key.
        admitted: of these, those that were let in.
        network: connections and look-ups, and those of them that each fault could have struck.
    """

    arrived: Counting
    admitted: Counting
    network: Counting

    def __init__(self, began: float | None = None) -> None:
        self.arrived, self.admitted, self.network = Counts(), Counts(), Counts()
        self._first = began

    def clear(self) -> None:
        """Forget all attempts, and when the run began."""
        self.arrived.clear()
        self.admitted.clear()
        self.network.clear()
        self._first = None

    def began(self, now: float) -> float:
        """Return when the run began: now, if this is its first attempt.

        Windows of time, regimes, drift and fixed minutes count from it, so processes share it.
        """
        if self._first is None:
            self._first = now
        return self._first
