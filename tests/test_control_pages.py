"""Control over HTTP: what comes of it on the wire, and that the documents say so."""

import asyncio
import itertools
import json
import re
import shlex
from importlib.resources import files
from pathlib import Path

from controls import TOKEN, ask, controlled, told
from loopback import QUESTION, QUICK, Client, mock, post, run
from prometheus_client.parser import text_string_to_metric_families

from harness.engines.virtual_loop import VirtualLoop, run_virtual
from mock_llm.config import Upstream
from mock_llm.control.access import Access
from mock_llm.control.commands import Command, Result, apply
from mock_llm.control.pages import Controls
from mock_llm.faults import Fault, HangBeforeHeaders, ServerError
from mock_llm.server import MockServer

DOCUMENT = Path(__file__).parent.parent / "docs" / "control.md"
LOCAL = ("127.0.0.1", 8000)


def test_a_fault_put_in_strikes_the_next_call() -> None:
    """Put, it strikes; deleted, it is over; a bad one gets one line and changes nothing."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            down = {"kind": "server_error", "rate": 1, "status": 503}
            put = await told(client, "PUT", "/__control/faults/down", down)
            statuses = [(await client.ask(post()))[0]]
            bad, _, body = await client.ask(ask("PATCH", "/__control/faults/down", {"rate": 7}))
            statuses.append((await client.ask(post()))[0])
            assert await told(client, "DELETE", "/__control/faults/down") == {}
            statuses.append((await client.ask(post()))[0])
            gone = (await client.ask(ask("DELETE", "/__control/faults/down")))[0]
        assert put["after_s"] == 0.05
        assert statuses == [503, 503, 200]
        assert (bad, json.loads(body)) == (
            422,
            {"error": "upstream.faults.down.rate: must be <= 1, got 7"},
        )
        assert gone == 404

    run(test())


def test_state_tells_what_happens() -> None:
    """What is in flight, what fired and what came of it is in the state at once."""

    async def test() -> None:
        faults: dict[str, Fault] = {"silence": HangBeforeHeaders(rate=1.0, first_n=1)}
        async with controlled(Upstream(profile=QUICK.profile, faults=faults)) as running:
            hanging, watching = await running.client(), await running.client()
            hanging.writer.write(post(X_Request_Key="stuck"))
            await running.admitted.acquire()
            await watching.ask(post(Authorization="Bearer sk-or-v1-" + "ab12" * 16))
            seen = await told(watching, "GET", "/__control")
            journal = await told(watching, "GET", "/__control/journal")
        assert (seen["in_flight"], seen["total"]["statuses"]) == (1, {"200": 1})
        assert seen["total"]["faults"] == {"silence": 1}
        (fired,) = seen["fired"]
        assert (fired["key"], fired["injected"], fired["ended"]) == ("stuck", ["silence"], "")
        assert seen["fidelity"]["minute"]["answers"] == 1
        assert (journal["next"], [row["number"] for row in journal["rows"]]) == (1, [1])
        assert re.fullmatch(r"sk-or-v1-\.\.\.[0-9a-f]{6}", journal["rows"][0]["account"])

    run(test())


def test_journal_goes_on_where_it_was_left() -> None:
    """Page by page every row comes once, as JSON or one a line."""

    async def test() -> None:
        async with controlled() as running:
            client, seen, after = await running.client(), [], 0
            for number in range(5):
                await client.ask(post(X_Request_Key=f"r{number}"))
            while rows := (page := await told(client, "GET", _journal(after)))["rows"]:
                seen += [row["key"] for row in rows]
                after = page["next"]
            _, top, body = await client.ask(ask("GET", _journal(1) + "&format=jsonl"))
        assert seen == ["r0", "r1", "r2", "r3", "r4"]
        assert "Content-Type: application/jsonl" in top
        assert [json.loads(line)["number"] for line in body.splitlines()] == [2, 3]

    run(test())


def _journal(after: int) -> str:
    return f"/__control/journal?after={after}&limit=2"


def test_paused_attempts_wait_for_their_admission() -> None:
    """On the virtual clock: who comes during a pause of 10 s is answered 10 s later, as planned."""
    server = MockServer(QUICK, transit=False)
    Controls(server, Access(TOKEN)).mount()

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.route("127.0.0.1", 8000, server.protocol_factory)
        asking, control = [Client(*await asyncio.open_connection(*LOCAL)) for _ in range(2)]
        began = loop.time()
        await told(control, "POST", "/__control/pause")
        answer = asyncio.create_task(asking.ask(post()))
        await asyncio.sleep(10.0)
        seen = await told(control, "GET", "/__control")
        assert (seen["paused"], seen["in_flight"], answer.done()) == (True, 1, False)
        await told(control, "POST", "/__control/resume")
        assert (await answer)[0] == 200
        times = [loop.time() - began, server.ledger.rows[0].admitted_s or 0.0]
        await asking.leave()
        await control.leave()
        await server.close()
        return times

    assert run_virtual(main(), seed=1) == [10.0, 10.0]
    assert server.ledger.gauges.total().delay.max_s == 0.0


def test_a_pause_ends_with_the_mock() -> None:
    """An attempt that waits at a closed gate ends as any other when the mock is shut down."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            await told(client, "POST", "/__control/pause")
            client.writer.write(post())
            while not running.server.ledger.in_flight:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)
        (row,) = running.server.ledger.rows
        left = running.server.ledger.in_flight
        assert (row.ended, row.admitted_s, left) == ("shutdown", None, 0)

    run(test())


def test_metrics_are_what_prometheus_reads() -> None:
    """Its own parser finds every attempt, fault and delay once."""

    async def test() -> None:
        faults: dict[str, Fault] = {
            "down": ServerError(rate=1.0, status=503, first_n=1, after_s=0.0)
        }
        async with controlled(Upstream(profile=QUICK.profile, faults=faults)) as running:
            client = await running.client()
            for _ in range(3):
                await client.ask(post())
            status, top, body = await client.ask(ask("GET", "/metrics", Authorization=""))
        samples = {
            (one.name, *sorted(one.labels.values())): one.value
            for family in text_string_to_metric_families(body.decode())
            for one in family.samples
        }
        assert (status, "text/plain" in top) == (200, True)
        model = "openai/gpt-4o-mini"
        assert samples["mock_llm_attempts_total", "200", "complete", model] == 2
        assert samples["mock_llm_attempts_total", "503", model, "refused"] == 1
        assert samples["mock_llm_faults_total", "down"] == 1
        assert samples["mock_llm_answer_delay_seconds_count",] == 3
        assert samples["mock_llm_attempt_duration_seconds_bucket", "+Inf"] == 3
        assert samples["mock_llm_in_flight",] == 0

    run(test())


def test_commands_can_go_elsewhere() -> None:
    """Whoever serves with several processes gets every command to send on, and the last word."""
    sent: list[Command] = []

    async def test() -> None:
        async with mock() as running:

            async def send(command: Command) -> Result:
                sent.append(command)
                return apply(running.server, command, 0.0)

            Controls(running.server, Access(TOKEN), send).mount()
            client = await running.client()
            await told(client, "PATCH", "/__control/throttle", {"requests_per_min": 5})
        assert [type(one).__name__ for one in sent] == ["Edit", "Look"]

    run(test())


def test_page_may_use_nothing_but_itself() -> None:
    """The dashboard comes with a policy that names its one style and script, and loads nothing."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            status, top, body = await client.ask(ask("GET", "/__dashboard", Authorization=""))
            head_only = await client.ask(ask("GET", "/__dashboard"))
            wrong = (await client.ask(ask("POST", "/__dashboard")))[0]
        assert (status, head_only[0], wrong) == (200, 200, 405)
        policy = top.partition("Content-Security-Policy: ")[2].partition("\r\n")[0]
        assert "default-src 'none'" in policy
        assert policy.count("'sha256-") == 2
        assert "unsafe" not in policy
        assert re.findall(rb'(?:src|href)="(?!data:)', body) == []
        assert b"innerHTML" not in body

    run(test())
    assert files("mock_llm.control").joinpath("dashboard.html").is_file()


def test_a_long_name_is_cut_in_the_rows() -> None:
    """The name of a model that a client makes up takes no more than its place in the ledger."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            await client.ask(post({**QUESTION, "model": "m" * 100_000}))
            (row,) = await running.rows(1)
        assert (row.status, row.model) == (400, "m" * 256)

    run(test())


def test_head_leaves_no_body_behind() -> None:
    """A HEAD, whose client reads no body, ends the connection."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            client.writer.write(ask("HEAD", "/__control"))
            assert b"Connection: close" in await client.reader.read()

    run(test())


def _examples() -> list[tuple[str, str, bytes]]:
    """Method, path and body of every `curl` in the page on control."""
    found = []
    for line in re.findall(r"^curl .*$", DOCUMENT.read_text("utf-8"), re.MULTILINE):
        words = shlex.split(line.replace("$MOCK", ""))[1:]
        options = dict(itertools.pairwise(words))
        body = options.get("-d", "").encode()
        found.append((options.get("-X", "GET"), next(w for w in words if w[0] == "/"), body))
    return found


def test_examples_of_the_documents_work() -> None:
    """Every command that the page on control shows does what it says, one after the other."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            found = []
            for method, path, body in _examples():
                status, _, said = await client.ask(ask(method, path, body))
                found.append((method, path, status, said if status != 200 else b""))
        assert [one for one in found if one[2] != 200] == []
        assert len(found) >= 16

    run(test())


def test_errors_go_without_a_traceback() -> None:
    """Odd bytes in a path or body are the asker's mistake, and the mock goes on."""

    async def test() -> None:
        async with controlled() as running:
            client = await running.client()
            hang = {"kind": "hang_before_headers", "rate": 1}
            odd = [
                ask("PATCH", "/__control/upstream", b"\xff"),
                ask("PUT", "/__control/faults/%ff%00", hang),
                ask("PATCH", "/__control/upstream", b'{"reply": "\\ud800"}'),
                ask("GET", "/__control/%2e%2e/%2e%2e/etc"),
            ]
            statuses = [(await client.ask(one))[0] for one in odd]
            assert (await client.ask(ask("GET", "/__control")))[0] == 200
        assert statuses[1] == 200
        assert {statuses[0], statuses[2]} <= {400, 422}
        assert statuses[3] == 404

    run(test())
