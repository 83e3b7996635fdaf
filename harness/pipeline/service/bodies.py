"""Bodies and header fields of the service: what may come in, and how it is refused."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from harness.corpus.review import Review
from harness.pipeline.service.lines import OWN_KEY

MOST_ITEMS = 100_000
LONGEST_TEXT = 100_000
LONGEST_NAME = 200
LONGEST_DEADLINE_S = 86_400.0

Text = Annotated[str, Meta(min_length=1, max_length=LONGEST_TEXT)]
Name = Annotated[str, Meta(max_length=LONGEST_NAME)]

T = TypeVar("T")


class ReviewIn(msgspec.Struct, forbid_unknown_fields=True):
    """A review to be labelled."""

    text: Text
    title: Annotated[str, Meta(max_length=LONGEST_TEXT)] = ""
    category: Name = ""
    id: Name = ""


class BatchIn(msgspec.Struct, forbid_unknown_fields=True):
    """Reviews to be labelled while nobody waits."""

    reviews: Annotated[list[ReviewIn], Meta(min_length=1, max_length=MOST_ITEMS)]


class PoolIn(msgspec.Struct, forbid_unknown_fields=True):
    """The size that the pool shall have."""

    workers: Annotated[int, Meta(ge=1, le=10_000)]


class Complaint(Exception):  # noqa: N818 - told to the caller
    """What is wrong with a request, and with which field of it."""

    def __init__(
        self, kind: str, message: str, *, field: str | None = None, status: int = 400
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.field = field
        self.status = status


def body_of(data: bytes, kind: type[T]) -> T:
    """Decode a body.

    Raises:
        Complaint: it is not JSON, or not of this shape; names the field.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Complaint("invalid_request", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Complaint("invalid_request", "the body is nested too deeply") from None


def review_of(given: ReviewIn, number: int, where: str = "text") -> Review:
    """The pipeline's own review.

    Raises:
        Complaint: its text is nothing but white space.
    """
    if not given.text.strip():
        raise Complaint("invalid_request", "the text is empty", field=where)
    return Review(
        id=given.id or str(number),
        title=given.title,
        content=given.text,
        category=given.category.strip().casefold(),
    )


def name_of(headers: Mapping[str, str], field: str, default: str = "") -> str:
    """A name in a header field.

    Raises:
        Complaint: it is too long, or holds what cannot be printed.
    """
    name = headers.get(field, default).strip() or default
    if len(name) > LONGEST_NAME or not name.isprintable():
        message = f"at most {LONGEST_NAME} printable characters are wanted"
        raise Complaint("invalid_request", message, field=field)
    return name


def key_of(headers: Mapping[str, str]) -> str:
    """The key in `X-Request-Key`; "" where there is none.

    Raises:
        Complaint: it cannot be one, or looks like those that the service makes.
    """
    key = name_of(headers, "X-Request-Key")
    if OWN_KEY.fullmatch(key):
        message = "keys of this form are the service's own: put something before it"
        raise Complaint("invalid_request", message, field="X-Request-Key")
    return key


def deadline_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the caller will wait, from `X-Deadline`; None when it does not say.

    Raises:
        Complaint: it is no number of seconds, or none are left.
    """
    given = headers.get("X-Deadline")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds) or seconds > LONGEST_DEADLINE_S:
        message = f"seconds from now are wanted, at most {LONGEST_DEADLINE_S:.0f}"
        raise Complaint("invalid_request", message, field="X-Deadline")
    if seconds <= 0:
        raise Complaint("deadline_expired", "no time is left", field="X-Deadline", status=408)
    return seconds


_AT = re.compile(r" - at `\$\.?(.*?)`$")
_MISSING = re.compile(r"Object missing required field `(.*?)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")


def _misfit(text: str) -> Complaint:
    """Msgspec's message as ours: it names the field at its end, or in its middle."""
    place = _AT.search(text)
    path = place[1] if place else ""
    what = text[: place.start()] if place else text
    inner = _MISSING.search(what) or _UNKNOWN.search(what)
    if inner:
        path = f"{path}.{inner[1]}" if path else inner[1]
    too_long = "length <=" in what
    return Complaint(
        "payload_too_large" if too_long else "invalid_request",
        what,
        field=path or None,
        status=413 if too_long else 400,
    )
