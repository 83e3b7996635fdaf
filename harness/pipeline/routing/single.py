"""The router that asks one model for everything."""

import msgspec

from harness.corpus.review import Review
from harness.pipeline.routing.base import Route


class SingleRouter(msgspec.Struct, frozen=True):
    """No choice at all: what "all gpt-4o" means."""

    model: str

    @property
    def version(self) -> str:
        """The model is the whole decision."""
        return f"single:{self.model}"

    def route(self, review: Review) -> Route:  # noqa: ARG002 - every router is asked by review
        """The one model."""
        return Route(self.model, None, "the only model")

    def explain(self, review: Review) -> str:
        """The one model, in a line."""
        return f"-> {self.route(review).model}: the only model"
