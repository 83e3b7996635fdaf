"""The cache in memory: exact and nearly exact answers, for as long as they are good."""

import asyncio
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.pipeline.answer import Answer
from harness.pipeline.cache import (
    AnswerCache,
    Held,
    Match,
    MemoryCache,
    MinHashIndex,
    TieredCache,
    answer_cache,
    cache_key,
    near_precision,
)
from harness.pipeline.shared import RedisLink
from harness.scenario.pipeline import Near, Pipeline

LAMP = "The lamp is bright, the switch is firm, and the cord is long enough for any desk I own."


def key(text: str, model: str = "m") -> bytes:
    return cache_key(text, "v", model)


def told(text: str) -> Answer:
    return Answer(text=text)


def get(cache: AnswerCache, text: str, now: float = 0.0, model: str = "m") -> Held | None:
    return asyncio.run(cache.get(key(text, model), text, now))


def put(cache: AnswerCache, text: str, now: float = 0.0, model: str = "m") -> None:
    asyncio.run(cache.put(key(text, model), text, told(text), now))


steps = st.lists(
    st.tuples(st.booleans(), st.sampled_from("abcdef"), st.integers(0, 8)), max_size=60
)


@given(steps=steps, entries=st.integers(1, 4))
def test_memory_cache_against_a_plain_one(steps: list[tuple[bool, str, int]], entries: int) -> None:
    """It holds what was used last, each for its time, and no more than it may."""
    cache, plain, now = MemoryCache(entries, ttl_s=10.0), OrderedDict[str, float](), 0.0
    for is_put, text, gap in steps:
        now += gap
        if is_put:
            put(cache, text, now)
            plain[text] = now
            plain.move_to_end(text)
            while len(plain) > entries:
                plain.popitem(last=False)
        else:
            born = plain.get(text)
            if born is not None and now - born > 10.0:
                del plain[text]
                born = None
            elif born is not None:
                plain.move_to_end(text)
            expected = None if born is None else Held(answer=told(text), age_s=now - born)
            assert get(cache, text, now) == expected
        assert cache.statistics()["entries"] == len(plain)


def test_memory_drops_the_least_recently_used() -> None:
    """Being asked for counts as use; a stale answer makes room at once, however often asked for."""
    cache = MemoryCache(2, ttl_s=10.0)

    def held(now: float, texts: str) -> str:
        return "".join(text for text in texts if get(cache, text, now) is not None)

    put(cache, "a", 0.0)
    put(cache, "b", 6.0)
    assert (held(9.0, "a"), held(11.0, "a")) == ("a", "")
    put(cache, "c", 11.0)
    assert (held(11.0, "abc"), held(12.0, "b")) == ("bc", "b")
    put(cache, "d", 12.0)
    assert held(12.0, "bcd") == "bd"


def near_cache(entries: int = 100, ttl_s: float = 10.0) -> MemoryCache:
    return MemoryCache(entries, ttl_s, MinHashIndex)


def test_nearly_the_same_text_is_answered() -> None:
    """A word more in a long text changes nothing; the hit says how alike the two are."""
    cache = near_cache()
    put(cache, LAMP)
    held = get(cache, LAMP + " Really.", 4.0)
    assert held is not None
    assert (held.answer, held.how, held.origin, held.age_s) == (told(LAMP), "near", "memory", 4.0)
    assert 0.8 <= held.similarity < 1.0
    assert get(cache, "Quite another text about a kettle that whistles in tune.") is None
    counts = cache.statistics()
    assert counts == {"memory_hits": 0, "near_hits": 1, "misses": 1, "entries": 1}


def test_near_hits_do_not_chain() -> None:
    """What was answered by a like text is not held: the next one is compared with the first."""
    cache = near_cache()
    put(cache, LAMP)
    words = LAMP.split()
    for n in range(len(words)):
        get(cache, " ".join([*["so"] * n, *words[n:]]))
    assert cache.statistics()["entries"] == 1
    assert get(cache, " ".join(["so"] * len(words))) is None


def test_near_hits_stay_within_a_model() -> None:
    """Another model's answer to nearly the same text is another answer."""
    cache = near_cache()
    put(cache, LAMP)
    assert get(cache, LAMP + " Really.", model="other") is None


def test_near_hits_grow_stale() -> None:
    """A like text's answer is good for as long as any, and then it is forgotten."""
    cache = near_cache(ttl_s=10.0)
    put(cache, LAMP)
    assert get(cache, LAMP + " Really.", 10.0) is not None
    assert get(cache, LAMP + " Really.", 10.5) is None
    assert cache.statistics()["entries"] == 0


def test_what_makes_room_leaves_the_index() -> None:
    """The index holds what the cache holds, so that it is bounded as well."""
    made: list[MinHashIndex] = []

    def make() -> MinHashIndex:
        made.append(MinHashIndex())
        return made[-1]

    cache = MemoryCache(3, 10.0, make)
    for n in range(20):
        put(cache, f"{LAMP} {n}", model=f"m{n % 2}")
    assert cache.statistics()["entries"] == 3
    assert sum(map(len, made)) == 3
    assert sum(len(bucket) for index in made for bucket in index._buckets.values()) == 3 * 21


class FirstLetter:
    """An index as a user may bring one: texts are alike if they begin alike."""

    def __init__(self) -> None:
        self.held: dict[bytes, str] = {}

    def add(self, key: bytes, text: str) -> None:
        """Hold its first letter."""
        self.held[key] = text[0]

    def query(self, text: str) -> Match | None:
        """Any text with the same first letter."""
        return next((Match(key, 0.9) for key, one in self.held.items() if one == text[0]), None)

    def remove(self, key: bytes) -> None:
        """Forget it."""
        del self.held[key]


def test_any_index_can_be_plugged_in() -> None:
    """Whatever has add, query and remove decides what is near."""
    cache = MemoryCache(2, 10.0, FirstLetter)
    for text in ("apple", "banana", "cherry"):
        put(cache, text)
    assert [get(cache, text) is not None for text in ("avocado", "blueberry")] == [False, True]


def test_an_index_that_forgets_nothing_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that the cache has dropped is no hit, and nobody waits for it for ever."""
    monkeypatch.setattr(FirstLetter, "remove", lambda *_: None)
    cache = MemoryCache(1, 10.0, FirstLetter)
    put(cache, "apple")
    put(cache, "banana")
    assert get(cache, "avocado") is None


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        (Pipeline(), type(None)),
        (Pipeline(cache="memory"), MemoryCache),
        (Pipeline(cache="memory", near=Near(threshold=0.5)), MemoryCache),
        (Pipeline(cache="redis", redis_url="redis://127.0.0.1:1"), TieredCache),
    ],
)
def test_settings_make_the_cache(settings: Pipeline, kind: type) -> None:
    """The cache is the one that the settings ask for."""
    link = RedisLink(settings.redis_url) if settings.redis_url else None
    assert type(answer_cache(settings, link)) is kind


def test_without_a_link_it_is_memory() -> None:
    """Engines on a virtual clock, which no Redis lives on, hand in no link."""
    settings = Pipeline(cache="redis", redis_url="redis://127.0.0.1:1")
    assert type(answer_cache(settings)) is MemoryCache


def test_near_precision_counts_right_and_wrong() -> None:
    """A hit is right if its label is the asked text's own; without a truth it is not judged."""
    handed = {"a": "positive", "b": "negative", "c": None, "d": "positive"}
    judged = near_precision(handed, {"a": "positive", "b": "positive", "c": "negative"})
    assert (judged["right"], judged["wrong"], judged["n"], judged["value"]) == (1, 2, 3, 1 / 3)
    assert 0.0 < judged["low"] < 1 / 3 < judged["high"] < 1.0
    assert near_precision({}, {})["value"] is None
