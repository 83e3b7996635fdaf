"""Clients that leave and servers that stop: the work ends as it should, and a row says how."""

import asyncio
import json
from pathlib import Path

import pytest
import uvloop
from loopback import HANGING, QUESTION, mock, post, run

from mock_llm.config import Model, Profile, Upstream


def timers(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    return [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("cancellation", [True, False])
def test_hang_waits_for_its_client_and_for_nothing_else(cancellation: bool) -> None:
    """While it hangs no timer is pending, and when the client leaves its handler is done."""

    async def test() -> None:
        upstream = Upstream(
            profile=Profile(ttft=0.0), faults=HANGING, handler_cancellation=cancellation
        )
        before = asyncio.all_tasks()
        async with mock(upstream, transit=False) as running:
            idle = timers(asyncio.get_running_loop())
            client = await running.client()
            client.writer.write(post())
            await running.admitted.acquire()
            assert timers(asyncio.get_running_loop()) == idle
            assert not running.server.ledger.rows
            await client.leave()
            (row,) = await running.rows(1)
            while asyncio.all_tasks() != before:  # noqa: ASYNC110 - nothing tells of a task's end
                await asyncio.sleep(0)
        assert (row.ended, row.injected, row.headers_s) == ("client_left", ("silence",), None)
        assert row.ended_s is not None
        assert row.admitted_s is not None
        assert row.ended_s >= row.admitted_s

    run(test())


class ShiftedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock a test can put forward."""

    shift_s = 0.0

    def time(self) -> float:
        """Return the wall's monotonic time and the shift."""
        return super().time() + self.shift_s


def test_work_for_a_departed_client_goes_on_without_cancellation() -> None:
    """The answer is made an hour later although nobody waits; the row says when they left."""
    loop = ShiftedLoop()

    async def test() -> None:
        async with mock(Upstream(profile=Profile(ttft=3600.0), keep_alive_s=None)) as running:
            client = await running.client()
            client.writer.write(post())
            await running.admitted.acquire()
            (link,) = running.links()
            await client.leave()
            while link.left_s is None:  # noqa: ASYNC110 - it tells only those who hang
                await asyncio.sleep(0)
            assert not running.server.ledger.rows
            due_s = max(timer.when() for timer in timers(loop))
            loop.shift_s = 3600.0
            (row,) = await running.rows(1)
        assert row.admitted_s is not None
        assert due_s == row.admitted_s + 3600.0
        assert (row.ended, row.last_token_s, row.completion_tokens) == ("client_left", None, 8)
        assert row.ended_s == link.left_s

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(test())


def test_close_ends_work_for_a_departed_client() -> None:
    """Work that goes on for nobody ends with the server, and its row says who left first."""

    async def test() -> None:
        async with mock(Upstream(profile=Profile(ttft=3600.0), keep_alive_s=None)) as running:
            client = await running.client()
            client.writer.write(post())
            await running.admitted.acquire()
            (link,) = running.links()
            await client.leave()
            while link.left_s is None:  # noqa: ASYNC110 - it tells only those who hang
                await asyncio.sleep(0)
        (row,) = running.server.ledger.rows
        assert (row.ended, row.ended_s) == ("client_left", link.left_s)

    run(test())


def test_work_for_a_departed_client_stops_with_cancellation() -> None:
    """The handler ends as its client leaves, and the call is billed in full all the same."""

    async def test() -> None:
        upstream = Upstream(
            profile=Profile(ttft=3600.0), keep_alive_s=0.01, handler_cancellation=True
        )
        async with mock(upstream, transit=False) as running:
            client = await running.client()
            client.writer.write(post())
            await client.reader.readuntil(b"\r\n\r\n")
            await client.leave()
            (row,) = await running.rows(1)
        assert (row.ended, row.status, row.planned_first_token_s) == ("client_left", 200, 3600.0)
        assert row.headers_s is not None
        assert row.billed_usd > 0

    run(test())


def test_stream_cut_short_is_billed_for_what_was_sent() -> None:
    """A client that leaves in mid-stream pays its prompt and the tokens delivered so far."""

    async def test() -> None:
        models = {"m": Model(prompt_usd_per_m=0, completion_usd_per_m=1e6)}
        upstream = Upstream(
            profile=Profile(ttft=0.0, itl=3600.0), models=models, handler_cancellation=True
        )
        async with mock(upstream) as running:
            client = await running.client()
            client.writer.write(post({**QUESTION, "stream": True}))
            await client.reader.readuntil(b'"content":')
            await client.leave()
            (row,) = await running.rows(1)
        assert (row.ended, row.completion_tokens) == ("client_left", 1)
        assert row.billed_usd == pytest.approx(1.0)

    run(test())


def test_close_ends_what_is_under_way() -> None:
    """Attempts that are being served when the server stops have a row that says so."""

    async def test() -> None:
        async with mock(Upstream(profile=Profile(ttft=3600.0), keep_alive_s=0.01)) as running:
            busy, _ = await running.client(), await running.client()
            busy.writer.write(post())
            await busy.reader.readuntil(b"\r\n\r\n")
        (row,) = running.server.ledger.rows
        assert (row.ended, row.status) == ("shutdown", 200)
        assert (await busy.reader.read())[-1:] == b"\n"

    run(test())


def test_departures_are_seen_on_uvloop() -> None:
    """New connections and departed clients are told alike by uvloop's transports."""

    async def test() -> None:
        upstream = Upstream(profile=Profile(ttft=0.0), faults=HANGING)
        async with mock(upstream) as running:
            client = await running.client()
            client.writer.write(post())
            await running.admitted.acquire()
            await client.leave()
            (row,) = await running.rows(1)
        assert (row.ended, row.new_connection) == ("client_left", True)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(test(), 60))


def test_ledger_file_has_every_row(tmp_path: Path) -> None:
    """Rows are in the file as they end, also those that the server's end cut short."""

    async def test() -> None:
        upstream = Upstream(profile=Profile(ttft=0.0), faults=HANGING)
        async with mock(upstream, ledger_file=tmp_path / "ledger.jsonl") as running:
            client = await running.client()
            client.writer.write(post())
            await running.admitted.acquire()
        lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
        assert [json.loads(line)["ended"] for line in lines] == ["shutdown"]

    run(test())
