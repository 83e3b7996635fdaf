"""A hundred thousand requests of one session: the heap is flat with trimming, and grows without."""

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from jobs import MODEL, URL, settings

from harness.corpus.review import Review
from harness.engines.base import prices_of
from harness.pipeline.answer import Answer
from harness.pipeline.client import ChatClient, Stamps
from harness.pipeline.common import Common
from harness.pipeline.routing import SingleRouter
from harness.pipeline.secret import Secret
from harness.pipeline.service.core import Service
from harness.pipeline.service.tickets import Ask
from harness.pipeline.toolkit import Toolkit
from mock_llm.config import Upstream
from mock_llm.rng import Keyed
from mock_llm.tokens import estimate

REQUESTS, AT_ONCE = 100_000, 50
WARM = 30_000  # by then whatever is bounded is full: answers that are remembered, pools, caches
PAGE_BYTES = 4096


class Instant(ChatClient):
    """Answers at once: the heap in question is not the socket's."""

    async def call(self, _body: bytes, key: str, _attempt: int, stamps: Stamps) -> Answer:
        """The same answer to everything."""
        stamps.t_sent = stamps.t_connected = asyncio.get_running_loop().time()
        await asyncio.sleep(0)
        return Answer(
            text=f"positive {key}", prompt_tokens=100, completion_tokens=10, cost_usd=1e-5
        )


def resident() -> int:
    """Bytes of memory in use; garbage is not."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


async def grown(mode: Literal["trim", "grow"]) -> int:
    """Bytes by which the heap grows while the last 70,000 of the requests are served."""
    chosen = settings(context=mode, context_exchanges=3, workers=AT_ONCE)
    kit = Toolkit(
        base_url=URL,
        api_key=Secret("sk-or-v1-test"),
        prices=prices_of(Upstream()),
        uniform=Keyed(1).uniform,
        count_tokens=estimate,
    )
    common = Common(chosen)
    async with Instant(chosen, URL, "sk-or-v1-test") as client:
        service = Service(chosen, kit, SingleRouter(MODEL), client, common=common)
        await asked(service, 0, WARM)
        before = resident()
        await asked(service, WARM, REQUESTS)
        after = resident()
        await service.drain(1.0)
    await common.close()
    assert service.outcomes["ok"] == REQUESTS
    return after - before


async def asked(service: Service, first: int, last: int) -> None:
    """Ask one after the other, as many at once as there are workers."""

    async def some(start: int) -> Any:
        for n in range(start, last, AT_ONCE):
            review = Review(id=str(n), content=f"Lamp number {n} is a good one, and so on and on.")
            await service.submit(Ask(review, "ann", "s", f"k{n}"))

    await asyncio.gather(*(some(first + n) for n in range(AT_ONCE)))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="/proc tells what is resident")
def test_the_heap_is_flat_with_trimming_and_grows_without() -> None:
    """70,000 more requests take no more memory than noise, and megabytes where contexts grow."""
    assert in_a_process_of_its_own("trim") < 3_000_000
    assert in_a_process_of_its_own("grow") > 10_000_000


def in_a_process_of_its_own(mode: str) -> int:
    """What other tests have left in this one's heap would be filled first."""
    command = [sys.executable, __file__, mode]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


if __name__ == "__main__":
    print(asyncio.run(grown("grow" if sys.argv[1] == "grow" else "trim")))
