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
# The same for lower-case ASCII in half the time: a class is one table lookup, nothing is given
# back once it is taken, and the loop over hyphens is not entered for a word without any.
_ASCII_WORD = re.compile(
    r"[0-9]+(?:[.,][0-9]+)++|[a-z0-9]++(?:['-][a-z0-9]++(?:['-][a-z0-9]++)*+)?+"
)
# A run of marks, and what follows if it is no white space, which makes it no end of a sentence. It
# takes the whole run and never looks back: a wall of exclamation marks costs linear time.
_MARKS = re.compile(r"[.!?][.!?]*+(\S?)")
_PARAGRAPH_BREAK = re.compile(r"\n\s*\n")
_DIGIT = re.compile(r"\d")
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
    words: list[str] = (_ASCII_WORD if text.isascii() else _WORD).findall(text)
    telling = list(filter(_TELLING.__contains__, words))
    return Scores(
        technical=_technical(words, telling, review.category),
        sentiment=_sentiment(telling),
        length=_length(review, text, len(words)),
        domain=Domain(lexicon.DOMAIN.get(review.category, lexicon.UNKNOWN_DOMAIN)),
    )


def count_specifications(words: Sequence[str]) -> int:
    """Model numbers, and numbers with a unit, in one word ("16gb") or in two ("16 gb")."""
    count = 0
    for place, word in enumerate(words):
        if word.isalpha():
            continue
        unit_after = place + 1 < len(words) and words[place + 1] in lexicon.UNITS
        count += (word[0].isdigit() and unit_after) or (
            _DIGIT.search(word) is not None and _SPECIFICATION.fullmatch(word) is not None
        )
    return count


def _technical(words: Sequence[str], telling: Sequence[str], category: str) -> Technical:
    keys = lexicon.KEYWORDS.get(category, lexicon.GENERAL)
    density = _count(telling, keys) / max(1, len(words))
    return Technical(
        keywords=_saturate(density, "keywords"),
        specifications=_saturate(count_specifications(words), "specifications"),
        comparisons=_saturate(_count(telling, lexicon.COMPARISON), "comparisons"),
    )


def _sentiment(telling: Sequence[str]) -> Sentiment:
    praise = _count(telling, lexicon.POSITIVE)
    blame = _count(telling, lexicon.NEGATIVE)
    balance = 2 * min(praise, blame) / max(1, praise + blame)
    contrast = _saturate(_count(telling, lexicon.CONTRAST), "contrast")
    return Sentiment(
        mixed=balance * (1 + contrast) / 2,
        conditionals=_saturate(_count(telling, lexicon.CONDITIONAL), "conditionals"),
        nuance=_saturate(_count(telling, lexicon.HEDGES), "nuance"),
    )


def _length(review: Review, text: str, words: int) -> Length:
    sentences = max(1, _MARKS.findall(text).count(""))
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


# Most words are in no table: they are left out once, not by each table.
_TELLING = frozenset().union(
    *lexicon.KEYWORDS.values(),
    lexicon.GENERAL,
    lexicon.COMPARISON,
    lexicon.POSITIVE,
    lexicon.NEGATIVE,
    lexicon.CONTRAST,
    lexicon.CONDITIONAL,
    lexicon.HEDGES,
)


def _scoring_version() -> str:
    tables = {
        name: sorted(table) for name, table in vars(lexicon).items() if isinstance(table, frozenset)
    }
    keywords = {category: sorted(table) for category, table in lexicon.KEYWORDS.items()}
    domain = (dict(lexicon.DOMAIN), lexicon.UNKNOWN_DOMAIN)
    everything = (FORMULA, WEIGHTS, PARTS, HALF, tables, keywords, domain)
    return hashlib.sha256(msgspec.json.encode(everything, order="sorted")).hexdigest()[:12]


SCORING_VERSION = _scoring_version()
