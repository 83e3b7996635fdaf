"""The pytest plugin: the fixture beside any client, virtual time, and what the reports say."""

import asyncio
import subprocess
import sys
import tomllib
from collections.abc import Callable

import aiohttp
import httpx
import openai
import pytest
from source_tree import ROOT

from harness.testing.mock import MockLLM, upstream_of
from harness.testing.virtual import run_test

PLUGIN = "harness.testing.plugin"
HEAD = """
import asyncio, json, threading, urllib.error, urllib.request
import aiohttp, httpx, openai, pytest

def body(prompt, **more):
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **more}

def raw(mock, prompt="Hi", key="any", **more):
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    url = f"{mock.base_url}/chat/completions"
    sent = urllib.request.Request(url, json.dumps(body(prompt, **more)).encode(), headers)
    try:
        with urllib.request.urlopen(sent) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()

def said(mock, prompt="Hi"):
    return json.loads(raw(mock, prompt)[1])["choices"][0]["message"]["content"]

async def post(session, mock, prompt="Hi"):
    headers = {"Authorization": "Bearer any"}
    url = f"{mock.base_url}/chat/completions"
    async with session.post(url, json=body(prompt), headers=headers) as answer:
        await answer.read()
        return answer.status
"""
Run = Callable[..., pytest.RunResult]


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    """Let the clients load all that they ever need: each run of pytester unloads what it loaded."""

    async def call() -> None:
        async with (
            httpx.AsyncClient() as client,
            openai.AsyncOpenAI(**mock.openai_kwargs) as sdk,
            aiohttp.ClientSession() as session,
        ):
            await client.get(f"{mock.base_url}/models")
            await sdk.models.list()
            await session.get(f"{mock.base_url}/models")

    mock = MockLLM(upstream_of({}))
    run_test(lambda: asyncio.sleep(1), [])
    asyncio.run(call())
    with httpx.Client() as client, openai.OpenAI(**mock.openai_kwargs) as sdk:
        client.get(f"{mock.base_url}/models")
        sdk.models.list()
    mock.close()


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the text of a test file under a pytest that has this plugin alone."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.syspath_prepend(str(ROOT))

    def run(text: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + text)
        strict = ["--strict-markers", "-p", "no:cacheprovider", "-Werror"]
        # The pytest that runs these tests may have loaded the plugin before.
        strict += ["-Wignore::pytest.PytestAssertRewriteWarning"]
        return pytester.runpytest_inprocess("-p", PLUGIN, *strict, *options)

    return run


def test_clients_of_every_kind_are_served(run: Run) -> None:
    """Synchronous and asynchronous clients, SDK or not, meet the fixture on the wall clock."""
    result = run("""
def test_openai(mock_llm):
    mock_llm.reply("one", "two")
    with openai.OpenAI(**mock_llm.openai_kwargs) as client:
        answers = [client.chat.completions.create(**body(p)) for p in ("a", "b", "c", "a")]
    assert [a.choices[0].message.content for a in answers] == ["one", "two", "two", "one"]
    assert [call.prompt for call in mock_llm.calls] == ["a", "b", "c", "a"]
    assert {call.model for call in mock_llm.calls} == {"m"}
    assert mock_llm.calls[-1].body["messages"][0]["content"] == "a"
    mock_llm.assert_no_findings(over=True)

def test_asynchronous(mock_llm):
    async def main():
        async with aiohttp.ClientSession() as session:
            assert await post(session, mock_llm) == 200
        async with openai.AsyncOpenAI(**mock_llm.openai_kwargs) as client:
            assert (await client.chat.completions.create(**body("Hello"))).choices
        assert [call.ended for call in mock_llm.calls] == ["complete"] * 2
    asyncio.run(main())

def test_httpx(mock_llm):
    headers = {"Authorization": f"Bearer {mock_llm.api_key}"}
    with httpx.Client(base_url=mock_llm.base_url, headers=headers) as client:
        assert client.post("/chat/completions", json=body("Hi")).json()["model"] == "m"
""")
    result.assert_outcomes(passed=3)
    assert "mock_llm findings" not in result.stdout.str()


def test_every_method_changes_the_provider(run: Run) -> None:
    """Refusals, limits, replies and settings hold from the next attempt on, until the reset."""
    result = run("""
def test_methods(mock_llm):
    assert said(mock_llm).startswith("the review says")
    mock_llm.reply("yes")
    mock_llm.reply("no", to="Really")
    assert (said(mock_llm, "Ok?"), said(mock_llm, "Really?")) == ("yes", "no")
    mock_llm.fail_in_turn(429, 402, 529)
    assert [raw(mock_llm, f"F{n}")[0] for n in range(4)] == [429, 402, 529, 200]
    assert mock_llm.calls[-4].injected == ("rate_limited",)
    mock_llm.truncate(first_n=1)
    with pytest.raises(ValueError):
        said(mock_llm, "cut")
    mock_llm.fault("html_error", status=200, first_n=1)
    assert "<html" in raw(mock_llm, "page")[1].lower()
    mock_llm.throttle(1)
    assert [raw(mock_llm, p)[0] for p in ("t1", "t2")] == [200, 429]
    mock_llm.slow(ttft_s=0.01)
    assert mock_llm.server.upstream.profile.ttft == 0.01
    mock_llm.settings(keys=["right"])
    assert [raw(mock_llm, p, key=p)[0] for p in ("wrong", "right")] == [401, 200]
    mock_llm.reset()
    assert mock_llm.calls == []
    assert raw(mock_llm, "Ok?")[0] == 200
    assert len(mock_llm.calls) == 1
    assert said(mock_llm, "Ok?") != "yes"

def test_mistakes(mock_llm):
    with pytest.raises(Exception, match="did you mean 'hang_before_headers'"):
        mock_llm.fault("hang_before_header")
    with pytest.raises(Exception, match="did you mean 'first_n'"):
        mock_llm.hang(firstn=3)
    with pytest.raises(Exception, match="there is no finding 'retry_strom': did you mean"):
        mock_llm.assert_no_findings(except_=["retry_strom"])
    with pytest.raises(Exception, match="give at least one text"):
        mock_llm.reply()
    with pytest.raises(Exception, match="status"):
        mock_llm.fail(status=418)
""")
    result.assert_outcomes(passed=2)


def test_a_departed_client_is_seen_at_once(run: Run) -> None:
    """A call that its client gave up has ended when the test looks at it."""
    result = run("""
def test_gone(mock_llm):
    mock_llm.hang()
    client = openai.OpenAI(**mock_llm.openai_kwargs, timeout=0.2, max_retries=0)
    with client, pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**body("Hi"))
    (call,) = mock_llm.calls
    assert (call.ended, call.status, call.injected) == (
        "client_left", 200, ("hang_before_headers",)
    )
    with pytest.raises(AssertionError, match="1 failed attempts were not tried again"):
        mock_llm.assert_all_retried()
""")
    result.assert_outcomes(passed=1)


def test_markers_describe_the_provider(run: Run, pytester: pytest.Pytester) -> None:
    """Keys of the upstream, or a scenario file beside the test, and never both."""
    pytester.makefile(".toml", mine="[upstream]\nkeys = ['k']\n")
    result = run("""
@pytest.mark.mock_llm(seed=7, keys=["right"], any_model=False)
def test_keys(mock_llm):
    assert mock_llm.server.upstream.keys == ("right",)
    assert raw(mock_llm, key="right")[0] == 400

@pytest.mark.mock_llm(scenario="mine.toml")
def test_scenario(mock_llm):
    assert [raw(mock_llm, key, key=key)[0] for key in ("any", "k")] == [401, 200]

@pytest.mark.mock_llm(scenario="mine.toml", keys=["right"])
def test_both(mock_llm):
    pass

@pytest.mark.mock_llm(ttft=3)
def test_misspelt(mock_llm):
    pass
""")
    result.assert_outcomes(passed=2, errors=2)
    result.stdout.fnmatch_lines(["*scenario or keys, not both*"])
    result.stdout.fnmatch_lines(["*mark.mock_llm: ttft: unknown key*"])


def test_findings_are_reported_though_nobody_asked(run: Run, pytester: pytest.Pytester) -> None:
    """A test that passes with a careless client is listed, and one that fails has the details."""
    result = run(
        """
def storm(mock):
    mock.fail_first(3, status=503)
    while raw(mock, "Hurry")[0] != 200:
        pass

@pytest.mark.mock_llm(ignore="no_pool")
def test_passes(mock_llm):
    storm(mock_llm)

def test_fails(mock_llm):
    storm(mock_llm)
    mock_llm.assert_honoured_retry_after()

def test_asserts(mock_llm):
    storm(mock_llm)
    mock_llm.assert_no_findings(except_="no_pool")

def test_spares(mock_llm):
    storm(mock_llm)
    mock_llm.assert_no_findings(except_=["no_pool", "retry_storm"])
""",
        "--junitxml=junit.xml",
    )
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: nothing was told to wait*",
            "*Captured mock_llm findings teardown*",
            "retry_storm (warning): made 4 attempts at one request within * s, without a pause",
            "*0.000 s  'Hurry'  503  *refused  server_error",
            "  cure: wait longer after every failure*",
            "*AssertionError: the client is not sound",
            "*retry_storm (warning): made 4 attempts at one request*",
            "*= mock_llm findings =*",
            "*::test_passes: retry_storm: made 4 attempts*",
        ]
    )
    assert "test_passes: no_pool" not in result.stdout.str()
    told = 'property name="mock_llm findings" value="retry_storm: made 4 attempts'
    assert (pytester.path / "junit.xml").read_text("utf-8").count(told) == 4


def test_virtual_time_passes_in_no_time(run: Run) -> None:
    """Asynchronous clients wait for hours on the virtual clock, beside synchronous fixtures."""
    result = run("""
@pytest.fixture
def prompt():
    return "Think"

@pytest.mark.virtual_time
@pytest.mark.parametrize("hours", [1, 2])
async def test_aiohttp(mock_llm, prompt, hours):
    mock_llm.slow(ttft_s=hours * 3600)
    mock_llm.settings(keep_alive_s=60)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        assert await post(session, mock_llm, prompt) == 200
    assert asyncio.get_running_loop().time() > hours * 3600

@pytest.mark.virtual_time
async def test_openai(mock_llm):
    mock_llm.hang()
    async with openai.AsyncOpenAI(**mock_llm.openai_kwargs) as client:
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(**body("Hi"))
    (found,) = mock_llm.findings()
    assert found.text == "waited up to 600 s for 3 answers that never came"

@pytest.mark.virtual_time(seed=5)
async def test_without_a_mock():
    await asyncio.sleep(1e6)

class TestIn:
    @pytest.mark.virtual_time
    async def test_method(self, mock_llm):
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{mock_llm.base_url}/models")).status_code == 200

@pytest.mark.virtual_time
async def test_same_as_ever():
    with pytest.raises(KeyError):
        raise KeyError
    pytest.skip("why")
""")
    result.assert_outcomes(passed=5, skipped=1)


def test_virtual_time_fails_with_who_waits(run: Run) -> None:
    """What would hang, spin or block on the wall clock fails, and the report says who waits."""
    result = run("""
@pytest.mark.virtual_time
async def test_hang(mock_llm):
    mock_llm.hang()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
        await post(session, mock_llm, "Anybody?")

@pytest.mark.virtual_time
async def test_nobody_sets_it():
    await asyncio.Event().wait()

@pytest.mark.virtual_time(horizon_s=60)
async def test_too_long():
    await asyncio.sleep(61)

@pytest.mark.virtual_time
async def test_blocks(mock_llm):
    openai.OpenAI(**mock_llm.openai_kwargs, max_retries=0).chat.completions.create(**body("Hi"))

@pytest.mark.virtual_time
def test_synchronous(mock_llm):
    pass

@pytest.mark.virtual_time
async def test_assertion(mock_llm):
    async with aiohttp.ClientSession() as session:
        assert await post(session, mock_llm) == 201
""")
    result.assert_outcomes(failed=6)
    result.stdout.fnmatch_lines(
        [
            "*_ test_hang _*",
            "nothing can ever wake again *(test_hang)*",
            "  test_hang waits at test_virtual_*.py:* in post",
            "      0.000 s  'Anybody?'  no answer  still waiting  hang_before_headers",
            "the client has no timeout: these answers never come",
            "no_timeout (error): 1 call would wait for ever for an answer that never comes",
            "nothing can ever wake again *(test_nobody_sets_it)*",
            "  test_nobody_sets_it waits at *.py:* in test_nobody_sets_it",
            "the clock would pass 60 s *(test_too_long)*",
            "a blocking look-up of 127.0.0.1 was made on the virtual clock*leave out the marker*",
            "virtual_time needs an `async def` test *",
            "*assert 200 == 201*",
        ]
    )
    assert "run_virtual" not in result.stdout.str().partition("_ test_assertion _")[0]


def test_leak_is_judged_before_the_server_closes(run: Run) -> None:
    """A connection that somebody holds at the end has leaked; during the test it is in use."""
    result = run("""
HELD = []

def test_held(mock_llm):
    HELD.append(httpx.Client(headers={"Authorization": "Bearer any"}))
    HELD[0].post(f"{mock_llm.base_url}/chat/completions", json=body("Hi"))
    mock_llm.assert_no_findings()

@pytest.mark.mock_llm(ignore="leaked_connections")
def test_ignored(mock_llm):
    HELD[0].post(f"{mock_llm.base_url}/chat/completions", json=body("Hi"))

def test_end():
    HELD.pop().close()
""")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*::test_held: leaked_connections: 1 of 1 connection still open*"])
    assert "test_ignored: " not in result.stdout.str()


def test_setting_ignores_findings_everywhere(run: Run) -> None:
    """What pytest's settings name is no finding in any test."""
    result = run(
        """
def test_storm(mock_llm):
    mock_llm.fail_first(3)
    while raw(mock_llm)[0] != 200:
        pass
    mock_llm.assert_no_findings()
""",
        *("-o", "mock_llm_ignore=retry_storm no_pool"),
    )
    result.assert_outcomes(passed=1)
    assert "mock_llm findings" not in result.stdout.str()


def test_plugin_is_registered_and_documented() -> None:
    """The package tells pytest where its plugin is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"]["pytest11"] == {"mock_llm": PLUGIN}


def test_loading_the_plugin_loads_nothing_else() -> None:
    """Whoever merely has it installed pays for one small module at the start of pytest."""
    code = (
        f"import pytest, sys; before = set(sys.modules); import {PLUGIN}; "
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["harness", "harness.testing", PLUGIN]
