"""Faults below HTTP: keyed by connection or look-up, and what they cost a run."""

import asyncio
import json
import os
import socket
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jobs import BY_NAME, faulty, items, ran, settings
from runs import flown
from served import serving

from harness.attribution import verdict
from harness.engines.virtual import routed
from harness.engines.virtual_loop import VirtualLoop, run_virtual
from mock_llm.config import Upstream
from mock_llm.counts import Counting
from mock_llm.errors import InputError
from mock_llm.faults import DnsFailure, Fault, HangBeforeHeaders, IdleRace, TlsStall
from mock_llm.network import Armed, absent, aimless
from mock_llm.server import MockServer
from mock_llm.shared import SharedMemory
from mock_llm.strict import convert

NO_NAME = 'upstream.faults.dns={kind="dns_failure",rate=0.2}'
NO_POOL = "pipeline.pool=false"
STALL = 'upstream.faults.stall={kind="tls_stall",rate=0.05}'


def armed(*faults: TlsStall, seed: int = 1, counts: Counting | None = None) -> Armed:
    stalls = Armed(TlsStall, "connection", seed, counts)
    stalls.change({f"fault {n}": fault for n, fault in enumerate(faults)})
    return stalls


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_rate_is_the_share_of_connections(seed: int, rate: float) -> None:
    """Of a thousand connections about the rate is struck, and the same ones every time."""
    first, second = (
        [stalls.strikes(0.0) for _ in range(1000)]
        for stalls in (armed(TlsStall(rate=rate), seed=seed) for _ in range(2))
    )
    assert first == second
    assert abs(len([one for one in first if one]) - 1000 * rate) <= 100


def test_a_stalled_connection_is_in_flight_until_it_ends() -> None:
    """It is counted in when it is made and out when it ends, and its fault as one that fired."""

    async def main() -> list[object]:
        server = MockServer(Upstream(faults={"stall": TlsStall(rate=1)}))
        stalled = server.protocol_factory()
        stalled.connection_made(asyncio.Transport())
        before = server.ledger.in_flight
        stalled.connection_lost(None)
        ledger = server.ledger
        return [before, ledger.in_flight, ledger.gauges.total().faults, len(ledger.fired)]

    assert asyncio.run(main()) == [1, 0, {"stall": 1}, 1]


def test_window_and_first_ones_count_from_the_first_connection() -> None:
    """A window begins with the first connection, and `first_n` counts those it could meet."""
    stalls = armed(TlsStall(rate=1, from_s=5.0, until_s=10.0, first_n=2), TlsStall(rate=1))
    found = [stalls.strikes(now) for now in (100.0, 105.0, 106.0, 107.0, 111.0)]
    assert found == ["fault 1", "fault 0", "fault 0", "fault 1", "fault 1"]


def test_change_goes_on_with_the_numbers() -> None:
    """Other faults strike other connections; those counted so far stay counted."""
    stalls = armed(TlsStall(rate=1, first_n=1))
    assert stalls.strikes(0.0) == "fault 0"
    stalls.change({})
    assert (bool(stalls), stalls.strikes(1.0)) == (False, None)
    stalls.change({"fault 0": TlsStall(rate=1, first_n=1)})
    assert stalls.strikes(2.0) is None


@given(st.lists(st.integers(0, 1), max_size=50))
def test_processes_share_the_numbers(accepting: list[int]) -> None:
    """Whichever process accepts a connection, the same ones are struck, `first_n` of all."""
    faults = TlsStall(rate=0.7, first_n=9), TlsStall(rate=0.3)
    memory = SharedMemory()
    views = [memory.network, SharedMemory(memory.file).network]
    processes = [armed(*faults, counts=view) for view in views]
    alone = armed(*faults)
    struck = [processes[one].strikes(0.0) for one in accepting]
    assert struck == [alone.strikes(0.0) for _ in accepting]
    os.close(memory.file)


def test_reset_strikes_the_same_connections_again() -> None:
    """After a reset numbers and windows begin anew; another seed strikes others."""
    faults: dict[str, Fault] = {"x": TlsStall(rate=0.5, until_s=50.0)}
    server = MockServer(Upstream(faults=faults))

    def struck(start_s: float) -> list[str | None]:
        return [server.network.stalls.strikes(start_s + number) for number in range(60)]

    first = struck(0.0)
    server.reset()
    assert struck(100.0) == first
    server.reset(seed=2)
    assert struck(200.0) != first


@pytest.mark.parametrize("kind", ["tls_stall", "dns_failure"])
def test_limits_of_attempts_are_refused(kind: str) -> None:
    """A connection has no model yet, so that to name one is a mistake with one line."""
    table = {"faults": {"x": {"kind": kind, "rate": 0.1, "models": ["openai/gpt-4o"]}}}
    with pytest.raises(InputError, match=r"^here: faults\.x\.models: models says nothing of a"):
        convert(table, Upstream, "here")


def test_idle_race_meets_pooled_connections_only() -> None:
    """Every second call of a pool finds its connection closed; without a pool none does."""
    chosen = settings(concurrency=1, retries=1, attempt_timeout_s=30.0)
    pooled = ran(items(3), chosen, faulty(IdleRace(rate=1)))
    assert [(row.attempt, row.error) for row in pooled.rows] == [
        (1, ""),
        *[(1, "disconnected"), (2, "")] * 2,
    ]
    alone = ran(items(3), settings(pool=False), faulty(IdleRace(rate=1)))
    assert [row.error for row in alone.rows] == [""] * 3


def test_stalled_handshake_is_blamed_on_connecting() -> None:
    """A request that waited for its handshake is told from one that waited for its answer."""
    chosen = settings(attempt_timeout_s=30.0)
    stalled = ran(items(1), chosen, faulty(TlsStall(rate=1)))
    silent = ran(items(1), chosen, faulty(HangBeforeHeaders(rate=1)))
    assert [verdict(one.rows) for one in (stalled, silent)] == ["connect", "no_first_token"]
    assert [(row.key, row.ended, row.ended_s) for row in stalled.seen] == [
        ("", "client_left", 30.0)
    ]


def test_stalled_handshake_without_a_limit_is_never_answered() -> None:
    """When nobody gives up, the virtual clock knows that nothing can ever wake."""
    result = ran(items(1), settings(attempt_timeout_s=None), faulty(TlsStall(rate=1)))
    assert (result.job.stopped, result.rows[-1].error) == ("never_answered", "never_answered")


def test_name_that_is_not_found_has_a_word_of_its_own() -> None:
    """Look-ups fail at the fault's rate, each retry looks up again, and the mock sees nothing."""
    fault = DnsFailure(rate=1, first_n=2)
    result = ran(items(1), settings(retries=3), faulty(fault), base_url=BY_NAME)
    errors = [row.error for row in result.rows]
    assert errors == ["dns_failure", "dns_failure", ""]
    assert verdict(result.rows[:2]) == "dns_failure"
    assert [row.attempt for row in result.seen] == ["3"]


def test_client_sees_the_resolvers_own_error() -> None:
    """What a client catches is what a resolver raises: a `gaierror` that may pass."""
    server = MockServer(faulty(DnsFailure(rate=1)))

    async def ask() -> aiohttp.ClientConnectorDNSError:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        routed(server, loop)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorDNSError) as caught:
                await session.post(f"{BY_NAME}/chat/completions", json={})
        await server.close()
        return caught.value

    error = run_virtual(ask())
    assert isinstance(error.os_error, socket.gaierror)
    assert error.os_error.errno == socket.EAI_AGAIN


def test_whole_run_under_network_faults_repeats() -> None:
    """The engine gives its client a name to look up, and a run repeats to the byte."""
    sets = ("workload.reviews=60", NO_NAME, NO_POOL, STALL)
    runs = [flown("after", *sets) for _ in range(2)]
    first, second = (run.report for run in runs)
    assert first["records_sha256"] == second["records_sha256"]
    errors = {row.error for row in runs[0].result.records}
    assert {"dns_failure", "attempt_timeout", ""} <= errors
    assert first["ok"] == 60


def test_server_says_what_it_cannot_do(tmp_path: Path) -> None:
    """A process says in a line of its own that this fault does nothing there."""
    assert absent(faulty(TlsStall(rate=1))) == []
    (line,) = absent(faulty(DnsFailure(rate=1)))
    scenario = tmp_path / "scenario.json"
    faults = {"fault 0": {"kind": "dns_failure", "rate": 0.5}}
    scenario.write_text(json.dumps({"upstream": {"faults": faults}}))
    with serving(str(scenario)) as (process, _):
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
    assert [one.partition(":")[0] for one in said[:2]] == [
        "mock_llm control token",
        "mock_llm dashboard",
    ]
    assert said[2] == f"mock_llm: {line}\n"


def test_misspelt_model_of_a_fault_is_told() -> None:
    """A fault for a model that is not on offer is named in the notes; others are not."""
    told = "fault 'down' strikes nobody as 'gpt-4o': no such model is on offer"
    table = '{kind="server_error",rate=1,models=["openai/gpt-4o","gpt-4o"]}'
    assert (
        told
        in flown("after", "workload.reviews=5", f"upstream.faults.down={table}").report["notes"]
    )
    assert aimless(faulty(TlsStall(rate=1))) == []
