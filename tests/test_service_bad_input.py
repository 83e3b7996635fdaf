"""Bad input to every endpoint of the service: a 4xx, with the field named, and nothing else."""

import json
from typing import Any

import pytest
from jobs import settings
from services import Caller, Reply, serving

from harness.pipeline.service.bodies import LONGEST_TEXT
from harness.pipeline.service.web import MAX_BODY_BYTES

OK = b'{"text":"a"}'
REVIEWS, BATCHES = "/v1/reviews", "/v1/batches"
HUGE = json.dumps({"text": "x" * 10_000_000}).encode()
MANY = b'{"reviews":[' + b",".join([b'{"text":"x"}'] * 1_000_000) + b"]}"
CROWD = b'{"reviews":[' + b",".join([b'{"text":"x"}'] * 100_001) + b"]}"

# method, path, body, headers, status, type, field
TABLE: list[tuple[str, str, bytes, dict[str, str], int, str, str | None]] = [
    ("POST", REVIEWS, b"", {}, 400, "invalid_request", None),
    ("POST", REVIEWS, b"{", {}, 400, "invalid_request", None),
    ("POST", REVIEWS, b"\xff\xfe", {}, 400, "invalid_request", None),
    ("POST", REVIEWS, b"[" * 100_000, {}, 400, "invalid_request", None),
    ("POST", REVIEWS, b"[]", {}, 400, "invalid_request", None),
    ("POST", REVIEWS, b"{}", {}, 400, "invalid_request", "text"),
    ("POST", REVIEWS, b'{"text":""}', {}, 400, "invalid_request", "text"),
    ("POST", REVIEWS, b'{"text":" \\n "}', {}, 400, "invalid_request", "text"),
    ("POST", REVIEWS, b'{"text":7}', {}, 400, "invalid_request", "text"),
    ("POST", REVIEWS, b'{"text":null}', {}, 400, "invalid_request", "text"),
    ("POST", REVIEWS, b'{"text":"a","title":[]}', {}, 400, "invalid_request", "title"),
    ("POST", REVIEWS, b'{"text":"a","stars":5}', {}, 400, "invalid_request", "stars"),
    (
        "POST",
        REVIEWS,
        b'{"text":"a"}',
        {"X-Deadline": "soon"},
        400,
        "invalid_request",
        "X-Deadline",
    ),
    ("POST", REVIEWS, OK, {"X-Deadline": "nan"}, 400, "invalid_request", "X-Deadline"),
    ("POST", REVIEWS, OK, {"X-Deadline": "1e9"}, 400, "invalid_request", "X-Deadline"),
    ("POST", REVIEWS, OK, {"X-Deadline": "0"}, 408, "deadline_expired", "X-Deadline"),
    ("POST", REVIEWS, OK, {"X-Deadline": "-3"}, 408, "deadline_expired", "X-Deadline"),
    ("POST", REVIEWS, OK, {"X-User": "u" * 201}, 400, "invalid_request", "X-User"),
    (
        "POST",
        REVIEWS,
        b'{"text":"a"}',
        {"X-Session": "s" * 201},
        400,
        "invalid_request",
        "X-Session",
    ),
    ("POST", REVIEWS, HUGE, {}, 413, "payload_too_large", "body"),
    (
        "POST",
        REVIEWS,
        json.dumps({"text": "x" * (LONGEST_TEXT + 1)}).encode(),
        {},
        413,
        "payload_too_large",
        "text",
    ),
    ("GET", REVIEWS, b"", {}, 405, "method_not_allowed", None),
    ("POST", BATCHES, b"", {}, 400, "invalid_request", None),
    ("POST", BATCHES, b"{}", {}, 400, "invalid_request", "reviews"),
    ("POST", BATCHES, b'{"reviews":[]}', {}, 400, "invalid_request", "reviews"),
    ("POST", BATCHES, b'{"reviews":{}}', {}, 400, "invalid_request", "reviews"),
    ("POST", BATCHES, b'{"reviews":["a"]}', {}, 400, "invalid_request", "reviews[0]"),
    ("POST", BATCHES, b'{"reviews":[{}]}', {}, 400, "invalid_request", "reviews[0].text"),
    (
        "POST",
        BATCHES,
        b'{"reviews":[{"text":"a"},{"text":"  "}]}',
        {},
        400,
        "invalid_request",
        "reviews[1].text",
    ),
    (
        "POST",
        BATCHES,
        b'{"reviews":[{"text":"a"},{"text":"b","id":7}]}',
        {},
        400,
        "invalid_request",
        "reviews[1].id",
    ),
    ("POST", BATCHES, MANY, {}, 413, "payload_too_large", "body"),
    ("POST", BATCHES, CROWD, {}, 413, "payload_too_large", "reviews"),
    ("GET", f"{BATCHES}/nope", b"", {}, 404, "not_found", "id"),
    ("GET", f"{BATCHES}/nope/events", b"", {}, 404, "not_found", "id"),
    ("DELETE", f"{BATCHES}/nope", b"", {}, 404, "not_found", "id"),
    ("PUT", f"{BATCHES}/nope", b"", {}, 405, "method_not_allowed", None),
    ("PUT", "/v1/pool", b'{"workers":0}', {}, 400, "invalid_request", "workers"),
    ("PUT", "/v1/pool", b'{"workers":"many"}', {}, 400, "invalid_request", "workers"),
    ("PUT", "/v1/pool", b"{}", {}, 400, "invalid_request", "workers"),
    ("PUT", "/v1/pool", b'{"workers":9}', {"Origin": "http://evil"}, 403, "forbidden", None),
    ("GET", "/v1/nothing", b"", {}, 404, "not_found", None),
    ("POST", "/healthz", b"", {}, 405, "method_not_allowed", None),
]


@pytest.fixture(scope="module")
def replies() -> list[Reply]:
    """What the service says to each, one after the other on one service."""

    async def drive(caller: Caller) -> list[Reply]:
        found = []
        for method, path, body, headers, *_ in TABLE:
            fields = {name.replace("-", "_"): value for name, value in headers.items()}
            found.append(await caller.call(method, path, None, body, **fields))
        alive = await caller.review("A lamp.")
        assert (alive.status, caller.host.batches.running) == (200, 0)
        return found

    served = serving(drive, settings())
    assert len(served.seen) == 1  # nothing of it has reached the provider
    result: list[Reply] = served.result
    return result


@pytest.mark.parametrize("number", range(len(TABLE)))
def test_bad_input_is_told(replies: list[Reply], number: int) -> None:
    """Each mistake has its status and its type, and the field is named."""
    method, path, _, _, status, kind, field = TABLE[number]
    reply = replies[number]
    assert (method, path, reply.status) == (method, path, status)
    error: Any = reply.error
    assert (error["type"], error.get("field")) == (kind, field)
    assert "\n" not in error["message"]
    assert 0 < len(error["message"]) < 400


def test_limits_are_what_they_say() -> None:
    """Ten megabytes and a million items are past them."""
    assert len(HUGE) > MAX_BODY_BYTES
    assert len(MANY) > MAX_BODY_BYTES > len(CROWD)


@pytest.mark.parametrize("page", ["-1", "x", "1.5", "9999999999"])
def test_a_page_is_a_whole_number(page: str) -> None:
    """The query of a batch's results is checked as well."""

    async def drive(caller: Caller) -> Reply:
        begun = await caller.call("POST", BATCHES, {"reviews": [{"text": "A lamp."}]})
        return await caller.call("GET", f"{begun.body['url']}?from={page}")

    reply = serving(drive).result
    assert (reply.status, reply.error["field"]) == (400, "from")


def test_a_batch_is_its_owners() -> None:
    """Somebody else's batch is as good as none."""

    async def drive(caller: Caller) -> Reply:
        body = {"reviews": [{"text": "A lamp."}]}
        begun = await caller.call("POST", BATCHES, body, None, X_User="ann")
        return await caller.call("GET", begun.body["url"], None, None, X_User="bob")

    assert serving(drive).result.status == 404
