"""The virtual-clock event loop, under clients and servers that know nothing of it."""

import asyncio
import contextlib
import http.client
import importlib
import random
import resource
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import anyio
import anyio.to_thread
import httpx
import openai
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from harness.engines.virtual_guard import SynchronousClientError
from harness.engines.virtual_loop import (
    HorizonError,
    SpinError,
    StuckError,
    VirtualLoop,
    run_virtual,
)
from harness.engines.virtual_net import OutsideError
from harness.errors import InputError

PORT = 8080
URL = f"http://127.0.0.1:{PORT}/api/v1"
COMPLETION = {
    "id": "gen-1",
    "object": "chat.completion",
    "created": 0,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "positive"},
        }
    ],
}
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def the_loop() -> VirtualLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


def serve(handler: Handler, host: str = "127.0.0.1") -> VirtualLoop:
    """Route an aiohttp server on the running loop."""
    loop = the_loop()
    loop.route(host, PORT, web.Server(handler))
    return loop


async def answer(_: web.BaseRequest) -> web.StreamResponse:
    return web.json_response(COMPLETION)


async def hang(_: web.BaseRequest) -> web.StreamResponse:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


async def ask(client: openai.AsyncOpenAI) -> str | None:
    reply = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "good?"}]
    )
    return reply.choices[0].message.content


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


def test_thousand_concurrent_aiohttp_calls_take_one_answer_time() -> None:
    """A thousand clients at once all get their answer after the server's one second, twice over."""
    served: set[str] = set()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        served.add(f"{request.transport and request.transport.get_extra_info('peername')}")
        await asyncio.sleep(1.0)
        return web.Response(body=await request.read())

    async def main() -> tuple[float, int]:
        serve(slow)

        async def one(i: int) -> None:
            body = b"%d" % i * 1000
            async with session.post(URL, data=body) as reply:
                assert await reply.read() == body

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            for _ in range(2):
                await asyncio.gather(*(one(i) for i in range(1000)))
        return the_loop().time(), len(served)

    assert run_virtual(main()) == (2.0, 1000)


def test_large_bodies_pass_at_one_instant() -> None:
    """Bodies far beyond the sockets' buffers pass whole, while no time passes."""

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=await request.read())

    async def main() -> tuple[int, float]:
        loop = the_loop()
        factory = web.Server(echo)
        loop.route("127.0.0.1", PORT, factory)
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        body = bytes(900_000)
        writer.write(b"POST / HTTP/1.0\r\nContent-Length: 900000\r\n\r\n" + body)
        reply = await reader.read()
        writer.close()
        return len(reply.partition(b"\r\n\r\n")[2]), loop.time()

    assert run_virtual(main()) == (900_000, 0.0)


def test_more_connections_than_the_limit_on_open_files() -> None:
    """A limit on open files that the connections would exceed is lifted for the run alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 128

    async def main() -> int:
        serve(answer)
        ends = [await asyncio.open_connection("localhost", PORT) for _ in range(low)]
        for _, writer in ends:
            writer.close()
        return len(ends)

    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        assert run_virtual(main()) == low
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (low, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_routed_names_need_no_dns() -> None:
    """A client reaches a server by any routed name, and by localhost, without a resolver."""

    async def main() -> list[int]:
        serve(answer, "mock.test")
        serve(answer)
        urls = [f"http://{host}:{PORT}/" for host in ("mock.test", "MOCK.test", "localhost")]
        async with aiohttp.ClientSession() as session, httpx.AsyncClient() as client:
            statuses = [(await session.get(url)).status for url in urls]
            return statuses + [(await client.get(url)).status_code for url in urls]

    assert run_virtual(main()) == [200] * 6


def test_server_sees_a_loopback_client() -> None:
    """The server sees where a client comes from, as over loopback, the same in every run."""

    async def whoami(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        return web.json_response([request.remote, request.transport.get_extra_info("peername")])

    async def main() -> object:
        serve(whoami)
        async with aiohttp.ClientSession() as session, session.get(URL) as reply:
            return await reply.json()

    assert run_virtual(main()) == ["127.0.0.1", ["127.0.0.1", 49152]]


def test_httpx_client_needs_no_change() -> None:
    """An ordinary httpx client with an ordinary base URL, and its time limit, run as they are."""

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(4.5)
        return web.json_response(COMPLETION)

    async def main() -> tuple[int, float, float]:
        serve(slow)
        async with httpx.AsyncClient(base_url=URL) as client:
            reply = await client.post("/chat/completions", json={})
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/chat/completions", json={}, timeout=2.25)
        return reply.status_code, reply.elapsed.total_seconds(), the_loop().time()

    assert run_virtual(main()) == (200, 4.5, 6.75)


def test_tcp_options_of_a_client_mean_nothing() -> None:
    """A client that sets TCP options on its connections runs; other options are really set."""
    options = [
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    ]

    async def main() -> tuple[int, int]:
        serve(answer)
        transport = httpx.AsyncHTTPTransport(socket_options=options)
        async with httpx.AsyncClient(transport=transport) as client:
            reply = await client.get(URL)
            wire = reply.extensions["network_stream"].get_extra_info("socket")
            return reply.status_code, wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    assert run_virtual(main()) == (200, 1)


def test_openai_client_waits_what_retry_after_says() -> None:
    """An unmodified openai client retries a 429 after exactly its `Retry-After`."""
    arrivals: list[float] = []

    async def limited(_: web.BaseRequest) -> web.StreamResponse:
        arrivals.append(the_loop().time())
        if len(arrivals) == 1:
            return web.json_response({}, status=429, headers={"Retry-After": "17"})
        return web.json_response(COMPLETION)

    async def main() -> str | None:
        serve(limited)
        async with openai.AsyncOpenAI(base_url=URL, api_key="k") as client:
            return await ask(client)

    assert run_virtual(main()) == "positive"
    assert arrivals == [0.0, 17.0]


def test_openai_client_waits_600_s_for_a_hang() -> None:
    """An openai client with its default settings gives a silent hang 600 seconds."""

    async def main() -> float:
        serve(hang)
        async with openai.AsyncOpenAI(base_url=URL, api_key="k", max_retries=0) as client:
            with pytest.raises(openai.APITimeoutError):
                await ask(client)
        return the_loop().time()

    assert run_virtual(main()) == 600.0


def test_openai_jitter_repeats_with_the_seed() -> None:
    """The retry jitter that a client draws from the global `random` follows the run's seed."""

    async def broken(_: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({}, status=500)

    async def main() -> float:
        serve(broken)
        async with openai.AsyncOpenAI(base_url=URL, api_key="k") as client:
            with pytest.raises(openai.InternalServerError):
                await ask(client)
        return the_loop().time()

    ends = [run_virtual(main(), seed=seed) for seed in (1, 1, 2)]
    assert ends[0] == ends[1] != ends[2]


def test_global_random_is_restored() -> None:
    """A run leaves the global `random` as it found it, even when it fails."""

    async def main() -> None:
        random.random()
        raise LookupError

    before = random.getstate()
    with pytest.raises(LookupError):
        run_virtual(main())
    assert random.getstate() == before


async def _by_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        await session.get(url)


async def _by_httpx(url: str) -> None:
    async with httpx.AsyncClient() as client:
        await client.get(url)


async def _by_stream(url: str) -> None:
    parsed = httpx.URL(url)
    await asyncio.open_connection(parsed.host, parsed.port or 80)


@pytest.mark.parametrize("get", [_by_aiohttp, _by_httpx, _by_stream])
@pytest.mark.parametrize("host", ["api.openai.com", "192.0.2.1", "[2001:db8::1]"])
def test_other_hosts_are_refused(get: Callable[[str], Awaitable[None]], host: str) -> None:
    """No asynchronous client reaches another host, and the error says which engine does."""

    async def main() -> set[tuple[str, int]]:
        serve(answer)
        with pytest.raises((OSError, httpx.ConnectError)) as caught:
            await get(f"http://{host}:81/")
        error: BaseException | None = caught.value
        texts = []
        while error is not None:
            texts.append(str(error))
            error = error.__cause__ or error.__context__
        assert any("nothing leaves the process" in text for text in texts), texts
        assert any("--engine live" in text for text in texts), texts
        return the_loop().refused

    assert run_virtual(main()) == {(host.strip("[]"), 81)}


def test_unrouted_port_is_refused() -> None:
    """A port that nobody serves refuses the connection, as on loopback."""

    async def main() -> None:
        serve(answer)
        with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1:81"):
            await asyncio.open_connection("127.0.0.1", 81)

    run_virtual(main())


def test_nothing_else_leaves_the_process() -> None:
    """Listening, datagrams, Unix paths and subprocesses are refused: their time is not virtual."""

    async def main() -> None:
        loop = the_loop()
        unix = socket.socket(socket.AF_UNIX)
        for attempt in (
            asyncio.start_server(print, "127.0.0.1", 0),
            asyncio.start_unix_server(print, "/nowhere"),
            asyncio.open_unix_connection("/nowhere"),
            loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)),
            asyncio.create_subprocess_exec("true"),
            asyncio.create_subprocess_shell("true"),
            loop.sock_connect(unix, "/nowhere"),
        ):
            with pytest.raises(OutsideError, match="nothing leaves the process"):
                await attempt
        unix.close()

    run_virtual(main())


def _job() -> int:
    return sum(range(300_000))  # longer than the loop needs to jump


@pytest.mark.parametrize(
    "in_thread",
    [
        asyncio.to_thread,
        anyio.to_thread.run_sync,
        lambda job: asyncio.get_running_loop().run_in_executor(None, job),
    ],
)
def test_clock_stands_still_while_a_thread_works(in_thread: Callable[..., Any]) -> None:
    """While a thread works for the loop no time passes, though a timer is due next."""

    async def main() -> float:
        timer = asyncio.create_task(asyncio.sleep(1e-9))
        for _ in range(3):
            assert await in_thread(_job) == _job()
        now = the_loop().time()
        await timer
        return now

    assert run_virtual(main()) == 0.0


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


def test_jobs_begun_together_end_in_order() -> None:
    """Jobs in threads, begun at one instant, are seen to end in the order they were begun."""

    async def main() -> list[int]:
        ended: list[int] = []

        async def work(i: int) -> None:
            await asyncio.to_thread(sum, range(1000 * (20 - i)))
            ended.append(i)

        await asyncio.gather(*(work(i) for i in range(20)))
        return ended

    assert run_virtual(main()) == list(range(20))


def test_job_that_never_ends_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that keeps the clock still beyond all patience ends the run with an error."""
    monkeypatch.setattr("harness.engines.virtual_loop.SHORT_JOB_WALL_S", 0.0)
    monkeypatch.setattr("harness.engines.virtual_loop.THREAD_PATIENCE_WALL_S", 0.01)
    end = threading.Event()
    with pytest.raises(StuckError, match="a thread has kept the virtual clock still"):
        run_virtual(asyncio.to_thread(end.wait))
    end.set()


def test_polling_a_thread_is_no_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may poll for a thread's result: real work goes on although the clock stands."""
    monkeypatch.setattr("harness.engines.virtual_loop.SHORT_JOB_WALL_S", 0.0)
    polled = threading.Event()

    async def main() -> bool:
        the_loop().quiet_turns = 10
        job = asyncio.get_running_loop().run_in_executor(None, polled.wait)
        for _ in range(50):
            await asyncio.sleep(0)
        polled.set()
        return await job

    assert run_virtual(main())


def test_executor_can_be_shut_down() -> None:
    """Ending the executor's threads takes real time, but no virtual time."""

    async def main() -> float:
        timer = asyncio.create_task(asyncio.sleep(1))
        await asyncio.to_thread(_job)
        await the_loop().shutdown_default_executor()
        now = the_loop().time()
        await timer
        return now

    assert run_virtual(main()) == 0.0


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


def _http_client() -> None:
    http.client.HTTPConnection("127.0.0.1", PORT).request("GET", "/")


def _urllib() -> None:
    urllib.request.urlopen(f"http://localhost:{PORT}/")


def _httpx_sync() -> None:
    httpx.get(f"http://127.0.0.1:{PORT}/")


def _openai_sync() -> None:
    client = openai.OpenAI(base_url=URL, api_key="k")
    client.models.list()


@pytest.mark.parametrize("call", [_http_client, _urllib, _httpx_sync, _openai_sync])
@pytest.mark.parametrize("threaded", [False, True])
def test_synchronous_client_is_refused(call: Callable[[], None], threaded: bool) -> None:
    """A synchronous client ends the run at once, in whatever thread, with a pointer to `live`."""
    retries: list[int] = []

    async def main() -> None:
        serve(answer)
        for attempt in range(3):
            try:
                if threaded:
                    await asyncio.to_thread(call)
                else:
                    call()
            except Exception:  # noqa: BLE001 - what a client's caller would do
                retries.append(attempt)

    with pytest.raises(SynchronousClientError, match="--engine live") as caught:
        run_virtual(main())
    assert isinstance(caught.value, InputError)
    assert "\n" not in str(caught.value)
    assert retries == []


def test_blocking_look_up_is_refused() -> None:
    """A synchronous client is refused before it asks the DNS for a host."""

    async def main() -> None:
        http.client.HTTPConnection("api.openai.com").request("GET", "/")

    with pytest.raises(SynchronousClientError, match=r"look-up of api\.openai\.com"):
        run_virtual(main())


def test_aiohttp_asks_the_loop_for_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where aiohttp's default resolver would go to the DNS by itself, it still asks the loop."""
    monkeypatch.setattr("aiohttp.connector.DefaultResolver", None)

    async def main() -> int:
        serve(answer, "mock.test")
        async with aiohttp.ClientSession() as session:
            return (await session.get(f"http://mock.test:{PORT}/")).status

    assert run_virtual(main()) == 200


def test_sockets_work_again_after_a_run() -> None:
    """After a run, even a refused one, blocking sockets connect as before."""
    with pytest.raises(SynchronousClientError):
        run_virtual(asyncio.to_thread(_http_client))
    assert "connect" not in vars(socket.socket)
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_blocking_sleep_of_a_client_library_is_refused() -> None:
    """A library that sleeps with `time.sleep` on the loop would stop everybody: it is refused."""
    module = ModuleType("some_client")
    vars(module)["time"] = time

    async def main() -> None:
        vars(module)["time"].sleep(1)

    with _imported(module), pytest.raises(SynchronousClientError, match=r"time\.sleep\(1\)"):
        run_virtual(main(), packages=["some_client"])


@contextlib.contextmanager
def _imported(module: ModuleType) -> Iterator[None]:
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]


def test_clocks_of_client_packages_are_virtual_during_a_run() -> None:
    """Packages of the code under test read the virtual clock, and the real one again afterwards."""
    module = ModuleType("some_client")
    vars(module).update(time=time, now=time.monotonic)

    async def main() -> list[float]:
        names = vars(module)
        before = names["time"].time()
        await asyncio.sleep(90)
        return [names["now"](), names["time"].monotonic(), names["time"].time() - before]

    with _imported(module):
        assert run_virtual(main(), packages=["some_client"]) == [90.0, 90.0, 90.0]
    assert vars(module)["time"] is time
    assert vars(module)["now"] is time.monotonic


def test_client_imported_during_a_run_reads_the_virtual_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package that is first imported in the middle of a run gets the virtual clock as well."""
    (tmp_path / "lazy_client.py").write_text("import time\nfrom time import monotonic\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    async def main() -> list[float]:
        await asyncio.sleep(90)
        lazy = importlib.import_module("lazy_client")
        return [lazy.monotonic(), lazy.time.perf_counter()]

    finders = list(sys.meta_path)
    try:
        assert run_virtual(main(), packages=["lazy_client"]) == [90.0, 90.0]
        assert sys.modules["lazy_client"].monotonic is time.monotonic
    finally:
        sys.modules.pop("lazy_client", None)
    assert sys.meta_path == finders


@pytest.mark.parametrize(("idle_s", "connections"), [(14.0, 1), (16.0, 2)])
def test_idle_aiohttp_connection_expires_in_virtual_time(idle_s: float, connections: int) -> None:
    """A pooled connection is used again before its 15 idle seconds are over, and not after."""
    peers: set[Any] = set()

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        peers.add(request.transport and request.transport.get_extra_info("peername"))
        return web.Response()

    async def main() -> int:
        serve(note)
        async with aiohttp.ClientSession() as session:
            for _ in range(2):
                async with session.get(URL) as reply:
                    await reply.read()
                await asyncio.sleep(idle_s)
        return len(peers)

    assert run_virtual(main()) == connections


@pytest.mark.parametrize(("idle_s", "connections"), [(4.9, 1), (5.1, 2)])
def test_idle_httpx_connection_expires_in_virtual_time(idle_s: float, connections: int) -> None:
    """The same holds for httpx and its five seconds, whatever the wall clock says."""
    peers: set[Any] = set()

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        peers.add(request.transport and request.transport.get_extra_info("peername"))
        return web.Response()

    async def main() -> int:
        serve(note)
        async with httpx.AsyncClient() as client:
            for _ in range(2):
                await client.get(URL)
                await asyncio.sleep(idle_s)
        return len(peers)

    assert run_virtual(main()) == connections


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


def test_routes_can_be_given_beforehand() -> None:
    """A protocol that needs no loop to be made can be routed before the run."""

    class Greeter(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.write(b"hello")
            transport.close()

    async def main() -> bytes:
        reader, writer = await asyncio.open_connection("localhost", 25)
        greeting = await reader.read()
        writer.close()
        return greeting

    assert run_virtual(main(), routes={("127.0.0.1", 25): Greeter}) == b"hello"
