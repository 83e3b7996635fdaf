"""Who may control a mock: the token, this machine, and nobody by a name of their own."""

import asyncio
import socket

import pytest
from controls import HOST, TOKEN, ask, controlled, told
from loopback import QUICK, Client, mock, post, run

from mock_llm.control.access import Access
from mock_llm.control.pages import Controls
from mock_llm.errors import InputError
from mock_llm.server import MockServer


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 200),
        ({"Authorization": "", "X_Control_Token": TOKEN}, 200),
        ({"Authorization": "bearer  " + TOKEN}, 200),
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer " + TOKEN[:-1]}, 401),
        ({"Authorization": "Basic " + TOKEN}, 401),
        ({"Authorization": "Bearer caf\u00e9"}, 401),
        ({"Host": "localhost:8000"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "[evil"}, 403),
    ],
)
def test_token_and_host_are_needed(fields: dict[str, str], status: int) -> None:
    """Without the token nothing is told, and with a foreign name in `Host` not even with it."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            found, top, body = await client.ask(ask("GET", "/__control", **fields))
        assert found == status
        assert "Access-Control" not in top
        assert "Server:" not in top
        assert TOKEN.encode() not in body
        assert ("WWW-Authenticate" in top) == (status == 401)

    run(test())


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["", "/upstream", "/faults/x", "/reset", "/pause", "/none"])
def test_nothing_happens_without_the_token(method: str, path: str) -> None:
    """No method of any page does or tells anything to one who has no token."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            before = running.server.upstream
            asked = ask(method, "/__control" + path, {"reply": "text"}, Authorization="")
            assert (await client.ask(asked))[0] == 401
            assert running.server.upstream is before
            assert (list(running.server.ledger.changes), running.server.paused) == ([], False)

    run(test())


@pytest.mark.parametrize(
    ("peer", "near"),
    [
        (("127.0.0.1", 5), True),
        (("127.9.9.9", 5), True),
        (("::1", 5, 0, 0), True),
        (("::ffff:127.0.0.1", 5, 0, 0), True),
        (("::ffff:192.0.2.7", 5, 0, 0), False),
        (("192.0.2.7", 5), False),
        (("fe80::1%eth0", 5, 0, 2), False),
        (("::", 5, 0, 0), False),
        (("no address", 5), False),
        ("", False),
        (None, False),
    ],
)
def test_only_this_machine_is_near(peer: object, near: bool) -> None:
    """A loopback address is, in IPv4, IPv6 or one in the other; all are where that is allowed."""
    assert Access(TOKEN).near(peer, HOST) == near
    assert Access(TOKEN, anywhere=True).near(peer, "mock.example")


def _own_address() -> str:
    """This machine's address on its network, or a loopback one if it has none; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # RFC 5737: nobody's address
        except OSError:
            return "127.0.0.1"
        return str(sock.getsockname()[0])


@pytest.mark.parametrize("anywhere", [False, True])
def test_another_interface_is_another_machine(anywhere: bool) -> None:
    """A request over a real interface is refused whatever it knows, unless that was allowed."""
    address = _own_address()
    local = address.startswith("127.")

    async def test() -> None:
        server = MockServer(QUICK)
        Controls(server, Access(TOKEN, anywhere=anywhere)).mount()
        port = await server.start("0.0.0.0")  # noqa: S104 - the point of the test
        client = Client(*await asyncio.open_connection(address, port))
        found = [
            (await client.ask(ask("GET", path)))[0]
            for path in ("/__control", "/metrics", "/__dashboard")
        ]
        assert found == [200 if anywhere or local else 403] * 3
        assert (await client.ask(post()))[0] == 200
        await client.leave()
        await server.close()

    run(test())


@pytest.mark.parametrize("token", ["short", "with a blank in it", "caf\u00e9-caf\u00e9"])
def test_bad_tokens_are_the_users_error(token: str) -> None:
    """A token that is too short or no header field can hold is told by the variable's name."""
    with pytest.raises(InputError, match="MOCK_LLM_CONTROL_TOKEN: not a token") as caught:
        Access(token)
    assert token not in str(caught.value)


def test_token_of_the_environment_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made token is in the lines at the start and in a link, one that was given in neither."""
    made = Access().lines("http://[::]:80/api/v1")
    assert made[0].startswith("mock_llm control token: ")
    token = made[0].split()[-1]
    assert made[1] == f"mock_llm dashboard: http://[::1]:80/__dashboard#token={token}"
    assert len(token) == 32
    monkeypatch.setenv("MOCK_LLM_CONTROL_TOKEN", TOKEN)
    access = Access.from_environment()
    assert access.knows("", TOKEN)
    assert TOKEN not in str(access.lines("http://0.0.0.0:80/api/v1")) + repr(access)


def test_without_control_there_is_nothing() -> None:
    """Where control was not mounted its pages are as unknown as any other."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            for path in ("/__control", "/__dashboard", "/metrics"):
                assert (await client.ask(ask("GET", path)))[0] == 404

    run(test())


def test_token_is_in_no_journal() -> None:
    """Whoever used control, and with what, is in neither list nor ledger."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            await client.ask(post())
            await told(client, "POST", "/__control/pause")
            await told(client, "POST", "/__control/resume")
            said = [
                (await client.ask(ask("GET", path)))[2]
                for path in ("/__control", "/__control/journal", "/__control/changes", "/metrics")
            ]
        assert TOKEN.encode() not in b"".join(said)
        assert TOKEN not in str(running.server.ledger.rows) + str(running.server.ledger.changes)

    run(test())
