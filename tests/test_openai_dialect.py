"""OpenAI's own dialect: what it has that OpenRouter has not, and what it lacks."""

import json
import re
from typing import Any

import openai
import pytest
from answers import CALL
from hypothesis import given
from hypothesis import strategies as st
from loopback import QUESTION, Client, head, mock, post, run
from playing import played

from mock_llm.config import Profile, Throttle, Upstream
from mock_llm.faults import EmptyChoices, EmptyContent, Fault, FinishError, ServerError
from mock_llm.plan import Call, Left, Plan, ToolCall
from mock_llm.quota import duration, quota_of
from mock_llm.throttle import Limits
from mock_llm.timeline import timeline
from mock_llm.wire import Style

ASKED: dict[str, Any] = {"model": "gpt-4o-mini", "messages": QUESTION["messages"]}
EXTRAS = ("cf-ray", "x-generation-id", "cloudflare", "provider", "cost", "native", "is_byok")
LIMITS = [
    f"x-ratelimit-{part}-{name}"
    for name in ("requests", "tokens")
    for part in ("limit", "remaining", "reset")
]


def upstream(ttft: float = 0.0, **more: Any) -> Upstream:
    return Upstream(profile=Profile(ttft=ttft), dialect="openai", **more)


def fields(top: str) -> dict[str, str]:
    """Header fields by their names in lower case."""
    lines = [line.partition(": ") for line in top.split("\r\n")[1:] if line]
    return {name.lower(): value for name, _, value in lines}


async def asked(client: Client, **body: Any) -> tuple[int, dict[str, str], bytes]:
    """Status, header fields and body of an answer."""
    status, top, raw = await client.ask(post({**ASKED, **body}))
    return status, fields(top), raw


def test_answer_has_nothing_of_openrouter() -> None:
    """Body and header fields are OpenAI's: its id, its limits, its time, and no more."""

    async def test() -> None:
        async with mock(upstream()) as running:
            client = await running.client()
            for stream in (False, True):
                status, found, raw = await asked(client, stream=stream)
                text = f"{found}{raw.decode()}".lower()
                assert [extra for extra in EXTRAS if extra in text] == []
                assert status == 200
                assert set(LIMITS) <= found.keys()
                assert re.fullmatch(r"req_[0-9a-f]{32}", found["x-request-id"])
                assert found["openai-processing-ms"] == "0"
                assert re.search(r'"id":"chatcmpl-[A-Za-z0-9]{20}"', raw.decode())
                assert '"model":"gpt-4o-mini"' in raw.decode()

    run(test())


def test_slow_answer_has_no_keep_alives() -> None:
    """OpenAI is silent until it answers."""

    async def test() -> None:
        async with mock(upstream(0.05, keep_alive_s=0.01)) as running:
            client = await running.client()
            _, found, raw = await asked(client)
            _, _, events = await asked(client, stream=True)
        assert raw[:1] == b"{"
        assert found["openai-processing-ms"] == "50"
        assert b"PROCESSING" not in events

    run(test())


def test_models_have_their_names_and_openrouters() -> None:
    """A model is known with and without its author, and one by any other name is not found."""

    async def test() -> None:
        async with mock(upstream()) as running:
            client = await running.client()
            named = ("gpt-4o", "openai/gpt-4o", "gpt-5")
            statuses = [(await asked(client, model=name))[0] for name in named]
            _, _, raw = await asked(client, model="gpt-5")
            rows = await running.rows(4)
        assert statuses == [200, 200, 404]
        assert [row.model for row in rows[:2]] == ["openai/gpt-4o"] * 2
        assert json.loads(raw)["error"] == {
            "message": "The model `gpt-5` does not exist or you do not have access to it.",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        }

    run(test())


def test_limits_count_down() -> None:
    """What is left falls with every request, and the refusal says that nothing is."""

    async def test() -> None:
        async with mock(upstream(throttle=Throttle(requests_per_min=2))) as running:
            client = await running.client()
            seen = [await asked(client) for _ in range(3)]
        assert [found["x-ratelimit-remaining-requests"] for _, found, _ in seen] == ["1", "0", "0"]
        assert [found["x-ratelimit-limit-requests"] for _, found, _ in seen] == ["2"] * 3
        status, found, raw = seen[2]
        error = json.loads(raw)["error"]
        assert (status, error["type"], error["code"]) == (429, "requests", "rate_limit_exceeded")
        assert re.fullmatch(r"59\.\d+s|1m0s", found["x-ratelimit-reset-requests"])
        assert "retry-after" in found

    run(test())


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (post(Authorization=""), 401, "invalid_api_key"),
        (post({**ASKED, "temperature": 9}), 400, None),
        (head("GET", "/v1/models/none"), 404, None),
        (head("GET", "/v1/key"), 404, None),
        (head("GET", "/v1/chat/completions"), 405, None),
    ],
)
def test_every_error_is_openais(request_: bytes, status: int, code: str | None) -> None:
    """What the edge refuses has OpenAI's envelope and header fields too."""

    async def test() -> None:
        async with mock(upstream()) as running:
            got, top, raw = await (await running.client()).ask(request_)
        error = json.loads(raw)["error"]
        assert list(error) == ["message", "type", "param", "code"]
        assert (got, error["code"], error["type"]) == (status, code, "invalid_request_error")
        assert {*LIMITS, "x-request-id", "openai-processing-ms"} <= fields(top).keys()

    run(test())


def test_official_client_runs_through_it() -> None:
    """The `openai` client has its completion, its stream with usage, its models and its error."""

    async def test() -> None:
        async with (
            mock(upstream()) as running,
            openai.AsyncOpenAI(
                api_key="sk-test", base_url=f"http://127.0.0.1:{running.port}/v1", max_retries=0
            ) as client,
        ):
            whole = await client.chat.completions.create(**ASKED)
            raw = await client.chat.completions.with_raw_response.create(**ASKED)
            plain = [
                one async for one in await client.chat.completions.create(**ASKED, stream=True)
            ]
            options: Any = {"include_usage": True}
            stream = await client.chat.completions.create(
                **ASKED, stream=True, stream_options=options
            )
            parts = [one async for one in stream]
            listed = [model.id async for model in client.models.list()]
            model = await client.models.retrieve("gpt-4o")
            running.server.change(upstream(faults={"f": ServerError(rate=1, after_s=0.0)}))
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(**ASKED)
        assert whole.usage is not None
        assert whole.service_tier == "default"
        assert (raw.request_id or "").startswith("req_")
        assert [one.usage for one in plain] == [None] * len(plain)
        assert plain[0].choices[0].delta.role == "assistant"
        assert [one.choices[0].delta.role for one in plain[1:]] == [None] * (len(plain) - 1)
        assert [one.choices[0].finish_reason for one in plain[-2:]] == [None, "stop"]
        assert (parts[-1].choices, parts[-1].usage) == ([], whole.usage)
        text = "".join(one.choices[0].delta.content or "" for one in parts[:-1])
        assert text == whole.choices[0].message.content
        assert (listed[0], len(listed)) == ("gpt-4o-mini", 5)
        assert (model.id, model.owned_by) == ("gpt-4o", "openai")
        assert caught.value.type == "server_error"

    run(test())


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        FinishError(rate=1),
        FinishError(rate=1, variant="usage_chunk"),
        EmptyChoices(rate=1),
        EmptyContent(rate=1, finish_reason="null"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Fault) else "",
)
def test_faults_strike_here_too(fault: Fault, usage: bool) -> None:
    """Whatever chunks a stream has, a fault finds the last of them."""

    async def test() -> None:
        async with mock(upstream(faults={"f": fault})) as running:
            options = {"include_usage": usage}
            client = await running.client()
            _, _, raw = await asked(client, stream=True, stream_options=options)
            (row,) = await running.rows(1)
        assert row.injected == ("f",)
        events = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: {")]
        assert all(json.loads(event) for event in events)

    run(test())


def test_calls_in_a_stream_are_openais() -> None:
    """Only the head of a call has its type."""
    plan = Plan(tool_calls=(ToolCall("f", "{}"),), finish_reason="tool_calls")
    style = Style(dialect="openai")
    call = Call(key="r", model=CALL.model, prompt_tokens=1, stream=True)
    script = timeline(call, plan, 1, keep_alive_s=None, style=style)
    data = b"".join(write.data for write in played(script))
    pieces = re.findall(r'"tool_calls":\[(.*?)\]\}', data.decode())
    assert ["type" in json.loads(piece) for piece in pieces] == [True, False]
    assert b'"finish_reason":"tool_calls"' in data


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.012, "12ms"),
        (0.9996, "1s"),
        (1.0, "1s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (61.5, "1m1.5s"),
        (3600, "1h0m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    """Milliseconds below a second, then seconds, minutes and hours."""
    assert duration(seconds) == text


@given(st.lists(st.floats(0, 30), max_size=8).map(sorted), st.floats(30, 100))
def test_quota_counts_what_is_in_the_window(times: list[float], now: float) -> None:
    """Looking at what is left takes nothing, and agrees with who would be admitted."""
    limits = Limits(Throttle(requests_per_min=5, tokens_per_min=50))
    admitted = [at for at in times if limits.wait_s("a", at, 10) is None and taken(limits, at)]
    inside = [at for at in admitted if at + 60 > now]
    quota = quota_of(limits, "a", now)
    wait_s = inside[-1] + 60 - now if inside else 0.0
    assert quota == quota_of(limits, "a", now)
    assert quota.requests == Left(5, 5 - len(inside), wait_s)
    assert quota.tokens == Left(50, 50 - 10 * len(inside), wait_s)


def taken(limits: Limits, now: float) -> bool:
    """Count a request of ten tokens."""
    assert limits.requests is not None
    assert limits.tokens is not None
    limits.requests.take("a", now + 60)
    limits.tokens.take("a", now + 60, 10)
    return True
