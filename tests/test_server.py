"""The mock over real sockets: what goes in, and the raw bytes that come out."""

import asyncio
import gzip
import json

import pytest
from loopback import QUESTION, head, mock, post, run

from mock_llm.config import Profile, PromptCache, Throttle, Upstream
from mock_llm.connection import MAX_BODY_BYTES


def test_answers_on_one_connection() -> None:
    """A connection serves request after request; only the first finds it new."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            first, second = [await client.ask(post()) for _ in range(2)]
            rows = await running.rows(2)
        assert (first[0], second[0]) == (200, 200)
        assert "Connection" not in first[1]
        assert [row.new_connection for row in rows] == [True, False]
        assert [(row.status, row.ended, row.draw) for row in rows] == [
            (200, "complete", 0),
            (200, "complete", 1),
        ]

    run(test())


def test_connection_is_closed_when_the_client_asks() -> None:
    """`Connection: close` is honoured, so that the next request is on a new connection."""

    async def test() -> None:
        async with mock() as running:
            for _ in range(2):
                client = await running.client()
                _, top, _ = await client.ask(post(Connection="close"))
                assert "Connection: close\r\n" in top
                assert await client.reader.read() == b""
            assert [row.new_connection for row in await running.rows(2)] == [True, True]

    run(test())


def test_slow_answer_begins_with_keep_alives() -> None:
    """The raw bytes of a slow answer: 200 at once, whitespace in chunks, then the JSON."""

    async def test() -> None:
        upstream = Upstream(profile=Profile(ttft=0.05), keep_alive_s=0.02)
        async with mock(upstream) as running:
            status, top, body = await (await running.client()).ask(post())
        assert (status, "Content-Length" in top) == (200, False)
        assert body[:32] == b"b\r\n\n         \n\r\n" * 2
        assert json.loads(body[32:].split(b"\r\n")[1])["object"] == "chat.completion"

    run(test())


def test_stream_of_events() -> None:
    """A streamed answer is a 200 of events that ends with [DONE]."""

    async def test() -> None:
        async with mock() as running:
            _, top, body = await (await running.client()).ask(post({**QUESTION, "stream": True}))
            (row,) = await running.rows(1)
        assert "Content-Type: text/event-stream\r\n" in top
        assert body.count(b'"role":"assistant"') == body.count(b"data: {")
        assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert (row.stream, row.ended, row.completion_tokens) == (True, "complete", 8)

    run(test())


@pytest.mark.parametrize("prefix", ["/api/v1", "/v1", ""])
def test_paths(prefix: str) -> None:
    """Both endpoints are there with OpenRouter's prefix, OpenAI's, and none."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            raw = json.dumps(QUESTION).encode()
            chat = await client.ask(head(path=f"{prefix}/chat/completions", size=len(raw)) + raw)
            models = await client.ask(head("GET", f"{prefix}/models?order=x"))
        assert (chat[0], models[0]) == (200, 200)
        assert json.loads(models[2])["total_count"] == 5

    run(test())


def test_refusals_of_the_edge() -> None:
    """What never reaches the provider is refused in OpenRouter's envelope."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            assert [await client.error(post(Authorization=""))] == [
                (401, "authentication", "No auth credentials found")
            ]
            assert (await client.error(post(Authorization="Basic eDp5")))[0] == 401
            assert (await client.error(head(path="/api/v1/nothing")))[:2] == (404, "not_found")
            assert (await client.error(head("GET")))[0] == 405
            assert (await client.error(head("POST", "/models")))[0] == 405
            ended = [(row.status, row.ended) for row in await running.rows(2)]
        assert ended == [(401, "refused"), (401, "refused")]

    run(test())


def test_head_is_followed_by_nothing() -> None:
    """A HEAD request cannot have a body, so the connection ends with it."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            client.writer.write(head("HEAD", "/api/v1/models"))
            assert b"Connection: close\r\n" in await client.reader.read()

    run(test())


def test_only_known_keys_when_the_scenario_has_some() -> None:
    """With `upstream.keys` another key is not found, and every request names its account."""

    async def test() -> None:
        async with mock(Upstream(profile=Profile(ttft=0.0), keys=("key-1",))) as running:
            client = await running.client()
            assert (await client.ask(post()))[0] == 200
            assert await client.error(post(Authorization="Bearer key-2")) == (
                401,
                "authentication",
                "User not found.",
            )
            assert [row.account for row in await running.rows(2)] == ["key-1", "key-2"]

    run(test())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"hello", "the body is not JSON: JSON is malformed: invalid character (byte 0)"),
        (b"", "the body is not JSON: Input data was truncated"),
        (b'"\xff"', "Expected `object`, got `str`"),
        ({"model": "m"}, "Object missing required field `messages`"),
        ({"messages": []}, "Expected `array` of length >= 1 - at `$.messages`"),
        (
            {"messages": [{"role": "user", "content": 7}]},
            "Expected `str | array | null`, got `int` - at `$.messages[0].content`",
        ),
        (QUESTION | {"max_tokens": 0}, "Expected `int` >= 1 - at `$.max_tokens`"),
    ],
)
def test_bad_body_is_refused_by_the_name_of_its_field(body: object, message: str) -> None:
    """A body that cannot be understood is a 400 that says which field is wrong."""

    async def test() -> None:
        async with mock() as running:
            error = await (await running.client()).error(post(body))
        assert error == (400, "invalid_request", f"Invalid request parameters: {message}")

    run(test())


def test_unknown_model_is_refused_by_the_provider() -> None:
    """A model that is not on offer is a 400 which the provider planned."""

    async def test() -> None:
        async with mock() as running:
            error = await (await running.client()).error(post(QUESTION | {"model": "no/such"}))
        assert error == (400, "invalid_request", "no/such is not a valid model ID")

    run(test())


def test_too_large_a_body_is_refused() -> None:
    """More than ten megabytes are a 413, after which the connection still works."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            error = await client.error(post(b" " * (MAX_BODY_BYTES + 1)))
            assert error[:2] == (413, "payload_too_large")
            assert (await client.ask(post()))[0] == 200

    run(test())


def test_body_that_comes_late_is_waited_for() -> None:
    """A body in another packet than its head is read all the same."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            request = post()
            client.writer.write(request[:-20])
            web = running.server._web
            while not web or not web.requests_count:
                await asyncio.sleep(0)
                web = running.server._web
            assert (await client.ask(request[-20:]))[0] == 200

    run(test())


def test_compressed_body_is_read_to_its_end() -> None:
    """A body that grows a thousandfold when unpacked is read although reading pauses for it."""

    async def test() -> None:
        told = {"messages": [{"role": "user", "content": "x" * 9_000_000}], "model": "no/such"}
        async with mock() as running:
            packed = gzip.compress(json.dumps(told).encode())
            error = await (await running.client()).error(post(packed, Content_Encoding="gzip"))
            (row,) = await running.rows(1)
        assert (error[0], row.model) == (400, "no/such")

    run(test())


def test_broken_body_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """A body that cannot be decompressed is a 400, and the connection ends without a fuss."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            status, top, _ = await client.ask(post(b"hello", Content_Encoding="gzip"))
            assert (status, "Connection: close" in top) == (400, True)
            assert await client.reader.read() == b""

    run(test())
    assert caplog.records == []


def test_throttled_request_is_told_when_to_come_back() -> None:
    """The second request within a minute of one is a 429 with a real Retry-After header."""

    async def test() -> None:
        upstream = Upstream(profile=Profile(ttft=0.0), throttle=Throttle(requests_per_min=1))
        async with mock(upstream) as running:
            client = await running.client()
            await client.ask(post())
            status, top, body = await client.ask(post())
            rows = await running.rows(2)
        wait = int(top.partition("Retry-After: ")[2].split()[0])
        error = json.loads(body)["error"]
        assert (status, 1 <= wait <= 60) == (429, True)
        assert error["metadata"]["retry_after_seconds"] == wait
        assert [(row.ended, row.billed_usd > 0) for row in rows] == [
            ("complete", True),
            ("refused", False),
        ]

    run(test())


def test_row_tells_what_was_asked_and_sent() -> None:
    """A row has the client's headers, the plan, and moments in their order."""

    async def test() -> None:
        async with mock(Upstream(profile=Profile(ttft=0.01))) as running:
            client = await running.client()
            await client.ask(post(X_Request_Key="review-7", X_Attempt="2"))
            (row,) = await running.rows(1)
            delays = running.server.ledger.delays()
        assert (row.key, row.attempt, row.account) == ("review-7", "2", "key-1")
        assert (row.model, row.planned_first_token_s) == ("openai/gpt-4o-mini", 0.01)
        moments = [row.arrived_s, row.admitted_s, row.first_token_s, row.last_token_s, row.ended_s]
        assert [moment for moment in moments if moment is None] == []
        assert moments == sorted(moments, key=float)  # type: ignore[arg-type]
        assert delays.count == 1
        assert delays.p50_s >= 0

    run(test())


def test_long_keys_are_not_kept() -> None:
    """An API key as long as a real one is shortened in the ledger; odd bytes do no harm."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            await client.ask(post(Authorization="Bearer sk-or-v1-" + "a" * 60 + "wxyz"))
            await client.ask(post(X_Request_Key="caf?").replace(b"caf?", b"caf\xe9"))
            first, second = await running.rows(2)
        assert first.account == "sk-or-v1-...5ee1ba"
        assert second.key == "caf?"

    run(test())


def test_prompt_cache_sees_a_repeated_conversation() -> None:
    """The second request of a conversation finds the first one's messages in the cache."""

    async def test() -> None:
        profile = Profile(ttft=0.0, prompt_cache=PromptCache(min_tokens=1))
        async with mock(Upstream(profile=profile)) as running:
            client = await running.client()
            await client.ask(post())
            told = [*QUESTION["messages"], {"role": "user", "content": "And this one?"}]
            _, _, body = await client.ask(post({"messages": told}))
        details = json.loads(body)["usage"]["prompt_tokens_details"]
        assert details["cached_tokens"] == 10

    run(test())
