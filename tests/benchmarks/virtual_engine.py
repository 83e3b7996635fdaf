"""How much of bare aiohttp's speed the virtual engine keeps, and how much memory a long run takes.

Usage: python tests/benchmarks/virtual_engine.py [--requests N] [--rounds N] [--reviews N]

Bare means an aiohttp client and an aiohttp server on the same virtual loop in the same process,
sending the engine's typical body and a fixed answer after the same times (transit and service are
one sleep): no router, no prompt, no records, no weather. The times matter: were they all equal, the
workers of the bare client would march in step and a hundred requests would share one turn of the
loop, which no real provider allows. Rounds alternate; what matters is a ratio within one run.
"""

import argparse
import asyncio
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
from aiohttp import web

from harness.engines.base import Prepared, prepare
from harness.engines.virtual import run_on_virtual_clock
from harness.engines.virtual_loop import run_virtual
from harness.pipeline.context import Exchange
from harness.pipeline.prompt import encode
from harness.scenario.load import load_scenario
from mock_llm.behaviour import TRANSIT_S
from mock_llm.rng import Keyed

SCENARIO = Path(__file__).parents[2] / "scenarios" / "timeout_crisis.toml"
CONCURRENCIES = (1, 5, 50, 1000)
DELAY_S = 0.3
ANSWER = b'{"choices":[{"message":{"content":"positive"}}],"usage":{"prompt_tokens":1}}'


def engine(concurrency: int, requests: int, ttft: str) -> Prepared:
    """The crisis scenario's pipeline with everything on."""
    settings = {
        "workload.reviews": requests,
        "pipeline.concurrency": concurrency,
        "pipeline.rate_limit": 1_000_000,
        "upstream.profile.ttft": ttft,
    }
    return prepare(load_scenario(SCENARIO, [f"{key}={value}" for key, value in settings.items()]))


def typical_body(prepared: Prepared) -> bytes:
    """A request with its instructions and five earlier exchanges."""
    texts = [item.review.text for item in prepared.items[:6]]
    exchanges = [Exchange(n, text, '{"label":"positive"}') for n, text in enumerate(texts[:5])]
    return encode(prepared.scenario.pipeline, "openai/gpt-4o", exchanges, texts[5])


async def bare(concurrency: int, requests: int, body: bytes) -> None:
    """The ceiling: so many workers, each sending request after request."""
    transits = iter([TRANSIT_S * Keyed(1).uniform("transit", str(n)) for n in range(requests)])

    async def handle(request: web.BaseRequest) -> web.Response:
        await request.read()
        await asyncio.sleep(DELAY_S + next(transits))
        return web.Response(body=ANSWER, content_type="application/json")

    async def work(session: aiohttp.ClientSession, numbers: Iterator[int]) -> None:
        for _ in numbers:
            async with session.post("http://127.0.0.1:8000/api/v1", data=body) as response:
                await response.json()

    loop = asyncio.get_running_loop()
    server = web.Server(handle, access_log=None)
    loop.route("127.0.0.1", 8000, server)  # type: ignore[attr-defined]
    numbers = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work(session, numbers))
    await server.shutdown()


def bare_rate(concurrency: int, requests: int, body: bytes) -> float:
    """Requests per wall second."""
    began = time.perf_counter()
    run_virtual(bare(concurrency, requests, body))
    return requests / (time.perf_counter() - began)


def engine_rate(prepared: Prepared) -> float:
    """Requests per wall second; preparation (corpus, routing, projection) is not counted."""
    result = run_on_virtual_clock(prepared, seed=1)
    assert len(result.labels) == len(prepared.items), "the engine lost requests"
    return len(prepared.items) / result.wall_s


def compare(concurrency: int, requests: int, rounds: int) -> float:
    """Print one row; returns the median ratio."""
    prepared = engine(concurrency, requests, str(DELAY_S))
    body = typical_body(prepared)
    pairs = [(engine_rate(prepared), bare_rate(concurrency, requests, body)) for _ in range(rounds)]
    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"{concurrency:>11} {ours:>12,.0f} {theirs:>12,.0f} {ratio:>8.2f}")
    return ratio


def main() -> None:
    """Print the table, then the memory of a long run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--reviews", type=int, default=50_000)
    args = parser.parse_args()
    print("concurrency  virtual/s       bare/s    ratio")
    worst = min(compare(c, args.requests, args.rounds) for c in CONCURRENCIES)
    print(f"worst ratio {worst:.2f} (aim: at least 0.50)")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    prepared = engine(50, args.reviews, "{kind='lognormal', mean=1.19, sigma=0.65}")
    ready = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rate = engine_rate(prepared)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{args.reviews:,} reviews with keep-alives and lognormal service: {rate:,.0f}/s, peak "
        f"{after / 1024:.0f} MB (before: {before / 1024:.0f} MB, with the corpus "
        f"{ready / 1024:.0f} MB)"
    )
    sys.exit(worst < 0.5)


if __name__ == "__main__":
    main()
