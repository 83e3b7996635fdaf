"""When to try again, and after how long: pure, the uniform is handed in."""

from harness.scenario.pipeline import Backoff

# 408, 409, 429 and 5xx may pass; so may a broken connection or a garbled answer (status None or
# 200). A 4xx of any other kind is the caller's own fault and will be the same next time.
_PASSING = frozenset({408, 409, 429})


def may_pass(status: int | None, *, passing: bool | None = None) -> bool:
    """Whether the same request may succeed later.

    Args:
        status: of HTTP, None when none came.
        passing: what is known better than by the status, see `client.CallError`.
    """
    if passing is not None:
        return passing
    return status is None or status == 200 or status in _PASSING or status >= 500


def backoff_s(
    settings: Backoff,
    failures: int,
    retry_after_s: float | None,
    u: float,
    previous_s: float = 0.0,
) -> float:
    """Seconds to wait after so many failures in a row.

    Exponential with a cap; full jitter is u * d, equal jitter d/2 + u * d/2; decorrelated jitter
    looks at the wait before instead, min(cap, uniform(base, 3 * previous)) (Brooker, "Exponential
    backoff and jitter", AWS Architecture Blog, 2015). Retry-After comes on top, so that callers who
    got the same hint do not come back at the same moment.

    Args:
        settings: the knobs.
        failures: attempts that failed so far, at least 1.
        retry_after_s: the provider's hint, if it gave one.
        u: uniform in (0, 1).
        previous_s: the wait before this one; before the first it is 0, and counts as the base.
    """
    delay = min(settings.cap_s, settings.base_s * settings.factor ** min(failures - 1, 64))
    if settings.jitter == "full":
        delay *= u
    elif settings.jitter == "equal":
        delay *= 0.5 + 0.5 * u
    elif settings.jitter == "decorrelated":
        base = settings.base_s
        delay = min(settings.cap_s, base + u * (3 * max(previous_s, base) - base))
    if retry_after_s is not None and settings.honour_retry_after:
        return retry_after_s + delay
    return delay
