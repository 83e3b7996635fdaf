"""A server that stops: who is refused, what may go on, how the rest ends."""

import asyncio
import json
import signal
import urllib.request
from pathlib import Path

import pytest
from loopback import QUESTION, Client, Mock, mock, post, run
from served import serving
from test_mock_process import request
from virtual_mock import run as run_virtually

from mock_llm.config import Capacity, Model, Profile, Upstream
from mock_llm.faults import KeepAliveHang

SLOW = Upstream(profile=Profile(ttft=3600.0), keep_alive_s=None)
BUSY = Upstream(profile=Profile(ttft=0.0, itl=3600.0), keep_alive_s=None)


async def waiting(running: Mock, **body: object) -> Client:
    """A client whose request has been admitted."""
    client = await running.client()
    client.writer.write(post({**QUESTION, **body}))
    await running.admitted.acquire()
    return client


def test_what_is_under_way_may_finish() -> None:
    """Draining lasts as long as there is something under way, and no longer."""

    async def test(running: Mock) -> None:
        loop = asyncio.get_running_loop()
        client = await waiting(running, stream=True)
        await running.server.close(drain_s=100.0)
        assert loop.time() == 17.0
        body = await client.reader.readuntil(b"\r\n0\r\n\r\n")
        assert body.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert [row.ended for row in running.server.ledger.rows] == ["complete"]

    run_virtually(Upstream(profile=Profile(ttft=10.0, itl=1.0)), test)


def test_what_is_not_done_in_time_is_ended() -> None:
    """At the end of the drain a stream is ended by an error event, as a provider does."""

    async def test(running: Mock) -> None:
        client = await waiting(running, stream=True)
        await running.server.close(drain_s=12.5)
        assert asyncio.get_running_loop().time() == 12.5
        body = await client.reader.readuntil(b"\r\n0\r\n\r\n")
        last = json.loads(body.split(b"data: ")[-1].split(b"\n\n")[0])
        assert last["error"]["metadata"] == {"error_type": "provider_overloaded"}
        assert last["choices"][0]["finish_reason"] == "error"
        (row,) = running.server.ledger.rows
        assert (row.ended, row.ended_s, row.completion_tokens) == ("shutdown", 12.5, 3)

    run_virtually(Upstream(profile=Profile(ttft=10.0, itl=1.0)), test)


@pytest.mark.parametrize("paused", [True, False])
def test_who_was_not_let_in_yet_is_told(paused: bool) -> None:
    """Who waits for admission, or for the set-up before a slot, has a 503 when the server stops."""

    async def test(running: Mock) -> None:
        if paused:
            running.server.pause()
        client = await running.client()
        client.writer.write(post())
        await asyncio.sleep(1.0)
        await running.server.close()
        assert (await client.reader.read()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        rows = list(running.server.ledger.rows)
        assert [(row.ended, row.status, row.billed_usd) for row in rows] == [("shutdown", 503, 0.0)]

    run_virtually(Upstream(connection_setup=5.0, capacity=Capacity(slots=1)), test)


def test_new_requests_are_refused_while_it_drains() -> None:
    """On an open connection a request is a 503 and the connection's end; a new one is refused."""

    async def test() -> None:
        async with mock(SLOW) as running:
            idle, busy = await running.client(), await waiting(running)
            stopping = asyncio.create_task(running.server.close(drain_s=60.0))
            status, top, body = await idle.ask(post())
            assert (status, "Connection: close\r\n" in top) == (503, True)
            assert json.loads(body)["error"]["metadata"]["error_type"] == "provider_overloaded"
            assert await idle.reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await running.client()
            running.server.hurry()
            await stopping
            assert b"503 Service Unavailable" in await busy.reader.read()
        rows = list(running.server.ledger.rows)
        assert [(row.ended, row.status, row.billed_usd) for row in rows] == [
            ("refused", 503, 0.0),
            ("shutdown", 503, 0.0),
        ]

    run(test())


def test_broken_answers_are_reset() -> None:
    """`break` resets those that still wait, be they streams or not."""

    async def test() -> None:
        async with mock(BUSY) as running:
            clients = [await waiting(running, stream=stream) for stream in (True, False)]
            await clients[0].reader.readuntil(b'"content"')
            await running.server.close(streams="break")
            for client in clients:
                with pytest.raises(ConnectionResetError):
                    await client.reader.read()
        assert [row.ended for row in running.server.ledger.rows] == ["shutdown"] * 2

    run(test())


def test_white_space_is_ended_by_an_error_body() -> None:
    """An answer that has been opened ends in the JSON of an error, at status 200."""

    async def test() -> None:
        async with mock(Upstream(profile=Profile(ttft=3600.0), keep_alive_s=0.01)) as running:
            client = await waiting(running)
            await client.reader.readuntil(b"\r\n\r\n")
            await running.server.close()
            text = await client.reader.read()
            assert text.endswith(b"\r\n0\r\n\r\n")
            error = json.loads(text.split(b"\r\n")[-4])["error"]
            assert error == {"message": "Service temporarily unavailable", "code": 503}

    run(test())


def test_what_hangs_goes_on_hanging_to_the_end() -> None:
    """A fault that keeps its client waiting has no last words either."""

    async def test() -> None:
        upstream = Upstream(faults={"idle": KeepAliveHang(rate=1)}, keep_alive_s=0.01)
        async with mock(upstream) as running:
            client = await waiting(running)
            await client.reader.readuntil(b"\r\n\r\n")
            await running.server.close(drain_s=0.01)
            assert (await client.reader.read()).strip(b"b\r\n ") == b""

    run(test())


def test_leaving_a_stream_costs_all_of_it_where_the_model_says_so() -> None:
    """`abort_billing` is the upstream's, unless a model has its own."""

    async def test() -> None:
        models = {
            "a": Model(prompt_usd_per_m=0, completion_usd_per_m=1e6),
            "b": Model(prompt_usd_per_m=0, completion_usd_per_m=1e6, abort_billing="sent"),
        }
        upstream = Upstream(
            profile=Profile(ttft=0.0, itl=3600.0),
            models=models,
            handler_cancellation=True,
            abort_billing="full",
        )
        async with mock(upstream) as running:
            for number, model in enumerate(models, 1):
                client = await waiting(running, stream=True, model=model)
                await client.reader.readuntil(b'"content":')
                await client.leave()
                rows = await running.rows(number)
        assert [row.completion_tokens for row in rows] == [8, 1]
        assert [row.billed_usd for row in rows] == pytest.approx([8.0, 1.0])

    run(test())


def test_second_signal_ends_the_drain(tmp_path: Path) -> None:
    """The first lets an answer go on for as long as `--drain` says, the second ends it at once."""
    ledger, scenario = tmp_path / "ledger.jsonl", tmp_path / "slow.json"
    upstream = {"profile": {"ttft": 1e6}, "keep_alive_s": 0.01}
    scenario.write_text(json.dumps({"upstream": upstream}))
    options = ("--ledger", str(ledger), "--drain", "1e6", "--at-stop", "break")
    with (
        serving(str(scenario), *options) as (process, url),
        urllib.request.urlopen(request(url)) as response,  # noqa: S310 - the address is our own
    ):
        process.send_signal(signal.SIGTERM)
        assert response.read(11) == b"\n         \n"
        process.send_signal(signal.SIGINT)  # another one: two of a kind may arrive as one
        assert process.wait(30) == 0
        with pytest.raises(ConnectionResetError):
            response.read()
    rows = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert [row["ended"] for row in rows] == ["shutdown"]
