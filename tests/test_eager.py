"""Work that is begun where it is made: how far it goes at once, and what becomes of the rest."""

import asyncio
import json

import pytest
from loopback import QUICK, mock, post, run

from harness.engines.virtual_loop import run_virtual
from mock_llm.config import Profile, Upstream
from mock_llm.eager import begin
from mock_llm.server import MockServer


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: object) -> None:
        """Keep it."""
        assert isinstance(data, bytes)
        self.written.append(data)

    def is_closing(self) -> bool:
        """Whether it is; it never is."""
        return False

    def close(self) -> None:
        """Do nothing."""


def test_work_that_need_not_wait_is_done_at_once() -> None:
    """Nothing is left of it, and no loop was needed."""
    done = []

    async def work() -> None:
        done.append("all")

    assert begin(work()) is None
    assert done == ["all"]


def test_the_rest_goes_on_in_the_task_that_awaits_it() -> None:
    """It does what comes before its first wait at once, and the rest in its turn."""

    async def main() -> list[str]:
        seen = []

        async def work() -> None:
            seen.append("first")
            await asyncio.sleep(1)
            seen.append("second")
            await asyncio.sleep(1)
            seen.append("third")

        rest = begin(work())
        seen.append("between")
        assert rest is not None
        await asyncio.create_task(_awaited(rest))
        return seen

    assert run_virtual(main()) == ["first", "between", "second", "third"]


async def _awaited(rest: object) -> None:
    await rest  # type: ignore[misc]


def test_an_error_is_raised_where_the_rest_is_awaited() -> None:
    """Whether it happens at once or later."""

    async def work(delay_s: float) -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        raise LookupError(delay_s)

    async def main() -> None:
        for delay_s in (0.0, 1.0):
            rest = begin(work(delay_s))
            assert rest is not None
            with pytest.raises(LookupError, match=str(delay_s)):
                await rest

    run_virtual(main())


@pytest.mark.parametrize("awaited", [True, False])
def test_cancelling_reaches_the_work(awaited: bool) -> None:
    """Of the task that awaits the rest, or of the rest itself if none does yet."""

    async def main() -> list[str]:
        seen = []

        async def work() -> None:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        rest = begin(work())
        assert rest is not None
        if awaited:
            task = asyncio.create_task(_awaited(rest))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        else:
            rest.cancel()
        return seen

    assert run_virtual(main()) == ["cancelled"]


def test_a_plain_request_is_answered_as_it_is_read() -> None:
    """The answer is written and the row kept before the connection's task has had a turn."""

    async def main() -> tuple[int, int]:
        server = MockServer(QUICK, transit=False)
        link, wire = server.protocol_factory(), Wire()
        link.connection_made(wire)
        await asyncio.sleep(0)
        link.data_received(post())
        link.data_received(post())
        (written, rows) = len(wire.written), len(server.ledger.rows)
        link.connection_lost(None)
        await server.close()
        return written, rows

    assert run_virtual(main()) == (2, 2)


def test_a_client_that_leaves_as_its_request_is_read_has_a_row() -> None:
    """Its attempt has begun, and no task has taken it up: it ends all the same."""

    async def main() -> tuple[int, list[str]]:
        server = MockServer(Upstream(profile=Profile(ttft=9.0), handler_cancellation=True))
        link, wire = server.protocol_factory(), Wire()
        link.connection_made(wire)
        await asyncio.sleep(0)
        link.data_received(post())
        link.connection_lost(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ended: list[str] = [row.ended for row in server.ledger.rows]
        await server.close()
        return server.ledger.in_flight, ended

    assert run_virtual(main()) == (0, ["client_left"])


def test_a_fault_of_the_mock_itself_is_a_500() -> None:
    """What goes wrong at once is answered and ends the connection, as it is later."""

    async def test() -> None:
        async with mock(QUICK, transit=False) as running:

            def broken(*_: object) -> None:
                raise LookupError

            running.provider.admit = broken  # type: ignore[method-assign, assignment]
            client = await running.client()
            status, top, body = await client.ask(post())
            assert (status, json.loads(body)["error"]["code"]) == (500, 500)
            assert "Connection: close" in top
            assert await client.reader.read() == b""

    run(test())


def test_requests_in_a_row_are_answered_in_order() -> None:
    """Two in one piece, and a third behind them, each on its own."""

    async def test() -> None:
        async with mock(QUICK, transit=False) as running:
            client = await running.client()
            for key in ("1", "2", "3"):
                client.writer.write(post(X_Request_Key=key))
            for _ in range(3):
                status, _, _ = await client.ask(b"")
                assert status == 200
            assert [row.key for row in await running.rows(3)] == ["1", "2", "3"]

    run(test())
