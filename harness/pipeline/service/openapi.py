"""The service's OpenAPI document, made from the types that decode its bodies."""

from typing import Any

import msgspec

from harness.pipeline.service.bodies import BatchIn, PoolIn, ReviewIn
from harness.pipeline.service.lines import Doubt, Result

Json = dict[str, Any]
_REF = "#/components/schemas/{name}"

_ERRORS = {
    "400": "a field is wrong; the error names it",
    "402": "the budget is spent",
    "404": "there is no such thing",
    "408": "no time was left when it came",
    "409": "the key belongs to another user, or to something else",
    "413": "too large",
    "429": "the user's limit; Retry-After says when to come back",
    "502": "the provider gave no answer",
    "503": "refused at once: it would come too late; Retry-After says when it would not",
    "504": "no answer before the deadline",
}


def document() -> Json:
    """The document; OpenAPI 3.1."""
    _, schemas = msgspec.json.schema_components(
        [ReviewIn, BatchIn, PoolIn, Result, Doubt], ref_template=_REF
    )
    for schema in schemas.values():
        schema.pop("$defs", None)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Reviews, labelled",
            "version": "1",
            "description": "A pipeline that labels reviews by way of a language model.",
        },
        "paths": _paths(),
        "components": {"schemas": {**schemas, **_ANSWERS}},
    }


def _paths() -> Json:
    one = "/v1/batches/{id}"
    which = [_parameter("id", "path", "of the batch"), *_who()]
    pages = [_parameter("from", "query", "first result", "integer")]
    pages += [_parameter("limit", "query", "results at most", "integer")]
    events = {"200": {"description": "events", "content": {"text/event-stream": {}}}}
    return {
        "/v1/reviews": {
            "post": _operation(
                "Label one review",
                "200",
                "Labelled",
                body="ReviewIn",
                parameters=[*_who(), *_urgency()],
                errors=("400", "402", "408", "409", "413", "429", "502", "503", "504"),
            )
        },
        "/v1/batches": {
            "post": _operation(
                "Hand in a batch",
                "202",
                "Progress",
                body="BatchIn",
                parameters=[*_who(), _key()],
                errors=("400", "409", "413", "503"),
            )
        },
        one: {
            "get": _operation(
                "How far it is",
                "200",
                "Results",
                parameters=[*which, *pages],
                errors=("400", "404"),
            ),
            "delete": _operation(
                "Withdraw it", "200", "Progress", parameters=which, errors=("404",)
            ),
        },
        f"{one}/events": {
            "get": {
                **_operation("Watch it", "200", "Progress", parameters=which, errors=("404",)),
                "responses": {**events, "404": _answer(_ERRORS["404"], "Error")},
            }
        },
        **_side_paths(),
        "/metrics": {"get": {"responses": {"200": _text("figures for Prometheus")}}},
        "/openapi.json": {"get": {"responses": {"200": _answer("this document")}}},
    }


def _side_paths() -> Json:
    """What is asked by those who look after it."""
    return {
        "/v1/usage": {
            "get": _operation(
                "What a user and a session have asked and spent",
                "200",
                "Usage",
                parameters=_who(),
                errors=("400",),
            )
        },
        "/v1/pool": {
            "get": _operation("Size of the pool", "200", "Pool"),
            "put": _operation("Scale it", "200", "Pool", body="PoolIn", errors=("400", "403")),
        },
        "/healthz": {"get": _operation("Whether it lives", "200", "Status")},
        "/readyz": {"get": _operation("Whether it serves", "200", "Status", errors=("503",))},
    }


def _operation(
    summary: str,
    status: str,
    answer: str,
    *,
    body: str | None = None,
    parameters: list[Json] | None = None,
    errors: tuple[str, ...] = (),
) -> Json:
    told = {"403": "not from this machine", **_ERRORS}
    found: Json = {
        "summary": summary,
        "responses": {
            status: _answer(summary, answer),
            **{error: _answer(told[error], "Error") for error in errors},
        },
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": _content(body)}
    if parameters:
        found["parameters"] = parameters
    return found


def _answer(description: str, name: str | None = None) -> Json:
    return {"description": description, **({"content": _content(name)} if name else {})}


def _text(description: str) -> Json:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _content(name: str) -> Json:
    return {"application/json": {"schema": {"$ref": _REF.format(name=name)}}}


def _parameter(name: str, where: str, description: str, kind: str = "string") -> Json:
    return {
        "name": name,
        "in": where,
        "description": description,
        "required": where == "path",
        "schema": {"type": kind},
    }


def _who() -> list[Json]:
    return [
        _parameter("X-User", "header", "who asks: limits and costs are theirs"),
        _parameter("X-Session", "header", "conversation that it belongs to"),
    ]


def _urgency() -> list[Json]:
    return [
        _key(),
        _parameter("X-Deadline", "header", "seconds that the caller will wait", "number"),
    ]


def _key() -> Json:
    return _parameter("X-Request-Key", "header", "what has the same key is never paid twice")


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


_STRING, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_PROGRESS: Json = {
    "id": _STRING,
    "status": {"enum": ["running", "done", "cancelled", "stopped"]},
    "total": _WHOLE,
    "done": _WHOLE,
    "outcomes": {"type": "object", "additionalProperties": _WHOLE},
    "cost_usd": _NUMBER,
    "cache_hits": _WHOLE,
    "hit_rate": _NUMBER,
    "repeats_in_input": _NUMBER,
    "possibly_paid_twice_usd": _NUMBER,
    "possibly_paid_twice": {"type": "array", "items": {"$ref": _REF.format(name="Doubt")}},
}
_RESULT = {"type": "array", "items": {"$ref": _REF.format(name="Result")}}
_ACCOUNT = _object(
    requests=_WHOLE,
    cost_usd=_NUMBER,
    quota_usd={"type": ["number", "null"]},
    idle_s={"type": ["number", "null"]},
)
_ANSWERS: Json = {
    "Labelled": _object(
        key=_STRING,
        label={"enum": ["positive", "negative", None]},
        text=_STRING,
        model=_STRING,
        attempts=_WHOLE,
        cost_usd=_NUMBER,
        cache=_STRING,
    ),
    "Progress": _object(**_PROGRESS),
    "Results": _object(**_PROGRESS, results=_RESULT),
    "Usage": _object(user=_STRING, session=_STRING, of_user=_ACCOUNT, of_session=_ACCOUNT),
    "Pool": _object(workers=_WHOLE, busy=_WHOLE),
    "Status": _object(status=_STRING),
    "Error": _object(error=_object(type=_STRING, message=_STRING)),
}
