"""The router of after: the harder a review scores, the dearer the model that reads it."""

import hashlib
import math
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Self

import msgspec

from harness.corpus.review import Review
from harness.errors import InputError
from harness.files import write_whole
from harness.pipeline.routing.base import Route
from harness.pipeline.routing.scores import SCORING_VERSION, WEIGHTS, Scores, score

# Shares of requests by model, cheapest first. The target adds up to 1.001: shares are normalised.
TARGET_SHARES: Mapping[str, float] = {
    "openai/gpt-4o-mini": 0.80,
    "anthropic/claude-3-haiku": 0.15,
    "openai/gpt-3.5-turbo": 0.04,
    "openai/gpt-4o": 0.01,
    "anthropic/claude-3.5-sonnet": 0.001,
}
MEASURED_SHARES: Mapping[str, float] = {
    "openai/gpt-4o-mini": 0.08,
    "anthropic/claude-3-haiku": 0.73,
    "openai/gpt-3.5-turbo": 0.19,
}

# Reviews whose score is remembered: a run meets each several times (fit, projection, variants).
_REMEMBERED = 65_536
_CRUMB = 1e-9


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored of a router.

    Attributes:
        shares: model id -> share, cheapest first, as given.
        thresholds: in 0-1, rising, one fewer than shares.
        scoring: digest of the scoring that the thresholds were fitted to.
    """

    shares: dict[str, float]
    thresholds: list[float]
    scoring: str


class SmartRouter:
    """Sends a score below the first threshold to the first model, and so on upwards.

    Equal scores are parted by a crumb of at most 1e-9 drawn from the text, so that shares can be
    met among many short reviews that score alike. Identical texts stay together: in a corpus of a
    few templates the shares are the nearest that whole templates can give.
    """

    def __init__(self, shares: Mapping[str, float], thresholds: Sequence[float]) -> None:
        """Take shares of models, cheapest first, and what parts neighbours.

        Raises:
            InputError: bad shares, or thresholds of the wrong number, order or range.
        """
        _cumulative(shares)
        _check_thresholds(len(shares), thresholds)
        self.shares = {model: float(share) for model, share in shares.items()}
        self.thresholds = tuple(map(float, thresholds))
        self._models = tuple(shares)
        self.version = _digest(self.to_dict())

    @classmethod
    def fit(cls, reviews: Iterable[Review], shares: Mapping[str, float]) -> Self:
        """Thresholds at the quantiles of the reviews' scores that give the normalised shares.

        A share too small for one of these reviews gets none, and neither will later ones: fit a
        share of .001 to 1,000 reviews at least.

        Raises:
            InputError: no reviews; no shares, or a negative, infinite or all-zero one.
        """
        scores = sorted(map(complexity, reviews))
        if not scores:
            raise InputError("cannot fit the smart router's thresholds to an empty corpus")
        return cls(shares, [_cut(scores, share) for share in _cumulative(shares)[:-1]])

    def route(self, review: Review) -> Route:
        """The decision, with the score that led to it."""
        value = complexity(review)
        place = bisect_right(self.thresholds, value)
        return Route(self._models[place], value, f"score {value:.3f} in {self._span(place)}")

    def route_all(self, reviews: Iterable[Review]) -> list[Route]:
        """A decision for each review, in order."""
        return [self.route(review) for review in reviews]

    def explain(self, review: Review) -> str:
        """Each score with its weight and parts, the total, and the model's place among all."""
        route = self.route(review)
        scores = score(review)
        place = self._models.index(route.model)
        lines = [_score_line(scores, name) for name in WEIGHTS]
        return "\n".join(
            [
                *lines,
                f"total {scores.total:.3f}, in {self._span(place)}",
                f"-> {route.model}, {place + 1} of {len(self._models)} from the cheapest",
            ]
        )

    def to_dict(self) -> dict[str, object]:
        """JSON-ready; the inverse of `from_dict`, exactly."""
        fitted = Fitted(self.shares, list(self.thresholds), SCORING_VERSION)
        return msgspec.structs.asdict(fitted)

    @classmethod
    def from_dict(cls, stored: object) -> Self:
        """A router from what `to_dict` gave.

        Raises:
            InputError: the wrong shape, or thresholds fitted to another scoring than this one.
        """
        try:
            return cls._of(msgspec.convert(stored, Fitted))
        except msgspec.ValidationError as error:
            raise InputError(f"not a fitted router: {error}") from error

    def save(self, path: Path) -> None:
        """Write JSON that `load` reads back exactly.

        Raises:
            InputError: the file cannot be written.
        """
        text = msgspec.json.format(msgspec.json.encode(self.to_dict()), indent=2)
        try:
            write_whole(path, [text, b"\n"])
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path) -> Self:
        """A router from a file that `save` wrote.

        Raises:
            InputError: one line that names the file: missing, broken, of the wrong shape, or
                fitted to another scoring.
        """
        try:
            return cls._of(msgspec.json.decode(path.read_bytes(), type=Fitted))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a fitted router: {error}") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def _of(cls, fitted: Fitted) -> Self:
        if fitted.scoring != SCORING_VERSION:
            raise InputError(
                f"thresholds were fitted to scoring {fitted.scoring!r}, this is "
                f"{SCORING_VERSION!r}: fit them again"
            )
        return cls(fitted.shares, fitted.thresholds)

    def _span(self, place: int) -> str:
        edges = (0.0, *self.thresholds, 1.0)
        return f"{edges[place]:.3f}-{edges[place + 1]:.3f}"


def complexity(review: Review) -> float:
    """The score that a review is routed by, in 0-1 without 1: `Scores.total` with its crumb."""
    return _complexity(review.title, review.content, review.category)


@lru_cache(maxsize=_REMEMBERED)
def _complexity(title: str, content: str, category: str) -> float:
    review = Review(id="", title=title, content=content, category=category)
    crumb = zlib.crc32(review.text.encode("utf-8", "surrogatepass")) / 2**32
    return (1 - 2 * _CRUMB) * score(review).total + _CRUMB * crumb


def _cumulative(shares: Mapping[str, float]) -> list[float]:
    """Normalised shares, summed up from the cheapest: the last is 1 but for rounding."""
    for model, share in shares.items():
        if not (math.isfinite(share) and share >= 0):
            raise InputError(f'the share of "{model}" is {share}: it must be 0 or more')
    total = sum(shares.values())
    if not 0 < total < math.inf:
        raise InputError(f"router shares add up to {total}: give each model its part of 1")
    return list(accumulate(share / total for share in shares.values()))


def _check_thresholds(models: int, thresholds: Sequence[float]) -> None:
    if len(thresholds) != models - 1:
        raise InputError(
            f"{models} models need {models - 1} thresholds between them, got {len(thresholds)}"
        )
    if not all(0 <= threshold <= 1 for threshold in thresholds):
        raise InputError(f"thresholds must lie in 0-1, got {list(thresholds)}")
    if any(low > high for low, high in pairwise(thresholds)):
        raise InputError(f"thresholds must not fall, got {list(thresholds)}")


def _cut(scores: Sequence[float], share: float) -> float:
    """The threshold with the count of sorted `scores` below it nearest to share of them all."""
    wanted = round(share * len(scores))
    if wanted >= len(scores):
        return 1.0
    below, through = (bisect(scores, scores[wanted]) for bisect in (bisect_left, bisect_right))
    if wanted - below <= through - wanted:
        return scores[wanted] if below else 0.0
    return scores[through] if through < len(scores) else 1.0


def _score_line(scores: Scores, name: str) -> str:
    parts = ", ".join(
        f"{part} {value:.2f}"
        for part, value in msgspec.structs.asdict(getattr(scores, name)).items()
    )
    return f"{name} {scores.value(name):.3f} x {WEIGHTS[name]:.2f} ({parts})"


def _digest(stored: Mapping[str, object]) -> str:
    return f"smart:{hashlib.sha256(msgspec.json.encode(stored)).hexdigest()[:12]}"
