"""One of several processes that take from one user's limit: `taking.py URL LIMIT WINDOW_S SECONDS`.

It begins when it is sent a line. In the end it prints the times between which each admitted request
was admitted, on the machine's clock.
"""

import asyncio
import json
import sys

from harness.pipeline.shared import RedisLimits, RedisLink


async def take(url: str, limit: int, window_s: float, seconds: float) -> None:
    """Take as fast as goes with eight callers; who is refused comes back when he is told to."""
    link = RedisLink(url, timeout_s=20.0)
    limits, loop = RedisLimits(link, limit, window_s), asyncio.get_running_loop()
    await link.run(("PING",))
    print("ready", flush=True)
    sys.stdin.readline()
    until = loop.time() + seconds
    admitted: list[tuple[float, float]] = []
    waits: list[float] = []

    async def caller() -> None:
        while (began := loop.time()) < until:
            wait_s = await limits.take("one user", began)
            if wait_s == 0:
                admitted.append((began, loop.time()))
            else:
                waits.append(wait_s)
                await asyncio.sleep(min(wait_s, until - loop.time()))

    await asyncio.gather(*(caller() for _ in range(8)))
    json.dump({"admitted": admitted, "waits": waits, "errors": link.errors}, sys.stdout)
    await link.close()


if __name__ == "__main__":
    asyncio.run(take(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])))
