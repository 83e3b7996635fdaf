"""Findings on a client in the pipeline's place: in the run, in its JSON and in the table."""

import aiohttp
import clients
import openai
import pytest
from rich.console import Console
from runs import flown

from harness.corpus import Review
from harness.experiments.run import Run
from harness.report.table import run_table
from harness.scenario.model import Variant

SMALL = ("workload.reviews=20", "pipeline.rate_limit=none", "upstream.profile.ttft=0.05")


def faults(kind: str, rate: float = 0.5) -> str:
    """A provider with this fault."""
    return f'upstream.faults.bad={{kind="{kind}",rate={rate}}}'


def names(run: Run) -> list[str]:
    """The findings on a run's client, the gravest first."""
    return [found["name"] for found in run.report["client_findings"]]


def table(run: Run) -> str:
    """The run's table as it is printed, in one line."""
    console = Console(width=400)
    with console.capture() as printed:
        console.print(run_table([run.report], {run.variant: Variant()}))
    return " ".join(printed.get().split())


async def credulous(review: Review, base_url: str) -> str:
    """Takes whatever a stream says for an answer."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key=clients.KEY) as client:
        asked = {**clients.asked(review.text), "extra_headers": review.headers}
        stream = await client.chat.completions.create(**asked, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def endless(review: Review, base_url: str) -> None:
    """Has no time limit at all."""
    never = aiohttp.ClientTimeout(total=None)
    sent = {"Authorization": f"Bearer {clients.KEY}", **review.headers}
    async with (
        aiohttp.ClientSession(headers=sent, timeout=never) as session,
        session.post(f"{base_url}/chat/completions", json=clients.asked(review.text)) as response,
    ):
        await response.read()


@pytest.mark.parametrize("engine", ["virtual", "live"])
def test_careless_client_is_judged_on_either_clock(engine: str) -> None:
    """A client that never retries and never pools hears of both, on each engine."""
    run = flown("after", *SMALL, faults("server_error"), engine=engine, target=clients.careful)
    assert names(run) == ["gave_up_on_retryable", "no_pool"]
    assert "client: gave up" in table(run)


def test_truncation_is_held_against_what_the_target_returned() -> None:
    """A target that returns half an answer has taken it for success, and the table says so."""
    run = flown("after", *SMALL, faults("no_done"), target=credulous)
    first = run.report["client_findings"][0]
    assert (first["name"], first["severity"]) == ("took_truncated_for_success", "error")
    assert run.report["ok"] == 20
    assert "client: handed" in table(run)


def test_target_that_fails_on_a_bad_answer_has_not_taken_it() -> None:
    """Where the target raises over an answer without choices nothing was taken for success."""
    run = flown("after", *SMALL, faults("error_in_200"), target=clients.careful)
    assert run.report["failed"] > 0
    assert names(run) == ["no_pool"]


def test_waiting_for_ever_is_a_finding() -> None:
    """A target whose run nothing can wake has no time limit, however short it waited till then."""
    run = flown("after", *SMALL, faults("hang_before_headers", 1.0), target=endless)
    first = run.report["client_findings"][0]
    assert (first["name"], first["attempts"]) == ("no_timeout", 5)
    assert first["text"] == "5 calls would wait for ever for an answer that never comes"


def test_table_says_nothing_twice() -> None:
    """Where a bottleneck has said the same, the finding is in the JSON alone."""
    run = flown("after", *SMALL, faults("hang_before_headers", 0.25), target=clients.careful)
    assert names(run) == ["no_timeout", "no_pool"]
    assert "s for a first token before they gave up" in table(run)
    assert "client: " not in table(run)


def test_own_pipeline_is_not_judged() -> None:
    """Findings are on clients of the user's: our own pipeline has its bottlenecks."""
    assert flown("after", *SMALL).report["client_findings"] == []
