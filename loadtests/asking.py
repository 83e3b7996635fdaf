"""One request of a user's: sent, and what its user saw of it."""

import time
from typing import Any

import msgspec
from locust import FastHttpUser

from harness.corpus import Review
from harness.engines.callers import AT_LEAST_S
from loadtests.rows import INTENDED, log_times, times_of
from loadtests.session import Session
from loadtests.sight import Asked, cause_of, outcome_of


def ask_review(
    visitor: FastHttpUser, session: Session, key: str, user: str, review: Review, due_s: float
) -> float:
    """Have one review labelled; return the seconds after which to come back at the earliest.

    Args:
        visitor: whose connections are used.
        session: of this process.
        key: of the request.
        user: who asks.
        review: what is asked about.
        due_s: when it was to begin, on the monotonic clock.
    """
    sent = time.monotonic()
    headers = {"X-Request-Key": key, "X-User": user, "Content-Type": "application/json"}
    limit_s = session.flight.work.deadline_s
    if limit_s is not None:
        headers["X-Deadline"] = repr(limit_s)
    data: Any = msgspec.json.encode(
        {"text": review.content, "title": review.title, "category": review.category}
    )
    response = visitor.client.post("/v1/reviews", data=data, headers=headers, name="review")
    end = time.monotonic()
    told: Any = response.headers or {}
    times_s = times_of(told.get("server-timing"))
    log_times(visitor.environment.stats, {**times_s, INTENDED: end - due_s})
    session.sight.add(
        Asked(
            key=key,
            user=user,
            kind="review",
            t_intended=due_s,
            t_sent=sent,
            t_end=end,
            status=response.status_code,
            outcome=outcome_of(response.status_code),
            attempts=int(told.get("x-attempts") or 0),
            cost_usd=float(told.get("x-cost-usd") or 0.0),
            times_s=times_s,
            cause=cause_of(response.status_code, response.content),
        )
    )
    return 0.0 if response.status_code == 200 else AT_LEAST_S
