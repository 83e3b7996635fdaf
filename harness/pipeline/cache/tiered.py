"""The second tier: answers in a Redis that several processes share, behind their own memories."""

from collections import Counter

import msgspec

from harness.pipeline.answer import Answer
from harness.pipeline.cache.held import Held
from harness.pipeline.cache.memory import MemoryCache
from harness.pipeline.shared.link import RedisLink

_DECODER = msgspec.json.Decoder(Answer)


class RedisCache:
    """Answers in Redis, exact ones only; Redis itself forgets them after `ttl_s`."""

    def __init__(self, link: RedisLink, ttl_s: float = 3600.0) -> None:
        self.link = link
        self._ttl_s = ttl_s
        self._counts: Counter[str] = Counter()

    async def get(self, key: bytes, text: str, now: float) -> Held | None:
        """The same text's answer; None too when Redis is away, or holds what is no answer."""
        del text, now  # Redis has its own clock
        name = self._name(key)
        found = await self.link.run(("GET", name), ("PTTL", name))
        if found is None or found[0] is None:
            return None
        try:
            answer = _DECODER.decode(found[0])
        except msgspec.MsgspecError:
            return None
        self._counts["redis_hits"] += 1
        age_s = max(0.0, self._ttl_s - found[1] / 1e3)
        return Held(answer=answer, origin="redis", age_s=age_s)

    async def put(
        self, key: bytes, text: str, answer: Answer, now: float, *, age_s: float = 0.0
    ) -> None:
        """Hold an answer that came `age_s` ago."""
        del text, now
        left_ms = round((self._ttl_s - age_s) * 1e3)
        if left_ms > 0:
            data = msgspec.json.encode(answer)
            await self.link.run(("SET", self._name(key), data, "PX", left_ms))

    def _name(self, key: bytes) -> bytes:
        return self.link.key("answer", key.hex())

    async def close(self) -> None:
        """The link is closed by whoever opened it."""

    def statistics(self) -> dict[str, int]:
        """Hits here, and how the link fares."""
        return {"redis_hits": self._counts["redis_hits"], **self.link.statistics()}


class TieredCache:
    """Memory first, then Redis, then nearly equal texts in memory.

    What memory has is written back to a Redis that was away and may have lost everything: answer by
    answer, as they are used.
    """

    def __init__(self, first: MemoryCache, second: RedisCache) -> None:
        self._first = first
        self._second = second
        self._shared: set[bytes] = set()  # keys known to be in Redis
        self._outages = 0
        self._misses = 0

    async def get(self, key: bytes, text: str, now: float) -> Held | None:
        """The nearest answer there is."""
        held = self._first.exact(key, now)
        if held is not None:
            await self._share(key, text, held.answer, now, held.age_s)
            return held
        held = await self._second.get(key, text, now)
        if held is not None:
            self._first.hold(key, text, held.answer, now - held.age_s)
            self._note(key)
            return held
        held = self._first.nearest(key, text, now)
        self._misses += held is None
        return held

    async def put(self, key: bytes, text: str, answer: Answer, now: float) -> None:
        """Hold an answer in both tiers."""
        self._first.hold(key, text, answer, now)
        self._shared.discard(key)
        await self._share(key, text, answer, now, 0.0)

    async def _share(self, key: bytes, text: str, answer: Answer, now: float, age_s: float) -> None:
        link = self._second.link
        if link.outages != self._outages:
            self._shared.clear()
            self._outages = link.outages
        if link.up and key not in self._shared:
            await self._second.put(key, text, answer, now, age_s=age_s)
            if link.up and link.outages == self._outages:
                self._note(key)

    def _note(self, key: bytes) -> None:
        if len(self._shared) >= self._first.max_entries:
            self._shared.clear()  # to write an answer once more does no harm
        self._shared.add(key)

    async def close(self) -> None:
        """Close both tiers."""
        await self._first.close()
        await self._second.close()

    def statistics(self) -> dict[str, int]:
        """Hits by tier, misses of all tiers, and how Redis fares."""
        return {
            **self._first.statistics(),
            **self._second.statistics(),
            "misses": self._misses,
        }
