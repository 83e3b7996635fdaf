"""The first tier: a process's own answers, exact and nearly so."""

from collections import Counter, OrderedDict
from collections.abc import Callable

from harness.pipeline.answer import Answer
from harness.pipeline.cache.held import Held
from harness.pipeline.cache.key import SCOPE_BYTES
from harness.pipeline.cache.near import NearIndex


class MemoryCache:
    """Least recently used answers, each for `ttl_s`.

    Args:
        max_entries: the one unused for longest makes room for the next.
        ttl_s: how long an answer is good for.
        near: makes an index of nearly equal texts, one for each router version and model; None
            answers exact repeats alone.
    """

    def __init__(
        self,
        max_entries: int = 100_000,
        ttl_s: float = 3600.0,
        near: Callable[[], NearIndex] | None = None,
    ) -> None:
        self._entries: OrderedDict[bytes, tuple[float, Answer]] = OrderedDict()
        self.max_entries = max_entries
        self._ttl_s = ttl_s
        self._make_index = near
        self._indexes: dict[bytes, NearIndex] = {}
        self._counts: Counter[str] = Counter()

    async def get(self, key: bytes, text: str, now: float) -> Held | None:
        """See `AnswerCache.get`."""
        return self.look(key, text, now)

    def look(self, key: bytes, text: str, now: float) -> Held | None:
        """The same text's answer, else that of the text most like it."""
        held = self.exact(key, now) or self.nearest(key, text, now)
        if held is None:
            self._counts["misses"] += 1
        return held

    def exact(self, key: bytes, now: float) -> Held | None:
        """The same text's answer."""
        found = self._fresh(key, now)
        if found is None:
            return None
        self._counts["memory_hits"] += 1
        return Held(answer=found[1], age_s=now - found[0])

    def nearest(self, key: bytes, text: str, now: float) -> Held | None:
        """The answer of the text most like this one; it is not put under this one's key.

        Else a text like that one would be next, and one like the next: a chain that leads away.
        """
        index = self._indexes.get(key[:SCOPE_BYTES])
        while index is not None and (match := index.query(text)) is not None:
            if match.key not in self._entries:
                break  # an index of the user's own that does not forget
            found = self._fresh(match.key, now)
            if found is not None:
                self._counts["near_hits"] += 1
                return Held(
                    answer=found[1],
                    how="near",
                    age_s=now - found[0],
                    similarity=match.similarity,
                )
        return None

    def _fresh(self, key: bytes, now: float) -> tuple[float, Answer] | None:
        found = self._entries.get(key)
        if found is None:
            return None
        if now - found[0] > self._ttl_s:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return found

    async def put(self, key: bytes, text: str, answer: Answer, now: float) -> None:
        """Hold an answer that came at `now`."""
        self.hold(key, text, answer, now)

    def hold(self, key: bytes, text: str, answer: Answer, now: float) -> None:
        """See `put`."""
        if key not in self._entries and self._make_index is not None:
            scope = key[:SCOPE_BYTES]
            if scope not in self._indexes:
                self._indexes[scope] = self._make_index()
            self._indexes[scope].add(key, text)
        self._entries[key] = (now, answer)
        self._entries.move_to_end(key)
        if len(self._entries) > self.max_entries:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        del self._entries[key]
        if self._make_index is not None:
            self._indexes[key[:SCOPE_BYTES]].remove(key)

    async def close(self) -> None:
        """Nothing is open."""

    def statistics(self) -> dict[str, int]:
        """Hits by how they came about, misses, and what is held now."""
        counts = {name: self._counts[name] for name in ("memory_hits", "near_hits", "misses")}
        return {**counts, "entries": len(self._entries)}
