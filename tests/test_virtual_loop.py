"""The virtual clock: when it moves, when it stands, and when it gives up."""

import asyncio
import contextlib
import socket

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from virtual_servers import PORT, URL, answer, hang, serve, the_loop

from harness.engines.virtual_loop import (
    HorizonError,
    SpinError,
    StuckError,
    run_virtual,
)


def test_clock_starts_at_zero_and_jumps_to_the_exact_time() -> None:
    """The clock starts at 0 and shows exactly the time a sleeper asked for, however long."""

    async def main() -> list[float]:
        loop = the_loop()
        times = [loop.time()]
        for delay_s in (0.1, 0.2, 1e-9, 86_400.0 * 30):
            await asyncio.sleep(delay_s)
            times.append(loop.time())
        return times

    now = [0.0, 0.1, 0.1 + 0.2, 0.1 + 0.2 + 1e-9, 0.1 + 0.2 + 1e-9 + 86_400.0 * 30]
    assert run_virtual(main()) == now


@given(st.lists(st.floats(0, 1e6), max_size=50), st.lists(st.sampled_from([0.5, 1, 2])))
def test_timers_fire_on_time_and_ties_in_order(some: list[float], ties: list[float]) -> None:
    """Timers fire at exactly their time, and those of one instant in the order they were set."""

    async def main() -> list[tuple[float, int]]:
        loop = the_loop()
        fired: list[tuple[float, int]] = []
        for i, when in enumerate(some + ties):
            loop.call_at(when, lambda i=i: fired.append((loop.time(), i)))
        await asyncio.sleep(2e6)
        return fired

    expected = sorted((when, i) for i, when in enumerate(some + ties))
    assert run_virtual(main()) == expected


def test_asyncio_timeout_is_exact() -> None:
    """A time limit fires at its very instant, and not for work that ends just before it."""

    async def main() -> float:
        async with asyncio.timeout(30.0):
            await asyncio.sleep(29.999_999_999)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30.0):
                await asyncio.sleep(30.000_000_001)
        return the_loop().time()

    assert run_virtual(main()) == 29.999_999_999 + 30.0


def test_stuck_run_ends_and_names_who_waits() -> None:
    """When nothing can ever wake again, the run ends and its error names the waiting tasks."""

    async def wait_for_ever() -> None:
        await asyncio.sleep(7)
        cancelled = asyncio.get_running_loop().call_later(1000, print)
        cancelled.cancel()
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for i in range(3):
                group.create_task(wait_for_ever(), name=f"client-{i}")

    with pytest.raises(StuckError) as caught:
        run_virtual(main())
    assert "(virtual time 7 s)" in str(caught.value)
    assert "3 x " in str(caught.value)
    assert "wait_for_ever (client-0, client-1, ...)" in str(caught.value)


def test_hanging_server_is_stuck() -> None:
    """A client without a time limit that waits for a silent server is stuck, not hanging."""

    async def main() -> None:
        loop = the_loop()
        loop.route("127.0.0.1", PORT, web.Server(hang, keepalive_timeout=0))
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await session.get(URL)

    with pytest.raises(StuckError, match="main"):
        run_virtual(main())


def test_endless_sleep_is_stuck() -> None:
    """A sleep without end is nothing to wait for."""
    with pytest.raises(StuckError):
        run_virtual(asyncio.sleep(float("inf")))


def test_on_stuck_can_wake_the_run() -> None:
    """`on_stuck` is called once per stuck state and what it schedules goes on."""
    waiting: list[asyncio.Future[str]] = []
    calls: list[float] = []

    def on_stuck() -> None:
        calls.append(the_loop().time())
        waiting.pop().set_result("woken")

    async def main() -> list[str]:
        woken = []
        for _ in range(2):
            await asyncio.sleep(5)
            waiting.append(asyncio.get_running_loop().create_future())
            woken.append(await waiting[0])
        return woken

    assert run_virtual(main(), on_stuck=on_stuck) == ["woken", "woken"]
    assert calls == [5.0, 10.0]


def test_on_stuck_without_effect_is_stuck() -> None:
    """A run whose `on_stuck` schedules nothing ends all the same."""
    calls: list[int] = []

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(StuckError):
        run_virtual(main(), on_stuck=lambda: calls.append(1))
    assert calls == [1]


def test_spinning_task_is_named() -> None:
    """A task that polls without waiting is found out by name; those that wait are not blamed."""

    async def poll() -> None:
        while the_loop().time() < 1:  # noqa: ASYNC110 - the fault in question
            await asyncio.sleep(0)

    async def patient() -> None:
        await asyncio.sleep(1)

    async def main() -> None:
        the_loop().quiet_turns = 1000
        await asyncio.gather(asyncio.create_task(poll(), name="poller"), patient())

    with pytest.raises(SpinError) as caught:
        run_virtual(main())
    assert "poll (poller)" in str(caught.value)
    assert "patient" not in str(caught.value)


def test_spinning_over_io_is_found_out() -> None:
    """A client that calls again at once, for ever, is found out although it does I/O."""

    async def main() -> None:
        loop = serve(answer)
        loop.busy_turns = 1000
        async with aiohttp.ClientSession() as session:
            while loop.time() < 1:
                async with session.get(URL) as reply:
                    await reply.read()

    with pytest.raises(SpinError, match="main"):
        run_virtual(main())


def test_sockets_ready_together_are_handled_in_order() -> None:
    """Sockets that become ready at one poll are handled in the order they were registered."""

    async def main() -> list[int]:
        loop = the_loop()
        handled: list[int] = []
        pairs = [socket.socketpair() for _ in range(8)]
        for i, (near, _) in enumerate(pairs):
            loop.add_reader(near, handled.append, i)
        for _, far in reversed(pairs):
            far.send(b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for near, far in pairs:
            loop.remove_reader(near)
            near.close()
            far.close()
        return handled

    assert run_virtual(main()) == list(range(8))


def test_horizon_ends_a_run_of_periodic_timers() -> None:
    """A run that only ever fires periodic timers ends at its horizon and names them."""

    async def heartbeat() -> None:
        while True:  # noqa: ASYNC110 - it waits for nothing
            await asyncio.sleep(60)

    with pytest.raises(HorizonError, match=r"3600 s.*heartbeat"):
        run_virtual(heartbeat(), horizon_s=3600)


def test_repeats_in_one_process_are_identical() -> None:
    """Four runs of 200 clients with keyed sleeps give one and the same log, order included."""

    async def main() -> list[tuple[float, str, int]]:
        log: list[tuple[float, str, int]] = []

        async def served(request: web.BaseRequest) -> web.StreamResponse:
            i = int(request.query["i"])
            log.append((the_loop().time(), "served", i))
            await asyncio.sleep(i % 7 * 0.5)
            return web.Response()

        loop = serve(served)

        async def client(i: int) -> None:
            for _ in range(3):
                await asyncio.sleep(i % 5 * 0.25)
                async with session.get(f"{URL}?i={i}") as reply:
                    await reply.read()
                log.append((loop.time(), "done", i))

        connector = aiohttp.TCPConnector(limit=100)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as g:
            for i in range(200):
                g.create_task(client(i))
        return log

    logs = [run_virtual(main()) for _ in range(4)]
    assert len(logs[0]) == 1200
    assert [log == logs[0] for log in logs] == [True] * 4


def test_cancelling_a_task_group_repeats() -> None:
    """Tasks are cancelled in the same order in every run, though a group keeps them in a set."""

    async def main() -> list[int]:
        cancelled: list[int] = []

        async def sleeper(i: int) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                cancelled.append(i)

        async def failing() -> None:
            await asyncio.sleep(1)
            raise ValueError

        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                for i in range(50):
                    group.create_task(sleeper(i))
                group.create_task(failing())
        return cancelled

    orders = [run_virtual(main()) for _ in range(4)]
    assert sorted(orders[0]) == list(range(50))
    assert [order == orders[0] for order in orders] == [True] * 4


def test_run_cleans_up_after_an_error() -> None:
    """An error comes out as it is; tasks left behind are cancelled and connections closed."""
    ended: list[str] = []

    async def left_behind() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            ended.append("left behind")

    async def main() -> None:
        serve(hang)
        tasks = [asyncio.create_task(left_behind())]
        streams = await asyncio.open_connection("127.0.0.1", PORT)
        await asyncio.sleep(1)
        raise LookupError(len(tasks) + len(streams))

    with pytest.raises(LookupError, match="3"):
        run_virtual(main())
    assert ended == ["left behind"]


def test_task_that_will_not_die_does_not_hide_the_result() -> None:
    """A task that ignores its cancellation and waits on does not keep the run from ending."""
    stuck: list[int] = []

    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()

    async def main() -> str:
        task = asyncio.create_task(stubborn())
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        await asyncio.sleep(1)
        return "done"

    assert run_virtual(main(), on_stuck=lambda: stuck.append(1)) == "done"
    assert stuck == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit])
def test_interrupt_ends_a_run(fault: type[BaseException]) -> None:
    """An interrupt in the middle of a run comes out of it, after the cleaning up."""
    ended: list[str] = []

    async def main() -> None:
        try:
            the_loop().call_later(1, _raise, fault)
            await asyncio.sleep(2)
        finally:
            ended.append("main")

    with pytest.raises(fault):
        run_virtual(main())
    assert ended == ["main"]
    assert "connect" not in vars(socket.socket)


def _raise(fault: type[BaseException]) -> None:
    raise fault
