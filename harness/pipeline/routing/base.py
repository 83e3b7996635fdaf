"""What a router is: a pure function from a review to the model that shall answer it."""

from typing import Protocol

import msgspec

from harness.corpus.review import Review


class Route(msgspec.Struct, frozen=True):
    """A router's decision.

    Attributes:
        model: id of the model to ask, as the upstream spells it.
        score: complexity in 0-1 that led there; None for a router that does not score.
        reason: a few words for a log line.
    """

    model: str
    score: float | None
    reason: str


class Router(Protocol):
    """Chooses a model by the review alone: no clock, no randomness, no memory of other reviews."""

    @property
    def version(self) -> str:
        """Changes whenever a decision could: goes into cache keys."""

    def route(self, review: Review) -> Route:
        """The decision."""

    def explain(self, review: Review) -> str:
        """The decision and how it came about, as a few plain lines."""
