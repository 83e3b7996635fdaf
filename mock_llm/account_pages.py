"""`GET /key`, `/credits` and `/generation`: what an account may know of itself."""

from datetime import UTC, datetime

from mock_llm.accounts import Used
from mock_llm.ledger import Ledger, Row
from mock_llm.wire import encode, identity, provider_name

PLENTY_USD = 1_000_000.0
"""Credits of an account whose balance nobody counts."""

_BYOK = ("byok_usage", "byok_usage_daily", "byok_usage_weekly", "byok_usage_monthly")
_USAGE = ("usage", "usage_daily", "usage_weekly", "usage_monthly")
_ABSENT = (
    *("app_id", "cache_discount", "external_user", "http_referer", "moderation_latency"),
    *("native_tokens_completion_images", "num_fetches", "num_input_audio_prompt"),
    *("num_media_completion", "num_media_prompt", "num_search_results", "preset_id"),
    *("provider_responses", "router", "service_tier", "upstream_id", "user_agent"),
    *("web_search_engine", "workspace_id"),
)


def key(account: str, used: Used, credits_usd: float | None) -> bytes:
    """Body of `GET /key`.

    Args:
        account: as the ledger has it.
        used: its sums.
        credits_usd: what it may spend in all; None: no limit.
    """
    limit = {"limit": credits_usd, "limit_remaining": credits_usd, "limit_reset": None}
    if credits_usd is not None:
        limit["limit_remaining"] = credits_usd - used.billed_usd
    said = {
        "label": account,
        **limit,
        **dict.fromkeys(_USAGE, used.billed_usd),
        **dict.fromkeys(_BYOK, 0.0),
        "include_byok_in_limit": False,
        "is_free_tier": False,
        "is_management_key": False,
        "is_provisioning_key": False,
        "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
        "free_model_daily_requests": {"limit": 1000, "remaining": 1000, "used": 0},
        "allowed_data_regions": ["global"],
        "budgets": [],
        "effective_budget": None,
        "creator_user_id": None,
        "organization_id": None,
        "workspace_id": None,
        "expires_at": None,
    }
    return encode({"data": said})


def credits_of(used: Used, credits_usd: float | None) -> bytes:
    """Body of `GET /credits`; see `key`."""
    total = PLENTY_USD if credits_usd is None else credits_usd
    return encode({"data": {"total_credits": total, "total_usage": used.billed_usd}})


def generation(wanted: str, account: str, ledger: Ledger, epoch_s: float) -> bytes | None:
    """Body of `GET /generation?id=`; None when there is no such generation of the account.

    Nothing is kept for it: an id is a hash of what a row says, so the rows that are still in memory
    are asked, and of these only those of the second that the id names.

    Args:
        wanted: the id.
        account: whose it must be, as the ledger has it.
        ledger: has the rows.
        epoch_s: unix time at loop time 0.
    """
    second = wanted.removeprefix("gen-").partition("-")[0]
    if not second.isdecimal():
        return None
    from_s = int(second) - epoch_s
    for row in reversed(ledger.rows):
        at_s = row.admitted_s
        if at_s is None or not from_s - 1 < at_s < from_s + 1 or row.account != account:
            continue
        created = int(epoch_s + at_s)
        if row.status == 200 and identity(row.key, row.draw, created).id == wanted:
            return encode({"data": _stats(row, wanted, epoch_s + at_s)})
    return None


def _stats(row: Row, name: str, created_s: float) -> dict[str, object]:
    created = datetime.fromtimestamp(created_s, UTC).isoformat(timespec="milliseconds")
    finish = row.finish_reason or None
    return {
        "id": name,
        "api_type": "completions",
        "model": row.model,
        "provider_name": provider_name(row.model),
        "created_at": created.replace("+00:00", "Z"),
        "streamed": row.stream,
        "cancelled": row.ended in {"client_left", "shutdown"},
        "finish_reason": finish,
        "native_finish_reason": finish,
        "latency": _ms(row.admitted_s, row.last_token_s),
        "generation_time": _ms(row.planned_first_token_s, row.planned_last_token_s),
        "tokens_prompt": row.prompt_tokens,
        "tokens_completion": row.completion_tokens,
        "native_tokens_prompt": row.prompt_tokens,
        "native_tokens_completion": row.completion_tokens,
        "native_tokens_cached": row.cached_tokens,
        "native_tokens_reasoning": 0,
        "total_cost": row.billed_usd,
        "usage": row.billed_usd,
        "upstream_inference_cost": row.billed_usd,
        "is_byok": False,
        "origin": "",
        "data_region": "global",
        **dict.fromkeys(_ABSENT),
    }


def _ms(since_s: float | None, until_s: float | None) -> float | None:
    return None if since_s is None or until_s is None else round((until_s - since_s) * 1000, 3)
