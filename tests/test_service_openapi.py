"""The service's OpenAPI document: valid, complete, and true of what the service says."""

import asyncio
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate as assert_valid
from services import Caller, Reply, serving

from harness.pipeline.service.openapi import document

DOCUMENT = document()


def schema_of(method: str, path: str, status: int) -> dict[str, Any]:
    """The schema of one answer, with what it refers to."""
    answer = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
    schema: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return {**schema, "components": DOCUMENT["components"]}


def test_the_document_is_valid() -> None:
    """By the OpenAPI initiative's own schema, as the validator has it."""
    assert_valid(DOCUMENT)


def test_the_document_is_served() -> None:
    """What is served is what is checked here."""

    async def drive(caller: Caller) -> Reply:
        return await caller.call("GET", "/openapi.json")

    assert serving(drive).result.body == DOCUMENT


def test_every_route_is_in_it() -> None:
    """No endpoint is missing, and none is made up."""

    async def drive(caller: Caller) -> set[tuple[str, str]]:
        app = caller.host.app
        return {
            (route.method.lower(), route.resource.canonical)
            for route in app.router.routes()
            if route.resource is not None and route.method != "HEAD"
        }

    told = {(method, path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert told == serving(drive).result


CALLS: list[tuple[str, str, str, Any, int]] = [
    ("POST", "/v1/reviews", "/v1/reviews", {"text": "A good lamp."}, 200),
    ("POST", "/v1/reviews", "/v1/reviews", {"text": ""}, 400),
    ("POST", "/v1/batches", "/v1/batches", {"reviews": [{"text": "A lamp."}]}, 202),
    ("GET", "/v1/batches/b000001", "/v1/batches/{id}", None, 200),
    ("GET", "/v1/batches/b9", "/v1/batches/{id}", None, 404),
    ("DELETE", "/v1/batches/b000001", "/v1/batches/{id}", None, 200),
    ("GET", "/v1/usage", "/v1/usage", None, 200),
    ("GET", "/v1/pool", "/v1/pool", None, 200),
    ("PUT", "/v1/pool", "/v1/pool", {"workers": 3}, 200),
    ("PUT", "/v1/pool", "/v1/pool", {"workers": 0}, 400),
    ("GET", "/healthz", "/healthz", None, 200),
    ("GET", "/readyz", "/readyz", None, 200),
]


@pytest.fixture(scope="module")
def replies() -> list[Reply]:
    """What the service says to each."""

    async def drive(caller: Caller) -> list[Reply]:
        found = []
        for method, path, _, body, _ in CALLS:
            found.append(await caller.call(method, path, body))
            await asyncio.sleep(2.0)
        return found

    result: list[Reply] = serving(drive).result
    return result


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_answers_are_as_described(replies: list[Reply], number: int) -> None:
    """Every answer has the status and the shape that the document says."""
    method, _, path, _, status = CALLS[number]
    reply = replies[number]
    assert reply.status == status
    checker = Draft202012Validator(schema_of(method, path, status))
    assert [error.message for error in checker.iter_errors(reply.body)] == []
