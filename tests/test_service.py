"""A provider with finite capacity behind HTTP: waiting, sharing, overflow, and departed clients."""

import asyncio
import json
from collections.abc import Iterable

import pytest
from loopback import QUESTION, Client, Mock, mock, post
from loopback import run as run_live
from virtual_mock import run

from mock_llm.config import Capacity, Model, Profile, Upstream
from mock_llm.distributions import Exponential
from mock_llm.faults import ConnectionReset, HangBeforeHeaders, KeepAliveHang, ServerError
from mock_llm.ledger import Row, delay_s

ONE = Capacity(slots=1)


def upstream(capacity: Capacity | None, ttft: float = 10.0, **more: object) -> Upstream:
    return Upstream(profile=Profile(ttft=ttft), capacity=capacity, **more)  # type: ignore[arg-type]


def asked(key: str, **body: object) -> bytes:
    return post({**QUESTION, **body}, X_Request_Key=key)


async def arrivals(running: Mock, moments_s: Iterable[float], **body: object) -> list[Client]:
    """One request, on a connection of its own, at each of these moments."""
    clients = []
    loop = asyncio.get_running_loop()
    for number, moment_s in enumerate(moments_s):
        await asyncio.sleep(moment_s - loop.time())
        client = await running.client()
        client.writer.write(asked(str(number), **body))
        clients.append(client)
    return clients


def told(rows: Iterable[Row]) -> list[tuple[str, str, float, float, float]]:
    """Of each row: key, end, moment of its end, time in the queue, time lost by sharing."""
    return sorted(
        (
            row.key,
            row.ended,
            round(row.ended_s or 0, 6),
            round(row.queued_s, 6),
            round(row.slowed_s, 6),
        )
        for row in rows
    )


def test_attempts_wait_for_a_slot_in_their_order() -> None:
    """With one slot the second of three begins when the first is done, and so on."""

    async def test(running: Mock) -> None:
        await arrivals(running, [0, 1, 2])
        rows = await running.rows(3)
        assert told(rows) == [
            ("0", "complete", 10.0, 0.0, 0.0),
            ("1", "complete", 20.0, 9.0, 0.0),
            ("2", "complete", 30.0, 18.0, 0.0),
        ]
        assert [delay_s(row) for row in rows] == pytest.approx([0.0] * 3)

    run(upstream(ONE), test)


def test_attempts_share_the_speed() -> None:
    """Each has a half while there are two: 5 s alone, 10 s by halves, then 5 s alone."""

    async def test(running: Mock) -> None:
        await arrivals(running, [0, 5])
        rows = await running.rows(2)
        assert told(rows) == [
            ("0", "complete", 15.0, 0.0, 5.0),
            ("1", "complete", 20.0, 0.0, 5.0),
        ]
        assert [delay_s(row) for row in rows] == pytest.approx([0.0] * 2)

    run(upstream(Capacity(full_speed=1)), test)


def test_one_who_leaves_gives_back_the_speed() -> None:
    """When a client leaves, and its work is cancelled, the other is alone from that moment."""

    async def test(running: Mock) -> None:
        _, second = await arrivals(running, [0, 0])
        await asyncio.sleep(6)
        await second.leave()
        assert told(await running.rows(2)) == [
            ("0", "complete", 13.0, 0.0, 3.0),
            ("1", "client_left", 6.0, 0.0, 0.0),
        ]

    run(upstream(Capacity(full_speed=1), handler_cancellation=True), test)


def test_no_room_means_overloaded() -> None:
    """Past slots and queue an attempt is refused at once, in OpenRouter's shape, for nothing."""

    async def test(running: Mock) -> None:
        await arrivals(running, [0, 1])
        error = await (await running.client()).error(asked("2"))
        assert error == (529, "provider_overloaded", "Provider returned error")
        (row,) = await running.rows(1)
        assert (row.ended, row.ended_s, row.billed_usd, row.draw) == ("refused", 1.0, 0.0, 0)
        await running.rows(3)

    run(upstream(Capacity(slots=1, queue=1, overflow_status=529)), test)


def test_keep_alives_come_while_a_request_waits() -> None:
    """White space for an answer, comments for a stream, whether it is served or in the queue."""

    async def test(running: Mock) -> None:
        _, whole, stream = [
            *await arrivals(running, [0, 0]),
            *await arrivals(running, [0], stream=True),
        ]
        head = (await whole.reader.readuntil(b"\r\n\r\n")).decode()
        assert "200 OK" in head
        assert asyncio.get_running_loop().time() == 4.0
        assert await whole.reader.readexactly(16) == b"b\r\n\n         \n\r\n"
        await running.rows(3)
        waited = await whole.reader.readuntil(b"\r\n0\r\n\r\n")
        assert waited.count(b"\n         \n") == 3
        streamed = await stream.reader.readuntil(b"\r\n0\r\n\r\n")
        assert streamed.count(b": OPENROUTER PROCESSING") == 7

    run(upstream(ONE, keep_alive_s=4.0), test)


def test_a_stream_is_as_slow_as_its_provider() -> None:
    """Eight tokens that are planned a second apart come two apart while two share the speed."""

    async def test(running: Mock) -> None:
        await arrivals(running, [0, 0], stream=True)
        rows = await running.rows(2)
        assert [(row.headers_s, row.first_token_s, row.last_token_s) for row in rows] == [
            (0.0, 2.0, 16.0)
        ] * 2

    profile = Profile(ttft=1.0, itl=1.0)
    run(Upstream(profile=profile, capacity=Capacity(full_speed=1), keep_alive_s=None), test)


def test_departed_clients_hold_their_slots_without_cancellation() -> None:
    """The provider works to the end of the plan though nobody listens, and bills it."""

    async def test(running: Mock) -> None:
        first, _ = await arrivals(running, [0, 1])
        await asyncio.sleep(1)
        await first.leave()
        rows = await running.rows(2)
        assert told(rows) == [
            ("0", "client_left", 2.0, 0.0, 0.0),
            ("1", "complete", 20.0, 9.0, 0.0),
        ]
        assert min(row.billed_usd for row in rows) > 0

    run(upstream(ONE), test)


def test_departed_clients_leave_the_queue_with_cancellation() -> None:
    """Slot or place in the queue is free at once; who was never served pays nothing."""

    async def test(running: Mock) -> None:
        first, second, _ = await arrivals(running, [0, 1, 2])
        await asyncio.sleep(1)
        await second.leave()
        await asyncio.sleep(1)
        await first.leave()
        rows = await running.rows(3)
        assert told(rows) == [
            ("0", "client_left", 4.0, 0.0, 0.0),
            ("1", "client_left", 3.0, 2.0, 0.0),
            ("2", "complete", 14.0, 2.0, 0.0),
        ]
        assert {row.key: row.billed_usd > 0 for row in rows} == {"0": True, "1": False, "2": True}

    run(upstream(ONE, handler_cancellation=True), test)


def test_hangs_hold_their_slots_as_long_as_their_answers_would_have() -> None:
    """What is lost on its way is made all the same; keep-alives for ever keep nobody from work."""

    async def test(running: Mock) -> None:
        await arrivals(running, [0])
        heard = (await arrivals(running, [1]))[0]
        await heard.reader.readuntil(b"b\r\n\n         \n\r\n")
        good = await running.client()
        answered = asyncio.create_task(good.ask(asked("z")))
        assert (await answered)[0] == 200
        assert asyncio.get_running_loop().time() == 30.0

    faults = {
        "lost": HangBeforeHeaders(rate=1, first_n=1),
        "idle": KeepAliveHang(rate=1, first_n=1),
    }
    run(upstream(ONE, faults=faults, handler_cancellation=True), test)


def test_who_never_gets_to_the_provider_needs_no_slot() -> None:
    """Refusals and resets come while all slots are taken."""

    async def test(running: Mock) -> None:
        await arrivals(running, [0])
        rows: list[Row] = []
        for key in ("1", "2"):
            client = await running.client()
            client.writer.write(asked(key, model="m"))
            rows = await running.rows(len(rows) + 1)
        assert [row.ended for row in rows] == ["refused", "broken"]
        assert asyncio.get_running_loop().time() < 1
        await running.rows(3)

    model = Model(prompt_usd_per_m=1, completion_usd_per_m=1)
    faults = {
        "5xx": ServerError(rate=1, models=("m",), first_n=1, after_s=0.5),
        "rst": ConnectionReset(rate=1, models=("m",)),
    }
    run(upstream(ONE, faults=faults, models={"a": model, "m": model}), test)


def test_capacity_changes_under_way() -> None:
    """More slots are there for those who wait already, and none at all lets everybody in."""

    async def test(running: Mock) -> None:
        await arrivals(running, [0, 0, 0, 0])
        await asyncio.sleep(2)
        running.server.change(upstream(Capacity(slots=2)))
        await asyncio.sleep(1)
        running.server.change(upstream(None))
        rows = await running.rows(4)
        assert [row.ended_s for row in rows] == [10.0, 12.0, 13.0, 13.0]

    run(upstream(ONE), test)


def test_cancellation_can_be_turned_on_under_way() -> None:
    """From the change on, those who leave give back their slots, on old connections too."""

    async def test(running: Mock) -> None:
        first, _ = await arrivals(running, [0, 0])
        await asyncio.sleep(1)
        running.server.change(upstream(ONE, handler_cancellation=True))
        await first.leave()
        assert told(await running.rows(2)) == [
            ("0", "client_left", 1.0, 0.0, 0.0),
            ("1", "complete", 11.0, 1.0, 0.0),
        ]

    run(upstream(ONE), test)


def test_alarms_of_the_departed_are_swept_out() -> None:
    """Work that would have taken years leaves nothing behind when its clients go."""

    async def test(running: Mock) -> None:
        service = running.server._player.service
        assert service is not None
        for number in range(200):
            (client,) = await arrivals(running, [number])
            await client.leave()
            await running.rows(number + 1)
        assert len(service._alarms) < 100

    run(upstream(Capacity(full_speed=1), 1e8, handler_cancellation=True), test)


def test_set_up_delays_everything_on_a_stream() -> None:
    """Head, comments, first token, and the knock at the provider come after the set-up."""

    async def test(running: Mock) -> None:
        loop = asyncio.get_running_loop()
        (client,) = await arrivals(running, [0], stream=True)
        moments = []
        for mark in (b"\r\n\r\n", b"PROCESSING", b"PROCESSING", b'"content"'):
            await client.reader.readuntil(mark)
            moments.append(round(loop.time(), 9))
        assert moments == [3.0, 3.4, 3.8, 4.0]
        (row,) = await running.rows(1)
        assert (row.setup_s, row.planned_first_token_s, delay_s(row)) == (3.0, 1.0, 0.0)

    for capacity in (None, ONE):
        run(upstream(capacity, 1.0, connection_setup=3.0), test)


def test_set_up_delays_a_refusal() -> None:
    """On a new connection a refusal comes after the set-up, on the next request at once."""

    async def test(running: Mock) -> None:
        loop = asyncio.get_running_loop()
        client = await running.client()
        for moment_s in (3.5, 4.0):
            assert (await client.ask(asked("r")))[0] == 503
            assert loop.time() == moment_s

    faults = {"down": ServerError(rate=1, after_s=0.5, status=503)}
    run(upstream(ONE, connection_setup=3.0, faults=faults), test)


@pytest.mark.parametrize("stream", [False, True])
def test_capacity_that_is_never_reached_moves_no_byte(stream: bool) -> None:
    """With slots enough for everybody bytes and moments are those of no capacity at all."""
    heard = []

    async def test(running: Mock) -> None:
        loop = asyncio.get_running_loop()
        clients = await arrivals(running, [0.1, 0.3, 0.7], stream=stream)
        end = b"\r\n0\r\n\r\n"
        seen = [(await client.reader.readuntil(end), loop.time()) for client in clients]
        rows = [(row.key, row.headers_s, row.last_token_s) for row in await running.rows(3)]
        heard.append((seen, rows))

    profile = Profile(ttft=Exponential(mean=1.9), itl=Exponential(mean=0.07), output_tokens=30)
    for capacity in (None, Capacity(slots=3, full_speed=3)):
        run(Upstream(profile=profile, capacity=capacity, keep_alive_s=0.1), test, transit=True)
    assert heard[0] == heard[1]


async def goodput(running: Mock, requests: int, load: float) -> float:
    """Answers per second that came within the clients' 8 s, of the five that slots allow."""
    loop = asyncio.get_running_loop()
    good = 0

    async def one(number: int) -> None:
        nonlocal good
        await asyncio.sleep(number / (5 * load))
        client = Client(*await asyncio.open_connection("127.0.0.1", running.port))
        try:
            async with asyncio.timeout(8):
                status, _, _ = await client.ask(asked(str(number)))
            good += status == 200
        except TimeoutError:
            pass
        finally:
            await client.leave()

    await asyncio.gather(*(one(number) for number in range(requests)))
    return good / loop.time()


def test_working_for_the_departed_costs_most_of_the_goodput() -> None:
    """At a load of 1.2, with clients that give up, cancelling is worth several times as much."""
    found = dict[bool, float]()
    for cancel in (True, False):

        async def test(running: Mock, cancel: bool = cancel) -> None:
            found[cancel] = await goodput(running, 900, 1.2)
            await running.rows(900)

        run(
            Upstream(
                profile=Profile(ttft=Exponential(mean=1.0)),
                capacity=Capacity(slots=5),
                handler_cancellation=cancel,
            ),
            test,
        )
    assert found[True] > 4.0
    assert found[True] > 4.5 * found[False]


def test_slots_over_loopback() -> None:
    """On the wall clock too the second of two waits for the first, and its row says so."""

    async def test() -> None:
        async with mock(upstream(Capacity(slots=1), 0.05)) as running:
            clients = [await running.client() for _ in range(2)]
            answers = await asyncio.gather(*(one.ask(asked("r")) for one in clients))
            first, second = await running.rows(2)
        assert [json.loads(body)["object"] for _, _, body in answers] == ["chat.completion"] * 2
        assert first.queued_s == 0 < second.queued_s
        assert second.last_token_s is not None
        assert first.last_token_s is not None
        assert second.last_token_s >= first.last_token_s + 0.04

    run_live(test())
