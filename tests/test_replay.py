"""Replay: the recorded bytes at the recorded times, through throttle, faults and ledger."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from loopback import mock, post, run
from recording import KEY, arrivals, played
from replaying import (
    PLAY,
    PROXY,
    REAL,
    URL,
    answered,
    api,
    cassette,
    exchange,
    merged,
    play_virtually,
    question,
    record_virtually,
    streamed,
    the_loop,
)

from harness.engines.base import prepare
from harness.engines.runner import job_of
from harness.engines.virtual import run_on_virtual_clock
from harness.engines.virtual_loop import run_virtual
from harness.pipeline.job import Job
from harness.records import Record
from harness.scenario.load import load_scenario
from mock_llm.budget import Budget
from mock_llm.cassette import CassetteWriter, Exchange, chunk, read_cassette, request_of
from mock_llm.config import Profile, Throttle, Upstream
from mock_llm.distributions import Exponential
from mock_llm.errors import InputError
from mock_llm.faults import Fault, HangMidStream, NoDone, PrematureEof, ServerError, TruncatedJson
from mock_llm.record import Recorder
from mock_llm.server import MockServer


@pytest.mark.parametrize("stream", [True, False])
def test_replay_is_the_recording(tmp_path: Path, stream: bool) -> None:
    """On the virtual clock a client gets the same bytes at the same times, keep-alives too."""
    path = tmp_path / "c.jsonl"
    bodies = [question(f"A great book, {n} times.", stream=stream) for n in range(3)]
    upstream = Upstream(profile=Profile(ttft=Exponential(mean=2.0), itl=0.03))
    recorded = record_virtually(path, upstream, bodies)
    again, server = play_virtually(played(path), list(reversed(bodies)))
    assert [merged(one) for one in reversed(again)] == [merged(one) for one in recorded]
    assert len(recorded[0][1]) > 3
    rows = server.ledger.rows
    assert [(row.ended, row.completion_tokens, row.model) for row in rows] == [
        ("complete", 8, "openai/gpt-4o")
    ] * 3
    assert all(row.billed_usd > 0 for row in rows)
    assert server.ledger.delays().p99_s < 1e-9


@pytest.mark.parametrize(
    ("fault", "stream", "ended"),
    [
        (PrematureEof(rate=1.0), False, "broken"),
        (PrematureEof(rate=1.0, framing="length"), False, "broken"),
        (PrematureEof(rate=1.0), True, "broken"),
        (NoDone(rate=1.0), True, "complete"),
        (TruncatedJson(rate=1.0), False, "complete"),
        (ServerError(rate=1.0, status=529), False, "complete"),
    ],
)
def test_failures_replay_as_they_were(
    tmp_path: Path, fault: Fault, stream: bool, ended: str
) -> None:
    """Answers that broke off, or never were any, do so again at the same moment."""
    path = tmp_path / "c.jsonl"
    bodies = [question("A great book, I loved it.", stream=stream)]
    upstream = Upstream(profile=Profile(ttft=0.7, itl=0.1), faults={"f": fault})
    recorded = record_virtually(path, upstream, bodies)
    again, server = play_virtually(played(path), bodies)
    assert [merged(one) for one in again] == [merged(one) for one in recorded]
    assert recorded[0][2] == ended
    assert server.ledger.rows[0].injected == ()


def test_a_recorded_hang_is_a_hang(tmp_path: Path) -> None:
    """A call whose client had left falls silent where it was, for as long as the client likes."""
    ask = question("Still there?")
    path = cassette(tmp_path / "c", (ask, exchange([], ended="client_left", status=0)))

    async def main() -> float:
        server = MockServer(played(path), transit=False)
        the_loop().route("127.0.0.1", PLAY, server.protocol_factory)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(200):
                    await arrivals(session, api(PLAY), ask)
        await asyncio.sleep(1)
        now = the_loop().time()
        await server.close()
        assert [row.ended for row in server.ledger.rows] == ["client_left"]
        return now

    assert run_virtual(main(), seed=1) == 201.0


def test_repeats_come_in_order_and_the_last_stays(tmp_path: Path) -> None:
    """Equal requests get their recordings one after the other; a throttled one uses none."""
    ask = question("Again?")
    error = answered("", status=429)
    path = cassette(
        tmp_path / "c", (ask, error), (ask, answered("second")), (ask, answered("third"))
    )
    upstream = played(path)
    seen, _ = play_virtually(upstream, [ask] * 4)
    assert [status for status, _, _ in seen] == [429, 200, 200, 200]
    assert [b"second" in merged(seen[1])[2], *(b"third" in merged(one)[2] for one in seen[2:])] == [
        True
    ] * 3

    async def throttled() -> list[int]:
        server = MockServer(
            Upstream(cassette=upstream.cassette, throttle=Throttle(requests_per_min=1))
        )
        the_loop().route("127.0.0.1", PLAY, server.protocol_factory)
        statuses = []
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                statuses.append((await arrivals(session, api(PLAY), ask))[0])
                await asyncio.sleep(59.5 if len(statuses) > 1 else 0)
        await server.close()
        return statuses

    assert run_virtual(throttled(), seed=1) == [429, 429, 200]


def test_faults_strike_recordings(tmp_path: Path) -> None:
    """A fault cuts the recorded bytes short, or refuses in their place, and the ledger says so."""
    ask = question("Tell me.", stream=True)
    path = cassette(tmp_path / "c", (ask, streamed(1.0, 2.0, 3.0, 4.0)))
    whole = merged(play_virtually(played(path), [ask])[0][0])[2]
    cut: dict[str, Fault] = {"cut": PrematureEof(rate=1.0, share=0.5)}
    down: dict[str, Fault] = {"down": ServerError(rate=1.0, status=503, after_s=0.5)}
    base = played(path).cassette
    ((_, pieces, ended),), server = play_virtually(Upstream(cassette=base, faults=cut), [ask])
    body = b"".join(data for _, data in pieces)
    assert (ended, server.ledger.rows[0].ended, server.ledger.rows[0].injected) == (
        "broken",
        "broken",
        ("cut",),
    )
    assert whole.startswith(body)
    assert 0 < len(body) < len(whole)
    ((status, pieces, _),), _ = play_virtually(Upstream(cassette=base, faults=down), [ask])
    assert (status, round(pieces[0][0], 6)) == (503, 0.5)


def test_a_fault_cuts_a_recorded_answer_by_its_bytes(tmp_path: Path) -> None:
    """Of an answer in one piece a fault leaves its share of the bytes, tokens not billed."""
    ask = question("Tell me.")
    path = cassette(tmp_path / "c", (ask, answered("x" * 200)))
    whole = merged(play_virtually(played(path), [ask])[0][0])[2]
    faults: dict[str, Fault] = {"cut": PrematureEof(rate=1.0, share=0.25)}
    upstream = Upstream(cassette=played(path).cassette, faults=faults)
    ((_, pieces, ended),), server = play_virtually(upstream, [ask])
    assert b"".join(data for _, data in pieces) == whole[: len(whole) // 4]
    assert (ended, server.ledger.rows[0].first_token_s) == ("broken", None)


def test_a_recording_can_hang_midway(tmp_path: Path) -> None:
    """A fault's silence begins after its share of the recorded stream."""
    ask = question("Tell me.", stream=True)
    path = cassette(tmp_path / "c", (ask, streamed(1.0, 2.0, 3.0, 4.0)))
    faults: dict[str, Fault] = {"hang": HangMidStream(rate=1.0, after_chunks=3)}

    async def main() -> list[float]:
        server = MockServer(Upstream(cassette=played(path).cassette, faults=faults), transit=False)
        the_loop().route("127.0.0.1", PLAY, server.protocol_factory)
        times = []
        async with (
            aiohttp.ClientSession() as session,
            session.post(api(PLAY) + "/chat/completions", json=ask) as answer,
        ):
            for _ in range(3):
                await answer.content.readany()
                times.append(the_loop().time())
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(answer.content.readany(), 50)
        await server.close()
        return times

    assert run_virtual(main(), seed=1) == [0.5, 1.0, 2.0]


def test_timing_none_plays_at_once(tmp_path: Path) -> None:
    """Without timing all bytes are there at the moment of the call."""
    ask = question("Quick!", stream=True)
    path = cassette(tmp_path / "c", (ask, streamed(1.0, 2.0)))
    ((_, pieces, _),), _ = play_virtually(played(path, timing="none"), [ask])
    assert {at for at, _ in pieces} == {0.0}


def test_sampled_timing_draws_from_the_cassette(tmp_path: Path) -> None:
    """First tokens and gaps come from all streams of the model, keyed by request and seed."""
    asks = [question(f"Number {n}", stream=True) for n in range(6)]
    pairs = [(ask, streamed(1.0 + n, 1.5 + n, 2.5 + n)) for n, ask in enumerate(asks)]
    path = cassette(tmp_path / "c", *pairs)
    first, _ = play_virtually(played(path, timing="sampled"), asks)
    second, _ = play_virtually(played(path, timing="sampled"), asks)
    backwards, _ = play_virtually(played(path, timing="sampled"), asks[::-1])
    starts = [next(at for at, data in pieces if b"data" in data) for _, pieces, _ in first]
    lasts = [pieces[-1][0] for _, pieces, _ in first]
    assert [merged(one)[2] for one in first] == [
        merged(one)[2] for one in play_virtually(played(path), asks)[0]
    ]
    assert [merged(one) for one in second] == [merged(one) for one in first]
    assert [merged(one) for one in backwards[::-1]] == [merged(one) for one in first]
    assert all(1.0 <= at <= 6.0 for at in starts)
    assert len(set(starts)) == 6
    assert starts != [1.0 + n for n in range(6)]
    assert all(late - early <= 3.0 for early, late in zip(starts, lasts, strict=True))


def test_a_miss_names_the_nearest(tmp_path: Path) -> None:
    """What is not recorded is a 404 that says which recording is nearest and what differs."""
    path = cassette(
        tmp_path / "c",
        (question("What is the capital of France?", temperature=0.7), answered("Paris")),
        (question("Write a poem about the sea."), answered("Oh sea")),
    )

    async def test() -> None:
        async with mock(played(path)) as running:
            client = await running.client()
            asked = question("What is the capital of Spain?", temperature=0.2)
            status, kind, message = await client.error(post(asked))
            nothing = await client.error(post(question("", n=2)))
        assert (status, kind) == (404, "not_found")
        assert message == (
            "POST /chat/completions with this content is not in the cassette. Nearest (88% alike): "
            "'What is the capital of France?'; it differs in messages[0].content ('What is the "
            "capital of Spain?', recorded 'What is the capital of France?'), temperature (0.2, "
            "recorded 0.7)."
        )
        assert nothing[0] == 404

    run(test())


def test_a_miss_can_be_left_to_the_mock(tmp_path: Path) -> None:
    """With on_miss mock, unrecorded requests are answered as without a cassette."""
    path = cassette(tmp_path / "c", (question("Hi"), answered("Recorded.", 0.0)))

    async def test() -> None:
        upstream = played(path, on_miss="mock")
        async with mock(upstream) as running:
            client = openai.AsyncOpenAI(
                api_key=KEY, base_url=f"http://127.0.0.1:{running.port}/v1", max_retries=0
            )
            async with client:
                known: Any = await client.chat.completions.create(**question("Hi"))
                other: Any = await client.chat.completions.create(**question("A great book!"))
        assert known.choices[0].message.content == "Recorded."
        assert json.loads(other.choices[0].message.content)["label"] == "positive"

    run(test())


def test_other_endpoints_and_odd_requests_replay(tmp_path: Path) -> None:
    """Lists of models, embeddings and a body that is no JSON are found by their content."""
    path = tmp_path / "c.jsonl"
    writer = CassetteWriter(path, URL)
    places = [
        ("GET", "/models", "", b""),
        ("GET", "/generation", "id=1", b""),
        ("POST", "/embeddings", "", b'{"model":"e","input":"x"}'),
        ("POST", "/chat/completions", "", b"\xff no JSON"),
    ]
    for number, (method, where, query, body) in enumerate(places):
        request = request_of(method, where, query, body)
        headers = [("content-type", "text/plain"), ("x-request-id", str(number))]
        data = f"recorded {number}".encode()
        writer.add(
            Exchange(
                request=request,
                status=200 if number < 3 else 400,
                headers=headers,
                headers_s=0.0,
                length=len(data),
                chunks=[chunk(0.0, data)],
                ended="complete",
                total_s=0.0,
            )
        )
    writer.close()

    async def test() -> None:
        async with mock(played(path)) as running, aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{running.port}/api/v1"
            found = []
            for method, where, query, body in places:
                address = f"{url}{where}?{query}"
                async with session.request(method, address, data=body or None) as answer:
                    found.append((answer.status, await answer.read()))
                    assert answer.headers["X-Request-Id"] == str(len(found) - 1)
            async with session.get(f"{url}/generation?id=2") as answer:
                found.append((answer.status, b""))
        assert found == [
            (200, b"recorded 0"),
            (200, b"recorded 1"),
            (200, b"recorded 2"),
            (400, b"recorded 3"),
            (404, b""),
        ]

    run(test())


def test_a_missing_cassette_is_a_users_error(tmp_path: Path) -> None:
    """A cassette that is not there is told in one line before anything listens."""
    with pytest.raises(InputError, match="cannot read the cassette: No such file"):
        MockServer(played(tmp_path / "none.jsonl"))
    assert read_cassette(cassette(tmp_path / "c")).exchanges == []


def test_harness_run_replays_a_cassette(tmp_path: Path) -> None:
    """What the pipeline asked a provider once is answered from the cassette, in the same time."""
    path, scenario = tmp_path / "c.jsonl", tmp_path / "s.toml"
    scenario.write_text('[workload]\nreviews = 20\n[upstream.cassette]\nfile = "c.jsonl"\n')
    prepared = prepare(load_scenario(scenario))
    upstream = Upstream(profile=Profile(ttft=Exponential(mean=1.0)), keep_alive_s=0.3)

    async def main() -> list[Record]:
        real = MockServer(upstream, seed=3)
        recorder = Recorder(api(REAL), CassetteWriter(path, api(REAL)), Budget(), clock=str)
        the_loop().route("127.0.0.1", REAL, real.protocol_factory)
        the_loop().route("127.0.0.1", PROXY, recorder.protocol_factory)
        job = job_of(prepared, 3, api(PROXY), None, None)
        assert isinstance(job, Job)
        await job.run()
        await recorder.close()
        await real.close()
        return list(job.records)

    def waits(records: list[Record]) -> dict[str, float]:
        return {row.key: (row.t_end or 0) - (row.t_sent or 0) for row in records}

    recorded = waits(run_virtual(main(), seed=3))
    replayed = run_on_virtual_clock(prepared, seed=4).records
    assert len(recorded) == 20
    assert {row.status for row in replayed} == {200}
    # A transit delay of up to a millisecond comes on top of what was recorded.
    assert waits(replayed) == pytest.approx(recorded, abs=2e-3)
