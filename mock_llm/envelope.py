"""OpenRouter's errors: `{"error": {"code", "message", "metadata"}}` and their header fields."""

import math

import msgspec

from mock_llm import throttled
from mock_llm.faults.errors import ERRORS
from mock_llm.plan import Call, Plan
from mock_llm.wire import encode, provider_name

_IN_FLIGHT = {
    "reason": "in_flight_budget_exhausted",
    "limit_source": "openrouter_in_flight_budget",
}


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """An HTTP error: status, `error_type`, header fields beyond the usual ones, body."""

    status: int
    error: str
    fields: bytes
    body: bytes


class BadRequest(Exception):  # noqa: N818 - the name HTTP gives it
    """A request that OpenRouter answers with 400; the text says which field is wrong."""


class NoEndpoints(BadRequest):
    """A request that no provider may serve: 404; the text is the message."""


def refusal(
    status: int,
    error: str,
    message: str,
    more: dict[str, object] | None = None,
    fields: bytes = b"",
) -> Refusal:
    """An error before the model started: the HTTP status equals `error.code`.

    Args:
        status: of HTTP, and `error.code`.
        error: OpenRouter's canonical `error_type`.
        message: for people.
        more: metadata beside the type.
        fields: header fields of its own.
    """
    metadata = {"error_type": error, **(more or {})}
    content = {"error": {"code": status, "message": message, "metadata": metadata}}
    return Refusal(status, error, fields, encode(content))


def invalid(reason: str) -> Refusal:
    """400 for a body that cannot be understood."""
    return refusal(400, "invalid_request", f"Invalid request parameters: {reason}")


def unread(error: BadRequest) -> Refusal:
    """400, or 404, for a request that cannot be served as it stands."""
    if isinstance(error, NoEndpoints):
        return refusal(404, "not_found", str(error))
    return invalid(str(error))


NO_CREDENTIALS = refusal(401, "authentication", "No auth credentials found")
UNKNOWN_KEY = refusal(401, "authentication", "User not found.")
NOT_FOUND = refusal(404, "not_found", "Not Found")
STOPPING = refusal(503, *ERRORS[503])
TOO_SLOW = refusal(408, "timeout", "Operation timed out. Please try again later.")
INTERNAL = refusal(500, "server", "Internal Server Error")
TOO_LARGE = refusal(413, "payload_too_large", "Request payload too large")


_ELSEWHERE = ("/embeddings", "/responses", "/messages", "/completions")


def not_here(name: str) -> Refusal:
    """404, with a word for what OpenRouter has and this mock has not."""
    if name.startswith(_ELSEWHERE):
        said = "is not imitated: this mock has chat completions only, at /chat/completions"
        return refusal(404, "not_found", f"{name} {said}")
    return NOT_FOUND


def not_allowed(method: str) -> Refusal:
    """405 for an endpoint that is only there for another method."""
    fields = b"Allow: " + method.encode() + b"\r\n"
    return refusal(405, "invalid_request", "Method Not Allowed", fields=fields)


def planned(call: Call, plan: Plan, created: int = 0) -> Refusal:
    """The refusal that a plan asks for; `created` is the unix second of its admission."""
    more: dict[str, object] = {}
    headers: dict[str, str] = {}
    if plan.status == 429:
        more, headers = throttled.hints(call, plan, created)
    elif plan.retry_after_s is not None:
        headers = {"Retry-After": str(math.ceil(plan.retry_after_s))}
    if plan.status >= 500:
        more = {"provider_name": provider_name(call.model)}
    if "in_flight_budget" in plan.forms:
        more = dict(_IN_FLIGHT)
    elif "moderation" in plan.forms:
        more = _flagged(call, plan)
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    return refusal(plan.status, plan.error or "unmapped", plan.message, more, fields)


def _flagged(call: Call, plan: Plan) -> dict[str, object]:
    """What a moderation says; a long input is cut in its middle, to 100 characters."""
    text = call.text
    return {
        "reasons": list(plan.reasons),
        "flagged_input": text if len(text) <= 100 else f"{text[:48]}...{text[-49:]}",
        "provider_name": provider_name(call.model),
        "model_slug": call.model,
    }
