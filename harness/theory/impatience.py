"""Callers who leave when they have waited too long: at random (Erlang A), or at a fixed limit.

Both are about the wait alone: whoever has begun to be served stays, however long it takes.
"""

from math import exp, expm1, inf

import msgspec

from harness.theory.erlang import erlang_b


class Abandonment(msgspec.Struct, frozen=True):
    """What impatience does.

    Attributes:
        p_wait: share of requests that do not begin at once.
        p_abandon: share that leave unserved.
        wait_s: mean wait of all, those who leave included.
    """

    p_wait: float
    p_abandon: float
    wait_s: float


def erlang_a(arrival: float, service_s: float, servers: int, patience_s: float) -> Abandonment:
    """M/M/c+M: patience is exponential. Exact.

    Palm, Research on telephone traffic carried by full availability groups, Tele 1957; in the form
    of Garnett, Mandelbaum and Reiman, M&SOM 4(3), 2002: with x = c mu/theta, y = lambda/theta and
    A = 1 + sum of y^j / ((x+1)...(x+j)), the share that waits is A B / (1 + (A - 1) B), and of
    these 1/(rho A) + 1 - 1/rho leave.

    Args:
        arrival: per second.
        service_s: mean.
        servers: c.
        patience_s: mean, 1 / theta.
    """
    x, y = servers / service_s * patience_s, arrival * patience_s
    rho = arrival * service_s / servers
    term = total = 1.0
    j = 0
    while 1e-17 * total < term < inf:
        j += 1
        term *= y / (x + j)
        total += term
    blocked = erlang_b(servers, arrival * service_s)
    # In a great overload the sum is infinite: everybody waits, and 1 - 1/rho leave.
    p_wait = 1.0 if total == inf else total * blocked / (1 + (total - 1) * blocked)
    p_abandon = p_wait * (1 / (rho * total) + 1 - 1 / rho)
    return Abandonment(p_wait, p_abandon, p_abandon * patience_s)


def mmc_d(arrival: float, service_s: float, servers: int, limit_s: float) -> Abandonment:
    """M/M/c+D: everybody waits for `limit_s` at most. Exact.

    The wait that an endlessly patient caller would have has at x > 0 the density
    lambda p_{c-1} exp(lambda min(x, tau) - c mu x) (Barrer, Operations Research 5(5), 1957;
    Baccelli and Hebuterne, On queues with impatient customers, Performance '81).

    Args:
        arrival: per second.
        service_s: mean.
        servers: c.
        limit_s: tau, above 0.
    """
    full = servers / service_s
    drift = (arrival - full) * limit_s
    scale = exp(-max(0.0, drift))  # of all densities, lest they overflow
    within, moment = _integrals(drift, limit_s, scale)
    late = exp(min(0.0, drift)) / full
    # Relative to p_{c-1}; all who find a free server together are 1 / B(c - 1).
    free = scale / erlang_b(servers - 1, arrival * service_s)
    total = free + arrival * (within + late)
    p_abandon = arrival * late / total
    return Abandonment(
        p_wait=1 - free / total,
        p_abandon=p_abandon,
        wait_s=arrival * moment / total + limit_s * p_abandon,
    )


def _integrals(drift: float, limit_s: float, scale: float) -> tuple[float, float]:
    """Of exp(r x) and x exp(r x) over 0..limit_s, times the scale, with r = drift / limit_s."""
    if abs(drift) < 1e-5:  # series: the quotients below lose all digits here
        return (
            scale * limit_s * (1 + drift / 2 + drift**2 / 6),
            scale * limit_s**2 * (1 / 2 + drift / 3 + drift**2 / 8),
        )
    grown = -expm1(-drift) if drift > 0 else expm1(drift)  # (exp(drift) - 1) * scale
    at_end = 1.0 if drift > 0 else exp(drift)  # exp(drift) * scale
    within = grown / drift * limit_s
    return within, (at_end - grown / drift) / drift * limit_s**2
