"""Clients in the pipeline's place, as users write them: good, careless and impossible ones."""

import asyncio
import json
import time
import urllib.request
from typing import Any

import aiohttp
import openai

from harness.corpus import Review
from harness.engines.base import Target

MODEL = "openai/gpt-4o-mini"
KEY = "sk-test"


def asked(text: str) -> dict[str, Any]:
    """A request's body with the text as its last message."""
    return {"model": MODEL, "messages": [{"role": "user", "content": text}]}


async def post(base_url: str, text: str, headers: dict[str, str]) -> str:
    """One call of plain aiohttp."""
    sent = {"Authorization": f"Bearer {KEY}", **headers}
    async with (
        aiohttp.ClientSession(headers=sent) as session,
        session.post(f"{base_url}/chat/completions", json=asked(text)) as response,
    ):
        found = await response.json()
    return str(found["choices"][0]["message"]["content"])


def sdk() -> Target:
    """The official SDK with all its defaults: two retries, 600 s."""
    made: list[openai.AsyncOpenAI] = []

    async def target(review: Review, base_url: str) -> str | None:
        if not made:
            made.append(openai.AsyncOpenAI(base_url=base_url, api_key=KEY))
        found = await made[0].chat.completions.create(
            **asked(review.text), extra_headers=review.headers
        )
        text: str | None = found.choices[0].message.content
        return text

    return target


async def careful(review: Review, base_url: str) -> str:
    """Sends the headers along."""
    return await post(base_url, review.text, review.headers)


async def bare(review: Review, base_url: str) -> str:
    """Sends the text as it is, and no headers."""
    return await post(base_url, review.text, {})


async def anonymous(review: Review, base_url: str) -> str:
    """Sends neither the headers nor the bare text."""
    return await post(base_url, f"Classify: {review.text}", {})


async def twice(review: Review, base_url: str) -> str:
    """Makes two calls for each review."""
    await post(base_url, f"Is it one? {review.text}", review.headers)
    return await post(base_url, review.text, review.headers)


async def silent(review: Review, base_url: str) -> dict[str, str]:
    """Makes no call at all."""
    return {"label": "positive"}


async def spinning(review: Review, base_url: str) -> None:
    """Never waits and never ends."""
    while True:  # noqa: ASYNC110 - the fault to be found
        await asyncio.sleep(0)


async def stuck(review: Review, base_url: str) -> None:
    """Waits for what nobody will send."""
    await asyncio.get_running_loop().create_future()


async def printing(review: Review, base_url: str) -> str:
    """Says on standard output what it does."""
    print("working on", review.id)
    return "positive"


def urlopen(review: Review, base_url: str) -> str:
    """A blocking call of the standard library."""
    sent = {"Authorization": f"Bearer {KEY}", **review.headers}
    request = urllib.request.Request(  # noqa: S310 - the address is the mock's
        f"{base_url}/chat/completions", json.dumps(asked(review.text)).encode(), sent
    )
    with urllib.request.urlopen(request) as response:  # noqa: S310
        found = json.load(response)
    return str(found["choices"][0]["message"]["content"])


async def blocking(review: Review, base_url: str) -> str:
    """Blocks the event loop with a synchronous call."""
    return urlopen(review, base_url)


async def threaded(review: Review, base_url: str) -> str:
    """Has a thread make the synchronous call."""
    return await asyncio.to_thread(urlopen, review, base_url)


async def synchronous_sdk(review: Review, base_url: str) -> str | None:
    """The official SDK in its synchronous form."""
    with openai.OpenAI(base_url=base_url, api_key=KEY) as client:
        found = client.chat.completions.create(**asked(review.text))
    text: str | None = found.choices[0].message.content
    return text


async def sleeping(review: Review, base_url: str) -> str:
    """Blocks the event loop with a nap."""
    time.sleep(0.001)  # noqa: ASYNC251 - the fault to be found
    return "positive"


async def stopwatch(review: Review, base_url: str) -> str:
    """Measures its call by the clock of the `time` module, and fails with what it found."""
    began = time.monotonic()
    await post(base_url, review.text, review.headers)
    raise RuntimeError(f"{time.monotonic() - began:.6f}")
