"""The plan of a call that is refused before it has any weather."""

from mock_llm.plan import Call, Form, Plan


def refusal(
    call: Call,
    status: int,
    error: str,
    message: str,
    *,
    retry_after_s: float | None = None,
    forms: tuple[Form, ...] = (),
    limit: int | None = None,
) -> Plan:
    """Return the plan of a refusal at once: nothing is said, nothing billed, no draw is used."""
    return Plan(
        status=status,
        error=error,
        message=message,
        retry_after_s=retry_after_s,
        limit=limit,
        ending="refused",
        forms=forms,
        prompt_tokens=call.prompt_tokens,
    )
