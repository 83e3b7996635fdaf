"""Limits per user that several processes keep together."""

import hashlib
from typing import Protocol

from harness.pipeline.shared.link import RedisLink

# A start at `now` shares no half-open window with one at `now - window`. Redis' own clock is read,
# so that all processes go by one; a refusal is not counted. Times are whole µs: Lua's numbers hold
# 2^53, and tostring() would round them.
SLIDING = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - window))
local held = redis.call('ZCARD', KEYS[1])
if held >= limit then
  local oldest = redis.call('ZRANGE', KEYS[1], held - limit, held - limit, 'WITHSCORES')
  return {oldest[2] + window - now, ''}
end
local member = string.format('%.0f:%d', now, held)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), member)
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return {0, member}
"""
_SHA = hashlib.sha1(SLIDING.encode(), usedforsecurity=False).hexdigest()


class Limits(Protocol):
    """At most so many requests of a user in any window."""

    async def take(self, user: str, now: float) -> float:
        """Admit and count a request.

        Returns:
            0.0 when it is admitted, else the seconds until it would be; then it is not counted.
        """


class Takes(Protocol):
    """What the limits of one process are: pure, `now` being the loop's time."""

    def take(self, user: str, now: float) -> float:
        """See `Limits.take`."""


class MemoryLimits:
    """The limits of a single process."""

    def __init__(self, limits: Takes) -> None:
        self._limits = limits

    async def take(self, user: str, now: float) -> float:
        """See `Limits.take`."""
        return self._limits.take(user, now)


class RedisLimits:
    """One sliding window per user over all processes, exact, by Redis' clock.

    While Redis is away each process keeps the limit by itself: `n` processes may let `n` times as
    much through. Each counts in its own memory all the time. So one that loses Redis knows what it
    let through of late, and one that finds an empty Redis lets nobody through twice.

    Args:
        link: to the Redis.
        own: this process's own limits, with the same limit and window.
        limit: requests per user in any window.
        window_s: the window.
    """

    def __init__(self, link: RedisLink, own: Takes, limit: int, window_s: float = 60.0) -> None:
        self._link = link
        self._own = own
        self._numbers = (limit, round(window_s * 1e6))

    async def take(self, user: str, now: float) -> float:
        """See `Limits.take`."""
        key = self._link.key("limit", user)
        found = await self._link.script(_SHA, SLIDING, [key], *self._numbers)
        if found is None:
            return self._own.take(user, now)
        wait_us, member = found
        if wait_us:
            return float(wait_us) / 1e6
        own_s = self._own.take(user, now)
        # The two clocks see a start some ms apart; what is refused for longer is news to Redis.
        if own_s <= SKEW_S:
            return 0.0
        await self._link.run(("ZREM", key, member))
        return own_s


SKEW_S = 0.25
