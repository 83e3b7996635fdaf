"""What those who call the service say, and what they make of its answers; no I/O.

The live load test's users say the same.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from harness.corpus.review import Review
from harness.pipeline.costs import Price, tiers
from harness.scenario.workload import Workload

GRACE_S = 5.0
"""By which a caller is more patient than its deadline says: no time limit of its own shall pose as
one of the service's."""

AT_LEAST_S = 1e-3
"""Between two requests of a user who was refused: a refusal takes no time, and no think time would
then be a loop that never ends."""

OWN_KEY = "sk-or-v1-a-user-of-the-provider"
"""Of those who ask the provider themselves: they are another customer of it than the service."""


def headers_of(work: Workload, key: str, user: str) -> dict[str, str]:
    """Header fields of one request."""
    headers = {"X-Request-Key": key, "X-User": user, "Content-Type": "application/json"}
    if work.deadline_s is not None:
        headers["X-Deadline"] = repr(work.deadline_s)
    return headers


def _one(review: Review) -> dict[str, str]:
    return {"text": review.content, "title": review.title, "category": review.category}


def review_body(review: Review) -> bytes:
    """Body of a request for one review."""
    return msgspec.json.encode(_one(review))


def batch_body(reviews: Sequence[Review]) -> bytes:
    """Body that hands in a batch."""
    return msgspec.json.encode({"reviews": [_one(review) for review in reviews]})


def item_keys(batch: str, total: int) -> list[str]:
    """Request keys of a batch's items, as the service calls them."""
    return [f"{batch}.{number:06d}" for number in range(total)]


def stream_body(model: str, review: Review) -> bytes:
    """Body of a request to the provider itself."""
    message = {"role": "user", "content": review.text}
    return msgspec.json.encode({"model": model, "messages": [message], "stream": True})


def stream_headers(key: str, user: str) -> dict[str, str]:
    """Header fields of a request to the provider itself."""
    own = {"Authorization": f"Bearer {OWN_KEY}", "X-Request-Key": key, "X-User": user}
    return {**own, "Content-Type": "application/json"}


def cheapest(prices: dict[str, Price]) -> str:
    """The model that is asked by those who ask the provider itself."""
    return min(prices, key=tiers(prices).__getitem__)


def hint_s(data: bytes) -> float:
    """Seconds after which to come back, as a refusal tells."""
    try:
        told: Any = msgspec.json.decode(data)["error"].get("retry_after_s")
    except (msgspec.MsgspecError, AttributeError, TypeError, KeyError):
        return 0.0
    return told or 0.0
