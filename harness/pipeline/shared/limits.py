"""Limits per user that several processes keep together."""

import hashlib
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from harness.pipeline.limits import UserLimits
from harness.pipeline.shared.link import RedisLink
from harness.scenario.pipeline import Pipeline

SKEW_S = 0.25  # by which two clocks, and two ways to them, may tell the length of a window apart

# Redis' own clock, so that all processes go by one, in whole µs: Lua's numbers hold 2^53, and its
# tostring() would round them. Both return the wait, and what it takes to take the request back.
_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
"""
# A log as in `harness.pipeline.limits.SlidingWindow`: a start exactly one window later shares no
# half-open window with the earlier one. The log is longer than the limit where that was lowered.
_SLIDING = """
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - window))
local held = redis.call('ZCARD', KEYS[1])
if held >= limit then
  local oldest = redis.call('ZRANGE', KEYS[1], held - limit, held - limit, 'WITHSCORES')
  return {oldest[2] + window - now, ''}
end
local start = string.format('%.0f', now)
redis.call('ZADD', KEYS[1], start, start .. ':' .. held)
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return {0, start .. ':' .. held}
"""
# The time from which a request would be early by less than nothing, as in `limits.Gcra`.
_GCRA = """
local gap = math.ceil(window / limit)
local due = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local wait = due - (limit - 1) * gap - now
if wait > 0 then return {wait, ''} end
local left = math.ceil((due + gap - now) / 1000)
redis.call('SET', KEYS[1], string.format('%.0f', due + gap), 'PX', left)
return {0, string.format('%.0f', gap)}
"""


class Limits(Protocol):
    """At most so many requests of a user in any window."""

    async def take(self, user: str, now: float) -> float:
        """Admit and count a request.

        Returns:
            0.0 when it is admitted, else the seconds until it would be; then it is not counted.
        """


class MemoryLimits:
    """The limits of a single process."""

    def __init__(self, limits: UserLimits) -> None:
        self._limits = limits

    async def take(self, user: str, now: float) -> float:
        """See `Limits.take`."""
        return self._limits.take(user, now)


class _Script(msgspec.Struct, frozen=True):
    """A kind of limit in Redis.

    Attributes:
        lua: takes a key, a limit and a window in µs.
        undo: the command that takes an admitted request back.
    """

    lua: str
    undo: str

    @property
    def sha(self) -> str:
        """Redis' name for it."""
        return hashlib.sha1(self.lua.encode(), usedforsecurity=False).hexdigest()


_SCRIPTS = {"sliding": _Script(_NOW + _SLIDING, "ZREM"), "gcra": _Script(_NOW + _GCRA, "DECRBY")}


class RedisLimits:
    """One limit per user over all processes, exact, by Redis' clock.

    While Redis is away each process keeps the limit by itself: `n` processes may let `n` times as
    much through. Each counts in its own memory all the time. So one that loses Redis knows what it
    let through of late, and one that finds an empty Redis lets nobody through twice.

    Args:
        link: to the Redis.
        limit: requests per user in any window.
        window_s: the window.
        kind: `sliding` or `gcra`, see `harness.pipeline.limits`.
    """

    def __init__(
        self,
        link: RedisLink,
        limit: int,
        window_s: float = 60.0,
        kind: Literal["sliding", "gcra"] = "sliding",
    ) -> None:
        self._link = link
        self._own = UserLimits(limit, window_s, kind)
        self._numbers = (limit, round(window_s * 1e6))
        self._kind = kind
        self._script = _SCRIPTS[kind]
        self._sha = self._script.sha

    async def take(self, user: str, now: float) -> float:
        """See `Limits.take`."""
        key = self._link.key("limit", self._kind, user)
        found: Sequence[int] | None = await self._link.script(
            self._sha, self._script.lua, [key], *self._numbers
        )
        if found is None:
            return self._own.take(user, now)
        wait_us, ticket = found
        if wait_us:
            return wait_us / 1e6
        own_s = self._own.take(user, now)
        if own_s <= SKEW_S:
            return 0.0
        await self._link.run((self._script.undo, key, ticket))
        return own_s


def limits_of(settings: Pipeline, link: RedisLink | None = None) -> Limits | None:
    """The limits per user that the settings ask for; without a link, of this process alone."""
    if settings.rate_limit is None:
        return None
    if link is None:
        return MemoryLimits(UserLimits(settings.rate_limit, kind=settings.limiter))
    return RedisLimits(link, settings.rate_limit, kind=settings.limiter)
