"""From one model to the next: when, how late, and with whose weather."""

import asyncio
from typing import Any

import msgspec
import openai
import pytest
from loopback import QUESTION, mock, run
from virtual_servers import PORT, URL, the_loop

from harness.engines.virtual_loop import run_virtual
from mock_llm.behaviour import Provider
from mock_llm.config import Profile, Throttle, Upstream
from mock_llm.faults import (
    ErrorIn200,
    Fault,
    HangBeforeHeaders,
    HtmlError,
    Moderation,
    NoCredit,
    RateLimited,
    Rejected,
    ServerError,
)
from mock_llm.plan import Call
from mock_llm.server import MockServer

MINI, HAIKU, TURBO = "openai/gpt-4o-mini", "anthropic/claude-3-haiku", "openai/gpt-3.5-turbo"
CALL = Call(key="r", model=MINI, fallbacks=(HAIKU, TURBO), prompt_tokens=10)
DOWN = {"down": ServerError(rate=1, after_s=0.5, models=(MINI,))}


def upstream(*faults: Fault, **more: Any) -> Upstream:
    named = {f"fault {number}": fault for number, fault in enumerate(faults)}
    return Upstream(profile=Profile(ttft=1.0), faults=named, **more)


@pytest.mark.parametrize(
    ("fault", "falls"),
    [
        (ServerError(rate=1), True),
        (ServerError(rate=1, status=408), True),
        (RateLimited(rate=1), True),
        (RateLimited(rate=1, form="free_per_day"), False),
        (Moderation(rate=1), True),
        (Rejected(rate=1, status=404), False),
        (NoCredit(rate=1), False),
        (HtmlError(rate=1), False),
        (HangBeforeHeaders(rate=1), False),
        (ErrorIn200(rate=1), False),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Fault) else "",
)
def test_what_is_the_models_own_fault(fault: Fault, falls: bool) -> None:
    """A model that is down, throttled or moderated is passed over; what else fails, fails."""
    struck = msgspec.structs.replace(fault, models=(MINI,))
    plan = Provider(upstream(struck), seed=1).admit(CALL, 0.0)
    assert (plan.model, plan.ending == "clean") == ((HAIKU, True) if falls else ("", False))
    assert plan.injected == ("fault 0",)


def test_next_model_begins_when_the_first_has_refused() -> None:
    """The time of the refusal comes before the answer, and the connection is set up once."""
    provider = Provider(upstream(DOWN["down"], connection_setup=0.2), seed=1)
    plan = provider.admit(msgspec.structs.replace(CALL, new_connection=True), 0.0)
    assert (plan.setup_s, plan.first_token_s) == (0.2, 0.5 + 1.0)
    assert plan.cost_usd == pytest.approx(10 * 0.25e-6 + plan.completion_tokens * 1.25e-6)


def test_all_refuse_in_their_order() -> None:
    """When no model is left the last refusal stands, behind the time of all."""
    plan = Provider(upstream(ServerError(rate=1, after_s=0.5)), seed=1).admit(CALL, 0.0)
    assert (plan.status, plan.model, plan.draw) == (503, TURBO, 0)
    assert plan.first_token_s == pytest.approx(1.5)
    assert plan.injected == ("fault 0",) * 3


def test_list_changes_nobodys_weather() -> None:
    """With and without fallbacks the first model is struck alike, and each next one by itself."""
    faults = upstream(ServerError(rate=0.5))
    alone, listed = Provider(faults, seed=1), Provider(faults, seed=1)
    first, last = [], []
    for number in range(400):
        call = msgspec.structs.replace(CALL, key=f"r{number}")
        first.append(alone.admit(msgspec.structs.replace(call, fallbacks=()), number).status)
        last.append(listed.admit(call, number))
    assert [plan.model == "" for plan in last] == [status == 200 for status in first]
    assert 0.06 < sum(plan.status == 503 for plan in last) / 400 < 0.19  # an eighth


def test_throttle_counts_a_request_once() -> None:
    """Going on to another model takes no second place in the account's window, and no draw."""
    limited = upstream(DOWN["down"], throttle=Throttle(requests_per_min=2))
    provider = Provider(limited, seed=1)
    plans = [provider.admit(CALL, now) for now in (0.0, 1.0, 2.0)]
    assert [(plan.status, plan.model, plan.draw) for plan in plans] == [
        (200, HAIKU, 0),
        (200, HAIKU, 1),
        (429, "", -1),
    ]


def test_model_that_is_gone_by_then_is_passed_over() -> None:
    """A fallback that is no longer on offer when the request is admitted is skipped."""
    models = {name: model for name, model in Upstream().models.items() if name != HAIKU}
    plan = Provider(upstream(DOWN["down"], models=models), seed=1).admit(CALL, 0.0)
    assert (plan.model, plan.status) == (TURBO, 200)


async def _asked(url: str, **body: Any) -> openai.types.chat.ChatCompletion:
    async with openai.AsyncOpenAI(base_url=url, api_key="key-1", max_retries=0) as client:
        return await client.chat.completions.create(
            model=MINI, messages=QUESTION["messages"], extra_body=body
        )


def test_answer_names_the_model_that_served() -> None:
    """Over loopback the answer, its price and the mock's row are those of the second model."""

    async def test() -> None:
        quick = Upstream(
            profile=Profile(ttft=0.0), faults={"f": ServerError(rate=1, after_s=0, models=(MINI,))}
        )
        async with mock(quick) as running:
            said = await _asked(f"http://127.0.0.1:{running.port}/api/v1", models=[HAIKU])
            (row,) = await running.rows(1)
        assert (said.model, said.provider) == (HAIKU, "Anthropic")  # type: ignore[attr-defined]
        assert (row.model, row.injected, row.status) == (HAIKU, ("f",), 200)
        assert said.usage is not None
        cost = said.usage.cost_details["upstream_inference_completions_cost"]  # type: ignore[attr-defined]
        assert cost == pytest.approx(said.usage.completion_tokens * 1.25e-6)

    run(test())


def test_second_model_is_late_by_the_first() -> None:
    """On the virtual clock the answer comes when refusal and answer have had their times."""

    async def main() -> tuple[str, float]:
        server = MockServer(upstream(DOWN["down"]), transit=False)
        the_loop().route("127.0.0.1", PORT, server.protocol_factory)
        said = await _asked(URL, models=[HAIKU])
        now = asyncio.get_running_loop().time()
        await server.close()
        return said.model, now

    model, at_s = run_virtual(main())
    assert model == HAIKU
    assert at_s == pytest.approx(1.5)
