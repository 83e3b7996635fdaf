"""What users do: one request of each kind, sent, and what its user saw of it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from gevent import GreenletExit, sleep
from locust import FastHttpUser

from harness.corpus import Review
from harness.engines.asking import (
    AT_LEAST_S,
    batch_body,
    headers_of,
    hint_s,
    review_body,
    stream_body,
    stream_headers,
)
from loadtests.events import Stream
from loadtests.rows import log_asked, times_of
from loadtests.session import Session
from loadtests.sight import Asked, cause_of, outcome_of


def ask_review(
    visitor: FastHttpUser,
    session: Session,
    key: str,
    user: str,
    review: Review,
    due_s: float,
    kind: str = "review",
) -> float:
    """Have one review labelled; return the seconds after which to come back at the earliest.

    Args:
        visitor: whose connections are used.
        session: of this process.
        key: of the request.
        user: who asks.
        review: what is asked about.
        due_s: when it was to begin, on the monotonic clock.
        kind: `abuse` of one who expects to be refused.
    """
    headers, data = _headers(session, key, user), review_body(review)
    with _seen(visitor, session, key=key, user=user, kind=kind, t_intended=due_s) as seen:
        with _post(visitor, "/v1/reviews", data, headers, kind) as response:
            seen["t_end"] = time.monotonic()  # the answer is read; what follows is our bookkeeping
            if kind == "abuse" and response.status_code == 429:
                response.success()
        status, told = response.status_code, response.headers or {}
        seen |= {"status": status, "outcome": outcome_of(status)}
        seen["attempts"] = int(told.get("x-attempts") or 0)
        seen["cost_usd"] = float(told.get("x-cost-usd") or 0.0)
        seen["times_s"] = times_of(told.get("server-timing"))
        seen["cause"] = cause_of(status, response.content)
    return 0.0 if status == 200 else max(AT_LEAST_S, hint_s(response.content or b""))


def ask_batch(
    visitor: FastHttpUser,
    session: Session,
    key: str,
    user: str,
    reviews: Sequence[Review],
    due_s: float,
) -> float:
    """Hand a batch in and look after it until it is done; see `ask_review`.

    What is noted has the batch's own id as its key, since its items' requests are called by it.
    """
    work = session.flight.work
    headers, poll_s = _headers(session, key, user), 1.0 if work.mix is None else work.mix.poll_s
    with _seen(visitor, session, key=key, user=user, kind="batch", t_intended=due_s) as seen:
        with _post(visitor, "/v1/batches", batch_body(reviews), headers, "batch") as response:
            status, body = response.status_code, response.content or b""
        if status != 202:
            seen |= {"status": status, "outcome": outcome_of(status)}
            return max(AT_LEAST_S, hint_s(body))
        batch: dict[str, Any] = msgspec.json.decode(body)
        seen["key"] = batch["id"]
        while batch["status"] == "running":
            sleep(poll_s)
            response = visitor.client.get(batch["url"], headers=headers, name="batch progress")
            if response.status_code != 200:
                return max(AT_LEAST_S, hint_s(response.content or b""))
            batch |= msgspec.json.decode(response.content)
        whole = batch["outcomes"].get("ok", 0) == batch["total"]
        seen |= {"status": 202, "outcome": "ok" if whole else "failed"}
        seen["attempts"] = sum(one["attempts"] for one in batch["results"])
        seen["cost_usd"] = sum(one["cost_usd"] for one in batch["results"])
    return 0.0


def ask_stream(
    visitor: FastHttpUser, session: Session, key: str, user: str, review: Review, due_s: float
) -> float:
    """Ask the provider itself, and read its answer as it comes; see `ask_review`."""
    flight = session.flight
    url, data = f"{flight.mock_url}/chat/completions", stream_body(flight.model, review)
    headers = stream_headers(key, user)
    with (
        _seen(visitor, session, key=key, user=user, kind="stream", t_intended=due_s) as seen,
        _post(visitor, url, data, headers, "stream", stream=True) as response,
    ):
        stream = Stream(seen["t_sent"])
        if response.status_code == 200:
            read = response._response.readline  # noqa: SLF001 - else events come when all are there
            while event := read(b"\n\n"):
                stream.add(event, time.monotonic())
        seen["t_end"] = time.monotonic()
        response.request_meta["response_time"] = (seen["t_end"] - seen["t_sent"]) * 1000
        if response.status_code == 200 and not stream.done:
            response.failure(stream.error or "the stream was cut off")
        seen |= {"status": response.status_code, "attempts": int(response.status_code != 0)}
        seen["outcome"] = "ok" if stream.done else "failed"
        seen["cost_usd"], seen["times_s"] = stream.cost_usd, stream.times_s
    return 0.0 if stream.done else AT_LEAST_S


def _headers(session: Session, key: str, user: str) -> dict[str, str]:
    return headers_of(session.flight.work, key + session.flight.tag, user)


def _post(
    visitor: FastHttpUser, url: str, data: Any, headers: dict[str, str], name: str, **more: Any
) -> Any:
    return visitor.client.post(
        url, data=data, headers=headers, name=name, catch_response=True, **more
    )


@contextmanager
def _seen(visitor: FastHttpUser, session: Session, **known: Any) -> Iterator[dict[str, Any]]:
    """Note what a user sees, also when it is taken away in the midst of it: then it saw nothing."""
    sent = time.monotonic()
    seen: dict[str, Any] = {"t_sent": sent, "status": 0, "outcome": "failed", **known}
    try:
        yield seen
    except GreenletExit as gone:
        if not seen["status"] and seen["key"] == known["key"]:  # Locust has not counted it either
            visitor.environment.events.request.fire(
                request_type="POST",
                name=known["kind"],
                response_time=(time.monotonic() - sent) * 1000,
                response_length=0,
                exception=gone,
            )
        raise
    finally:
        seen.setdefault("t_end", time.monotonic())
        asked = Asked(**seen)
        session.sight.add(asked)
        log_asked(visitor.environment.stats, asked)
