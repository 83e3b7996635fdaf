"""Several workers under control: a command that one of them gets is in force with all."""

import asyncio
import json
from typing import Any

from loopback import Client, head, post, run
from served import Workers, workers

TOKEN = "the-token-of-a-test"  # as printed at the start
FIELDS = {"X-Control-Token": TOKEN, "Host": "localhost"}


async def control(client: Client, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Ask a page of control; return the status and what the answer holds."""
    raw = b"" if body is None else json.dumps(body).encode()
    status, _, answer = await client.ask(head(method, f"/__control{path}", FIELDS, len(raw)) + raw)
    return status, json.loads(answer)


async def statuses(clients: list[Client]) -> set[int]:
    """Statuses of one call by each client."""
    return {(await client.ask(post()))[0] for client in clients}


def test_a_change_by_one_worker_is_in_force_with_all() -> None:
    """A fault put in through one connection strikes the next call on every other."""

    async def test() -> None:
        async with workers(token=TOKEN) as running:
            clients = await running.clients(12)
            seen = [await statuses(clients)]
            fault = {"kind": "server_error", "rate": 1, "status": 503}
            put = await control(clients[0], "PUT", "/faults/down", fault)
            seen.append(await statuses(clients))
            await control(clients[1], "DELETE", "/faults/down")
            seen.append(await statuses(clients))
            bad = await control(clients[2], "PATCH", "/upstream", {"profile": {"ttft": -1}})
        assert (put[0], seen) == (200, [{200}, {503}, {200}])
        assert bad[0] == 422

    run(test())


def test_figures_and_journal_are_of_all_workers() -> None:
    """Whoever is asked tells the attempts of all, each row once and under one number."""

    async def test() -> None:
        async with workers(token=TOKEN) as running:
            clients = await running.clients(12)
            await statuses(clients)
            assert min(await running.attempts()) > 0
            totals = [
                (await control(client, "GET", ""))[1]["total"]["attempts"] for client in clients[:4]
            ]
            rows = [(await control(client, "GET", "/journal"))[1]["rows"] for client in clients[:4]]
            await control(clients[0], "POST", "/reset")
            after = (await control(clients[1], "GET", ""))[1]["total"]["attempts"]
            await statuses(clients[:3])
            rows.append((await control(clients[2], "GET", "/journal"))[1]["rows"])
        assert (totals, after) == ([12] * 4, 0)
        assert [len(one) for one in rows] == [12] * 4 + [3]
        assert [row["number"] for row in rows[0]] == list(range(1, 13))

    run(test())


def test_readers_of_the_journal_at_once_read_the_same() -> None:
    """Each row is there once, however many ask for the journal in one moment."""

    async def test() -> None:
        async with workers(token=TOKEN) as running:
            clients = await running.clients(8)
            await statuses(clients)
            asking = [control(client, "GET", "/journal") for client in clients]
            read = [answer["rows"] for _, answer in await asyncio.gather(*asking)]
            read.append((await control(clients[0], "GET", "/journal"))[1]["rows"])
        assert [len(rows) for rows in read] == [8] * 9

    run(test())


def test_reset_gives_the_same_weather_again() -> None:
    """After a reset the draws of every request begin anew, whichever worker it reaches."""

    async def test() -> None:
        async with workers(token=TOKEN) as running:
            clients = await running.clients(8)
            first = await draws(running, clients)
            await control(clients[0], "POST", "/reset")
            second = await draws(running, clients)
        assert (first, second) == (list(range(8)),) * 2

    run(test())


async def draws(running: Workers, clients: list[Client]) -> list[int]:
    """The draws that a call of each client at one request took."""
    for client in clients:
        await client.ask(post(X_Request_Key="one"))
    rows = (await control(clients[0], "GET", "/journal"))[1]["rows"]
    return sorted(row["draw"] for row in rows)


def test_pause_holds_the_calls_of_all_workers() -> None:
    """While paused no worker admits a call; after resuming, those that wait are answered."""

    async def test() -> None:
        async with workers(token=TOKEN) as running:
            clients = await running.clients(12)
            await control(clients[0], "POST", "/pause")
            asking = [asyncio.create_task(client.ask(post())) for client in clients[1:]]
            while (await control(clients[0], "GET", ""))[1]["in_flight"] < 11:  # noqa: ASYNC110 - a page to look at
                await asyncio.sleep(0.01)
            await control(clients[0], "POST", "/resume")
            answered = {(await one)[0] for one in asking}
        assert answered == {200}

    run(test())


def test_the_summary_is_of_all_workers() -> None:
    """At the end one line sums up what all workers have done."""

    async def test() -> Workers:
        async with workers() as running:
            await statuses(await running.clients(12))
        return running

    said = asyncio.run(test()).said
    assert [line.partition(";")[0] for line in said] == ["12 attempts, 0 faults injected"]
