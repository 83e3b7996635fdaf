"""How hard a review is to judge: four scores in 0-1, each the weighted sum of its parts.

Theory of operation. A review is cut into lower-case words once; every part then is a set lookup or
a count over those words. Counts become parts by `1 - 2 ** (-count / half)`: nothing scores 0, the
half-count `HALF` scores .5, and more never scores less. A part is a plain field, so that a score
can always be shown with what made it.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import zip_longest

import msgspec

from harness.corpus.review import Review
from harness.pipeline.routing import lexicon

# Raise by one when a formula below changes: the tables and constants are digested by themselves.
FORMULA = 1

WEIGHTS = {"technical": 0.35, "sentiment": 0.25, "length": 0.20, "domain": 0.20}
PARTS = {
    "technical": {"keywords": 0.45, "specifications": 0.30, "comparisons": 0.25},
    "sentiment": {"mixed": 0.40, "conditionals": 0.30, "nuance": 0.30},
    "length": {"words": 0.60, "structure": 0.25, "paragraphs": 0.15},
    "domain": {"category": 1.0},
}
# The count (keywords: share of all words) at which a part is .5: chosen so that the median of 5,000
# real product reviews, of those that have any, lies between .3 and .75.
HALF = {
    "keywords": 0.04,
    "specifications": 2.0,
    "comparisons": 1.0,
    "contrast": 1.0,
    "conditionals": 1.5,
    "nuance": 1.5,
    "words": 100.0,
    "sentence_words": 18.0,
    "sentence_clauses": 1.0,
    "paragraphs": 1.0,
}

_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['\u2019-][^\W_]+)*")
# The look-behind keeps a wall of exclamation marks from costing quadratic time.
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++(?=\s|$)")
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
# Words that hold a digit and are neither plain numbers nor ordinals, decades and hours: "16gb",
# "1080p", "i7", "dcb-2000", "20-inch".
_SPECIFICATION = re.compile(
    r"(?!\d+(?:st|nd|rd|th|s|am|pm)$)"
    rf"(?:.*(?:\d[^\W\d_]|[^\W\d_]\d).*|[^\W\d_]{{1,4}}-\d+|\d+-(?:{'|'.join(sorted(lexicon.UNITS))}))"
)


class Technical(msgspec.Struct, frozen=True):
    """Technical complexity.

    Attributes:
        keywords: density of the category's technical words.
        specifications: numbers with units, and model numbers.
        comparisons: words that set one thing against another.
    """

    keywords: float
    specifications: float
    comparisons: float


class Sentiment(msgspec.Struct, frozen=True):
    """Sentiment complexity.

    Attributes:
        mixed: praise and blame in balance, the more so with contrast words between them.
        conditionals: "if", "unless", "would" ...
        nuance: hedges, "somewhat", "perhaps" ...
    """

    mixed: float
    conditionals: float
    nuance: float


class Length(msgspec.Struct, frozen=True):
    """Length and build.

    Attributes:
        words: words of title and content.
        structure: half mean sentence length, half clause marks (, ; :) a sentence.
        paragraphs: blank lines in the content.
    """

    words: float
    structure: float
    paragraphs: float


class Domain(msgspec.Struct, frozen=True):
    """How technical the category is, by `lexicon.DOMAIN`; .5 when it is not known there."""

    category: float


class Scores(msgspec.Struct, frozen=True):
    """The four scores of a review, as their parts."""

    technical: Technical
    sentiment: Sentiment
    length: Length
    domain: Domain

    def value(self, name: str) -> float:
        """One score in 0-1: `technical`, `sentiment`, `length` or `domain`."""
        parts = getattr(self, name)
        blend: float = sum(w * getattr(parts, part) for part, w in PARTS[name].items())
        return blend

    @property
    def total(self) -> float:
        """Weighted sum of the four scores, in 0-1."""
        return sum(w * self.value(name) for name, w in WEIGHTS.items())


def score(review: Review) -> Scores:
    """The scores of a review: a pure function of title, content and category."""
    text = review.text.lower()
    words: list[str] = _WORD.findall(text)
    return Scores(
        technical=_technical(words, review.category),
        sentiment=_sentiment(words),
        length=_length(review, text, len(words)),
        domain=Domain(lexicon.DOMAIN.get(review.category, lexicon.UNKNOWN_DOMAIN)),
    )


def count_specifications(words: Sequence[str]) -> int:
    """Model numbers, and numbers with a unit, in one word ("16gb") or in two ("16 gb")."""
    return sum(
        (word[0].isdigit() and after in lexicon.UNITS) or _SPECIFICATION.fullmatch(word) is not None
        for word, after in zip_longest(words, words[1:])
        if not word.isalpha()
    )


def _technical(words: Sequence[str], category: str) -> Technical:
    keys = lexicon.KEYWORDS.get(category, lexicon.GENERAL)
    density = _count(words, keys) / max(1, len(words))
    return Technical(
        keywords=_saturate(density, "keywords"),
        specifications=_saturate(count_specifications(words), "specifications"),
        comparisons=_saturate(_count(words, lexicon.COMPARISON), "comparisons"),
    )


def _sentiment(words: Sequence[str]) -> Sentiment:
    praise = _count(words, lexicon.POSITIVE)
    blame = _count(words, lexicon.NEGATIVE)
    balance = 2 * min(praise, blame) / max(1, praise + blame)
    contrast = _saturate(_count(words, lexicon.CONTRAST), "contrast")
    return Sentiment(
        mixed=balance * (1 + contrast) / 2,
        conditionals=_saturate(_count(words, lexicon.CONDITIONAL), "conditionals"),
        nuance=_saturate(_count(words, lexicon.HEDGES), "nuance"),
    )


def _length(review: Review, text: str, words: int) -> Length:
    sentences = max(1, len(_SENTENCE_END.findall(text)))
    clauses = text.count(",") + text.count(";") + text.count(":")
    breaks = len(_PARAGRAPH_BREAK.findall(review.content.strip()))
    return Length(
        words=_saturate(words, "words"),
        structure=(
            _saturate(words / sentences, "sentence_words")
            + _saturate(clauses / sentences, "sentence_clauses")
        )
        / 2,
        paragraphs=_saturate(breaks, "paragraphs"),
    )


def _count(words: Sequence[str], table: AbstractSet[str]) -> int:
    return sum(map(table.__contains__, words))


def _saturate(count: float, part: str) -> float:
    return 1.0 - math.exp2(-count / HALF[part])


def _scoring_version() -> str:
    tables = {
        name: sorted(table) for name, table in vars(lexicon).items() if isinstance(table, frozenset)
    }
    keywords = {category: sorted(table) for category, table in lexicon.KEYWORDS.items()}
    domain = (dict(lexicon.DOMAIN), lexicon.UNKNOWN_DOMAIN)
    everything = (FORMULA, WEIGHTS, PARTS, HALF, tables, keywords, domain)
    return hashlib.sha256(msgspec.json.encode(everything, order="sorted")).hexdigest()[:12]


SCORING_VERSION = _scoring_version()
