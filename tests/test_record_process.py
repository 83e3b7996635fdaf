"""`python -m mock_llm record`, `serve --cassette` and `fit`: as processes, and over TLS."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from loopback import post, run
from recording import ANSWER, KEY, plays, recording, reply, scripted

from harness.engines.base import prepare
from harness.engines.virtual import run_on_virtual_clock
from harness.scenario.load import load_file, load_scenario
from mock_llm.__main__ import main
from mock_llm.cassette import CassetteWriter, Chunk, Exchange, read_cassette, request_of
from mock_llm.config import Upstream
from mock_llm.distributions import Empirical
from mock_llm.loader import load_upstream
from mock_llm.record import tls
from mock_llm.rng import Keyed

ROOT = Path(__file__).parent.parent
QUESTION = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": "A great book."}]}


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command of the mock and its base URL; killed if the test left it running."""
    command = [sys.executable, "-m", "mock_llm", *arguments, "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env={**environment}
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("mock_llm ")
            yield process, line.split()[-1]
        finally:
            process.kill()


def ask(url: str, content: str, **more: object) -> tuple[int, bytes]:
    """One call without a key; status and body."""
    body = {"model": "openai/gpt-4o", "messages": [{"role": "user", "content": content}], **more}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode())  # noqa: S310 - the address is our own
    try:
        with urllib.request.urlopen(request) as response:  # noqa: S310
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_record_then_serve(tmp_path: Path) -> None:
    """What was recorded with a key from the environment is served without any, nor an upstream."""
    path, scenario = tmp_path / "c.jsonl", tmp_path / "real.json"
    scenario.write_text(json.dumps({"upstream": {"keys": [KEY], "profile": {"ttft": 0.01}}}))
    with started("serve", str(scenario)) as (_, real):
        limits = ("--key-env", "MY_KEY", "--max-requests", "2", "--max-usd", "1")
        arguments = ("record", "--upstream", real, "--cassette", str(path), *limits)
        with started(*arguments, MY_KEY=KEY) as (process, url):
            recorded = [ask(url, "A great book."), ask(url, "Terrible.", stream=True)]
            refused = ask(url, "A third one.")
            process.send_signal(signal.SIGTERM)
            said = process.communicate()
    assert [status for status, _ in recorded] == [200, 200]
    assert (refused[0], b"--max-requests" in refused[1]) == (402, True)
    assert process.returncode == 0
    assert said[1].startswith("mock_llm: passed on 2 requests, answers cost $0.0")
    assert KEY not in path.read_text() + "".join(said)
    path.write_bytes(path.read_bytes() + b"{torn")
    with started("serve", "--cassette", str(path), "--timing", "none") as (process, url):
        again = [ask(url, "A great book."), ask(url, "Terrible.", stream=True)]
        missed = ask(url, "Something else.")
        process.send_signal(signal.SIGTERM)
        warned = process.communicate()[1]
    assert again == recorded
    assert missed[0] == 404
    assert warned.splitlines()[0] == f"mock_llm: {path}: its last line was cut off and is left out"


def test_a_killed_recorder_leaves_a_readable_cassette(tmp_path: Path) -> None:
    """After kill -9 all that had ended is there, and the next recording goes on behind it."""
    path, scenario = tmp_path / "c.jsonl", tmp_path / "real.json"
    slow = {"prompt_usd_per_m": 1, "completion_usd_per_m": 1, "profile": {"ttft": 1e6}}
    fast = {**slow, "profile": {"ttft": 0.0}}
    upstream = {"models": {"fast": fast, "slow": slow}, "keep_alive_s": 0.01}
    scenario.write_text(json.dumps({"upstream": upstream}))
    body = {"messages": [{"role": "user", "content": "x"}]}
    with started("serve", str(scenario)) as (_, real):
        command = ("record", "--upstream", real, "--cassette", str(path), "--key-env", "K")
        for count in (1, 2):
            with started(*command, K=KEY) as (process, url):
                statuses = [ask(url, f"call {count}", model="fast")[0]]
                data = json.dumps({**body, "model": "slow"}).encode()
                waiting = urllib.request.Request(f"{url}/chat/completions", data)  # noqa: S310
                with urllib.request.urlopen(waiting) as response:  # noqa: S310
                    response.read(11)
                    process.kill()
                    process.wait()
            cassette = read_cassette(path)
            assert (statuses, cassette.warning, len(cassette.exchanges)) == ([200], "", count)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--upstream", f"http://x/v1?key={KEY}"], "--upstream: only scheme, host and path"),
        (["--upstream", "openrouter"], "--upstream: not an address such as"),
        (["--upstream", "http://x/v1", "--key-env", "NO_SUCH"], "NO_SUCH holds no key"),
        (["--upstream", "http://x/v1", "--ca", "absent.pem"], "absent.pem: no certificates in PEM"),
        (["--upstream", "http://x/v1", "--cassette", "pyproject.toml"], "not a cassette"),
        (["--upstream", "http://x/v1", "--cassette", "no/such/folder"], "cannot write"),
        (["--upstream", "http://x/v1", "--host", "203.0.113.1"], "cannot listen on 203.0.113.1:"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wrong option of `record` exits with 2, one line and no key in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    code = main(["record", "--cassette", "c.jsonl", *arguments])
    told = capsys.readouterr().err
    assert code == 2
    assert complaint in told
    assert told.count("\n") == 1
    assert KEY not in told


@pytest.mark.parametrize("option", [["--max-requests", "-1"], ["--max-usd", "nan"]])
def test_limits_are_numbers(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A limit that limits nothing is refused."""
    with pytest.raises(SystemExit) as left:
        main(["record", "--upstream", "http://x", "--cassette", "c", *option])
    assert left.value.code == 2
    assert option[1] in capsys.readouterr().err


def test_certificates_are_verified(tmp_path: Path) -> None:
    """An upstream with a private authority is refused, until the authority is named."""
    authority, pem = trustme.CA(), tmp_path / "ca.pem"
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(pem))

    async def test() -> None:
        script = plays(reply(ANSWER, "Connection: close"))
        async with scripted(script, ssl=context) as upstream:
            said: list[tuple[int, str, bytes]] = []
            for number, ca in enumerate((None, pem)):
                async with recording(tmp_path / f"{number}", upstream, trust=tls(ca)) as on:
                    client = await on.client()
                    said.append(await client.ask(post()))
                    (exchange,) = await on.ended()
                    said.append((exchange.status, exchange.error, b""))
            other = upstream.replace("localhost", "127.0.0.1")
            async with recording(tmp_path / "2", other, trust=tls(pem)) as on:
                said.append(await (await on.client()).ask(post()))
        assert [status for status, _, _ in said] == [502, 502, 200, 200, 502]
        assert b"a private authority is named with --ca" in said[0][2]
        assert b"IP address mismatch" in said[4][2]
        assert said[2][2] == ANSWER

    loop_errors: list[object] = []

    async def quiet() -> None:
        # The scripted server hears of handshakes that its client gave up.
        asyncio.get_running_loop().set_exception_handler(lambda _, c: loop_errors.append(c))
        await test()

    run(quiet())


def spoken(path: Path, count: int) -> Path:
    """A cassette of streams and answers whose times are known."""
    weather = Keyed(7)
    writer = CassetteWriter(path, "https://openrouter.ai/api/v1")
    usage = '"usage":{"prompt_tokens":9,"completion_tokens":3,"cost":0.001}'
    for number in range(count):
        first = 0.5 + weather.uniform("t", str(number))
        body = {**QUESTION, "stream": True, "n": number}
        chunks = [
            Chunk(first, 'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'),
            Chunk(first + 0.2, f'data: {{"choices":[],{usage}}}\n\ndata: [DONE]\n\n'),
        ]
        writer.add(
            Exchange(
                request=request_of("POST", "/chat/completions", "", json.dumps(body).encode()),
                status=200,
                headers=[("content-type", "text/event-stream")],
                headers_s=0.1,
                chunks=chunks,
                ended="complete",
                total_s=first + 0.2,
                connect_s=0.05,
                new_connection=number == 0,
            )
        )
    writer.close()
    return path


def test_fit_is_a_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed TOML loads as it is, runs, and has the cassette's measured quantiles."""
    assert main(["fit", str(spoken(tmp_path / "c.jsonl", 101))]) == 0
    scenario = tmp_path / "fitted.toml"
    scenario.write_text(capsys.readouterr().out)
    loaded = load_scenario(scenario)
    profile = loaded.upstream.models["openai/gpt-4o"].profile
    assert profile is not None
    firsts = sorted(0.5 + Keyed(7).uniform("t", str(number)) for number in range(101))
    assert isinstance(profile.ttft, Empirical)
    assert isinstance(profile.itl, Empirical)
    assert profile.ttft.quantiles == pytest.approx(firsts[::5], abs=1e-6)
    assert profile.itl.quantiles == pytest.approx([0.1] * 21, abs=1e-6)
    assert loaded.upstream.connection_setup == 0.05
    result = run_on_virtual_clock(prepare(loaded), seed=1)
    assert {row.model for row in result.records} == {"openai/gpt-4o"}


def test_fit_needs_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cassette without any good answer is told in one line."""
    assert main(["fit", str(spoken(tmp_path / "c.jsonl", 0))]) == 2
    assert "no good answer" in capsys.readouterr().err


def test_scenario_names_its_cassette(tmp_path: Path) -> None:
    """A scenario's cassette lies beside its file, for the mock, the harness and every variant."""
    spoken(tmp_path / "c.jsonl", 1)
    spoken(tmp_path / "d.jsonl", 1)
    scenario = tmp_path / "s.toml"
    scenario.write_text(
        '[workload]\nreviews = 3\n[upstream.cassette]\nfile = "c.jsonl"\non_miss = "mock"\n'
        '[variants.other.upstream.cassette]\nfile = "d.jsonl"\n'
    )
    loaded = load_file(scenario)
    files = [
        loaded.resolve("base").upstream.cassette,
        loaded.resolve("other").upstream.cassette,
        load_upstream(scenario).cassette,
    ]
    assert [
        one and (Path(one.file).name, Path(one.file).is_file(), one.on_miss) for one in files
    ] == [
        ("c.jsonl", True, "mock"),
        ("d.jsonl", True, "mock"),
        ("c.jsonl", True, "mock"),
    ]
    assert Upstream().cassette is None
