"""Replay with all else that a mock does: capacity, stops, changes, control, several processes."""

import asyncio
import json
import signal
import ssl
import urllib.request
from http.client import HTTPResponse
from pathlib import Path

import msgspec
import pytest
import trustme
from loopback import Client, Mock, mock, post, run
from recording import KEY, played
from replaying import answered, cassette, exchange, question, streamed
from served import serving, workers
from virtual_mock import run as run_virtually

from harness.engines.base import prepare
from harness.experiments.run import run_one
from harness.scenario.load import load_scenario
from mock_llm.cassette import Chunk
from mock_llm.config import Capacity, Upstream
from mock_llm.control.commands import Edit, apply
from mock_llm.errors import InputError
from mock_llm.ledger import billed
from mock_llm.plan import Plan
from mock_llm.settings import instant

ASK = question("Tell me.", stream=True)
ONE_SLOT = Capacity(slots=1, queue=1, overflow_status=503)


def together(path: Path, **settings: object) -> Upstream:
    """An upstream that plays a cassette, and has more settings."""
    return msgspec.structs.replace(played(path), **settings)


async def arriving(client: Client, request: bytes) -> tuple[list[float], bytes]:
    """When the pieces of a chunked answer came, and all of it."""
    client.writer.write(request)
    times, body = [], b""
    while not body.endswith(b"\r\n0\r\n\r\n"):
        body += await client.reader.read(65_536)
        times.append(asyncio.get_running_loop().time())
    return times, body


def test_a_recording_waits_for_its_slot(tmp_path: Path) -> None:
    """In a queue a recorded answer is silent; then it is played as it was, with no more ticks."""
    path = cassette(tmp_path / "c", (ASK, streamed(1.0, 2.0)))

    async def test(running: Mock) -> None:
        clients = [await running.client() for _ in range(3)]
        served = asyncio.gather(*(arriving(one, post(ASK)) for one in clients[:2]))
        await asyncio.sleep(0)
        refused = asyncio.create_task(clients[2].ask(post(ASK)))
        first, second = await served
        status, _, body = await refused
        assert first[0] == [0.1, 0.5, 1.0, 2.0]
        assert second[0] == [2.1, 2.5, 3.0, 4.0]
        assert second[1] == first[1]
        assert first[1].count(b"PROCESSING") == 1
        assert (status, b"provider_overloaded" in body) == (503, True)
        rows = {row.queued_s: row for row in await running.rows(3)}
        assert (rows[2.0].ended, rows[2.0].slowed_s) == ("complete", 0.0)

    run_virtually(together(path, capacity=ONE_SLOT, connection_setup=5.0, keep_alive_s=0.05), test)


def test_a_shared_speed_stretches_a_recording(tmp_path: Path) -> None:
    """Where two share the speed of one, every recorded moment comes twice as late."""
    path = cassette(tmp_path / "c", (ASK, streamed(1.0, 2.0)))

    async def test(running: Mock) -> None:
        clients = [await running.client() for _ in range(2)]
        seen = await asyncio.gather(*(arriving(one, post(ASK)) for one in clients))
        assert [times for times, _ in seen] == [[0.2, 1.0, 2.0, 4.0]] * 2

    run_virtually(together(path, capacity=Capacity(full_speed=1, exponent=1.0)), test)


def test_a_recorded_silence_keeps_its_slot(tmp_path: Path) -> None:
    """A call that never got an answer holds its slot for as long as its client had waited."""
    silence = exchange([], ended="client_left", status=0, total_s=30.0)
    path = cassette(tmp_path / "c", (question("Hello?"), silence), (ASK, streamed(1.0, 2.0)))

    async def test(running: Mock) -> None:
        silent, other = await running.client(), await running.client()
        silent.writer.write(post(question("Hello?")))
        await running.admitted.acquire()
        times, _ = await arriving(other, post(ASK))
        assert times == [30.1, 30.5, 31.0, 32.0]
        await silent.leave()
        rows = {row.model and row.stream: row for row in await running.rows(2)}
        assert (rows[False].headers_s, rows[False].ended) == (None, "client_left")

    run_virtually(together(path, capacity=ONE_SLOT), test)


def test_a_break_before_any_answer_comes_in_its_time(tmp_path: Path) -> None:
    """A connection that the upstream closed after 3 s, without a byte, is closed after 3 s."""
    nothing = exchange([], ended="eof", status=0, total_s=3.0)
    path = cassette(tmp_path / "c", (ASK, nothing))

    async def test(running: Mock) -> None:
        client = await running.client()
        client.writer.write(post(ASK))
        assert await client.reader.read() == b""
        assert asyncio.get_running_loop().time() == 3.0
        (row,) = await running.rows(1)
        assert (row.ended, row.headers_s) == ("broken", None)

    run_virtually(played(path), test)


@pytest.mark.parametrize("aligned", [True, False])
def test_a_stop_ends_a_recorded_stream(tmp_path: Path, aligned: bool) -> None:
    """The error of a mock that stops is an event of its own, wherever the recording was cut."""
    taped = streamed(1.0, 2.0, 9.0)
    if not aligned:
        taped.chunks[2] = Chunk(2.0, 'data: {"choices":[{"del')
    path = cassette(tmp_path / "c", (ASK, taped))

    async def test(running: Mock) -> None:
        client = await running.client()
        client.writer.write(post(ASK))
        await running.admitted.acquire()
        await running.server.close(drain_s=3.0)
        body = await client.reader.read()
        head, last = body.rsplit(b"\n\ndata: ", 1)
        assert b"choices" in head
        event, _, end = last.partition(b"\n\n")
        assert json.loads(event)["choices"][0]["finish_reason"] == "error"
        assert end.endswith(b"0\r\n\r\n")
        assert running.server.ledger.rows[0].ended == "shutdown"

    run_virtually(played(path), test)


@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_breaks_off_other_recordings(tmp_path: Path, stream: bool) -> None:
    """Into a body whose length is declared no error is written: the connection ends."""
    taped = answered("x" * 99)
    taped = msgspec.structs.replace(
        taped,
        headers_s=0.5,
        chunks=[Chunk(1.0, taped.chunks[0].text[:20]), Chunk(9.0, taped.chunks[0].text[20:])],
    )
    ask = question("Tell me.", stream=stream)
    path = cassette(tmp_path / "c", (ask, taped))

    async def test(running: Mock) -> None:
        client = await running.client()
        client.writer.write(post(ask))
        await running.admitted.acquire()
        await running.server.close(drain_s=3.0)
        _, _, body = (await client.reader.read()).partition(b"\r\n\r\n")
        assert body == taped.chunks[0].data

    run_virtually(played(path), test)


def test_another_cassette_is_taken(tmp_path: Path) -> None:
    """A change brings another cassette, or none; one that cannot be read changes nothing."""
    one = cassette(tmp_path / "1", (ASK, answered("one", 0.0)), (ASK, answered("again", 0.0)))
    two = cassette(tmp_path / "2", (ASK, answered("two", 0.0)))

    async def test() -> None:
        async with mock(played(one)) as running:
            client = await running.client()
            said = [(await client.ask(post(ASK)))[2]]
            running.server.change(played(two))
            said.append((await client.ask(post(ASK)))[2])
            with pytest.raises(InputError, match="No such file"):
                running.server.change(played(tmp_path / "3"))
            said.append((await client.ask(post(ASK)))[2])
            running.server.change(played(one))
            said.append((await client.ask(post(ASK)))[2])
            running.server.reset()
            said.append((await client.ask(post(ASK)))[2])
            running.server.change(Upstream())
            status, _, body = await client.ask(post(question("A great book!")))
        words = [json.loads(text)["choices"][0]["message"]["content"] for text in said]
        assert words == ["one", "two", "two", "again", "one"]
        assert (status, b"positive" in body) == (200, True)

    run(test())


def test_a_reset_draws_with_its_seed(tmp_path: Path) -> None:
    """Sampled times are those of the seed that a reset brings."""
    asks = [question(f"Number {n}", stream=True) for n in range(4)]
    path = cassette(tmp_path / "c", *((ask, streamed(1.0 + n, 2.0)) for n, ask in enumerate(asks)))

    async def test(running: Mock) -> None:
        client, starts, now = await running.client(), [], asyncio.get_running_loop().time
        for seed in (1, 2, 1):
            running.server.reset(seed)
            began = now()
            starts.append((await arriving(client, post(asks[0])))[0][-1] - began)
        assert starts[0] == pytest.approx(starts[2])
        assert starts[0] != pytest.approx(starts[1])

    run_virtually(played(path, timing="sampled"), test)


def test_workers_share_the_order_of_recordings(tmp_path: Path) -> None:
    """Equal requests get one recording each, whichever process answers; control changes all."""
    takes = [(ASK, answered(f"take {n}", 0.0)) for n in range(20)]
    path = cassette(tmp_path / "c", *takes)
    other = cassette(tmp_path / "d", (ASK, answered("other", 0.0)))
    limited = together(path, credits_usd=1.0)  # so that the hub decides

    async def test() -> None:
        for upstream in (played(path), limited):
            async with workers(upstream, token="t" * 20) as running:
                clients = await running.clients(10)
                said = [(await one.ask(post(ASK)))[2] for one in clients * 2]
                counts = await running.attempts()
                changed = msgspec.structs.replace(upstream, cassette=played(other).cassette)
                await running.hub.change(changed)
                after = {(await one.ask(post(ASK)))[2] for one in clients}
            assert [f"take {n}".encode() in body for n, body in enumerate(said)] == [True] * 20
            assert min(counts) > 0
            assert [b"other" in body for body in after] == [True]

    run(test())


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_served_cassette_has_all_options(tmp_path: Path, count: str) -> None:
    """Over HTTPS, in one process or more, under control, a cassette is played and drained."""
    text = question("Tell me.")
    path = cassette(tmp_path / "c", (text, answered("Once.", 0.0)), (ASK, streamed(0.1, 0.4)))
    authority, names = trustme.CA(), {one: str(tmp_path / f"{one}.pem") for one in ("cert", "key")}
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(names["key"])
    issued.cert_chain_pems[0].write_to_path(names["cert"])
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    tls = ("--tls-cert", names["cert"], "--tls-key", names["key"])
    options = ("--cassette", str(path), "--workers", count, "--drain", "30", *tls)

    def ask(body: object) -> HTTPResponse:
        data, key = json.dumps(body).encode(), {"Authorization": f"Bearer {KEY}"}
        request = urllib.request.Request(f"{url}/chat/completions", data, key)  # noqa: S310 - the address is our own
        opened = urllib.request.urlopen(request, context=trust)  # noqa: S310
        assert isinstance(opened, HTTPResponse)
        return opened

    with serving(*options, scheme="https") as (process, url):
        with ask(text) as found:
            assert b"Once." in found.read()
        with ask(ASK) as found:
            process.send_signal(signal.SIGTERM)
            assert found.read().endswith(b"[DONE]\n\n")
        _, told = process.communicate()
    assert process.returncode == 0
    assert "2 attempts" in told


def test_control_takes_a_cassette(tmp_path: Path) -> None:
    """A cassette is a part of the upstream like any other; a missing one is a 422 in one line."""
    path = cassette(tmp_path / "c", (ASK, answered("one", 0.0)))

    async def test() -> None:
        async with mock() as running:
            missing = Edit(("cassette",), {"file": str(tmp_path / "none")}, "put")
            refused = apply(running.server, missing, 0.0)
            good = apply(running.server, Edit(("cassette", "file"), str(path), "put"), 0.0)
            client = await running.client()
            _, _, body = await client.ask(post(ASK))
        assert (refused.status, "No such file" in refused.error) == (422, True)
        assert (good.status, b"one" in body) == (200, True)

    run(test())


def test_a_torn_cassette_is_told(tmp_path: Path) -> None:
    """Whoever runs a scenario whose cassette lost its last line reads so, mock and harness."""
    path, scenario = cassette(tmp_path / "c", (ASK, answered("one", 0.0))), tmp_path / "s.toml"
    path.write_bytes(path.read_bytes() + b"{torn")
    scenario.write_text('[workload]\nreviews = 1\n[upstream.cassette]\nfile = "c"\n')
    line = f"{path}: its last line was cut off and is left out"
    with serving(str(scenario)) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.communicate()[1].splitlines()[0] == f"mock_llm: {line}"
    ready = prepare(load_scenario(scenario))
    report = run_one(ready, variant="base", expect="pass", engine="virtual", seed=1).report
    assert line in report["notes"]


def test_zero_delay_plays_at_once(tmp_path: Path) -> None:
    """Where answers are ready at once, recorded ones are too."""
    path = cassette(tmp_path / "c", (ASK, streamed(1.0, 2.0)))
    changed = instant(played(path)).cassette
    assert changed is not None
    assert (changed.timing, instant(Upstream()).cassette) == ("none", None)


def test_a_cut_recording_costs_nothing_less_than_nothing() -> None:
    """Recorded dollars below the list's price do not become a credit when a stream is cut."""
    plan = Plan(completion_tokens=100, cost_usd=0.001)
    cut = billed(plan, "client_left", stream=True, delivered_tokens=1, completion_usd=0.5)
    assert cut == (1, 0.0)
