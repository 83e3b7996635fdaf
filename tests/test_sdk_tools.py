"""Tools and structured output through the official SDKs, streamed or not, sync or not."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Literal

import openai
import openrouter
import pydantic
import pytest
from jsonschema import Draft202012Validator
from loopback import QUESTION, mock, run
from openrouter.components import ChatUserMessage

MODEL = "openai/gpt-4o"
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "product": {"type": "string", "minLength": 3},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["product", "stars", "tags"],
    "additionalProperties": False,
}
TOOLS: Any = [{"type": "function", "function": {"name": "rate", "parameters": PARAMETERS}}]
ASKED: dict[str, Any] = {"model": MODEL, "messages": QUESTION["messages"]}


class Verdict(pydantic.BaseModel):
    """What a classifier is asked to fill."""

    label: Literal["positive", "negative"]
    confidence: float = pydantic.Field(ge=0, le=1)
    aspects: list[str] = pydantic.Field(min_length=1)
    nested: "Verdict | None"


def check_arguments(text: str | None) -> None:
    """Fail unless the text is an instance of the tool's parameters."""
    Draft202012Validator(PARAMETERS).validate(json.loads(text or ""))


def check_verdict(verdict: Verdict | None) -> None:
    """Fail unless it is the classifier's."""
    assert verdict is not None
    assert (verdict.label, 0.5 < verdict.confidence < 1) == ("positive", True)


def through(ask: Callable[[str], object]) -> None:
    """Run something blocking against a mock, in a thread of its own."""

    async def test() -> None:
        async with mock() as running:
            await asyncio.to_thread(ask, f"http://127.0.0.1:{running.port}/api/v1")

    run(test())


def sync(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="sk-test", base_url=url, max_retries=0)


def test_sync_client_completes_and_streams() -> None:
    """The synchronous client gets its completion, and the same text streamed."""

    def ask(url: str) -> None:
        with sync(url) as client:
            whole = client.chat.completions.create(**ASKED)
            with client.chat.completions.create(**ASKED, stream=True) as stream:
                parts = list(stream)
        text = "".join(part.choices[0].delta.content or "" for part in parts)
        assert text == whole.choices[0].message.content

    through(ask)


def test_sync_client_calls_tools() -> None:
    """A whole call, a streamed one put together by the client, and the answer to its result."""

    def ask(url: str) -> None:
        with sync(url) as client:
            whole = client.chat.completions.create(**ASKED, tools=TOOLS)
            with client.chat.completions.stream(**ASKED, tools=TOOLS) as stream:
                streamed = stream.get_final_completion()
            message = whole.choices[0].message
            assert message.tool_calls
            result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "ok"}
            said = [*ASKED["messages"], message.model_dump(exclude_none=True), result]
            final = client.chat.completions.create(model=MODEL, messages=said, tools=TOOLS)
        for found in (whole, streamed):
            (call,) = found.choices[0].message.tool_calls or []
            assert call.type == "function"
            assert call.function.name == "rate"
            check_arguments(call.function.arguments)
            assert found.choices[0].finish_reason == "tool_calls"
        assert final.choices[0].message.tool_calls is None
        assert json.loads(final.choices[0].message.content or "")["label"] == "positive"

    through(ask)


def test_sync_client_parses() -> None:
    """`parse` hands over the model that was asked for, filled by the classifier."""

    def ask(url: str) -> None:
        with sync(url) as client:
            found = client.chat.completions.parse(**ASKED, response_format=Verdict)
            check_verdict(found.choices[0].message.parsed)
            with pytest.raises(openai.LengthFinishReasonError):
                client.chat.completions.parse(**ASKED, response_format=Verdict, max_tokens=3)

    through(ask)


def test_async_client_has_tools_and_parses() -> None:
    """The asynchronous client does the same, and parses a tool's arguments by their model."""

    async def test() -> None:
        async with (
            mock() as running,
            openai.AsyncOpenAI(
                api_key="sk-test", base_url=f"http://127.0.0.1:{running.port}/api/v1", max_retries=0
            ) as client,
        ):
            parsed = await client.chat.completions.parse(**ASKED, response_format=Verdict)
            tools: Any = [openai.pydantic_function_tool(Verdict)]
            called = await client.chat.completions.parse(**ASKED, tools=tools)
            async with client.chat.completions.stream(**ASKED, tools=TOOLS) as stream:
                streamed = await stream.get_final_completion()
        check_verdict(parsed.choices[0].message.parsed)
        (call,) = called.choices[0].message.tool_calls or []
        verdict = call.function.parsed_arguments
        assert isinstance(verdict, Verdict)
        check_verdict(verdict)
        (late,) = streamed.choices[0].message.tool_calls or []
        check_arguments(late.function.arguments)

    run(test())


def test_openrouter_client_has_tools_and_schemas() -> None:
    """The official OpenRouter client gets calls, whole and streamed, and an instance."""
    form: Any = {"type": "json_schema", "json_schema": {"name": "rate", "schema": PARAMETERS}}

    async def test() -> None:
        async with mock() as running:
            url = f"http://127.0.0.1:{running.port}/api/v1"
            async with openrouter.OpenRouter(api_key="sk-test", server_url=url) as client:
                said = [ChatUserMessage(role="user", content="A great book, I loved it.")]
                asked: Any = {"messages": said, "model": MODEL}
                whole = await client.chat.send_async(**asked, tools=TOOLS)
                stream = await client.chat.send_async(**asked, tools=TOOLS, stream=True)
                parts = [part async for part in stream]
                shaped = await client.chat.send_async(**asked, response_format=form)
        (call,) = whole.choices[0].message.tool_calls or []
        check_arguments(call.function.arguments)
        pieces = [one for part in parts for one in part.choices[0].delta.tool_calls or ()]
        assert pieces[0].function is not None
        assert pieces[0].function.name == "rate"
        check_arguments("".join(one.function.arguments or "" for one in pieces if one.function))
        content = shaped.choices[0].message.content
        assert isinstance(content, str)
        check_arguments(content)

    run(test())


def test_sync_openrouter_client_runs_too() -> None:
    """The synchronous OpenRouter client gets a call as well."""
    seen: list[str] = []

    def ask(url: str) -> None:
        with openrouter.OpenRouter(api_key="sk-test", server_url=url) as client:
            said = [ChatUserMessage(role="user", content="A great book, I loved it.")]
            whole = client.chat.send(messages=said, model=MODEL, tools=TOOLS)
        (call,) = whole.choices[0].message.tool_calls or []
        seen.append(call.function.name)

    through(ask)
    assert seen == ["rate"]
