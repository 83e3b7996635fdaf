"""The recorder over loopback: everything passes through it unchanged, and all of it is noted."""

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from loopback import QUESTION, head, mock, post, run
from recording import ANSWER, KEY, chunked, plays, recording, reply, scripted

from mock_llm.budget import Budget
from mock_llm.cassette import Exchange
from mock_llm.config import Profile, Throttle, Upstream
from mock_llm.errors import InputError
from mock_llm.faults import ServerError
from mock_llm.record import api_path, checked_upstream

TOOLS: dict[str, Any] = {
    "model": "openai/gpt-4o",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Weather in Ulm?"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function"}]},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
}


def told(exchange: Exchange) -> bytes:
    """All of an answer's body."""
    return b"".join(chunk.data for chunk in exchange.chunks)


def test_openai_client_records_through_it(tmp_path: Path) -> None:
    """The official client gets its answer, its stream and its error; each is an exchange."""

    async def test() -> None:
        upstream = Upstream(profile=Profile(ttft=0.02, itl=0.001))
        async with mock(upstream) as real:
            url = f"http://127.0.0.1:{real.port}/api/v1"
            async with (
                recording(tmp_path / "c.jsonl", url) as on,
                openai.AsyncOpenAI(api_key=KEY, base_url=on.url, max_retries=0) as client,
            ):
                asked: Any = {"model": "openai/gpt-4o", "messages": QUESTION["messages"]}
                whole = await client.chat.completions.create(**asked)
                stream = await client.chat.completions.create(**asked, stream=True)
                parts = [part async for part in stream]
                await client.chat.completions.create(**TOOLS)
                with pytest.raises(openai.BadRequestError, match="Invalid request parameters"):
                    await client.chat.completions.create(model="m", messages=[])
                listed = [one.id async for one in client.models.list()]
                found = await on.ended(5)
        assert [(one.request.path, one.status, one.ended) for one in found] == [
            *[("/chat/completions", 200, "complete")] * 3,
            ("/chat/completions", 400, "complete"),
            ("/models", 200, "complete"),
        ]
        assert json.loads(told(found[0]))["id"] == whole.id
        assert told(found[1]).count(b"data: ") == len(parts) + 1
        assert found[2].request.body["tools"] == TOOLS["tools"]
        assert len(listed) == 5
        assert [one.new_connection for one in found] == [True, False, False, False, False]
        assert found[0].connect_s > 0
        for one in found[:3]:
            assert 0 <= (one.headers_s or 0) <= one.chunks[0].at_s <= one.total_s
        assert found[1].chunks[-1].at_s >= 0.02

    run(test())


def test_refusals_of_the_upstream_are_recorded(tmp_path: Path) -> None:
    """A 429 and a 503 go through with their hints, and stand in the cassette."""

    async def test() -> None:
        down = ServerError(rate=1.0, status=503, first_n=1, retry_after_s=7)
        upstream = Upstream(
            profile=Profile(ttft=0.0),
            throttle=Throttle(requests_per_min=1),
            faults={"down": down},
        )
        async with mock(upstream) as real:
            url = f"http://127.0.0.1:{real.port}/v1"
            async with recording(tmp_path / "c.jsonl", url) as on:
                client = await on.client()
                statuses = [(await client.ask(post()))[0] for _ in range(2)]
                found = await on.ended(2)
        assert statuses == [503, 429]
        assert [one.status for one in found] == [503, 429]
        assert ("retry-after", "7") in found[0].headers
        assert json.loads(told(found[1]))["error"]["code"] == 429

    run(test())


@pytest.mark.parametrize(
    ("pieces", "ending", "ended", "body"),
    [
        (chunked([b"data: \xff\xfe", b"\xc3", b"\xa4\n\n"]), "close", "complete", b"\xff"),
        (chunked([b"data: 1\n\n", b"da"], end=False), "close", "eof", b"data: 1"),
        ([reply(b"abc", length=9)], "close", "eof", b"abc"),
        (chunked([b"data: 1\n\n"], end=False), "reset", "reset", b""),
        ([], "close", "eof", b""),
        ([], "reset", "reset", b""),
        ([reply(b"\x00\x1f\x8b", "Content-Encoding: gzip")], "close", "complete", b"\x00\x1f"),
    ],
)
def test_every_ending_goes_through(
    tmp_path: Path, pieces: list[bytes], ending: str, ended: str, body: bytes
) -> None:
    """Bytes of any kind, and every way of breaking off, reach the client and the cassette."""

    async def test() -> None:
        path = tmp_path / "c.jsonl"
        script = plays(*pieces, ending=ending)
        async with scripted(script) as upstream, recording(path, upstream) as on:
            client = await on.client()
            client.writer.write(post(Connection="close" if ended == "complete" else ""))
            was_reset, seen = False, b""
            try:
                seen = await client.reader.read()
            except ConnectionResetError:
                was_reset = True
            (exchange,) = await on.ended()
        assert was_reset == (ended == "reset")
        assert exchange.ended == ended
        assert exchange.status == (200 if pieces else 0)
        assert body in seen
        assert body in told(exchange)
        assert seen.endswith(b"0\r\n\r\n") == (ended == "complete" and len(pieces) > 1)

    run(test())


def test_a_client_that_leaves_takes_its_call_along(tmp_path: Path) -> None:
    """The call upstream is cancelled, and noted with what had come by then."""
    gone = asyncio.Event()

    async def test() -> None:
        async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await plays(*chunked([b"data: 1\n\n"], end=False), ending="hang")(reader, writer)
            gone.set()

        async with scripted(waits) as upstream, recording(tmp_path / "c.jsonl", upstream) as on:
            client = await on.client()
            client.writer.write(post())
            await client.reader.readuntil(b"data: 1")
            await client.leave()
            await gone.wait()
            (exchange,) = await on.ended()
        assert (exchange.ended, told(exchange)) == ("client_left", b"data: 1\n\n")

    run(test())


def test_a_stopped_recorder_notes_what_is_under_way(tmp_path: Path) -> None:
    """What goes on when the recorder stops is in the cassette as stopped."""

    async def test() -> None:
        script = plays(*chunked([b"data: 1\n\n"], end=False), ending="hang")
        async with scripted(script) as upstream:
            async with recording(tmp_path / "c.jsonl", upstream) as on:
                client = await on.client()
                client.writer.write(post())
                await client.reader.readuntil(b"data: 1")
            assert [one.ended for one in on.cassette().exchanges] == ["stopped"]

    run(test())


def test_a_slow_client_slows_the_upstream(tmp_path: Path) -> None:
    """While a client does not read, no more than some buffers' worth is taken in."""
    sent = 0

    async def test() -> None:
        nonlocal sent
        piece, count = b"x" * 65_536, 300

        async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal sent
            await reader.readuntil(b"\r\n\r\n")
            writer.write(reply(b"", length=len(piece) * count))
            for _ in range(count):
                writer.write(piece)
                await writer.drain()
                sent += 1

        async with scripted(pours) as upstream, recording(tmp_path / "c.jsonl", upstream) as on:
            client = await on.client()
            client.writer.write(post())
            await client.reader.readuntil(b"\r\n\r\n")
            before = -1
            while before < sent:
                before = sent
                await asyncio.sleep(0.1)
            stalled = sent
            read = len(await client.reader.readexactly(len(piece) * count))
            (exchange,) = await on.ended()
        assert stalled < count
        assert read == len(told(exchange)) == len(piece) * count

    run(test())


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        ("http://127.0.0.1:1/api/v1", "Connect"),
        ("http://no-such-host.invalid/api/v1", "its name cannot be resolved"),
    ],
)
def test_an_unreachable_upstream_is_a_502(tmp_path: Path, upstream: str, message: str) -> None:
    """Without a connection the client gets OpenRouter's envelope, and the cassette the reason."""

    async def test() -> None:
        async with recording(tmp_path / "c.jsonl", upstream) as on:
            client = await on.client()
            status, kind, text = await client.error(post())
            (exchange,) = await on.ended()
        assert (status, kind) == (502, "provider_unavailable")
        assert text.startswith(f"The recorder cannot reach its upstream: {message}")
        assert (exchange.status, exchange.ended) == (502, "unreachable")
        assert text.endswith(exchange.error)

    run(test())


def test_key_is_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A key in header, address, body and echo, cut in two as well, is in no byte that is left."""
    path = tmp_path / "c.jsonl"
    echo = f'{{"echo":"{KEY}","user_id":"user_2abcdefghijklmnopqrst"}}'.encode()
    seen: list[bytes] = []

    async def test() -> None:
        async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            cookie = f"Set-Cookie: sid={KEY}"
            for piece in chunked([echo[:20], echo[20:]], cookie, f"X-Request-Id: {KEY}"):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)

        async with scripted(echoes) as upstream, recording(path, upstream) as on:
            client = await on.client()
            body = json.dumps({**QUESTION, "user": "ann", "api_key": KEY}).encode()
            fields = {"Authorization": f"Bearer {KEY}", "Cookie": f"sid={KEY}"}
            where = f"/api/v1/chat/completions?key={KEY}"
            asked = head("POST", where, fields, len(body)) + body
            _, _, answer = await client.ask(asked)
            (exchange,) = await on.ended()
        assert KEY.encode() in seen[0]
        assert seen[0].count(b"Accept-Encoding: identity\r\n") == 1
        assert KEY.encode()[:9] in answer
        assert len(exchange.chunks) == 2
        assert len(told(exchange)) == len(echo)
        assert exchange.request.query == "key=***"

    run(test())
    written = path.read_text() + "".join(capfd.readouterr())
    for secret in (KEY, KEY[9:], KEY[:25], "user_2abc", "set-cookie", "ann"):
        assert secret not in written


def test_key_of_the_environment_takes_the_clients_place(tmp_path: Path) -> None:
    """With a key of its own the recorder sends that one, whatever the client has."""

    async def test() -> None:
        async with mock(Upstream(profile=Profile(ttft=0.0), keys=(KEY,))) as real:
            url = f"http://127.0.0.1:{real.port}/api/v1"
            async with recording(tmp_path / "c.jsonl", url, key=KEY) as on:
                client = await on.client()
                statuses = [(await client.ask(post(Authorization="")))[0]]
                statuses.append((await client.ask(post(Authorization="Bearer wrong-one")))[0])
                await on.ended(2)
        assert statuses == [200, 200]
        assert KEY not in on.path.read_text()

    run(test())


def test_budget_refuses_with_402(tmp_path: Path) -> None:
    """Past either limit no call is passed on, and the client is told which one it was."""

    async def test() -> None:
        calls = 0

        async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal calls
            calls += 1
            await plays(reply(ANSWER, "Connection: close"))(reader, writer)

        said = []
        for number, budget in enumerate((Budget(max_requests=2), Budget(max_usd=0.5))):
            path = tmp_path / f"{number}.jsonl"
            async with scripted(counts) as upstream, recording(path, upstream, budget) as on:
                client = await on.client()
                assert [(await client.ask(post()))[0] for _ in range(2)] == [200, 200]
                said.append(await client.error(post()))
        budget_of = "The recorder's budget is spent: "
        assert calls == 4
        assert said == [
            (402, "payment_required", budget_of + "2 of 2 requests are used (--max-requests)"),
            (402, "payment_required", budget_of + "$0.500000 of $0.5 are spent (--max-usd)"),
        ]

    run(test())


def test_a_cassette_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Once the file is gone, whoever runs the recorder is called, and the client is served."""
    told_of: list[InputError] = []

    async def test() -> None:
        async with (
            scripted(plays(reply(ANSWER))) as upstream,
            recording(tmp_path / "c", upstream, on_broken=told_of.append) as on,
        ):
            writer = on.recorder._writer
            writer.close()
            writer._file = writer._path.open("rb", buffering=0)  # nothing can be written to it
            client = await on.client()
            assert (await client.ask(post()))[0] == 200
        assert [str(error) for error in told_of] == [
            f"{tmp_path / 'c'}: cannot write: Bad file descriptor"
        ]

    run(test())


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/api/v1/chat/completions", "/chat/completions"),
        ("/v1/models", "/models"),
        ("/embeddings", "/embeddings"),
        ("/api/v1/../admin", None),
        ("/v1/%2E%2e/admin", None),
        ("http://elsewhere/x", None),
        ("", None),
    ],
)
def test_only_the_api_is_passed_on(path: str, rest: str | None) -> None:
    """Any path below the three roots is, and none that leads out of it."""
    assert api_path(path) == rest


@pytest.mark.parametrize(
    "address",
    [
        f"https://{KEY}@openrouter.ai/api/v1",
        f"https://openrouter.ai/api/v1?key={KEY}",
        KEY,
        "ftp://x",
    ],
)
def test_an_address_with_more_in_it_is_refused(address: str) -> None:
    """A key in the upstream's address is refused without being shown."""
    with pytest.raises(InputError, match="--upstream: ") as complaint:
        checked_upstream(address)
    assert KEY not in str(complaint.value)
    assert complaint.value.__suppress_context__ or complaint.value.__context__ is None
    assert checked_upstream("https://openrouter.ai/api/v1/") == "https://openrouter.ai/api/v1"
