"""A review: the unit of work of every pipeline here."""

from functools import cached_property
from typing import Literal

import msgspec

Label = Literal["positive", "negative"]


class Review(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One product review as a corpus gives it.

    Attributes:
        id: unique within its corpus.
        title: may be empty.
        content: the text itself, never empty.
        category: lower case, for example ``electronics``; empty when unknown.
        label: the true sentiment, or None when the corpus does not know it.
        headers: what a client may send along so that a run is paired with other runs request by
            request (``X-Request-Key``); filled in by the harness, empty in a bare corpus.
    """

    id: str
    title: str = ""
    content: str
    category: str = ""
    label: Label | None = None
    headers: dict[str, str] = {}

    @cached_property
    def text(self) -> str:
        """Title and content as one prompt part: one object, for more than one looks it up."""
        return f"{self.title}\n\n{self.content}" if self.title else self.content
