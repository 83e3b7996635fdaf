"""What the official `openrouter` client makes of slow, failing and throttling providers."""

import asyncio

import openrouter
import pytest
from openrouter.components import ChatUserMessage
from virtual_servers import PORT, URL, the_loop

from harness.engines.virtual_loop import run_virtual
from mock_llm.config import Profile, Upstream
from mock_llm.faults import RateLimited, ServerError
from mock_llm.server import MockServer


async def _openrouter(upstream_: Upstream) -> tuple[object, float, int]:
    """What the `openrouter` client gives or raises, when, and after how many requests."""
    server = MockServer(upstream_, transit=False)
    the_loop().route("127.0.0.1", PORT, server.protocol_factory)
    given: object
    async with openrouter.OpenRouter(api_key="key-1", server_url=URL) as client:
        try:
            found = await client.chat.send_async(
                messages=[ChatUserMessage(role="user", content="A great book.")],
                model="openai/gpt-4o-mini",
            )
            given = found.choices[0].finish_reason
        except Exception as error:  # noqa: BLE001 - its kind is what is asked
            given = type(error).__name__
    now = asyncio.get_running_loop().time()
    await server.close()
    return given, now, len(server.ledger.rows)


@pytest.mark.parametrize(("keep_alive_s", "ttft", "requests"), [(0.4, 6.8, 1), (None, 4.9, 1)])
def test_openrouter_waits_five_seconds_for_a_byte(
    keep_alive_s: float | None, ttft: float, requests: int
) -> None:
    """With keep-alives a slow answer gets through, and without them one of under five seconds."""
    slow = Upstream(profile=Profile(ttft=ttft), keep_alive_s=keep_alive_s)
    given, at_s, sent = run_virtual(_openrouter(slow))
    assert (given, sent) == ("stop", requests)
    assert at_s == pytest.approx(ttft)


def test_openrouter_tries_a_silent_answer_again_and_again() -> None:
    """A silent answer of seven seconds is given up after five, and tried again for an hour."""
    slow = Upstream(profile=Profile(ttft=7.0), keep_alive_s=None)
    given, now, requests = run_virtual(_openrouter(slow))
    assert given == "ReadTimeout"
    assert now > 3600
    assert requests > 50


def test_openrouter_never_tries_a_429_again() -> None:
    """A 503 is tried again, a 429 ends the call."""
    once = {"f": ServerError(rate=1, status=503, after_s=0.0, first_n=1)}
    throttled = {"f": RateLimited(rate=1, after_s=0.0, retry_after_s=0.5, first_n=1)}
    given, _, requests = run_virtual(_openrouter(Upstream(faults=dict(once))))
    assert (given, requests) == ("stop", 2)
    given, _, requests = run_virtual(_openrouter(Upstream(faults=dict(throttled))))
    assert (given, requests) == ("TooManyRequestsResponseError", 1)
