"""What an account may still ask for, as OpenAI's rate-limit header fields have it.

A limit that the upstream does not set is shown as one of OpenAI's own, hardly touched.
"""

from typing import NamedTuple

from mock_llm.throttle import AccountWindows

_REQUESTS = 10_000  # a minute, as OpenAI gives a paying account for a small model
_TOKENS = 2_000_000


class Left(NamedTuple):
    """One limit: its size, what is left of it, seconds until all of it is there again."""

    limit: int
    remaining: int
    reset_s: float


class Quota(NamedTuple):
    """Both limits of an account."""

    requests: Left
    tokens: Left


def quota_of(windows: AccountWindows | None, account: str, now: float) -> Quota:
    """Return the account's limits at a time.

    Args:
        windows: those of requests per minute; None: unlimited.
        account: the API key.
        now: seconds, as `AccountWindows.admit` takes them.
    """
    requests = Left(_REQUESTS, _REQUESTS - 1, 60 / _REQUESTS)
    if windows is not None:
        requests = Left(windows.limit, *windows.left(account, now))
    return Quota(requests, Left(_TOKENS, _TOKENS, 0.0))


def duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: `12ms`, `1s`, `6m0s`, `1h0m0s`."""
    ms = round(max(seconds, 0.0) * 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest_ms = divmod(ms, 60_000)
    rest = f"{rest_ms / 1000:g}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}"
    return f"{minutes}m{rest}" if minutes else rest
