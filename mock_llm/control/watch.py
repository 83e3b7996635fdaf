"""Watches a mock on the wall clock: how its event loop lags, and whether to warn.

Only `serve` starts this. On a virtual clock a periodic timer would hide that nothing can ever wake
again, and nothing there can be late.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from mock_llm.control.access import Access
from mock_llm.control.pages import Controls, Send
from mock_llm.fidelity import Fidelity, judge
from mock_llm.gauges import WINDOW_S, Tally
from mock_llm.server import MockServer

TICK_S = 0.05
SETTLE_S = 2.0
"""At first a process still loads what it needs: how it lags then tells nothing of later."""
_LOOK_S = 1.0
_CPU_S = 5
WARN_EVERY_S = 10.0

Tell = Callable[[str], None]


def lags_s(lag_s: float, tick_s: float = TICK_S) -> Sequence[float]:
    """What ticks would have measured had they gone on during a lag, besides the one that did.

    A loop that was blocked for a second missed as many ticks; without them a second's stall would
    count as much as one tick's (HdrHistogram's correction for coordinated omission).
    """
    missed = int(max(lag_s, 0.0) / tick_s)
    return [lag_s, *(lag_s - tick_s * number for number in range(1, missed + 1))]


class Watch:
    """Measures a server's loop and processor, and warns when the mock is the bottleneck.

    Args:
        server: the mock.
        tell: gets every line that somebody should read.
    """

    def __init__(self, server: MockServer, tell: Tell) -> None:
        self._server, self._tell = server, tell
        self._cpu: deque[tuple[float, float]] = deque(maxlen=_CPU_S + 1)
        self._warned_s: float | None = None
        self._settled_s: float | None = None
        self._lag_s, self._begun, self._asked = 0.0, 0, False

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        look_s = loop.time() + _LOOK_S
        while True:
            due_s = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            now = loop.time()
            self.tick(now, now - due_s)
            if now >= look_s:
                look_s = now + _LOOK_S
                self.look(now, time.process_time())

    def tick(self, now: float, lag_s: float) -> None:
        """Note how late a tick came, if anybody was there to feel it.

        Whether anybody was shows a tick later: by then those are read who came meanwhile.
        """
        if self._settled_s is None:
            self._settled_s = now + SETTLE_S
        ledger = self._server.ledger
        begun = ledger.count + ledger.in_flight
        asked = ledger.in_flight > 0 or begun != self._begun
        if asked or self._asked:
            lag = ledger.gauges.at(now).lag
            for one in lags_s(self._lag_s):
                lag.add(one)
        self._lag_s = lag_s if now >= self._settled_s else 0.0
        self._begun, self._asked = begun, asked

    def look(self, now: float, cpu_s: float) -> None:
        """Judge the last minute; `cpu_s` is the processor time that was used so far."""
        gauges = self._server.ledger.gauges
        gauges.cpu_share = self._share(now, cpu_s)
        found = judge(gauges.last(WINDOW_S, now), gauges.cpu_share)
        if not found.reasons:
            return
        gauges.warnings += 1
        if self._warned_s is None or now - self._warned_s >= WARN_EVERY_S:
            self._warned_s = now
            self._tell(warning(found))

    def _share(self, now: float, cpu_s: float) -> float:
        """Of one core, over the last seconds; 0 until there are as many."""
        self._cpu.append((now, cpu_s))
        (since, before), full = self._cpu[0], len(self._cpu) == self._cpu.maxlen
        return (cpu_s - before) / (now - since) if full and now > since else 0.0


def warning(found: Fidelity) -> str:
    """One line that says why the mock's figures are not to be trusted, and what to do."""
    reasons = "; ".join(found.reasons)
    remedy = "ask more slowly, or give it a faster or a quieter machine"
    return f"WARNING: the mock itself is the bottleneck: {reasons}: {remedy}"


def summary(total: Tally, warnings: int) -> list[str]:
    """What to say at the end of a mock's life."""
    found, fired = judge(total), sum(total.faults.values())
    said = f"{total.attempts} attempts, {fired} faults injected"
    late = f"answers {found.delay_s_p50 * 1000:.1f} ms late at p50, "
    late += f"{found.delay_s_p99 * 1000:.1f} ms at p99"
    lines = [f"{said}; {late}" if found.answers else said]
    if not (warnings or found.reasons):
        return [f"{lines[0]}: VALID"] if total.attempts else lines
    why = "; ".join(found.reasons) or f"in {warnings} s of its time"
    return [*lines, f"INVALID: the mock was the bottleneck: {why}"]


@asynccontextmanager
async def attended(
    server: MockServer, access: Access | None, tell: Tell, send: Send | None = None
) -> AsyncIterator[None]:
    """Serve the pages of control, measure and warn.

    Args:
        server: the mock.
        access: who may control it; None: nobody, and there are no pages.
        tell: gets the warnings.
        send: see `Controls`.
    """
    if access is not None:
        Controls(server, access, send).mount()
    watch = asyncio.create_task(Watch(server, tell).run())
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait([watch])
