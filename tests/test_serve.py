"""`harness serve` as a process: what it answers, how it ends, and that nothing is left of it."""

import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import Harness, files, in_folder, mentioning, process
from served import children, stopped
from service_process import Reply, ServiceProcess, service_process

from harness.records import read_jsonl

REVIEW = {"text": "A great book, I loved it."}
QUICK = ("--set", "upstream.profile.ttft=0.01", "--set", "upstream.connection_setup=0.0")
SILENT = (
    "--set",
    'upstream.faults={silence={kind="hang_before_headers", rate=1.0}}',
    "--set",
    "pipeline.attempt_timeout_s=none",
)
LOCAL = "http://127.0.0.1:1/v1"
KEY = "sk-or-v1-not-to-be-seen"


def test_it_answers_and_ends(tmp_path: Path) -> None:
    """One review, a batch with its events, a withdrawal, and a clean end on SIGTERM."""
    with service_process(tmp_path, *QUICK, "--records", "rows.jsonl") as service:
        assert service.said.startswith("serving on http://127.0.0.1:")
        assert service.said.endswith("/api/v1)")
        assert service.running.stdout is not None
        assert service.running.stdout.readline().startswith("records count from ")
        assert len(service.mocks()) == 1
        one = service.ask("POST", "/v1/reviews", REVIEW, X_User="ann", X_Request_Key="k1")
        assert (one.status, one.json["key"], one.json["attempts"]) == (200, "k1", 1)
        begun = service.ask("POST", "/v1/batches", {"reviews": [REVIEW] * 3}, X_User="ann")
        place = begun.headers["Location"]
        events = service.ask("GET", f"{place}/events", X_User="ann").body.decode()
        assert events.count("event: end") == 1
        assert '"outcomes":{"ok":3}' in events
        shown = service.ask("GET", place, X_User="ann").json
        assert (shown["status"], len(shown["results"])) == ("done", 3)
        assert service.ask("DELETE", place, X_User="ann").status == 200
        service.running.send_signal(signal.SIGTERM)
        code, out, err = service.ended()
        assert (code, out) == (0, "")
        assert "Traceback" not in err
        assert service.mocks() == []
    rows = read_jsonl(tmp_path / "rows.jsonl")
    assert [row.outcome for row in rows] == ["ok"] * 4
    assert 0 < rows[0].t_queued < rows[0].t_end < 60  # since the start, not since the machine's


def test_what_is_in_flight_at_sigterm_is_answered(tmp_path: Path) -> None:
    """Twenty requests in flight are answered, new ones are refused, the exit code is 0."""
    with (
        service_process(tmp_path, *QUICK, "--set", "pipeline.workers=20") as service,
        ThreadPoolExecutor(20) as callers,
    ):
        # Its mock stands still until all has been seen that is to be seen while they are in flight.
        with stopped(*children(service.running.pid)):
            asked = [callers.submit(service.ask, "POST", "/v1/reviews", REVIEW) for _ in range(20)]
            service.until_busy(20)
            service.signal()
            late = service.ask("POST", "/v1/reviews", REVIEW)
        assert (late.status, late.json["error"]["type"]) == (503, "draining")
        assert [one.result().status for one in asked] == [200] * 20
        assert service.ended()[:2] == (0, "")
        assert service.mocks() == []


def hung(service: ServiceProcess, callers: ThreadPoolExecutor) -> "list[Reply]":
    """The answer to a request that hangs until the service ends."""
    asked = callers.submit(service.ask, "POST", "/v1/reviews", REVIEW)
    service.until_busy(1)
    service.signal()
    service.running.send_signal(signal.SIGINT)
    return [asked.result()]


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """What still hangs is told that the service is stopping; the exit code is 130."""
    with (
        service_process(tmp_path, *SILENT, "--drain", "600") as service,
        ThreadPoolExecutor(1) as callers,
    ):
        (reply,) = hung(service, callers)
        assert (reply.status, reply.json["error"]["type"]) == (503, "draining")
        assert service.ended()[0] == 130
        assert service.mocks() == []


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    """What takes longer than --drain is told so, and the exit code is 1."""
    with (
        service_process(tmp_path, *SILENT, "--drain", "0.1") as service,
        ThreadPoolExecutor(1) as callers,
    ):
        asked = callers.submit(service.ask, "POST", "/v1/reviews", REVIEW)
        service.until_busy(1)
        service.running.send_signal(signal.SIGTERM)
        assert asked.result().status == 503
        assert service.ended()[0] == 1


def test_a_killed_service_leaves_no_mock(tmp_path: Path) -> None:
    """Its mock ends with it, even when it has no time to see to that."""
    with service_process(tmp_path, *QUICK) as service:
        assert len(service.mocks()) == 1
        service.running.kill()
        service.running.wait()
        until = time.monotonic() + 20
        while service.mocks() and time.monotonic() < until:
            pass
        assert service.mocks() == []


def test_a_provider_of_ones_own(tmp_path: Path) -> None:
    """With --upstream-url no mock is started, and the key is nowhere to be seen."""
    with process(tmp_path, "mock", "--port", "0") as mock:
        assert mock.stdout is not None
        url = mock.stdout.readline().split()[-1]
        options = ("--upstream-url", url, "--key-env", "OTHER_KEY", "--records", "rows.jsonl")
        with service_process(tmp_path, *options, environment={"OTHER_KEY": KEY}) as service:
            assert service.mocks() == []
            reply = service.ask("POST", "/v1/reviews", REVIEW)
            assert reply.status == 200
            service.running.send_signal(signal.SIGTERM)
            code, out, err = service.ended()
        assert code == 0
        told = [service.said, out, err, repr(reply), (tmp_path / "rows.jsonl").read_text()]
        assert [text for text in told if KEY in text] == []


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Harness:
    """`harness ...` in a folder with `small.toml`; the mocks it starts are known by the folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    monkeypatch.setenv("BAD_KEY", "two words")
    monkeypatch.setenv("GOOD_KEY", KEY)
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gone.toml",), "gone.toml: no such file"),
        (("small.toml", "--variant", "kep"), "unknown variant 'kep'; did you mean 'kept'?"),
        (("--variant", "kept"), "unknown variant 'kept'"),
        (("--port", "99999"), "--port"),
        (("--port", "http"), "--port"),
        (("--drain", "-1"), "--drain"),
        (("--set", "pipeline.worker=3"), "--set pipeline.worker=3: unknown key"),
        (("--set", "pipeline.workers=0"), "must be >= 1"),
        (("--set", "pipeline.cache=redis"), "cache = 'redis' needs a redis_url"),
        (("--redis-url", "ftp://x"), "pipeline.redis_url: "),
        (("--records", "gone/rows.jsonl"), "there is no folder gone"),
        (("--upstream-url", LOCAL), "OPENROUTER_API_KEY is not set"),
        (("--upstream-url", LOCAL, "--key-env", "NO_KEY"), "NO_KEY is not set"),
        (("--upstream-url", LOCAL, "--key-env", "BAD_KEY"), "BAD_KEY: is no key"),
        (("--upstream-url", "openrouter.ai/api/v1"), "--upstream-url: not an address"),
        (("--upstream-url", "http://[x/v1"), "--upstream-url: not an address"),
        (("--upstream-url", "http://ann:secret@x/v1"), "only scheme, host and path"),
        (("--upstream-url", "http://provider.example/v1"), "a key is sent over https only"),
        (("--upstream-url", LOCAL, "--key-env", "GOOD_KEY", "--ca-file", "x.pem"), "x.pem: cannot"),
        (("--ca-file", "x.pem"), "--ca-file: for --upstream-url only"),
        (("--log", "gone/log.jsonl"), "there is no folder gone"),
        (("--host", "203.0.113.1"), "cannot listen on 203.0.113.1:8080"),
        (("--frobnicate",), "No such option: --frobnicate"),
        (("small.toml", "more"), "unexpected extra argument"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    harness: Harness, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    """Exit code 2, one line that names the culprit, no file and no mock left behind."""
    before = files(tmp_path)
    done = harness("serve", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("harness: ")
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not {"secret", KEY} & set(re.split(r"[\s:@]+", done.err))
    assert files(tmp_path) == before
    assert mentioning(str(tmp_path)) == []


def test_a_port_in_use_is_told_and_leaves_no_mock(tmp_path: Path) -> None:
    """Exit code 2 and one line, and the mock that had been started is gone."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        own = {"TMPDIR": str(tmp_path)}
        with process(tmp_path, "serve", "--port", str(port), environment=own) as running:
            out, err = running.communicate()
    assert (running.returncode, out) == (2, "")
    assert err.startswith(f"harness: cannot listen on 127.0.0.1:{port}: ")
    assert err.count("\n") == 1
    assert mentioning(str(tmp_path)) == []
    assert files(tmp_path) == set()
