"""Authenticity guards: exact on small texts, and the published figures on real ones."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.corpus.guards import distinct_openings, guards, gzip_ratio, repeats
from harness.corpus.review import Review
from harness.corpus.templates import templates8

DATA = Path(__file__).parents[1].parent / "shared" / "data"
real_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real reviews are not part of the project and not beside it"
)
TEXTS = st.lists(st.text(st.sampled_from("ab c"), max_size=4), min_size=1, max_size=30)


def _rows(name: str) -> list[str]:
    """The texts of every row in file order, those without content too, as they would be sent."""
    with gzip.open(DATA / name, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [Review(id="", title=row["title"], content=row["content"]).text for row in rows]


def _reference(file: str, corpus: str, count: int, column: str) -> float:
    with (DATA / file).open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["corpus"] == corpus and int(row["n"]) == count:
                return float(row[column])
    raise LookupError(corpus)


@pytest.mark.parametrize(
    ("texts", "expected"), [("", 0.0), ("a", 0.0), ("ab", 0.0), ("aa", 0.5), ("abab", 0.5)]
)
def test_repeats_are_counted_exactly(texts: Sequence[str], expected: float) -> None:
    """A text repeats when an earlier one is equal to it."""
    assert repeats(texts) == expected


@given(TEXTS)
def test_repeats_do_not_depend_on_order(texts: list[str]) -> None:
    """The share is that of texts seen before, however they are ordered."""
    seen = sum(text in texts[:n] for n, text in enumerate(texts))
    assert repeats(texts) == pytest.approx(seen / len(texts))
    assert repeats(texts[::-1]) == repeats(texts)


def test_an_opening_is_six_words_whatever_their_case_and_marks() -> None:
    """Case, punctuation and what follows the sixth word make no difference."""
    texts = ["One, two three. Four five six seven", "one TWO three\n\nfour five six! Eight", "One"]
    assert distinct_openings(texts) == pytest.approx(2 / 3)
    assert distinct_openings([]) == 1.0


def test_compression_looks_at_the_first_thousand() -> None:
    """What comes after the first thousand texts does not change the ratio."""
    texts = [f"{n * n} reasons" for n in range(1000)]
    assert gzip_ratio([*texts, *["again"] * 5000]) == gzip_ratio(texts)
    assert gzip_ratio(["again and " * 9] * 1000) > 50


def test_natural_looking_texts_get_no_warning() -> None:
    """A few different sentences pass both guards."""
    texts = ["It broke at once.", "My aunt loved this kettle.", "Would buy again, twice even."]
    assert guards(texts).warnings == ()


def test_cycled_templates_get_both_warnings() -> None:
    """Eight templates repeat, compress and open alike; each warning says the number and why."""
    found = guards([review.text for review in templates8(1000)])
    assert found.repeats_in_input == pytest.approx(0.992)
    assert found.distinct_openings == pytest.approx(0.008)
    compressed, openings = found.warnings
    assert f"{found.gzip_ratio:.1f} times" in compressed
    assert "only 0.8% of its texts" in openings
    assert all("a cache hit rate measured on it says nothing" in text for text in found.warnings)


def test_templates_with_slots_are_caught_without_repeats() -> None:
    """Serial numbers hide the repeats from the first figure, not from the other two."""
    texts = [f"{one.text} Order {n}." for n, one in enumerate(templates8(1000))]
    found = guards(texts)
    assert found.repeats_in_input == 0
    assert found.gzip_ratio > 20
    assert len(found.warnings) == 2


@real_data
@pytest.mark.parametrize(
    ("file", "corpus", "count"),
    [
        ("reviews_test_5k.csv.gz", "reviews_test_5k (ready, deduped)", 5000),
        *(
            (
                "reviews_natural_dups_mcauley5core.csv.gz",
                "McAuley-2018 5-core small cats, file order",
                count,
            )
            for count in (1000, 5000, 11417)
        ),
    ],
)
def test_repeats_of_real_reviews_are_as_published(file: str, corpus: str, count: int) -> None:
    """Title and content together repeat exactly as often as the reference says."""
    expected = _reference("cache_hit_reference.csv", corpus, count, "exact_hit")
    assert repeats(_rows(file)[:count]) == pytest.approx(expected)


@real_data
@pytest.mark.parametrize(
    ("file", "corpus", "count"),
    [
        ("reviews_test_5k.csv.gz", "test_5k", 5000),
        ("reviews_natural_dups_mcauley5core.csv.gz", "McAuley 5-core 11k", 11417),
    ],
)
def test_guards_of_real_reviews_are_as_published(file: str, corpus: str, count: int) -> None:
    """Compression is within 2 % of the reference, openings are exact, and nothing warns."""
    found = guards(_rows(file))
    ratio = _reference("authenticity_reference.csv", corpus, count, "gzip_first1000")
    openings = _reference("authenticity_reference.csv", corpus, count, "distinct_openings")
    assert found.gzip_ratio == pytest.approx(ratio, rel=0.02)
    assert found.distinct_openings == pytest.approx(openings)
    assert found.warnings == ()
