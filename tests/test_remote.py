"""Admission for several processes: by the worker or by the hub, and the plan is the same."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
import pytest
from loopback import HANGING, QUICK, post

from harness.engines.virtual_loop import VirtualLoop, run_virtual
from mock_llm.behaviour import Provider
from mock_llm.config import ColdStart, Model, Profile, PromptCache, Throttle, Upstream
from mock_llm.distributions import Distribution, Empirical, Lognormal, Mixture, Part
from mock_llm.faults import ServerError
from mock_llm.plan import Call, Plan
from mock_llm.remote import HubAdmission, SharedAdmission, question
from mock_llm.server import MockServer
from mock_llm.settings import Settings
from mock_llm.structured import document
from mock_llm.wants import Tool, Wants

LIMITED = Upstream(profile=Profile(ttft=0.0), throttle=Throttle(requests_per_min=100))
MODEL = "openai/gpt-4o-mini"


def call(key: str, account: str = "a") -> Call:
    return Call(key=key, account=account, model=MODEL, prompt_tokens=7, prefix=((b"\xff", 7),))


def through(hub: HubAdmission, asked: Call, now: float) -> Plan:
    """A plan by way of the hub, over the wire and back."""
    body = msgspec.Raw(msgspec.msgpack.encode(question(asked, now)))
    return msgspec.msgpack.decode(msgspec.msgpack.encode(hub.admit(0, body)), type=Plan)


def provider(upstream: Upstream, seed: int = 3) -> Provider:
    return Provider(upstream, seed=seed)


def test_a_window_slides_over_all_workers() -> None:
    """Whichever worker asks, and though their clocks cross, no minute has more than the limit."""
    hub = HubAdmission(provider(LIMITED))
    let_in: list[float] = []
    for step in range(12_000):
        now = step * 0.05
        # The second worker's clock is up to 40 ms behind: its loop was busy.
        plan = through(hub, call(f"r{step}"), now - 0.04 * (step % 2))
        if plan.status == 200:
            let_in.append(now)
        else:
            assert plan.retry_after_s == pytest.approx(let_in[-100] + 60 - now, abs=0.05)
    gaps = [later - first for first, later in zip(let_in, let_in[100:], strict=False)]
    assert len(let_in) == 1_000
    assert min(gaps) >= 60 - 0.04
    assert max(gaps) <= 60 + 0.1


SCHEMA = document(b'{"type":"integer","minimum":%d}' % 2**70)
SHAPES = [None, Wants(schema=SCHEMA), Wants(tools=(Tool("count", SCHEMA),))]


@pytest.mark.parametrize("wants", SHAPES, ids=["free", "schema", "tool"])
@pytest.mark.parametrize("key", ["r1", "r\udce9", "\u20ac"])
def test_the_way_to_the_hub_changes_no_plan(key: str, wants: Wants | None) -> None:
    """A plan by way of the hub is the provider's own, whatever bytes or wishes the call has."""
    fault = ServerError(rate=0.5, status=503)
    upstream = msgspec.structs.replace(LIMITED, faults={"sick": fault})
    hub, alone = HubAdmission(provider(upstream)), provider(upstream)
    one_of = msgspec.structs.replace(call(key, account=f"k{key}"), wants=wants)
    asked = [one_of] * 20
    plans = [alone.admit(one, 1.0) for one in asked]
    assert [through(hub, one, 1.0) for one in asked] == plans
    assert len({plan.status for plan in plans}) == 2


def test_the_provider_sees_no_clock_fall() -> None:
    """Where the clocks of two workers cross, the later moment holds for both."""
    seen: list[float] = []

    class Watched(Provider):
        def admit(self, call: Call, now: float) -> Plan:
            seen.append(now)
            return super().admit(call, now)

    hub = HubAdmission(Watched(LIMITED, seed=3))
    for now in (1.0, 0.5, 2.0):
        through(hub, call("r"), now)
    assert seen == [1.0, 1.0, 2.0]


REMEMBERING = Profile(prompt_cache=PromptCache())
PRICED: dict[str, Any] = {"prompt_usd_per_m": 1.0, "completion_usd_per_m": 1.0}


@pytest.mark.parametrize(
    ("upstream", "expected"),
    [
        (Upstream(), False),
        (Upstream(faults={"f": ServerError(rate=0.5, status=503, from_s=9)}), False),
        (LIMITED, True),
        (Upstream(profile=REMEMBERING), True),
        (Upstream(profile=Profile(cold_start=ColdStart(extra_s=1.0))), True),
        (Upstream(models={"m": Model(**PRICED, profile=REMEMBERING)}), True),
        (Upstream(faults={"f": ServerError(rate=1, status=503, first_n=3)}), True),
    ],
)
def test_only_what_remembers_needs_the_hub(upstream: Upstream, expected: bool) -> None:
    """Keyed weather is decided on the spot; windows, warmth, caches and first calls are not."""
    assert provider(upstream).remembers == expected


class SlowHub:
    """A link whose answers take 50 ms."""

    def __init__(self, hub: HubAdmission) -> None:
        self._hub = hub

    def ask(self, _name: str, message: object) -> asyncio.Future[bytes]:
        """Return the hub's answer, in a while; it decides whether or not anybody still waits."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        loop.call_later(0.05, self._decide, msgspec.Raw(msgspec.msgpack.encode(message)), answer)
        return answer

    def _decide(self, body: msgspec.Raw, answer: asyncio.Future[bytes]) -> None:
        plan = self._hub.admit(0, body)
        if not answer.done():
            answer.set_result(msgspec.msgpack.encode(plan))

    def tell(self, _name: str, message: object) -> None:
        """Have the hub end an attempt."""
        self._hub.finish(0, msgspec.Raw(msgspec.msgpack.encode(message)))


def test_who_leaves_while_the_hub_decides_holds_nothing() -> None:
    """A place that the hub gives to a client that has left in the meantime is given back."""
    deciding = provider(Upstream(throttle=Throttle(concurrent=1)))
    slow: Any = SlowHub(HubAdmission(deciding))
    worker = SharedAdmission(provider(deciding.upstream), slow)

    async def main() -> list[int]:
        waiting: Any = worker.admit(call("r"), 0.0)
        asking = asyncio.create_task(waiting)
        await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.sleep(0.05)
        waiting = worker.admit(call("r"), 0.1)
        again = await waiting
        return [deciding.admission.under_way, again.status, again.draw]

    assert run_virtual(main()) == [1, 200, 1]


def test_the_way_to_the_hub_adds_no_time() -> None:
    """A plan that was 50 ms on its way is played from the question on; one's own is not awaited."""
    slow = msgspec.structs.replace(LIMITED, profile=Profile(ttft=0.2), keep_alive_s=None)
    hub: Any = SlowHub(HubAdmission(provider(slow)))
    deciding = SharedAdmission(provider(slow), hub)
    assert isinstance(SharedAdmission(provider(QUICK), hub).admit(call("r"), 0.0), Plan)

    async def main() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        server = MockServer(slow, provider=deciding, transit=False)
        loop.route("mock", 80, server.protocol_factory)
        reader, writer = await asyncio.open_connection("mock", 80)
        writer.write(post())
        top = await reader.readuntil(b"\r\n\r\n")
        took_s = loop.time()
        writer.close()
        await server.close()
        return int(top.split()[1]), took_s

    status, took_s = run_virtual(main())
    assert status == 200
    assert took_s == pytest.approx(0.2, abs=1e-3)


def test_a_change_moves_admission() -> None:
    """An upstream that begins to remember sends attempts to the hub, and back when it forgets."""
    hub: Any = SlowHub(HubAdmission(provider(LIMITED)))
    deciding = SharedAdmission(provider(QUICK), hub)
    deciding.change(LIMITED)
    waiting = deciding.admit(call("r"), 0.0)
    assert isinstance(waiting, Awaitable)
    assert run_virtual(_plan(waiting)).status == 200
    deciding.change(QUICK)
    assert isinstance(deciding.admit(call("r"), 0.0), Plan)
    assert deciding.upstream is QUICK


async def _plan(waiting: Awaitable[Plan]) -> Plan:
    return await waiting


LAWS: list[Distribution] = [
    0.7,
    Lognormal(p50=1, p99=3),
    Empirical(quantiles=(1, 1, 2, 7)),
    Empirical(quantiles=((0.1, 1), (0.5, 2), (0.9, 2))),
    Mixture(parts=(Part(weight=1, dist=0.5), Part(weight=2, dist=Lognormal(p50=1, p99=3)))),
]


@pytest.mark.parametrize("dist", LAWS, ids=lambda law: type(law).__name__)
def test_settings_reach_a_worker_unchanged(dist: Distribution) -> None:
    """What the hub says of the upstream is what the worker reads, whatever is in it."""
    profile = Profile(ttft=dist, output_tokens=None, prompt_cache=PromptCache())
    upstream = Upstream(profile=profile, faults=HANGING, keep_alive_s=None, keys=("k",))
    settings = Settings(upstream=upstream, seed=-3, answers={"\u20ac": "positive"}, transit=False)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=Settings) == settings
