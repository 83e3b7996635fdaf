"""Synthetic reviews: a function of seed and number, as varied and as long as real ones."""

import os
import re
import subprocess
import sys
from importlib.resources import files
from itertools import pairwise
from math import log
from pathlib import Path
from statistics import fmean, median, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.corpus.grammar import parse_rules
from harness.corpus.guards import distinct_openings, gzip_ratio, repeats
from harness.corpus.review import Review
from harness.corpus.synthetic import CATEGORIES, _finish, _length_words, synthetic

ROOT = Path(__file__).parents[1]
WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
PRAISE = "great good excellent perfect love loved happy best nice wonderful pleased solid enjoy"
BLAME = "bad terrible awful poor horrible disappointed disappointing waste worst useless hate broke"


def _thousand(category: str) -> tuple[Review, ...]:
    return synthetic(category, seed=1, count=1000)


def _lexicon(category: str) -> tuple[set[str], set[str]]:
    """Words that the vocabulary has for praise only, and for blame only."""
    words: dict[str, set[str]] = {"+": set(), "-": set(), "": set()}
    for part in ("common", category):
        text = (files("harness.corpus") / "vocabulary" / f"{part}.txt").read_text("utf-8")
        for name, alternatives in parse_rules(text).items():
            kind = name[-1] if name[-1] in "+-" else ""
            plain = re.sub(r"\{[^|}]*\}", " ", " ".join(alternatives).lower())
            words[kind].update(WORD.findall(plain))
    return words["+"] - words["-"] - words[""], words["-"] - words["+"] - words[""]


def _agreement(reviews: tuple[Review, ...], praise: set[str], blame: set[str]) -> float:
    """Share of the sentiment-bearing words that agree with their review's label."""
    agreeing = bearing = 0
    for review in reviews:
        words = WORD.findall(review.text.lower())
        kind = praise if review.label == "positive" else blame
        agreeing += sum(word in kind for word in words)
        bearing += sum(word in praise or word in blame for word in words)
    return agreeing / bearing


@given(
    category=st.sampled_from(("", *CATEGORIES)),
    seed=st.integers(0, 2),
    counts=st.tuples(st.integers(1, 400), st.integers(1, 400)),
)
def test_a_longer_corpus_extends_a_shorter_one(
    category: str, seed: int, counts: tuple[int, int]
) -> None:
    """Review n depends on seed and n alone, never on how many reviews were asked for."""
    short, long = sorted(counts)
    expected = synthetic(category, seed=seed, count=short)
    assert synthetic(category, seed=seed, count=long)[:short] == expected


def test_the_text_does_not_depend_on_the_process() -> None:
    """Processes with different string hashing write the same reviews."""
    code = "from harness.corpus.synthetic import *; print(synthetic('', seed=3, count=20)[-1].text)"
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == synthetic("", seed=3, count=20)[-1].text + "\n"


def test_seeds_and_categories_write_different_texts() -> None:
    """Two seeds share no review, and neither do two categories."""
    corpora = [
        {one.content for one in synthetic(category, seed=seed, count=250)}
        for category, seed in (("toys", 1), ("toys", 2), ("books", 1), ("", 1))
    ]
    assert len(set.union(*corpora)) == 1000


def test_nothing_repeats_in_ten_thousand() -> None:
    """No two of 10,000 reviews have the same content, whatever their titles; ids are unique."""
    reviews = synthetic("electronics", seed=1, count=10_000)
    assert repeats([review.content for review in reviews]) == 0
    assert repeats([review.id for review in reviews]) == 0


@pytest.mark.parametrize("category", ["", *CATEGORIES])
def test_it_looks_like_real_text(category: str) -> None:
    """Compression stays near that of real reviews (2.4 to 3.3) and openings are distinct."""
    texts = [review.text for review in _thousand(category)]
    assert 2.4 <= gzip_ratio(texts) <= 3.6
    assert distinct_openings(texts) >= 0.98
    assert distinct_openings([review.content for review in _thousand(category)]) >= 0.9


@pytest.mark.parametrize("category", CATEGORIES)
def test_lengths_are_lognormal(category: str) -> None:
    """Words of title and content have median 86 and a log standard deviation of .9, capped."""
    words = [len(review.text.split()) for review in _thousand(category)]
    assert median(words) == pytest.approx(86, rel=0.1)
    assert stdev(map(log, words)) == pytest.approx(0.9, abs=0.07)
    assert min(words) >= 8
    assert max(words) <= 440


@pytest.mark.parametrize(
    ("uniform", "expected"), [(0.5, 86), (0.8413447, 212), (0.1586553, 35), (0.0, 8), (1.0, 400)]
)
def test_a_length_is_a_quantile(uniform: float, expected: int) -> None:
    """Half the reviews have up to 86 words, one sigma is a factor of e^.9, the ends are capped."""
    assert _length_words(uniform) == expected


@given(st.lists(st.floats(0, 1), min_size=2))
def test_lengths_grow_with_their_uniform(uniforms: list[float]) -> None:
    """The quantile function never falls."""
    lengths = [_length_words(uniform) for uniform in sorted(uniforms)]
    assert all(one <= other for one, other in pairwise(lengths))


@pytest.mark.parametrize("category", CATEGORIES)
def test_sentiment_words_agree_with_the_label(category: str) -> None:
    """Four in five sentiment words agree, by the vocabulary itself and by everyday words."""
    reviews = _thousand(category)
    assert _agreement(reviews, *_lexicon(category)) >= 0.85
    assert _agreement(reviews, set(PRAISE.split()), set(BLAME.split())) >= 0.8


@pytest.mark.parametrize(
    ("pattern", "low", "high"),
    [
        (r"\b(but|however|although|though|yet|while|despite)\b", 0.25, 0.6),
        (r"\b(if|unless|whenever|had I|should you)\b", 0.2, 0.6),
        (r"\d+ (hours|watts|feet|pounds|Mbps|GB|inches)|\d+p\b", 0.25, 0.9),
        (r"\b(than|compared with|unlike)\b", 0.25, 0.8),
        (r"\S\n\n\S.*\n\n\S", 0.2, 0.6),
    ],
    ids=["contrast", "condition", "units", "comparison", "paragraphs"],
)
def test_reviews_hold_what_makes_them_hard(pattern: str, low: float, high: float) -> None:
    """A fair share, never all, have contrasts, conditions, units, comparisons and paragraphs."""
    found = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    assert low <= fmean(bool(found.search(one.text)) for one in _thousand("electronics")) <= high


def test_labels_and_categories_are_balanced() -> None:
    """Half the reviews are positive; the mixed corpus has a fifth of each category."""
    reviews = synthetic("", seed=1, count=5000)
    assert fmean(one.label == "positive" for one in reviews) == pytest.approx(0.5, abs=0.03)
    for category in CATEGORIES:
        share = fmean(one.category == category for one in reviews)
        assert share == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("category", CATEGORIES)
def test_sentences_are_whole(category: str) -> None:
    """Titles and sentences begin with a capital or a figure, end with a mark, and fill no gap."""
    for review in _thousand(category)[:300]:
        assert re.fullmatch(r"[A-Z0-9$][^\n]*", review.title)
        assert re.fullmatch(r"[A-Z0-9$].*[.!]", review.content, re.DOTALL)
        assert re.findall(r"  | [.,!]|[.!] [a-z]|\n\n\n", review.content) == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a elegant hour", "An elegant hour"),
        ("it is a ugly toy, a one-sided game", "It is an ugly toy, a one-sided game"),
        ("it is a useless toy", "It is a useless toy"),
        ("a honest toy, a unusual toy", "An honest toy, an unusual toy"),
        ("a uniform, a $80 toy and a 18-year-old", "A uniform, an $80 toy and an 18-year-old"),
    ],
)
def test_articles_fit_their_words(said: str, expected: str) -> None:
    """An article before the sound of a vowel is "an", before any other "a"."""
    assert _finish(said) == expected
