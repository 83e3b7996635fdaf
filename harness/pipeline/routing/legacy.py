"""The router of before: anything long, and all electronics, goes to the strong model."""

import msgspec

from harness.corpus.review import Review
from harness.pipeline.routing.base import Route


class LegacyRouter(msgspec.Struct, frozen=True):
    """Two models, one length limit, one category that overrides it.

    Attributes:
        long_chars: a review is long when title and content *together* have more characters than
            this; the line break that joins them in a prompt is not counted.
        cheap: model for short reviews.
        strong: model for long ones, and for electronics of any length.
    """

    long_chars: int = 500
    cheap: str = "openai/gpt-3.5-turbo"
    strong: str = "openai/gpt-4o"

    @property
    def version(self) -> str:
        """All there is to know of this router."""
        return f"legacy:{self.long_chars}:{self.cheap}:{self.strong}"

    def route(self, review: Review) -> Route:
        """The decision, without a score."""
        if review.category.lower() == "electronics":
            return Route(self.strong, None, "electronics")
        chars = len(review.title) + len(review.content)
        if chars > self.long_chars:
            return Route(self.strong, None, f"{chars} characters, over {self.long_chars}")
        return Route(self.cheap, None, f"{chars} characters, at most {self.long_chars}")

    def explain(self, review: Review) -> str:
        """The rule, what it saw, and the model."""
        route = self.route(review)
        return (
            f"rule: electronics, or over {self.long_chars} characters -> {self.strong}; "
            f"else {self.cheap}\nseen: {route.reason}\n-> {route.model}"
        )
