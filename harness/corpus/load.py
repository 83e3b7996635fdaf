"""A corpus by its name: the grammar, the trap, or a file."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

import msgspec

from harness.corpus.files import found_beside, read_reviews
from harness.corpus.guards import Guards, guards
from harness.corpus.review import Review
from harness.corpus.synthetic import CATEGORIES, synthetic
from harness.corpus.templates import templates8
from harness.errors import InputError

DEFAULT_COUNT = 1000
"""Reviews of a generated corpus when no number is asked for; a file gives all it has."""

_NO_COLUMNS: Mapping[str, str] = {}


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """Reviews ready to be worked on.

    Attributes:
        name: the specification it was loaded by, or the file's name.
        reviews: in order, ids unique, at least one.
        guards: what its texts look like, as they are sent (title and content).
        notes: what the user should know, one sentence each.
    """

    name: str
    reviews: tuple[Review, ...]
    guards: Guards
    notes: tuple[str, ...] = ()


def load_corpus(
    spec: str,
    *,
    count: int | None,
    seed: int,
    columns: Mapping[str, str] = _NO_COLUMNS,
    base: Path | None = None,
) -> Corpus:
    """The corpus that a specification names.

    Args:
        spec: ``synthetic``, ``synthetic:CATEGORY``, ``templates8``, or a path.
        count: how many reviews; None is 1,000, or all of a file. A file may have fewer: a note
            says so.
        seed: of the synthetic texts; nothing else depends on it.
        columns: field to column, for files.
        base: where a relative path is looked for when it is not found from the working directory.

    Raises:
        InputError: an unknown category, a file that cannot be read, a count below 1.
    """
    if count is not None and count < 1:
        raise InputError(f"corpus {spec}: {count} reviews asked for: ask for 1 or more")
    kind, _, category = spec.partition(":")
    if kind == "synthetic":
        return _synthetic(spec, _category(category), seed, count or DEFAULT_COUNT)
    if spec == "templates8":
        reviews = templates8(count or DEFAULT_COUNT)
        return Corpus(name=spec, reviews=reviews, guards=guards([one.text for one in reviews]))
    hint = ", or name synthetic, synthetic:CATEGORY or templates8"
    return _file(found_beside("corpus", spec, base, hint), count, columns)


def _category(said: str) -> str:
    category = said.lower()
    if not category or category in CATEGORIES:
        return category
    near = get_close_matches(category, CATEGORIES, 1, 0.0)[0]
    raise InputError(
        f"corpus synthetic:{said}: no such category, did you mean synthetic:{near}? "
        f"(there are {', '.join(CATEGORIES)})"
    )


def _synthetic(name: str, category: str, seed: int, count: int) -> Corpus:
    reviews = synthetic(category, seed=seed, count=count)
    return Corpus(name=name, reviews=reviews, guards=_synthetic_guards(category, seed, count))


@lru_cache(maxsize=256)  # the texts are cached in `synthetic`; compressing them is not free either
def _synthetic_guards(category: str, seed: int, count: int) -> Guards:
    return guards([review.text for review in synthetic(category, seed=seed, count=count)])


def _file(path: Path, count: int | None, columns: Mapping[str, str]) -> Corpus:
    found = read_reviews(path, count=count, columns=columns)
    texts = [review.text for review in found.reviews]
    return Corpus(name=path.name, reviews=found.reviews, guards=guards(texts), notes=found.notes)
