"""One provider's slots for several servers: on the virtual clock, with links of any slowness."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import QUESTION, Client, post

from harness.engines.virtual_loop import VirtualLoop, run_virtual
from mock_llm.config import Capacity, Profile, Upstream
from mock_llm.ledger import Row
from mock_llm.server import MockServer
from mock_llm.slots import ENTER, SERVED, HubSlots, Moved, Served, SharedService

ONE = Capacity(slots=1)
Told = tuple[str, int, float, float, float]


def upstream(capacity: Capacity | None, **more: Any) -> Upstream:
    return Upstream(profile=Profile(ttft=10.0), capacity=capacity, **more)


def raw(message: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(message))


class SlowLink:
    """Both ends of a link whose messages take a while, in order."""

    def __init__(self, hub: HubSlots, worker: int, delay_s: float) -> None:
        self._hub, self._worker, self._delay_s = hub, worker, delay_s
        self.service = SharedService(self)  # type: ignore[arg-type]

    def _later(self, do: Callable[..., object], *arguments: object) -> None:
        asyncio.get_running_loop().call_later(self._delay_s, do, *arguments)

    def ask(self, name: str, message: object) -> "asyncio.Future[bytes]":
        """Ask the hub, as a worker."""
        assert name == ENTER
        answer = asyncio.get_running_loop().create_future()

        def answered(room: bytes) -> None:
            if not answer.done():
                answer.set_result(room)

        def come_in() -> None:
            room = self._hub.enter(self._worker, raw(message))
            self._later(answered, msgspec.msgpack.encode(room))

        self._later(come_in)
        return answer

    def tell(self, name: str, message: object) -> None:
        """Tell the worker, as the hub, or the other way round."""
        if name == SERVED:
            self._later(self.service.served, raw(message))
        else:
            self._later(self._hub.leave, self._worker, raw(message))


class Pair:
    """Two servers that are one provider, and the rows of both."""

    def __init__(self, upstream: Upstream, delay_s: float) -> None:
        self.links: dict[int, Any] = {}
        self.hub = HubSlots(upstream.capacity, self.links)
        self.servers = []
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        for worker in range(2):
            link = self.links[worker] = SlowLink(self.hub, worker, delay_s)
            server = MockServer(upstream, transit=False, service=link.service.of)
            loop.route(f"worker{worker}", 80, server.protocol_factory)
            self.servers.append(server)

    async def ask(self, worker: int, key: str, at_s: float) -> tuple[Client, asyncio.Task[int]]:
        """Ask a worker at a moment, on a new connection."""
        await asyncio.sleep(at_s - asyncio.get_running_loop().time())
        client = Client(*await asyncio.open_connection(f"worker{worker}", 80))

        async def status() -> int:
            return (await client.ask(post(QUESTION, X_Request_Key=key)))[0]

        return client, asyncio.create_task(status())

    def rows(self) -> list[Row]:
        """What has ended, by its keys."""
        return sorted((row for one in self.servers for row in one.ledger.rows), key=lambda r: r.key)

    async def close(self) -> None:
        """Stop both; nobody may be left at the provider."""
        for server in self.servers:
            await server.close()
        await asyncio.sleep(1)
        assert (self.hub.station.serving, self.hub.station.waiting) == (0, 0)


def played(
    upstream: Upstream, test: Callable[[Pair], Awaitable[None]], delay_s: float = 0.0
) -> list[Told]:
    """Rows that a test leaves: key, status, end, time in the queue, time lost by sharing."""

    async def main() -> list[Told]:
        pair = Pair(upstream, delay_s)
        try:
            await test(pair)
        finally:
            await pair.close()
        return [
            (row.key, row.status, round(row.ended_s or 0.0, 6), *_lost_s(row))
            for row in pair.rows()
        ]

    return run_virtual(main())


def _lost_s(row: Row) -> tuple[float, float]:
    return round(row.queued_s, 6), round(row.slowed_s, 6)


def arrivals(*workers: int, apart_s: float = 1.0) -> Callable[[Pair], Awaitable[None]]:
    """One request at a time to these workers, all of which are answered."""

    async def test(pair: Pair) -> None:
        asked = [await pair.ask(one, str(n), n * apart_s) for n, one in enumerate(workers)]
        await asyncio.gather(*(status for _, status in asked))
        for client, _ in asked:
            await client.leave()

    return test


@pytest.mark.parametrize(
    "capacity",
    [
        ONE,
        Capacity(slots=1, order="lifo"),
        Capacity(slots=2, full_speed=1),
        Capacity(full_speed=2),
    ],
)
@given(workers=st.lists(st.integers(0, 1), min_size=1, max_size=8))
@settings(max_examples=20, deadline=None)
def test_two_servers_are_as_one(capacity: Capacity, workers: Sequence[int]) -> None:
    """Whoever is asked, waiting, sharing and the order are those of a single server."""
    alone = played(upstream(capacity), arrivals(*[0] * len(workers)))
    assert played(upstream(capacity), arrivals(*workers)) == alone


def test_the_queue_is_one() -> None:
    """With one slot three attempts at two servers are served one after the other."""
    assert played(upstream(ONE), arrivals(0, 1, 0)) == [
        ("0", 200, 10.0, 0.0, 0.0),
        ("1", 200, 20.0, 9.0, 0.0),
        ("2", 200, 30.0, 18.0, 0.0),
    ]


def test_the_last_of_all_servers_may_come_first() -> None:
    """With `lifo` the newest of those who wait at either server begins next."""
    rows = played(upstream(Capacity(slots=1, order="lifo")), arrivals(0, 1, 0, 1))
    assert [(key, ended_s) for key, _, ended_s, *_ in rows] == [
        ("0", 10.0),
        ("1", 40.0),
        ("2", 30.0),
        ("3", 20.0),
    ]


def test_the_way_to_the_hub_adds_no_time() -> None:
    """However slow the link, service begins and speed changes at the hub's moments."""
    quick = played(upstream(Capacity(slots=2, full_speed=1)), arrivals(0, 1, 0, 1))
    slow = played(upstream(Capacity(slots=2, full_speed=1)), arrivals(0, 1, 0, 1), 0.05)
    assert slow == quick


def test_a_late_no_is_a_refusal() -> None:
    """An attempt that the hub has no room for is refused when its answer comes."""
    rows = played(upstream(Capacity(slots=1, queue=0, overflow_status=529)), arrivals(0, 1), 0.25)
    assert rows == [("0", 200, 10.0, 0.0, 0.0), ("1", 529, 1.5, 0.0, 0.0)]


def test_one_who_leaves_before_the_answer_leaves_the_queue() -> None:
    """A client that is gone while its knock is on its way holds nothing."""

    async def test(pair: Pair) -> None:
        for number in range(4):
            client, status = await pair.ask(number % 2, str(number), float(number))
            await asyncio.sleep(0.15)
            await client.leave()
            await asyncio.wait([status])
        client, status = await pair.ask(0, "4", 5.0)
        assert await status == 200
        await client.leave()

    rows = played(upstream(ONE, handler_cancellation=True), test, 0.1)
    assert [row[1:] for row in rows][-1] == (200, 15.0, 0.0, 0.0)


def test_a_change_is_felt_by_those_who_wait() -> None:
    """More slots begin service at every server, and none at all lets everybody in."""

    async def test(pair: Pair) -> None:
        asked = [await pair.ask(n % 2, str(n), 0.0) for n in range(4)]
        for at_s, capacity in ((2.0, Capacity(slots=2)), (3.0, None)):
            await asyncio.sleep(at_s - asyncio.get_running_loop().time())
            pair.hub.change(capacity, at_s)
            for server in pair.servers:
                server.change(upstream(capacity))
        await asyncio.gather(*(status for _, status in asked))
        asked.append(await pair.ask(0, "4", 13.0))
        assert await asked[-1][1] == 200
        for client, _ in asked:
            await client.leave()

    assert [row[2:4] for row in played(upstream(ONE), test)] == [
        *((10.0, 0.0), (12.0, 2.0), (13.0, 3.0), (13.0, 3.0), (23.0, 0.0))
    ]


class Noting:
    """A link that keeps what is told."""

    def __init__(self) -> None:
        self.told: list[Served] = []

    def tell(self, _name: str, message: Served) -> None:
        """Keep it."""
        self.told.append(message)


def test_the_dead_free_their_slots() -> None:
    """Of a dead worker's attempts none is served, and the next of the others begin."""
    links: dict[int, Any] = {0: Noting(), 1: Noting()}
    hub = HubSlots(Capacity(slots=2, full_speed=1), links)
    for worker, number in ((0, 0), (0, 1), (0, 2), (1, 7), (1, 8), (1, 9)):
        assert hub.enter(worker, raw(Moved(number, 1.0)))
    assert links[1].told == [Served(1.0, 0.5, [])]
    del links[0]
    hub.bury(0, 5.0)
    assert links[1].told[1:] == [Served(5.0, 0.5, [7, 8])]
    links[0] = Noting()
    assert hub.enter(0, raw(Moved(0, 6.0)))
    hub.leave(1, raw(Moved(7, 7.0)))
    hub.leave(1, raw(Moved(7, 7.0)))
    hub.leave(1, raw(Moved(8, 6.5)))  # its clock is behind
    assert links[0].told == [Served(6.0, 0.5, []), Served(7.0, 0.5, [0])]
    assert links[1].told[2:] == [Served(7.0, 0.5, [9])]


@given(
    capacity=st.builds(
        Capacity, slots=st.integers(1, 3), queue=st.integers(0, 3), full_speed=st.integers(1, 3)
    ),
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.floats(0, 9)), max_size=60),
)
def test_every_worker_knows_the_rate(
    capacity: Capacity, steps: Sequence[tuple[int, int, float]]
) -> None:
    """Whoever comes, goes or dies, all who have attempts know the rate, and no moment falls."""
    links: dict[int, Any] = {worker: Noting() for worker in range(3)}
    hub = HubSlots(capacity, links)
    here, begun = set[tuple[int, int]](), set[tuple[int, int]]()
    for serial, (worker, what, now) in enumerate(steps):
        mine = sorted(one for one in here if one[0] == worker)
        if what == 0:
            del links[worker]
            hub.bury(worker, now)
            here -= set(mine)
            links[worker] = Noting()
        elif what < 3 and mine:
            hub.leave(worker, raw(Moved(mine[0][1], now)))
            here.remove(mine[0])
        elif hub.enter(worker, raw(Moved(serial, now))):
            here.add((worker, serial))
        for number, link in links.items():
            begun |= {(number, one) for told in link.told for one in told.begun}
            moments = [told.at_s for told in link.told]
            assert moments == sorted(moments)
            if any(one[0] == number for one in here):  # else it may be new
                assert (link.told[-1].rate if link.told else 1.0) == hub.station.rate
        assert len(begun & here) == hub.station.serving == len(here) - hub.station.waiting
