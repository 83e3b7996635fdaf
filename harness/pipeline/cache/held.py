"""What a cache is to the pipeline, and what it hands out."""

from typing import Literal, Protocol

import msgspec

from harness.pipeline.answer import Answer


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An answer out of a cache.

    Attributes:
        answer: as it was put.
        how: `exact` for the same text but for white space, `near` for nearly the same.
        origin: the tier that had it.
        age_s: how long ago the answer came.
        similarity: of the text asked and the text answered; 1 for exact ones, estimated for near.
    """

    answer: Answer
    how: Literal["exact", "near"] = "exact"
    origin: Literal["memory", "redis"] = "memory"
    age_s: float = 0.0
    similarity: float = 1.0


class AnswerCache(Protocol):
    """Answers by `cache_key` and by text; `now` is the loop's time in seconds."""

    async def get(self, key: bytes, text: str, now: float) -> Held | None:
        """An answer that is held and fresh; looking raises nothing."""

    async def put(self, key: bytes, text: str, answer: Answer, now: float) -> None:
        """Hold an answer that came just now; putting raises nothing."""

    async def close(self) -> None:
        """Let go of what the cache has opened itself."""

    def statistics(self) -> dict[str, int]:
        """Counts since the start."""
