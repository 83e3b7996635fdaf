"""From one model of a request's list to the next.

OpenRouter goes on to the next model when one is down, rate-limited or refuses the input as flagged
(its documentation of model fallbacks). What has nothing to do with the model, such
as the account's own limits and credits or a page that Cloudflare sends, ends the request.
"""

import msgspec

from mock_llm.plan import Call, Plan

_STATUSES = frozenset({403, 408, 429})
_OF_THE_ACCOUNT = frozenset({"html", "free_per_day", "free_per_minute"})


def is_the_models(plan: Plan) -> bool:
    """Whether a plan is a refusal that another model need not give."""
    if plan.ending != "refused" or _OF_THE_ACCOUNT.intersection(plan.forms):
        return False
    return plan.status in _STATUSES or plan.status >= 500


def next_call(call: Call, hop: int) -> Call:
    """Return the same request at the model that is so many places further in its list."""
    return msgspec.structs.replace(
        call, model=call.fallbacks[hop - 1], fallbacks=(), new_connection=False
    )


def fault_key(call: Call, hop: int) -> str:
    """Return the key of the faults' uniforms: each model of one attempt has its own luck."""
    return f"{call.key}\0{hop}" if hop else call.key


def after(refused: Plan, plan: Plan, model: str) -> Plan:
    """Return the next model's plan as the client meets it: behind the time of the refusal."""
    waited_s = refused.first_token_s
    return msgspec.structs.replace(
        plan,
        model=model,
        setup_s=refused.setup_s,
        first_token_s=waited_s + plan.first_token_s,
        last_token_s=waited_s + plan.last_token_s,
        injected=(*refused.injected, *plan.injected),
    )


def unknown_model(slug: str, dialect: str) -> tuple[int, str, str]:
    """Return status, error type and message for a model that is not on offer."""
    if dialect == "openai":
        message = f"The model `{slug}` does not exist or you do not have access to it."
        return 404, "model_not_found", message
    return 400, "invalid_request", f"{slug} is not a valid model ID"
