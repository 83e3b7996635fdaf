"""The official SDKs, unmodified, against the mock."""

import json
from typing import Any

import openai
import openrouter
import pytest
from loopback import QUESTION, mock, run
from openrouter.components import ChatUserMessage


def test_openai_client_runs_through_it() -> None:
    """The official OpenAI client gets its completion, and its stream to the end."""

    async def test() -> None:
        async with (
            mock() as running,
            openai.AsyncOpenAI(
                api_key="sk-test", base_url=f"http://127.0.0.1:{running.port}/api/v1", max_retries=0
            ) as client,
        ):
            asked: Any = {"model": "openai/gpt-4o", "messages": QUESTION["messages"]}
            whole = await client.chat.completions.create(**asked)
            stream = await client.chat.completions.create(**asked, stream=True)
            parts = [part async for part in stream]
            with pytest.raises(openai.BadRequestError, match="is not a valid model ID"):
                await client.chat.completions.create(model="no/such", messages=asked["messages"])
        text = whole.choices[0].message.content
        assert text is not None
        assert json.loads(text)["label"] == "positive"
        assert "".join(part.choices[0].delta.content or "" for part in parts) == text
        assert parts[-1].usage == whole.usage

    run(test())


def test_openrouter_client_runs_through_it() -> None:
    """The official OpenRouter client gets completion, stream and list of models."""

    async def test() -> None:
        async with mock() as running:
            url = f"http://127.0.0.1:{running.port}/api/v1"
            async with openrouter.OpenRouter(api_key="sk-test", server_url=url) as client:
                said = [ChatUserMessage(role="user", content="A great book, I loved it.")]
                whole = await client.chat.send_async(messages=said, model="openai/gpt-4o")
                stream = await client.chat.send_async(
                    messages=said, model="openai/gpt-4o", stream=True
                )
                parts = [part async for part in stream]
                listed = await client.models.list_async()
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 8
        text = "".join(part.choices[0].delta.content or "" for part in parts)
        assert text == whole.choices[0].message.content
        assert listed.result.total_count == 5

    run(test())
