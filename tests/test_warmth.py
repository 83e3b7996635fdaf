"""Cold starts and prompt caches: closed-form values and bounded memory."""

from math import exp

import pytest

from mock_llm.config import ColdStart, PromptCache
from mock_llm.warmth import ColdStartState, PrefixCache

PREFIX = ((b"system", 50), (b"context", 120), (b"review", 200))


def _cache(limit: int = 100) -> PrefixCache:
    return PrefixCache(PromptCache(min_tokens=100, ttl_s=300.0), limit)


def test_the_extra_decays_from_the_first_call() -> None:
    """A call pays exp(-t / decay) of the extra, t from the call that found the model cold."""
    state = ColdStartState(ColdStart(extra_s=1.0, decay_s=20.0))
    actual = [state.share(now) for now in (5.0, 5.0, 25.0, 105.0)]
    assert actual == pytest.approx([1.0, 1.0, exp(-1), exp(-5)])


def test_without_decay_only_the_first_call_pays() -> None:
    """A decay of 0 warms the model at once."""
    state = ColdStartState(ColdStart(extra_s=1.0))
    assert [state.share(now) for now in (0.0, 0.0, 9.0)] == [1.0, 0.0, 0.0]


def test_an_idle_model_is_cold_again() -> None:
    """Only a pause of the idle time, counted from the latest call, cools the model."""
    state = ColdStartState(ColdStart(extra_s=1.0, decay_s=10.0, idle_s=100.0))
    actual = [state.share(now) for now in (0.0, 99.0, 198.0, 298.0, 308.0)]
    assert actual == pytest.approx([1.0, exp(-9.9), exp(-19.8), 1.0, exp(-1)])


def test_nothing_is_cached_before_it_was_seen() -> None:
    """A lookup alone remembers nothing."""
    cache = _cache()
    assert [cache.cached_tokens(PREFIX, now) for now in (0.0, 1.0)] == [0, 0]


def test_the_longest_common_prefix_is_cached() -> None:
    """A prompt that shares the beginning of an earlier one has this much of it cached."""
    cache = _cache()
    cache.remember(PREFIX, 0.0)
    other = (*PREFIX[:2], (b"another review", 230))
    assert [cache.cached_tokens(p, 1.0) for p in (PREFIX, other)] == [200, 120]


def test_a_short_prefix_is_never_cached() -> None:
    """Below `min_tokens` nothing is remembered."""
    cache = _cache()
    cache.remember(PREFIX, 0.0)
    assert cache.cached_tokens(PREFIX[:1], 1.0) == 0


def test_an_unused_prefix_is_forgotten() -> None:
    """A prefix lives for its ttl after its latest use."""
    cache = _cache()
    cache.remember(PREFIX, 0.0)
    cache.remember(PREFIX[:2], 250.0)
    assert [cache.cached_tokens(PREFIX, now) for now in (299.0, 300.0, 549.0, 550.0)] == [
        200,
        120,
        120,
        0,
    ]


def test_memory_is_bounded() -> None:
    """Beyond the limit the least recently used prefixes go first."""
    cache = _cache(limit=2)
    for digest in (b"a", b"b", b"a", b"c"):
        cache.remember(((digest, 100),), 0.0)
    assert [cache.cached_tokens(((d, 100),), 1.0) for d in (b"a", b"b", b"c")] == [100, 0, 100]
