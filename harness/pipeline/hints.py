"""What a refusal says of its own passing: how long it lasts, and whether it passes at all.

OpenRouter's hints are header fields, or copies of them in the error's metadata; sources disagree
where, so both are read, the real header first.
"""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

_IN_FLIGHT = "in_flight_budget_exhausted"


def metadata(body: bytes | bytearray) -> object:
    """`error.metadata` of an error's body, None when there is none."""
    try:
        said = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return _of(_of(said, "error"), "metadata")


def retry_after_s(headers: Mapping[str, str], metadata: object = None) -> float | None:
    """Seconds until a retry makes sense; nonsense counts as no hint.

    In this order: the Retry-After header (seconds, or a date: RFC 9110, section 10.2.3), its copy
    in the metadata, `retry_after_seconds` there, and X-RateLimit-Reset (epoch ms) in either. A time
    of day is told by the provider's clock: without a Date header it says nothing.

    Args:
        headers: of the response.
        metadata: of the error.
    """
    copied = _lower(_of(metadata, "headers"))
    served = _epoch_s(headers.get("Date"))
    for found in (headers.get("Retry-After"), copied.get("retry-after")):
        wait_s = _seconds(found)
        wait_s = _until(_epoch_s(found), served) if wait_s is None else wait_s
        if wait_s is not None:
            return wait_s
    wait_s = _seconds(_of(metadata, "retry_after_seconds"))
    if wait_s is not None:
        return wait_s
    name = "X-RateLimit-Reset"
    for found in (headers.get(name), copied.get(name.lower())):
        reset_ms = _seconds(found)
        if reset_ms is not None and served is not None:
            return max(0.0, reset_ms / 1000 - served)
    return None


def passing(status: int | None, metadata: object) -> bool | None:
    """Whether a refusal passes where its status says the opposite; None: as the status says.

    A 402 because of what is in flight ends with it (OpenRouter's documentation of the in-flight
    budget).
    """
    return True if status == 402 and _of(metadata, "reason") == _IN_FLIGHT else None


def _of(said: object, name: str) -> object:
    return said.get(name) if isinstance(said, dict) else None


def _lower(headers: object) -> dict[str, object]:
    if not isinstance(headers, dict):
        return {}
    return {str(name).lower(): value for name, value in headers.items()}


def _seconds(found: object) -> float | None:
    """A number, or digits, that is a time to wait."""
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return None
    try:
        seconds = float(found)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _epoch_s(found: object) -> float | None:
    """Unix seconds of a date in any of HTTP's three forms, of which one names no zone."""
    try:
        when = parsedate_to_datetime(str(found))
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _until(then: float | None, now: float | None) -> float | None:
    return None if then is None or now is None else max(0.0, then - now)
