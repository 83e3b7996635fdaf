"""The forms of a 429, and where each puts its hints: header fields, metadata, or both."""

import math
from typing import NamedTuple

from mock_llm.plan import Call, Plan
from mock_llm.wire import provider_name

_FREE: dict[str, tuple[int, int]] = {"free_per_day": (50, 86_400), "free_per_minute": (20, 60)}
"""Requests, and seconds in which they may come."""


class Hints(NamedTuple):
    """What a refusal says beside its type and message."""

    metadata: dict[str, object]
    headers: dict[str, str]


def hints(call: Call, plan: Plan, created: int) -> Hints:
    """Return the metadata and the real header fields of a 429.

    A known wait is told twice unless the plan says where, as OpenRouter does since 2026 for a 429
    from upstream: as a header in whole seconds, rounded up, and in the metadata, where the raw
    seconds stand too.

    Args:
        call: the request.
        plan: its refusal; without a form of its own it has that of 2026.
        created: unix second of its admission, for limits that end with the day or minute.
    """
    headers = _headers(plan, created)
    metadata = _metadata(call, plan)
    if headers and "hints_in_headers" not in plan.forms:
        if plan.retry_after_s is not None and not _FREE.keys() & plan.forms:
            metadata["retry_after_seconds"] = math.ceil(plan.retry_after_s)
            metadata["retry_after_seconds_raw"] = plan.retry_after_s
        metadata["headers"] = headers
    return Hints(metadata, {} if "hints_in_body" in plan.forms else headers)


def _metadata(call: Call, plan: Plan) -> dict[str, object]:
    if not call.model or "bare" in plan.forms or _FREE.keys() & plan.forms:
        return {}
    said = f"{call.model} is temporarily rate-limited upstream. Please retry shortly."
    found: dict[str, object] = {"raw": said, "provider_name": provider_name(call.model)}
    return found if "upstream_2025" in plan.forms else {**found, "is_byok": False}


def _headers(plan: Plan, created: int) -> dict[str, str]:
    for form in _FREE.keys() & plan.forms:
        return _window(plan, created, *_FREE[form])
    if plan.retry_after_s is None:
        return {}
    return {"Retry-After": str(math.ceil(plan.retry_after_s))}


def _window(plan: Plan, created: int, limit: int, length_s: int) -> dict[str, str]:
    """The limit, and the epoch ms at which it ends: with the UTC minute or day, if not known."""
    end_s = (created // length_s + 1) * length_s
    if plan.retry_after_s is not None:
        end_s = created + 1 + math.ceil(plan.retry_after_s)  # admitted within that second
    return {
        "X-RateLimit-Limit": str(plan.limit or limit),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(end_s * 1000),
    }
