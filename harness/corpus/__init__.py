"""Corpora: the reviews a run works on, and whether they look like real text."""

from harness.corpus.describe import describe
from harness.corpus.guards import Guards
from harness.corpus.load import Corpus, load_corpus
from harness.corpus.review import Label, Review
from harness.corpus.synthetic import CATEGORIES
from harness.corpus.trace import read_trace

__all__ = [
    "CATEGORIES",
    "Corpus",
    "Guards",
    "Label",
    "Review",
    "describe",
    "load_corpus",
    "read_trace",
]
