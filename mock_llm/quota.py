"""What an account may still ask for, as OpenAI's rate-limit header fields have it.

A limit that the upstream does not set is shown as one of OpenAI's own, hardly touched.
"""

from mock_llm.config import Throttle
from mock_llm.plan import Left, Quota
from mock_llm.throttle import Limits

_REQUESTS = 10_000  # a minute, as OpenAI gives a paying account for a small model
_TOKENS = 2_000_000


def quota_of(limits: Limits, account: str, now: float) -> Quota:
    """Return the account's limits at a time.

    Args:
        limits: of the throttle.
        account: the API key.
        now: seconds; must not fall between calls.
    """
    caller = limits.caller(account)
    requests = Left(_REQUESTS, _REQUESTS - 1, 60 / _REQUESTS)
    if limits.requests is not None:
        requests = Left(limits.requests.limit, *limits.requests.left(caller, now))
    tokens = Left(_TOKENS, _TOKENS, 0.0)
    if limits.tokens is not None:
        tokens = Left(limits.tokens.limit, *limits.tokens.left(caller, now))
    return Quota(requests, tokens)


UNLIMITED = quota_of(Limits(Throttle()), "", 0.0)


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
