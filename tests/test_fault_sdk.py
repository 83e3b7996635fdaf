"""What the official `openai` client makes of the faults: the traps that a pipeline has to know."""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import openai
import pytest
from fault_bytes import REPLY, upstream
from loopback import QUESTION, mock, run

from mock_llm.faults import (
    EmptyChoices,
    ErrorIn200,
    Fault,
    FinishError,
    HtmlError,
    InvalidUtf8,
    Moderation,
    NoCredit,
    NoDone,
    PrematureEof,
    RateLimited,
    Rejected,
    ServerError,
    WhitespaceThenEof,
)

Ask = Callable[[openai.AsyncOpenAI], Awaitable[object]]


class Seen(NamedTuple):
    """What the client gave, or the type of its error, and how many requests it sent."""

    given: object
    requests: int


async def _whole(client: openai.AsyncOpenAI) -> object:
    """The choices of an answer, or whatever came in its place."""
    found = await client.chat.completions.create(
        model="openai/gpt-4o-mini", messages=QUESTION["messages"]
    )
    return found.choices if hasattr(found, "choices") else found


async def _streamed(client: openai.AsyncOpenAI) -> object:
    """The text of a stream."""
    chunks = await client.chat.completions.create(
        model="openai/gpt-4o-mini", messages=QUESTION["messages"], stream=True
    )
    async with chunks:
        said = [one.choices[0].delta.content or "" async for one in chunks if one.choices]
    return "".join(said)


async def _seen(fault: Fault, ask: Ask) -> Seen:
    async with mock(upstream(fault)) as running:
        url = f"http://127.0.0.1:{running.port}/api/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="key-1", max_retries=1) as client:
            given: object
            try:
                given = await ask(client)
            except (openai.OpenAIError, ValueError) as error:
                given = type(error)
        gc.collect(1)
        for _ in range(10):
            await asyncio.sleep(0)  # what the client forgot is closed by tasks of its own
        return Seen(given, len(running.server.ledger.rows))


@pytest.mark.parametrize(
    ("fault", "ask", "expected"),
    [
        (WhitespaceThenEof(rate=1, after_s=0.01), _whole, Seen(json.JSONDecodeError, 1)),
        (ErrorIn200(rate=1), _whole, Seen(None, 1)),
        (EmptyChoices(rate=1), _whole, Seen([], 1)),
        (NoDone(rate=1), _streamed, Seen(REPLY, 1)),
        (NoDone(rate=1, after_chunks=3), _streamed, Seen('{"label":"', 1)),
        (PrematureEof(rate=1), _whole, Seen(openai.APIConnectionError, 2)),
        (InvalidUtf8(rate=1), _whole, Seen(UnicodeDecodeError, 1)),
        (NoCredit(rate=1, after_s=0.0), _whole, Seen(openai.APIStatusError, 1)),
        (FinishError(rate=1), _streamed, Seen(openai.APIError, 1)),
        (PrematureEof(rate=1), _streamed, Seen(openai.APIConnectionError, 1)),
        (ServerError(rate=1, status=408, after_s=0.0), _whole, Seen(openai.APIStatusError, 2)),
        (ServerError(rate=1, status=529, after_s=0.0), _whole, Seen(openai.InternalServerError, 2)),
        (RateLimited(rate=1, form="bare", after_s=0.0), _whole, Seen(openai.RateLimitError, 2)),
        (
            RateLimited(rate=1, retry_after_s=120.5, after_s=0.0),  # the client gives up past 120
            _whole,
            Seen(openai.RateLimitError, 1),
        ),
        (Moderation(rate=1, after_s=0.0), _whole, Seen(openai.PermissionDeniedError, 1)),
        (Rejected(rate=1, status=401, after_s=0.0), _whole, Seen(openai.AuthenticationError, 1)),
        (Rejected(rate=1, status=404, after_s=0.0), _whole, Seen(openai.NotFoundError, 1)),
        (Rejected(rate=1, status=413, after_s=0.0), _whole, Seen(openai.APIStatusError, 1)),
        (
            Rejected(rate=1, status=422, after_s=0.0),
            _whole,
            Seen(openai.UnprocessableEntityError, 1),
        ),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Fault) else "",
)
def test_what_openai_makes_of_it(fault: Fault, ask: Ask, expected: Seen) -> None:
    """A broken answer may pass for a good one, and few of them are tried again."""

    async def check() -> None:
        assert await _seen(fault, ask) == expected

    run(check())


def test_openai_hands_over_a_page_as_text() -> None:
    """A web page with status 200 is no error: it comes as a plain string."""

    async def check() -> None:
        given, requests = await _seen(HtmlError(rate=1, status=200, after_s=0.01), _whole)
        assert isinstance(given, str)
        assert given.startswith("<!DOCTYPE html>")
        assert requests == 1

    run(check())
