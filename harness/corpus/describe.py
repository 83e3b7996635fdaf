"""What a corpus holds, in figures."""

from collections import Counter
from collections.abc import Iterable
from statistics import fmean, median

from harness.corpus.load import Corpus


def describe(corpus: Corpus) -> dict[str, object]:
    """Figures of a corpus, ready for JSON or a table.

    Words are those of title and content together, split at blanks. A category or label that is not
    known counts as ``unknown``; repeats and openings are shares in 0 to 1.
    """
    words = [len(review.text.split()) for review in corpus.reviews]
    guards = corpus.guards
    return {
        "corpus": corpus.name,
        "reviews": len(corpus.reviews),
        "categories": _counts(review.category for review in corpus.reviews),
        "labels": _counts(review.label for review in corpus.reviews),
        "words_mean": fmean(words),
        "words_p50": median(words),
        "repeats_in_input": guards.repeats_in_input,
        "gzip_ratio": guards.gzip_ratio,
        "distinct_openings": guards.distinct_openings,
        "warnings": list(guards.warnings),
        "notes": list(corpus.notes),
    }


def _counts(values: Iterable[str | None]) -> dict[str, int]:
    """Commonest first, equal ones by name."""
    counts = Counter(value or "unknown" for value in values)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
