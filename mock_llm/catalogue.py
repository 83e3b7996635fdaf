"""The models on offer, as `GET /models` and its like have them."""

from collections.abc import Mapping
from decimal import Decimal

from mock_llm.config import Model
from mock_llm.wire import encode, provider_name

_PARAMETERS = (
    *("max_tokens", "max_completion_tokens", "stop", "response_format", "structured_outputs"),
    *("tools", "tool_choice"),
)
_ARCHITECTURE = {
    "modality": "text->text",
    "input_modalities": ["text"],
    "output_modalities": ["text"],
    "tokenizer": "Other",
    "instruct_type": None,
}


def models(offered: Mapping[str, Model], created: int) -> bytes:
    """Body of `GET /models`, in the order of the scenario."""
    data = [_listed(slug, model, created) for slug, model in offered.items()]
    return encode({"data": data, "total_count": len(data), "links": {"next": None}})


def _listed(slug: str, model: Model, created: int) -> dict[str, object]:
    name = slug.rpartition("/")[2]
    return {
        "id": slug,
        "canonical_slug": slug,
        "name": f"{provider_name(slug)}: {name}",
        "created": created,
        "description": "",
        "context_length": model.context_length,
        "architecture": _ARCHITECTURE,
        "pricing": _pricing(model),
        "top_provider": {
            "is_moderated": False,
            "context_length": model.context_length,
            "max_completion_tokens": None,
        },
        "per_request_limits": None,
        "supported_parameters": list(_PARAMETERS),
        "default_parameters": None,
        "supported_voices": None,
        "links": {"details": f"/api/v1/models/{slug}/endpoints"},
    }


def _per_token(usd_per_m: float) -> str:
    """Dollars per token as OpenRouter writes them: a plain decimal, never an exponent."""
    return f"{Decimal(repr(usd_per_m)) / 1_000_000:f}"


def _pricing(model: Model) -> dict[str, str]:
    return {
        "prompt": _per_token(model.prompt_usd_per_m),
        "completion": _per_token(model.completion_usd_per_m),
    }


def endpoints(slug: str, model: Model, created: int) -> bytes:
    """Body of `GET /models/{author}/{slug}/endpoints`: who serves a model, which is one."""
    name, provider = slug.rpartition("/")[2], provider_name(slug)
    endpoint = {
        "name": f"{provider} | {slug}",
        "model_id": slug,
        "model_name": f"{provider}: {name}",
        "context_length": model.context_length,
        "pricing": _pricing(model),
        "provider_name": provider,
        "tag": slug.partition("/")[0],
        "quantization": None,
        "max_completion_tokens": None,
        "max_prompt_tokens": None,
        "supported_parameters": list(_PARAMETERS),
        "supports_implicit_caching": False,
        "supports_diarization": False,
        "supports_tool_choice": {
            "auto": True,
            "none": True,
            "required": True,
            "function": True,
        },
        "native_tools": {},
        "service_tier": None,
        "status": 0,
        "uptime_last_5m": None,
        "uptime_last_30m": None,
        "uptime_last_1d": None,
        "latency_last_30m": None,
        "throughput_last_30m": None,
    }
    return encode(
        {
            "data": {
                "id": slug,
                "name": f"{provider}: {name}",
                "created": created,
                "description": "",
                "architecture": _ARCHITECTURE,
                "endpoints": [endpoint],
            }
        }
    )
