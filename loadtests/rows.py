"""Rows of Locust's table beyond its own: where the time of requests went, and what they cost."""

import re
from collections.abc import Mapping

from locust import stats
from locust.stats import RequestStats

PHASE = "PHASE"
INTENDED = "intended"
"""Not a stage, but all of them: Locust's own row of a request counts from when it was sent."""
_NAMES = {
    INTENDED: "from intended start",
    "queue": "queue wait",
    "limiter": "limiter wait",
    "slot": "slot wait",
    "backoff": "backoff",
    "pool": "pool wait",
    "connect": "connect",
    "first_token": "time to first token",
    "body": "body",
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


def log_times(table: RequestStats, times_s: Mapping[str, float]) -> None:
    """Log a request's stages as rows of their own.

    They go past Locust's request event: its total counts requests, and these are none.
    """
    for stage, took_s in times_s.items():
        if stage in _NAMES:
            table.get(_NAMES[stage], PHASE).log(took_s * 1000, 0)  # type: ignore[arg-type]
