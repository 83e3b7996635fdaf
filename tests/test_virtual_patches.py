"""What a run on the virtual clock takes over in the process, and puts back."""

import asyncio
import contextlib
import http.client
import importlib
import random
import socket
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import httpx
import openai
import pytest
from aiohttp import web
from virtual_servers import PORT, URL, answer, ask, serve, the_loop

from harness.engines.virtual_guard import SynchronousClientError
from harness.engines.virtual_loop import (
    run_virtual,
)
from harness.errors import InputError


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


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


def _http_client() -> None:
    http.client.HTTPConnection("127.0.0.1", PORT).request("GET", "/")


def _urllib() -> None:
    urllib.request.urlopen(f"http://localhost:{PORT}/")


def _httpx_sync() -> None:
    httpx.get(f"http://127.0.0.1:{PORT}/")


def _openai_sync() -> None:
    client = openai.OpenAI(base_url=URL, api_key="k")
    client.models.list()


def _connect_ex() -> None:
    with socket.socket() as sock:
        sock.connect_ex(("127.0.0.1", PORT))


@pytest.mark.parametrize("call", [_connect_ex, _http_client, _urllib, _httpx_sync, _openai_sync])
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
