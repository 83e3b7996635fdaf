"""Whether the mock is exact: judged from figures, provoked for real, impossible in virtual time."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import QUICK, Mock, mock, post, run

from harness.engines.virtual_loop import VirtualLoop, run_virtual
from mock_llm.config import Profile, Upstream
from mock_llm.control.watch import TICK_S, Watch, attended, lags_s, summary
from mock_llm.distributions import Uniform
from mock_llm.faults import ServerError
from mock_llm.fidelity import FEW, judge
from mock_llm.gauges import Tally
from mock_llm.ledger import Ledger, Row
from mock_llm.server import MockServer

SLOW = Upstream(profile=Profile(ttft=Uniform(low=0.1, high=3.0)))


def _answers(count: int, *, late_s: float = 0.0, planned_s: float = 0.0) -> Ledger:
    """A ledger of so many answers, all late by as much."""
    ledger = Ledger()
    for _ in range(count):
        ledger.add(
            Row(
                status=200,
                ended="complete",
                arrived_s=1.0,
                admitted_s=1.0,
                planned_last_token_s=planned_s,
                first_token_s=1.0 + planned_s + late_s,
                ended_s=1.0 + planned_s + late_s,
            )
        )
    return ledger


@pytest.mark.parametrize(
    ("late_s", "planned_s", "bottleneck"),
    [
        (0.009, 0.0, False),
        (0.011, 0.0, True),
        (0.011, 0.02, True),
        (0.009, 0.02, False),
        (0.011, 10.0, False),
        (0.4, 10.0, False),
        (0.6, 10.0, True),
        (-0.5, 1.0, False),
    ],
)
def test_late_is_more_than_10_ms_and_5_percent(
    late_s: float, planned_s: float, bottleneck: bool
) -> None:
    """A short answer has 10 ms of leave and a long one 5 % of its plan; early is not late."""
    found = judge(_answers(100, late_s=late_s, planned_s=planned_s).gauges.total())
    assert bool(found.reasons) == bottleneck
    assert found.delay_s_max == pytest.approx(max(late_s, 0.0))


def test_one_in_a_hundred_may_be_late() -> None:
    """Up to 1 % late answers, or fewer than five, are an anecdote."""
    tally = _answers(1000).gauges.total()
    tally.late = 9
    assert judge(tally).reasons == ()
    tally.late = 10
    assert judge(tally).reasons == ("10 of 1000 answers came late (p99 0 ms)",)
    few = _answers(FEW - 1, late_s=1.0).gauges.total()
    assert judge(few).reasons == ()


def test_a_full_core_is_a_bottleneck() -> None:
    """A mock that uses a whole core says so, if anybody asks it for anything."""
    assert judge(_answers(1).gauges.total(), 0.97).reasons == ("it uses 97% of a core",)
    assert judge(_answers(1).gauges.total(), 0.94).reasons == ()
    assert judge(Tally(), 0.97).reasons == ()


@given(st.floats(min_value=0, max_value=100))
def test_a_stall_counts_for_every_tick_it_swallowed(lag_s: float) -> None:
    """The lags of a stall go down tick by tick, so that they fill the time that it took."""
    lags = lags_s(lag_s)
    assert lags[0] == lag_s
    assert len(lags) == 1 + int(lag_s / TICK_S)
    assert all(-1e-9 <= lag <= lag_s for lag in lags)


def test_a_stall_of_the_loop_is_a_bottleneck() -> None:
    """A second's stall within a minute is one, though every answer came as planned."""
    server = MockServer(QUICK)
    watch = Watch(server, print)
    server.ledger = _answers(10)
    for tick in range(1200):
        server.ledger.begin()
        watch.tick(tick * TICK_S, 0.0)
    assert judge(server.ledger.gauges.last(60, 60.0)).reasons == ()
    watch.tick(60.5, 1.0)
    watch.tick(60.55, 0.0)
    (reason,) = judge(server.ledger.gauges.last(60, 60.5)).reasons
    assert reason.startswith("its event loop lags (p99 ")


@pytest.mark.parametrize(
    ("at_s", "comes", "counts"),
    [(30.0, False, False), (30.0, True, True), (1.0, True, False)],
)
def test_a_stall_that_nobody_felt_is_none(at_s: float, comes: bool, counts: bool) -> None:
    """It counts for a client that came meanwhile, not while the mock is idle or has just begun."""
    server = MockServer(QUICK)
    watch = Watch(server, print)
    watch.tick(0.0, 0.0)
    watch.tick(at_s, 1.0)
    if comes:
        server.ledger.begin()  # read after the tick, though it came during the stall
    watch.tick(at_s + TICK_S, 0.0)
    assert (server.ledger.gauges.total().lag.above(0.01) > FEW) == counts


def test_warnings_are_loud_and_rare() -> None:
    """While the mock is the bottleneck there is a line every ten seconds, and a count of all."""
    said: list[str] = []
    server = MockServer(QUICK)
    server.ledger = _answers(100, late_s=0.5)
    watch = Watch(server, said.append)
    for second in range(1, 26):
        watch.look(float(second), 0.0)
    assert len(said) == 3
    assert said[0].startswith("WARNING: the mock itself is the bottleneck: 100 of 100 answers")
    assert server.ledger.gauges.warnings == 25
    (first, last) = summary(server.ledger.gauges.total(), 25)
    assert first.startswith("100 attempts, 0 faults injected; answers 4")
    assert first.endswith(" ms late at p50, 500.0 ms at p99")
    assert last.startswith("INVALID: the mock was the bottleneck: 100 of 100 answers came late")


def test_processor_time_is_looked_at_over_five_seconds() -> None:
    """One busy second is nothing, five make a share."""
    server = MockServer(QUICK)
    watch, seen = Watch(server, print), []
    for second in range(7):
        watch.look(float(second), max(second - 2.0, 0.0))
        seen.append(server.ledger.gauges.cpu_share)
    assert seen == [0.0, 0.0, 0.0, 0.0, 0.0, 0.6, 0.8]


def test_summary_of_a_good_run() -> None:
    """It says how many attempts and faults there were, how late answers came, and VALID."""
    ledger = _answers(10)
    ledger.fire(Row(arrived_s=1.0, injected=("a", "b")))
    said = "10 attempts, 2 faults injected; answers 0.0 ms late at p50, 0.0 ms at p99: VALID"
    assert summary(ledger.gauges.total(), 0) == [said]
    assert summary(Tally(), 0) == ["0 attempts, 0 faults injected"]
    assert summary(ledger.gauges.total(), 3)[1] == (
        "INVALID: the mock was the bottleneck: in 3 s of its time"
    )


def test_a_blocked_loop_warns_for_real() -> None:
    """A call that blocks the server's loop makes answers late, and the mock says that it is it."""
    said: list[str] = []
    server = MockServer(Upstream(profile=Profile(ttft=0.05)))

    async def test() -> None:
        async with attended(server, None, said.append):
            running = Mock(server)
            running.port = await server.start()
            clients = [await running.client() for _ in range(6)]
            asking = [asyncio.create_task(client.ask(post())) for client in clients]
            for _ in clients:
                await running.admitted.acquire()
            began = time.perf_counter()
            while time.perf_counter() - began < 0.3:
                pass
            await asyncio.gather(*asking)
            await running.rows(6)
            while not said:  # noqa: ASYNC110 - the watch has nothing to wait for
                await asyncio.sleep(TICK_S)
            for client in clients:
                await client.leave()
            await server.close()

    run(test())
    assert said[0].startswith("WARNING: the mock itself is the bottleneck: 6 of 6 answers came")
    gauges = server.ledger.gauges
    last = summary(gauges.total(), gauges.warnings)[-1]
    assert last.startswith("INVALID: the mock was the bottleneck: 6 of 6 answers came late")


def test_nothing_is_late_on_the_virtual_clock() -> None:
    """On a clock that waits for nobody every delay is 0, so the mock is exact and says so."""
    server = MockServer(SLOW)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.route("127.0.0.1", 8000, server.protocol_factory)
        running = Mock(server)
        running.port = 8000
        clients = [await running.client() for _ in range(20)]
        await asyncio.gather(*(client.ask(post(X_Request_Key="a")) for client in clients))
        await running.rows(20)
        await server.close()

    run_virtual(main(), seed=1)
    found = judge(server.ledger.gauges.total())
    assert (found.answers, found.late) == (20, 0)
    assert (found.delay_s_p50, found.delay_s_p99) == (0.0, 0.0)
    assert found.delay_s_max < 1e-9
    assert summary(server.ledger.gauges.total(), 0)[0].endswith(": VALID")


def test_refusals_are_answers_too() -> None:
    """A fault that answers in time is exact; one that never answers was never due."""

    async def test() -> None:
        upstream = Upstream(faults={"down": ServerError(rate=1.0, status=503)})
        async with mock(upstream) as running:
            client = await running.client()
            await client.ask(post())
            await running.rows(1)
            total = running.server.ledger.gauges.total()
        assert (total.delay.count, total.faults, total.by(0)) == (1, {"down": 1}, {"503": 1})

    run(test())
