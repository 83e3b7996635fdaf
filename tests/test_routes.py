"""Faults on endpoints that ask for no model, as a raw socket meets them over loopback."""

import asyncio
import json
from typing import Any

import pytest
from loopback import head, mock, post, run

from mock_llm.behaviour import Provider
from mock_llm.config import Profile, Upstream
from mock_llm.faults import (
    ConnectionReset,
    Fault,
    HtmlError,
    PrematureEof,
    RateLimited,
    ServerError,
)

ELSEWHERE: dict[str, Any] = {"rate": 1.0, "routes": ("models", "credits")}


def test_a_page_shifts_no_attempt() -> None:
    """A page that is asked for with an attempt's key leaves transit and draw of that to itself."""

    async def test() -> tuple[float, int]:
        async with mock() as running:
            client = await running.client()
            await client.ask(head("GET", "/api/v1/models", {"X-Request-Key": "r"}))
            transit_s = running.provider.transit_s("r")
            await client.ask(post(X_Request_Key="r"))
            return transit_s, (await running.rows(1))[0].draw

    assert asyncio.run(test()) == (Provider(Upstream(), seed=1).transit_s("r"), 0)


@pytest.mark.parametrize(
    ("fault", "begins", "ends"),
    [
        (ServerError(**ELSEWHERE, status=503), b"HTTP/1.1 503 ", b"}"),
        (RateLimited(**ELSEWHERE, form="bare"), b"HTTP/1.1 429 ", b"}"),
        (HtmlError(**ELSEWHERE, status=502), b"HTTP/1.1 502 ", b"</html>\n"),
        (HtmlError(**ELSEWHERE, status=200), b"HTTP/1.1 200 ", b"</html>\n"),
        (PrematureEof(**ELSEWHERE, share=0.5, framing="length"), b"HTTP/1.1 200 ", b""),
    ],
)
def test_a_page_fails_as_its_fault_says(fault: Fault, begins: bytes, ends: bytes) -> None:
    """What a fault makes of `/models` is on the wire, and a chat on another route is well."""

    async def test() -> None:
        upstream = Upstream(profile=Profile(ttft=0.0), faults={"elsewhere": fault})
        async with mock(upstream) as running:
            client, other = await running.client(), await running.client()
            client.writer.write(head("GET", "/api/v1/models", {"Connection": "close"}))
            heard = await client.reader.read()
            assert (await other.ask(post()))[0] == 200
        assert heard.startswith(begins)
        assert heard.endswith(ends)
        if isinstance(fault, PrematureEof):
            top, _, body = heard.partition(b"\r\n\r\n")
            size = int(top.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            assert len(body) == size // 2

    run(test())


def test_a_page_is_reset() -> None:
    """A reset on `/credits` ends the connection without a byte."""

    async def test() -> None:
        upstream = Upstream(faults={"elsewhere": ConnectionReset(**ELSEWHERE)})
        async with mock(upstream) as running:
            client = await running.client()
            client.writer.write(head("GET", "/api/v1/credits"))
            with pytest.raises(ConnectionResetError):
                await client.reader.read()

    run(test())


def test_credits_tell_the_balance_of_all_keys() -> None:
    """With a balance, what `/credits` says was used is the sum over all keys that share it."""

    async def test() -> None:
        upstream = Upstream(profile=Profile(ttft=0.0), credits_usd=2.5)
        async with mock(upstream) as running:
            client = await running.client()
            for key in ("key-1", "key-2"):
                await client.ask(post(Authorization=f"Bearer {key}"))
            billed = sum(row.billed_usd for row in await running.rows(2))
            said = json.loads((await client.ask(head("GET", "/api/v1/credits")))[2])["data"]
        assert said == {"total_credits": 2.5, "total_usage": pytest.approx(billed)}
        assert billed > 0

    run(test())
