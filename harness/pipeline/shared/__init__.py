"""What several processes of one service have in common, through Redis or, alone, in memory."""

from harness.pipeline.shared.limits import Limits, MemoryLimits, RedisLimits, limits_of
from harness.pipeline.shared.link import RedisLink
from harness.pipeline.shared.sessions import Account, MemorySessions, RedisSessions, Sessions

__all__ = [
    "Account",
    "Limits",
    "MemoryLimits",
    "MemorySessions",
    "RedisLimits",
    "RedisLink",
    "RedisSessions",
    "Sessions",
    "limits_of",
]
