"""Answers that need no call: exact, nearly exact, in memory and shared through Redis."""

from functools import partial

from harness.pipeline.cache.held import AnswerCache, Held
from harness.pipeline.cache.key import cache_key
from harness.pipeline.cache.memory import MemoryCache
from harness.pipeline.cache.minhash import MinHashIndex
from harness.pipeline.cache.near import Match, NearIndex, near_precision
from harness.pipeline.cache.tiered import RedisCache, TieredCache
from harness.pipeline.shared.link import RedisLink
from harness.scenario.pipeline import Pipeline

__all__ = [
    "AnswerCache",
    "Held",
    "Match",
    "MemoryCache",
    "MinHashIndex",
    "NearIndex",
    "RedisCache",
    "TieredCache",
    "answer_cache",
    "cache_key",
    "near_precision",
]


def answer_cache(settings: Pipeline, link: RedisLink | None = None) -> AnswerCache | None:
    """The cache that the settings ask for; without a link to Redis, in memory alone."""
    if settings.cache is None:
        return None
    near = settings.near
    first = MemoryCache(
        settings.cache_entries,
        settings.cache_ttl_s,
        partial(MinHashIndex, near.threshold, near.shingle, near.hashes) if near else None,
    )
    if settings.cache == "memory" or link is None:
        return first
    return TieredCache(first, RedisCache(link, settings.cache_ttl_s))
