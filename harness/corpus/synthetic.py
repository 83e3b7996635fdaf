"""Seeded product reviews from a grammar: a corpus that needs no file and no licence.

Review n is a function of (seed, category, n) alone, so a longer corpus extends a shorter one.
"""

import re
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from math import exp, log
from random import Random
from statistics import NormalDist

from harness.corpus.grammar import Draw, Grammar, Sentiment, parse_rules
from harness.corpus.review import Label, Review
from mock_llm.rng import Keyed

CATEGORIES = ("books", "electronics", "fashion", "kitchen", "toys")

MEDIAN_WORDS = 86
"""Title and content; what 5,000 real Amazon reviews of ten categories have."""
SIGMA_WORDS = 0.9
MIN_WORDS = 8
MAX_WORDS = 400
MIXED_SHARE = 0.35
"""Share of the reviews that argue with themselves (but, however, although)."""

_BLOCK = 250
_NORMAL = NormalDist()
_ARTICLE = re.compile(
    r"\b([Aa]) (?=[aei]|o(?!ne\b)|u(?!s[aeu]|ni[cfqtv])|\$?(?:8|1[18]\b)|ho(?:nest|ur))"
)
_SENTIMENTS: tuple[tuple[Label, Sentiment], ...] = (("positive", "+"), ("negative", "-"))


def synthetic(category: str, *, seed: int, count: int) -> tuple[Review, ...]:
    """Reviews 0 to ``count`` - 1 of one category, or of all of them mixed when it is empty."""
    blocks = (_block(category, seed, number) for number in range(-(-count // _BLOCK)))
    return tuple(islice((review for block in blocks for review in block), count))


@lru_cache(maxsize=400)  # 100,000 reviews, some 130 MB: the runs of one process share a corpus
def _block(category: str, seed: int, number: int) -> tuple[Review, ...]:
    keyed = Keyed(seed).stream(f"corpus.{category}")
    return tuple(
        # A generator of its own per review, seeded by the review's hash: as independent of every
        # other review as a hash per word would be, and ten times as fast.
        _review(category, n, Random(int(keyed(str(n), 0) * 2**53)).random)
        for n in range(number * _BLOCK, (number + 1) * _BLOCK)
    )


@lru_cache
def _grammar(category: str) -> Grammar:
    folder = files("harness.corpus") / "vocabulary"
    parts = ((folder / f"{name}.txt").read_text("utf-8") for name in ("common", category))
    return Grammar({name: rule for part in parts for name, rule in parse_rules(part).items()})


def _review(category: str, n: int, draw: Draw) -> Review:
    subject = category or CATEGORIES[int(draw() * len(CATEGORIES))]
    label, sentiment = _SENTIMENTS[int(draw() * 2)]
    title = _title(_grammar(subject), sentiment, draw)
    budget = _length_words(draw()) - title.count(" ") - 1
    content = _content(_grammar(subject), sentiment, budget, draw)
    return Review(id=f"{subject}-{n}", title=title, content=content, category=subject, label=label)


def _length_words(uniform: float) -> int:
    """Quantile of the capped lognormal length."""
    z = _NORMAL.inv_cdf(min(max(uniform, 1e-12), 1 - 1e-12))
    return round(min(max(exp(log(MEDIAN_WORDS) + SIGMA_WORDS * z), MIN_WORDS), MAX_WORDS))


def _title(grammar: Grammar, sentiment: Sentiment, draw: Draw) -> str:
    words = grammar.rule("title", sentiment)(draw).split()
    if draw() < 0.3:
        words = [word[:1].upper() + word[1:] for word in words]
    return _finish(" ".join(words))


def _content(grammar: Grammar, sentiment: Sentiment, budget: int, draw: Draw) -> str:
    """Sentences up to about ``budget`` words, in paragraphs."""
    blend = 0.3 if draw() < MIXED_SHARE else 0.0
    text, words = "", 0
    while words < max(budget - 5, MIN_WORDS):
        name = _kind(budget - words, blend, draw) if text or budget < 12 else "opening"
        sentence = grammar.rule(name, sentiment)(draw).split()
        words += len(sentence)
        gap = "\n\n" if draw() < 0.07 else " "
        text += _finish(" ".join(sentence)) + _mark(draw()) + gap
    return text.rstrip()


def _kind(left: int, blend: float, draw: Draw) -> str:
    if left < 9:
        return "remark"
    return "blend" if draw() < blend else "sentence"


def _mark(uniform: float) -> str:
    return "." if uniform < 0.88 else "!" if uniform < 0.97 else "..."


def _finish(words: str) -> str:
    """Capital letter and the right article."""
    return _ARTICLE.sub(r"\1n ", words[:1].upper() + words[1:])
