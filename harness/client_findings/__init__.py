"""What is wrong with a client, judged by what the mock saw of it on the wire.

Theory of operation. The mock's rows are grouped into requests by their key (`X-Request-Key`, else
a hash of the last user message). Each finding is one function of that traffic; the table below
names them all. Nothing here knows the client, so what only its caller can know (which answers it
took for good ones) must be told, or the sentence says that it was not.
"""

from collections.abc import Callable

from harness.client_findings import connections, outcomes, retries
from harness.client_findings.traffic import Finding, Traffic, clock_s

__all__ = ["FINDINGS", "Finding", "Traffic", "client_findings", "clock_s"]

FINDINGS: dict[str, Callable[[Traffic], Finding | None]] = {
    # The first of them is the gravest: it makes results wrong, and nobody hears of it.
    "took_truncated_for_success": outcomes.took_truncated_for_success,
    "no_timeout": outcomes.no_timeout,
    "retried_unretryable": retries.retried_unretryable,
    "ignored_retry_after": retries.ignored_retry_after,
    "retry_storm": retries.retry_storm,
    "hammered_after_429": retries.hammered_after_429,
    "gave_up_on_retryable": outcomes.gave_up_on_retryable,
    "paid_twice": outcomes.paid_twice,
    "no_jitter": retries.no_jitter,
    "no_pool": connections.no_pool,
    "leaked_connections": connections.leaked_connections,
}


def client_findings(traffic: Traffic) -> list[Finding]:
    """Everything that is wrong with the client, the gravest first."""
    return [found for judge in FINDINGS.values() if (found := judge(traffic)) is not None]
