"""Connections on the virtual clock, by clients that know nothing of it."""

import asyncio
import resource
import socket
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
import openai
import pytest
from aiohttp import web
from virtual_servers import PORT, URL, answer, ask, hang, serve, the_loop

from harness.engines.virtual_loop import (
    run_virtual,
)
from harness.engines.virtual_net import OutsideError


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


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


def test_httpx_client_needs_no_change() -> None:
    """An ordinary httpx client with an ordinary base URL, and its time limit, run as they are."""

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(4.5)
        return await answer(_)

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
        return await answer(_)

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
