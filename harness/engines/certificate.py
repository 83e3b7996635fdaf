"""A live run certifies its own measurement: past a bound its figures say nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from harness.metrics import quantiles
from harness.pipeline.service.lag import TICK_S
from mock_llm.control import watch
from mock_llm.ledger import Row, delay_s

LAG_BOUND_S = 0.05
DELAY_BOUND_S = 0.05
SENT_BOUND_S = 0.05
STEAL_BOUND = 0.25


class Steal(NamedTuple):
    """CPU time of the machine so far, in ticks: stolen by its host, and all of it."""

    stolen: int
    total: int

    def share_since(self, before: "Steal") -> float:
        """Share of the time in between that the host took away, 0-1."""
        total = self.total - before.total
        return (self.stolen - before.stolen) / total if total > 0 else 0.0


def read_steal() -> Steal:
    """Steal time from /proc/stat (proc(5)); zeros where there is no such file."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    except OSError:
        return Steal(0, 0)
    return Steal(int(fields[7]), sum(map(int, fields)))


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a live run measured of itself.

    Attributes:
        loop_lag_s_p99: of the client's event loop.
        mock_delay_s_p50: how much later than planned the mock answered.
        mock_delay_s_p99: the same.
        steal_share: CPU time taken by the machine's host.
        sent_late_s_p99: how much later than intended users and arrivals sent; 0 where there are
            none.
    """

    loop_lag_s_p99: float
    mock_delay_s_p50: float
    mock_delay_s_p99: float
    steal_share: float
    sent_late_s_p99: float = 0.0

    @classmethod
    def of(
        cls,
        lags_s: Sequence[float],
        steal_share: float,
        rows: Sequence[Row],
        sent_late_s: Sequence[float] = (),
    ) -> Self:
        """From the loop's lags, the steal, the mock's ledger and the lateness of what was sent.

        A lag counts for every tick that it swallowed: as one of many, no standstill of the loop
        would ever reach the p99.
        """
        lags = [one for lag_s in lags_s for one in watch.lags_s(lag_s, TICK_S)]
        delays = quantiles([late for row in rows if (late := delay_s(row)) is not None])
        return cls(
            loop_lag_s_p99=quantiles(lags)["p99"],
            mock_delay_s_p50=delays["p50"],
            mock_delay_s_p99=delays["p99"],
            steal_share=steal_share,
            sent_late_s_p99=quantiles(sent_late_s)["p99"],
        )

    def reasons(self, *, foreign: bool = False) -> tuple[str, ...]:
        """Why the run is INVALID; empty when it is VALID.

        Args:
            foreign: the loop runs a client that is not ours: what holds it up is what is measured.
        """
        found = []
        if self.loop_lag_s_p99 > LAG_BOUND_S and not foreign:
            found.append(f"event-loop lag p99 {_ms(self.loop_lag_s_p99)} > {_ms(LAG_BOUND_S)}")
        if self.mock_delay_s_p99 > DELAY_BOUND_S:
            late = f"{_ms(self.mock_delay_s_p99)} > {_ms(DELAY_BOUND_S)}"
            found.append(f"the mock answered late: p99 {late}")
        if self.sent_late_s_p99 > SENT_BOUND_S:
            late = f"{_ms(self.sent_late_s_p99)} > {_ms(SENT_BOUND_S)}"
            found.append(f"requests were sent late: p99 {late}")
        if self.steal_share > STEAL_BOUND:
            found.append(f"CPU steal {self.steal_share:.0%} > {STEAL_BOUND:.0%}")
        return tuple(found)

    def remarks(self) -> tuple[str, ...]:
        """What a foreign client should hear of its own event loop."""
        if self.loop_lag_s_p99 <= LAG_BOUND_S:
            return ()
        lag = _ms(self.loop_lag_s_p99)
        remedy = "its calls wait for one another; what blocks belongs into asyncio.to_thread"
        return (f"the target keeps the event loop busy (lag p99 {lag}): {remedy}",)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
