"""Nearly equal texts: what an index of them is, and what its answers were worth."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from harness.metrics import accuracy


class Match(NamedTuple):
    """A text that is held, and how like the one asked for it is, 0 to 1."""

    key: bytes
    similarity: float


class NearIndex(Protocol):
    """Texts by likeness: MinHash, or embeddings, or whatever else has these three.

    It holds no more than it is told to: the cache removes what it drops itself. All calls come from
    one thread and must not block; an index that asks a server for embeddings has no place here.
    """

    def add(self, key: bytes, text: str) -> None:
        """Hold a text under a key that is new."""

    def query(self, text: str) -> Match | None:
        """The text most like this one, if it is near enough to count as the same."""

    def remove(self, key: bytes) -> None:
        """Forget a key that is held."""


def near_precision(handed: Mapping[str, str | None], truths: Mapping[str, str]) -> dict[str, Any]:
    """How often a near hit's label was right for the text that was asked.

    Args:
        handed: request key -> label handed out by a near hit; None where the answer had none.
        truths: request key -> label of the text asked: the corpus's, or a model's own for it.

    Returns:
        `right`, `wrong`, their sum `n`, and `value` = right / n with the ends `low` and `high` of a
        95 % Wilson interval; hits without a truth are not judged.
    """
    judged = accuracy(handed, truths)
    right = sum(label == truths[key] for key, label in handed.items() if key in truths)
    return {"right": right, "wrong": judged["n"] - right, **judged}
