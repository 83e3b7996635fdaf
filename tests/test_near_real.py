"""Near-duplicates among real reviews: the figures that docs/pipeline.md tells."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from harness.corpus import Review
from harness.corpus.files import read_reviews
from harness.pipeline.answer import Answer
from harness.pipeline.cache import MemoryCache, MinHashIndex, cache_key, near_precision

DATA = Path(__file__).parents[1].parent / "shared" / "data"
REPEATING = "reviews_natural_dups_mcauley5core.csv.gz"


def real(name: str, count: int | None = None) -> list[Review]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in the project")
    return list(read_reviews(path, count=count, columns={}).reviews)


async def asked(reviews: list[Review]) -> tuple[dict[str, int], dict[str, Any]]:
    """Ask for each review in turn, and let every miss be answered by its true label."""
    cache = MemoryCache(near=MinHashIndex)
    handed: dict[str, str | None] = {}
    for review in reviews:
        key = cache_key(review.text, "v", "m")
        held = await cache.get(key, review.text, 0.0)
        if held is None:
            await cache.put(key, review.text, Answer(text="", label=review.label), 0.0)
        elif held.how == "near":
            handed[review.id] = held.answer.label
    truths = {review.id: review.label for review in reviews if review.label}
    return cache.statistics(), near_precision(handed, truths)


def test_a_corpus_that_repeats_itself() -> None:
    """Near-duplicates add two points to the exact hits, and their labels are right."""
    counts, judged = asyncio.run(asked(real(REPEATING, 1000)))
    assert counts == {"memory_hits": 581, "near_hits": 21, "misses": 398, "entries": 398}
    assert (judged["right"], judged["wrong"]) == (21, 0)


def test_a_diverse_corpus_has_no_near_duplicates() -> None:
    """Among different reviews nothing is nearly the same, so there is nothing to be wrong."""
    counts, judged = asyncio.run(asked(real("reviews_test_5k.csv.gz")))
    assert (counts["memory_hits"], counts["near_hits"]) == (0, 0)
    assert judged["n"] == 0
