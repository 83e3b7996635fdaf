"""Whether a mock delivers what it plans, or is itself what a client measures.

Theory of operation. An answer may come a little later than planned: timers have a grain, and other
programs want the processor too. It is late when its delay exceeds both 10 ms and 5 % of what was
planned, so that neither the grain of a timer spoils short answers nor a share of nothing is asked
of them. The mock is the bottleneck when more than 1 % of the answers are late (their p99 is), when
its event loop lags as much more than 1 % of the time in which anybody asks (requests then wait
before anybody reads them, which no row shows), or when it uses a whole core (a client that asks as
fast as it can then finds the mock's limit). Fewer than five such cases are an anecdote.
"""

import msgspec

from mock_llm.gauges import Tally

LATE_S = 0.01
LATE_SHARE = 0.05
MOST_LATE = 0.01
FULL_CORE = 0.95
FEW = 5


class Fidelity(msgspec.Struct, frozen=True, kw_only=True):
    """How far what was delivered is from what was planned, seconds.

    Attributes:
        answers: that had a planned moment.
        late: of these, later than allowed.
        delay_s_p50: actual minus planned.
        delay_s_p99: the same.
        delay_s_max: the same.
        lag_s_p99: of the event loop; 0 when nobody measures it.
        cpu_share: of one core, lately; 0 when nobody measures it.
        reasons: why the mock is the bottleneck; empty when it is not.
    """

    answers: int
    late: int
    delay_s_p50: float
    delay_s_p99: float
    delay_s_max: float
    lag_s_p99: float
    cpu_share: float
    reasons: tuple[str, ...] = ()


def judge(tally: Tally, cpu_share: float = 0.0) -> Fidelity:
    """Judge the mock by the figures of some time, and by the processor's."""
    answers, delay = tally.delay.count, tally.delay
    found = Fidelity(
        answers=answers,
        late=tally.late,
        delay_s_p50=delay.quantile(0.5),
        delay_s_p99=delay.quantile(0.99),
        delay_s_max=delay.max_s,
        lag_s_p99=tally.lag.quantile(0.99),
        cpu_share=cpu_share,
    )
    reasons = tuple(_reasons(found, tally)) if tally.attempts else ()
    return msgspec.structs.replace(found, reasons=reasons)


def _reasons(found: Fidelity, tally: Tally) -> list[str]:
    reasons = []
    if found.late >= max(FEW, MOST_LATE * found.answers):
        late = f"{found.late} of {found.answers} answers came late"
        reasons.append(f"{late} (p99 {_ms(found.delay_s_p99)})")
    allowed_s = max(LATE_S, LATE_SHARE * tally.planned_s / max(found.answers, 1))
    if tally.lag.above(allowed_s) >= max(FEW, MOST_LATE * tally.lag.count):
        reasons.append(f"its event loop lags (p99 {_ms(found.lag_s_p99)})")
    if found.cpu_share >= FULL_CORE:
        reasons.append(f"it uses {found.cpu_share:.0%} of a core")
    return reasons


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
