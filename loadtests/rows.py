"""Rows of Locust's table beyond its own: where the time of requests went, and what they cost."""

import re

from locust import stats
from locust.stats import RequestStats

from loadtests.sight import Asked

PHASE = "PHASE"
_NAMES = {
    "queue": "queue wait",
    "limiter": "limiter wait",
    "slot": "slot wait",
    "backoff": "backoff",
    "pool": "pool wait",
    "connect": "connect",
    "first_token": "time to first token",
    "body": "body",
    "ttft": "stream: time to first token",
    "itl": "stream: time between tokens",
}
_ENTRY = re.compile(r"\s*([\w-]+)\s*;\s*dur=([\d.]+)\s*")


def exact() -> None:
    """Keep response times to the tenth of a millisecond, where Locust would keep two digits."""
    stats.bucket_response_time = _exact  # type: ignore[assignment]


def _exact(response_time: float) -> float:
    return round(response_time, 1)


def times_of(server_timing: str | None) -> dict[str, float]:
    """Seconds by stage, from the `Server-Timing` field of an answer; what has no name is left out.

    https://www.w3.org/TR/server-timing/: `name;dur=milliseconds`, separated by commas.
    """
    found = (_ENTRY.fullmatch(one) for one in (server_timing or "").split(","))
    return {one[1]: float(one[2]) / 1000 for one in found if one}


def log_asked(table: RequestStats, asked: Asked) -> None:
    """Log what a user saw beyond its response time, as rows of their own.

    Locust's own row of a request counts from when it was sent. These go past its request event: its
    total counts requests, and these are none. In the rows of attempts and dollars what Locust calls
    milliseconds is a number, and millionths of a dollar.
    """
    values = {
        _NAMES[name]: took_s * 1000 for name, took_s in asked.times_s.items() if name in _NAMES
    }
    if asked.status:
        values[f"{asked.kind}: from intended start"] = (asked.t_end - asked.t_intended) * 1000
        values[f"{asked.kind}: attempts (a number)"] = float(asked.attempts)
        values[f"{asked.kind}: cost (millionths of a dollar)"] = asked.cost_usd * 1e6
    for name, value in values.items():
        table.get(name, PHASE).log(value, 0)  # type: ignore[arg-type]
