"""The mock over HTTPS: who trusts its authority is answered, and nobody else."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import openai
import pytest
import uvloop
from loopback import QUESTION, QUICK, Client, head, mock, post
from papers import Papers
from served import ROOT, serving

from harness.pipeline.client import CallError, ChatClient, Stamps
from harness.scenario.pipeline import Pipeline
from mock_llm.__main__ import main
from mock_llm.config import Profile, Upstream
from mock_llm.door import server_context
from mock_llm.errors import InputError
from mock_llm.faults import Fault, TlsStall
from mock_llm.server import MockServer

BODY = json.dumps({**QUESTION, "model": "openai/gpt-4o-mini"}).encode()
ASK = """
import asyncio, sys
from pathlib import Path
from harness.pipeline.client import CallError, ChatClient, Stamps
from harness.scenario.pipeline import Pipeline

async def ask():
    ca_file = Path(sys.argv[3]) if sys.argv[3:] else None
    async with ChatClient(Pipeline(), sys.argv[1], "key-1", ca_file) as client:
        try:
            return (await client.call(sys.argv[2].encode(), "r1", 1, Stamps())).text
        except CallError as error:
            return error.word

print(asyncio.run(ask()))
"""


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """One authority is enough for all."""
    return Papers(tmp_path_factory.mktemp("papers"))


async def secured(
    papers: Papers, upstream: Upstream = QUICK, header_timeout_s: float = 30.0
) -> MockServer:
    server = MockServer(upstream, header_timeout_s=header_timeout_s)
    server.port = await server.start(ssl=server_context(papers.cert, papers.key))  # type: ignore[attr-defined]
    return server


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_clients_that_trust_the_authority_are_answered(
    papers: Papers, factory: type[asyncio.AbstractEventLoop]
) -> None:
    """Openai's client and raw bytes speak HTTPS with it, request after request, on either loop."""

    async def test() -> tuple[str | None, list[bool]]:
        before = asyncio.all_tasks()
        server = await secured(papers)
        http = openai.DefaultAsyncHttpxClient(verify=papers.trust)
        url = f"https://127.0.0.1:{server.port}/api/v1"  # type: ignore[attr-defined]
        async with openai.AsyncOpenAI(base_url=url, api_key="key-1", http_client=http) as client:
            for _ in range(2):
                reply = await client.chat.completions.create(
                    model="openai/gpt-4o-mini", messages=[{"role": "user", "content": "Good."}]
                )
        raw = await asyncio.open_connection("localhost", server.port, ssl=papers.trust)  # type: ignore[attr-defined]
        assert (await Client(*raw).ask(post()))[0] == 200
        await Client(*raw).leave()
        rows = list(server.ledger.rows)
        await server.close()
        assert asyncio.all_tasks() == before
        return reply.choices[0].message.content, [row.new_connection for row in rows]

    with asyncio.Runner(loop_factory=factory) as runner:
        said, fresh = runner.run(asyncio.wait_for(test(), 60))
    assert "label" in str(said)
    assert fresh == [True, False, True]


def test_process_with_certificate_serves_those_who_trust_it(papers: Papers) -> None:
    """Our client needs the authority's file, or `SSL_CERT_FILE`, and without refuses to talk."""
    ca_file = str(papers.ca)
    cases: list[tuple[dict[str, str], list[str], str]] = [
        ({"SSL_CERT_FILE": ca_file}, [], "label"),
        ({}, [ca_file], "label"),
        ({}, [], "certificate"),
    ]
    with serving("--zero-delay", *papers.options, scheme="https") as (_, url):
        for known, more, said in cases:
            told = subprocess.run(
                [sys.executable, "-c", ASK, url, BODY.decode(), *more],
                env={**os.environ, "PYTHONPATH": str(ROOT), **known},
                capture_output=True,
                text=True,
                check=True,
            )
            assert said in told.stdout


def test_stalled_handshake_is_time_spent_connecting(papers: Papers) -> None:
    """Our client has no connection when its time is up, and with the next one it is answered."""
    stall: dict[str, Fault] = {"stall": TlsStall(rate=1, first_n=1)}

    async def test() -> None:
        server = await secured(papers, Upstream(profile=Profile(ttft=0.0), faults=stall))
        url = f"https://127.0.0.1:{server.port}/api/v1"  # type: ignore[attr-defined]
        async with ChatClient(Pipeline(), url, "key-1", papers.ca) as client:
            late, good = Stamps(), Stamps()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.call(BODY, "r1", 1, late)
            answer = await client.call(BODY, "r1", 2, good)
        await server.close()
        assert (late.new_connection, late.t_connected, good.status) == (True, None, 200)
        assert "label" in answer.text
        rows = sorted(server.ledger.rows, key=lambda row: row.arrived_s)
        assert [(row.key, row.injected) for row in rows] == [("", ("stall",)), ("r1", ())]

    asyncio.run(asyncio.wait_for(test(), 60))


@pytest.mark.parametrize("known", [False, True])
def test_who_does_not_trust_it_is_not_served(papers: Papers, tmp_path: Path, known: bool) -> None:
    """With another authority or none there is no connection, and no retry that would help."""
    other = Papers(tmp_path).ca if known else None

    async def test() -> None:
        server = await secured(papers)
        url = f"https://127.0.0.1:{server.port}/api/v1"  # type: ignore[attr-defined]
        async with ChatClient(Pipeline(), url, "key-1", other) as client:
            with pytest.raises(CallError) as caught:
                await client.call(BODY, "r1", 1, Stamps())
        raw = await asyncio.open_connection("127.0.0.1", server.port, ssl=papers.trust)  # type: ignore[attr-defined]
        status = (await Client(*raw).ask(post()))[0]
        await server.close()
        raw[1].close()
        error = caught.value
        assert (error.word, error.passing, status) == ("certificate", False, 200)

    asyncio.run(asyncio.wait_for(test(), 60))


def test_certificate_of_another_name_is_refused(tmp_path: Path) -> None:
    """An authority that is trusted does not vouch for any name."""
    papers = Papers(tmp_path, "another.test")

    async def test() -> str:
        server = await secured(papers)
        url = f"https://127.0.0.1:{server.port}/api/v1"  # type: ignore[attr-defined]
        async with ChatClient(Pipeline(), url, "key-1", papers.ca) as client:
            with pytest.raises(CallError) as caught:
                await client.call(BODY, "r1", 1, Stamps())
        await server.close()
        return caught.value.word

    assert asyncio.run(asyncio.wait_for(test(), 60)) == "certificate"


def test_plain_peer_at_a_secure_address_is_a_failure_of_tls(papers: Papers) -> None:
    """What answers a handshake with HTTP is told from a certificate that is refused."""

    async def test() -> CallError:
        async with mock() as running:
            url = f"https://127.0.0.1:{running.port}/api/v1"
            async with ChatClient(Pipeline(), url, "key-1", papers.ca) as client:
                with pytest.raises(CallError) as caught:
                    await client.call(BODY, "r1", 1, Stamps())
        return caught.value

    error = asyncio.run(asyncio.wait_for(test(), 60))
    assert (error.word, error.passing) == ("tls_failure", None)


def test_bad_authority_is_a_users_error(tmp_path: Path) -> None:
    """A file that is missing, a folder, or without a certificate is one line that names it."""
    nonsense, empty = tmp_path / "nonsense.pem", tmp_path / "empty.pem"
    nonsense.write_text("hello")
    empty.write_text("")
    for file, said in [
        (tmp_path / "none.pem", "none.pem: cannot be read: No such file"),
        (tmp_path, f"{tmp_path}: cannot be read: Is a directory"),
        (nonsense, "nonsense.pem: no certificate in PEM"),
        (empty, "empty.pem: no certificate in PEM"),
    ]:
        with pytest.raises(InputError) as caught:
            ChatClient(Pipeline(), "https://127.0.0.1/api/v1", "key-1", file)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("sent", [post(), b"\x16\x03\x01", b""], ids=["HTTP", "half", "nothing"])
def test_what_is_no_handshake_is_ended(papers: Papers, sent: bytes) -> None:
    """Plain HTTP on the port of TLS, or a handshake that stops, is ended and leaves nothing."""

    async def test() -> None:
        server = await secured(papers, header_timeout_s=0.2)
        raw = await asyncio.open_connection("127.0.0.1", server.port)  # type: ignore[attr-defined]
        raw[1].write(sent)
        assert b"200" not in await raw[0].read()
        raw[1].close()
        assert len(server._tls[0].tasks) == 1  # which listens
        await server.close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_server_that_stops_leaves_no_handshake_behind(papers: Papers) -> None:
    """A handshake that goes on when the server is closed ends with it."""

    async def test() -> None:
        before = asyncio.all_tasks()
        server = await secured(papers)
        raw = await asyncio.open_connection("127.0.0.1", server.port)  # type: ignore[attr-defined]
        while not server._tls or len(server._tls[0].tasks) < 2:  # noqa: ASYNC110 - it has no such event
            await asyncio.sleep(0)
        await server.close()
        assert (await raw[0].read(), asyncio.all_tasks()) == (b"", before)
        raw[1].close()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_bad_papers_are_a_users_error(papers: Papers, tmp_path: Path) -> None:
    """A file that is missing, no PEM, or of another pair is one line that names it."""
    other = Papers(tmp_path)
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("hello")
    pairs = [
        (papers.cert, tmp_path / "none.pem", "none.pem: cannot be read: No such file"),
        (nonsense, papers.key, "nonsense.pem, --tls-key "),
        (papers.cert, other.key, "the key is not this certificate's"),
    ]
    for cert, key, said in pairs:
        with pytest.raises(InputError) as caught:
            server_context(cert, key)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)


def test_one_paper_alone_is_a_users_error(
    papers: Papers, capsys: pytest.CaptureFixture[str]
) -> None:
    """A certificate without its key is refused before anything listens."""
    assert main(["serve", "--port", "0", "--tls-cert", str(papers.cert)]) == 2
    assert capsys.readouterr().err == "mock_llm: --tls-cert and --tls-key go together: give both\n"


def test_plain_mock_is_told_from_a_secured_one() -> None:
    """Bytes of TLS at the plain port are a 400 that says so."""

    async def test() -> None:
        async with mock() as running:
            client = await running.client()
            client.writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 60)
            assert b"HTTPS" in await client.reader.read()
            assert (await (await running.client()).ask(head("GET", "/models")))[0] == 200

    asyncio.run(asyncio.wait_for(test(), 60))
