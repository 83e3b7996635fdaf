"""Faults of connections, as a raw socket meets them over loopback."""

import pytest
from fault_bytes import upstream
from loopback import mock, post, run

from mock_llm.faults import IdleRace, TlsStall


def test_idle_race_closes_a_connection_that_is_used_again() -> None:
    """The first request on a connection is answered, the second meets its end, without a byte."""

    async def check() -> None:
        async with mock(upstream(IdleRace(rate=1))) as running:
            client = await running.client()
            assert (await client.ask(post()))[0] == 200
            client.writer.write(post())
            assert await client.reader.read() == b""
            rows = await running.rows(2)
        assert [(row.ended, row.injected) for row in rows] == [
            ("complete", ()),
            ("broken", ("fault 0",)),
        ]
        assert (rows[1].completion_tokens, rows[1].billed_usd) == (0, 0.0)

    run(check())


@pytest.mark.parametrize("who_ends", ["client", "server"])
def test_stalled_connection_says_nothing_for_ever(who_ends: str) -> None:
    """Over plain HTTP a stalled connection takes a request and is silent; the next one is sound."""

    async def check() -> None:
        async with mock(upstream(TlsStall(rate=1, first_n=1))) as running:
            stalled, sound = await running.client(), await running.client()
            stalled.writer.write(post())
            assert (await sound.ask(post()))[0] == 200
            if who_ends == "client":
                await stalled.leave()
                await running.rows(2)
        *_, row = running.server.ledger.rows
        ended = "client_left" if who_ends == "client" else "shutdown"
        assert (row.key, row.ended, row.injected, row.status) == ("", ended, ("fault 0",), 0)
        assert await stalled.reader.read() == b""

    run(check())
