"""One row of a file as a review."""

from collections.abc import Mapping

from harness.corpus.review import Label, Review
from harness.errors import InputError

_LABELS: Mapping[str, Label | None] = {
    "": None,
    "neutral": None,
    **dict.fromkeys(("1", "1.0", "positive", "pos", "true"), "positive"),
    **dict.fromkeys(("0", "0.0", "negative", "neg", "false"), "negative"),
}


def review_of(row: Mapping[str, object], picked: Mapping[str, str], where: str) -> Review | None:
    """The review in a row, its id empty when the row has none, or None when it has no text.

    Args:
        row: values by column: strings, or what JSON has.
        picked: field to column, see `columns.pick_columns`.
        where: what to begin an error with.

    Raises:
        InputError: a value that is not text, a label or rating that cannot be read.
    """
    fields = {field: _text(row.get(column), field, where) for field, column in picked.items()}
    if not fields["content"].strip():
        return None
    return Review(
        id=fields.get("id", ""),
        title=fields.get("title", ""),
        content=fields["content"],
        category=fields.get("category", "").lower(),
        label=parse_label(fields.get("label", ""), fields.get("rating", ""), where),
    )


def parse_label(label: str, rating: str, where: str) -> Label | None:
    """The label: as said, else by the rating (4 and more positive, 2 and less negative), or None.

    Raises:
        InputError: a label or rating that means nothing.
    """
    said = label.strip().lower()
    if said not in _LABELS:
        raise InputError(
            f"{where}: label {label!r} is none of 1, 0, positive, negative, pos, neg or empty: "
            'correct it, or if it counts stars say so under [workload.columns], as rating = "..."'
        )
    return _LABELS[said] if said else _by_rating(rating.strip(), where)


def _by_rating(rating: str, where: str) -> Label | None:
    try:
        stars = float(rating or "nan")
    except ValueError:
        raise InputError(f"{where}: rating {rating!r} is no number: correct or empty it") from None
    if stars >= 4:
        return "positive"
    return "negative" if stars <= 2 else None


def _text(value: object, field: str, where: str) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return str(value)
    raise InputError(f"{where}: {field} is a {type(value).__name__}, not text: correct the row")
