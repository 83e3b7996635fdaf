"""Corpora by name: the grammar, the trap, files; and their figures."""

import gzip
import json
from pathlib import Path

import pytest

import harness.corpus
from harness.corpus import Corpus, Review, describe, load_corpus
from harness.corpus.guards import Guards
from harness.corpus.synthetic import synthetic
from harness.corpus.templates import templates8
from harness.errors import InputError

DATA = Path(__file__).parents[1].parent / "shared" / "data"
real_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real reviews are not part of the project and not beside it"
)


def test_the_public_names() -> None:
    """The package offers these names and no others."""
    assert harness.corpus.__all__ == [
        "CATEGORIES", "Corpus", "Guards", "Label", "Review", "describe", "load_corpus",
        "read_trace",
    ]  # fmt: skip


def test_a_synthetic_corpus_has_a_category_and_the_seed() -> None:
    """The specification names the category in any case; the seed chooses the texts."""
    corpus = load_corpus("synthetic:Toys", count=30, seed=4)
    assert corpus.reviews == synthetic("toys", seed=4, count=30)
    assert corpus.name == "synthetic:Toys"
    assert corpus.guards.warnings == ()
    assert corpus.reviews != load_corpus("synthetic:toys", count=30, seed=5).reviews


@pytest.mark.parametrize("spec", ["synthetic", "synthetic:", "templates8"])
def test_generated_corpora_have_a_thousand_reviews_unless_told(spec: str) -> None:
    """Without a number a generated corpus has 1,000 reviews with ids of their own."""
    reviews = load_corpus(spec, count=None, seed=1).reviews
    assert len({review.id for review in reviews}) == 1000


def test_a_synthetic_corpus_is_made_once() -> None:
    """A second run in the same process gets the very same objects."""
    one, other = (load_corpus("synthetic:books", count=300, seed=8) for _ in range(2))
    assert all(a is b for a, b in zip(one.reviews, other.reviews, strict=True))
    assert one.guards is other.guards


def test_the_templates_cycle() -> None:
    """Eight texts in turn, half of them negative, whatever the seed; and the guards object."""
    corpus = load_corpus("templates8", count=100, seed=3)
    assert corpus.reviews == templates8(100)
    texts = [review.text for review in corpus.reviews]
    assert texts[8:] == texts[:-8]
    assert len(set(texts)) == 8
    assert corpus.guards.repeats_in_input == pytest.approx(0.92)
    assert len(corpus.guards.warnings) == 2


def test_a_file_is_found_from_here_or_from_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is tried from the working directory first, then from the base."""
    base, here = tmp_path / "base", tmp_path / "here"
    for folder, text in ((base, "base"), (here, "here")):
        folder.mkdir()
        (folder / "a.csv").write_text(f"text\n{text}\n")
    (base / "b.csv").write_text("text\nonly in base\n")
    monkeypatch.chdir(here)
    found = [load_corpus(name, count=None, seed=1, base=base) for name in ("a.csv", "b.csv")]
    assert [one.reviews[0].content for one in found] == ["here", "only in base"]
    assert [one.name for one in found] == ["a.csv", "b.csv"]


def test_a_file_brings_its_notes_and_guards(tmp_path: Path) -> None:
    """Skipped rows and a shortage are noted; repeats are those of title and content."""
    path = tmp_path / "a.csv"
    path.write_text("name,text\nGood,same\nGood,same\nBad,same\nBad,\n")
    corpus = load_corpus(str(path), count=9, seed=1, columns={"title": "name"})
    assert corpus.notes == (
        "file has only 3 reviews: all are used",
        "1 rows without text skipped",
    )
    assert corpus.guards.repeats_in_input == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("spec", "count", "message"),
    [
        (
            "synthetic:electronic",
            5,
            (
                "corpus synthetic:electronic: no such category, did you mean "
                "synthetic:electronics? (there are books, electronics, fashion, kitchen, toys)"
            ),
        ),
        (
            "synthetics",
            5,
            (
                "corpus synthetics: no such file, nor is there base/synthetics: correct the path, "
                "or name synthetic, synthetic:CATEGORY or templates8"
            ),
        ),
        ("templates8", 0, "corpus templates8: 0 reviews asked for: ask for 1 or more"),
    ],
)
def test_a_wrong_specification_is_one_line(spec: str, count: int, message: str) -> None:
    """The error says what there is instead."""
    with pytest.raises(InputError) as error:
        load_corpus(spec, count=count, seed=1, base=Path("base"))
    assert str(error.value) == message


def test_figures_of_a_corpus() -> None:
    """Counts, commonest first, words of title and content, guards, notes: ready for JSON."""
    reviews = (
        Review(id="1", title="Two words", content="and three more"),
        Review(id="2", content="one", label="negative", category="toys"),
        Review(id="3", content="one", label="negative", category="toys"),
    )
    guards = Guards(repeats_in_input=1 / 3, gzip_ratio=0.5, distinct_openings=2 / 3)
    corpus = Corpus(name="mine", reviews=reviews, guards=guards, notes=("a note",))
    expected = {
        "corpus": "mine",
        "reviews": 3,
        "categories": {"toys": 2, "unknown": 1},
        "labels": {"negative": 2, "unknown": 1},
        "words_mean": 7 / 3,
        "words_p50": 1,
        "repeats_in_input": 1 / 3,
        "gzip_ratio": 0.5,
        "distinct_openings": 2 / 3,
        "warnings": [],
        "notes": ["a note"],
    }
    assert json.dumps(describe(corpus)) == json.dumps(expected)


@real_data
def test_five_thousand_real_reviews() -> None:
    """The real file is read whole: 5,000 different reviews, a fifth electronics, no warning."""
    figures = describe(load_corpus(str(DATA / "reviews_test_5k.csv.gz"), count=None, seed=1))
    categories = figures["categories"]
    assert isinstance(categories, dict)
    assert (figures["reviews"], categories["electronics"]) == (5000, 1000)
    assert figures["labels"] == {"positive": 2946, "negative": 1987, "unknown": 67}
    assert (figures["repeats_in_input"], figures["warnings"], figures["notes"]) == (0, [], [])


@real_data
def test_real_reviews_that_repeat_themselves() -> None:
    """Of the first 1,000 reviews with text three in five repeat; rows without text are noted."""
    path = DATA / "reviews_natural_dups_mcauley5core.csv.gz"
    corpus = load_corpus(str(path), count=1000, seed=1)
    assert corpus.guards.repeats_in_input == pytest.approx(0.591, abs=0.002)
    assert corpus.notes == ("6 rows without text skipped",)


@real_data
def test_synthetic_reviews_are_close_to_real_ones(tmp_path: Path) -> None:
    """Electronics of the grammar and of real life have the same median length, within a tenth."""
    with gzip.open(DATA / "reviews_test_5k.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        (tmp_path / "real.csv").write_text(stream.read(), encoding="utf-8", newline="")
    real = load_corpus(str(tmp_path / "real.csv"), count=None, seed=1)
    made = load_corpus("synthetic", count=5000, seed=1)
    expected = describe(real)["words_p50"]
    assert describe(made)["words_p50"] == pytest.approx(expected, rel=0.1)
