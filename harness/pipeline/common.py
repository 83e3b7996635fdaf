"""What requests have in common: cache, limits and accounts, of one process or of several."""

from harness.pipeline.cache import AnswerCache, answer_cache
from harness.pipeline.shared import (
    Limits,
    MemorySessions,
    RedisLink,
    RedisSessions,
    Sessions,
    limits_of,
)
from harness.scenario.pipeline import Pipeline

PATIENCE_S = 0.5
"""How long a request waits for Redis at most, and that only when it goes away."""


class Common:
    """Made from the settings, in the loop that uses it; `close` it.

    Attributes:
        link: to the Redis that other processes share; None: this process is alone.
        cache: of answers; None: there is none.
        limits: of the users; None: there are none.
        sessions: what users and sessions have asked and spent.

    Raises:
        InputError: the Redis' address is none, or its library is missing.
    """

    def __init__(self, settings: Pipeline) -> None:
        url = settings.redis_url
        # A burst at the start may hold this process's loop up for a while; a Redis that is taken
        # for dead by one of several would let more through than their common limit.
        self.link = None if url is None else RedisLink(url, timeout_s=PATIENCE_S)
        self.cache: AnswerCache | None = answer_cache(settings, self.link)
        self.limits: Limits | None = limits_of(settings, self.link)
        self.sessions: Sessions = (
            MemorySessions() if self.link is None else RedisSessions(self.link)
        )

    async def close(self) -> None:
        """Let go of the connections."""
        if self.cache is not None:
            await self.cache.close()
        if self.link is not None:
            await self.link.close()
