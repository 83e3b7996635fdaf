"""What theory says of arrivals and of users at the service."""

from collections.abc import Iterator
from math import inf

from harness.engines.theory.case import NEAR, SELDOM, Answer, Case, Kind, answer
from harness.scenario.arrivals import ConstantArrivals, GammaArrivals, PoissonArrivals
from harness.theory.erlang import MMc, all_busy, all_users_busy
from harness.theory.finite import closed, mmck
from harness.theory.general import allen_cunneen, pollaczek_khinchine, relaxation_s, sakasegawa
from harness.theory.impatience import mmc_d
from harness.theory.laws import loop_throughput_bounds, useful_depth, vulnerable_band

QUANTILES = (50, 90, 95, 99)
ERLANG = "M/M/c (Erlang C)"
STEADY = "exact in the steady state; the run begins empty"
NOT_EXPONENTIAL = "service is not exponential"
SETTLED = 100
"""Relaxation times that a run takes at least: what it begins with is then 1 % of it."""


class Stream:
    """Requests that come by themselves, and what serves them.

    Attributes:
        case: the scenario.
        servers: attempts at once, at most.
        places: requests in the system, at most.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        settings, capacity = case.scenario.pipeline, case.scenario.upstream.capacity
        slots = inf if capacity is None or capacity.slots is None else capacity.slots
        self.servers = int(min(settings.workers, slots))
        self.places = settings.workers + settings.queue.size
        self._upstream_waits = slots < settings.workers
        work = case.scenario.workload
        limits = (work.deadline_s, settings.deadline_s)
        self.deadline_s = min((one for one in limits if one is not None), default=None)
        if self._upstream_waits and settings.attempt_timeout_s is not None:
            self.deadline_s = min(self.deadline_s or inf, settings.attempt_timeout_s)
        orders = (settings.queue.order, "fifo" if capacity is None else capacity.order)
        self.fifo = orders == ("fifo", "fifo")

    def limits(self, late: float, requests: float) -> list[str]:
        """Whether so large a share of requests that would be late stands in the way."""
        if self.deadline_s is None or late * requests <= SELDOM:
            return []
        return [f"{late:.2g} of the requests would pass their {self.deadline_s:g} s"]


def arrival_answers(case: Case) -> Iterator[Answer]:
    """Waits, latency and losses of arrivals at the workers."""
    work, stream = case.scenario.workload, Stream(case)
    shape = work.arrivals
    if not isinstance(shape, PoissonArrivals | GammaArrivals | ConstantArrivals):
        yield answer("M/M/c", "exact", "", {}, ["the rate of arrivals changes with time"])
        return
    rate, length_s = shape.rate_per_s, work.duration_s or 0.0
    ca2 = 1.0
    if isinstance(shape, GammaArrivals):
        ca2 = shape.cv**2
    elif isinstance(shape, ConstantArrivals):
        ca2 = 0.0
    quick = list(case.quickening(rate * length_s))
    figures = {"throughput_per_s_max": stream.servers / case.connected.mean}
    yield answer("c / E[S] (work conservation)", "bound", "an upper bound", figures, quick)
    usual = case.obstacles(rate * length_s, rate)
    rho = rate * case.connected.mean / stream.servers
    settles_s = SETTLED * relaxation_s(case.connected, ca2, rho)
    if settles_s > length_s and rho < 1:
        usual.append(f"{length_s:g} s are too short for a steady state: {settles_s:,.0f} s are not")
    poisson = isinstance(shape, PoissonArrivals)
    if poisson and case.exponential:
        yield from _erlang(stream, rate, length_s, usual)
    else:
        why = NOT_EXPONENTIAL if poisson else "arrivals are not Poisson"
        yield answer(ERLANG, "exact", "", {}, [why])
    if poisson:
        yield _ample(stream, rate, length_s, usual)
    if poisson and stream.servers == 1:
        wait_s = pollaczek_khinchine(rate, case.connected)
        name = "M/G/1 (Pollaczek-Khinchine)"
        yield _by_wait(stream, name, "exact", STEADY, rate, wait_s, usual)
    for name, formula in (("Allen-Cunneen", allen_cunneen), ("Sakasegawa", sakasegawa)):
        wait_s = formula(rate, ca2, case.connected, stream.servers)
        good = "up to 18 % too long and 34 % too short were measured"
        yield _by_wait(stream, f"G/G/c ({name})", "screening", good, rate, wait_s, usual)
    yield from _rules(stream, rate)


def _erlang(stream: Stream, rate: float, length_s: float, usual: list[str]) -> Iterator[Answer]:
    case, servers, mean_s = stream.case, stream.servers, stream.case.service.mean
    plain = MMc(rate, mean_s, servers)
    late = 0.0 if stream.deadline_s is None else plain.sojourn_exceeds(stream.deadline_s)
    full = plain.p_wait * plain.rho ** (stream.places - servers) if plain.rho < 1 else 1.0
    figures = {
        "requests": rate * length_s,
        "throughput_per_s": rate,
        "success_rate": 1.0,
        "timeout_rate": 0.0,
        "latency_s.mean": plain.sojourn_s,
        "wait_s.mean": plain.wait_s,
        **case.cost(rate * length_s),
    }
    if stream.fifo:
        for p in QUANTILES:
            figures[f"latency_s.p{p}"] = plain.sojourn_quantile_s(p / 100)
    obstacles = [*usual, *stream.limits(late, rate * length_s)]
    if plain.rho >= 1:
        obstacles.append(f"the load is {plain.rho:.2f} of what can be served: no steady state")
    elif full * rate * length_s > SELDOM:
        obstacles.append("the queue has an end that is met")
    yield answer(ERLANG, "exact", STEADY, figures, obstacles)
    if full * rate * length_s > SELDOM:
        yield _finite(stream, rate, length_s, usual)
    if stream.deadline_s is not None:
        gone = mmc_d(rate, mean_s, servers, stream.deadline_s)
        figures = {"timeout_rate": gone.p_abandon, "wait_s.mean": gone.wait_s}
        why = "it limits the wait alone, and here service counts too: for screening"
        yield answer("M/M/c+D", "screening", "", figures, [why])


def _ample(stream: Stream, rate: float, length_s: float, usual: list[str]) -> Answer:
    """Workers enough for all: nobody waits, whatever the law of service."""
    case = stream.case
    figures = {
        "requests": rate * length_s,
        "throughput_per_s": rate,
        "success_rate": 1.0,
        "timeout_rate": 0.0,
        "wait_s.mean": 0.0,
        "latency_s.mean": case.connected.mean,
        **case.cost(rate * length_s),
    }
    if (quantile := case.connected_quantile) is not None:
        figures |= {f"latency_s.p{p}": quantile(p / 100) for p in QUANTILES}
    late = 0.0 if stream.deadline_s is None else case.exceeds(stream.deadline_s)
    obstacles = [*usual, *stream.limits(late, rate * length_s)]
    busy = all_busy(stream.servers, rate * case.connected.mean)
    if busy * rate * length_s > SELDOM:
        obstacles.append(f"{busy:.2g} of the requests would find all {stream.servers} busy")
        figures = {}
    return answer("M/G/infinity", "exact", "any law of service", figures, obstacles)


def _finite(stream: Stream, rate: float, length_s: float, usual: list[str]) -> Answer:
    case = stream.case
    queue = mmck(rate, case.service.mean, stream.servers, stream.places)
    arrivals, lost = rate * length_s, queue.lost
    figures = {
        "requests": arrivals,
        "rejected": arrivals * lost,
        "rejected_share": lost,
        "throughput_per_s": queue.throughput,
        "success_rate": 1 - lost,
        "timeout_rate": 0.0,
        "latency_s.mean": queue.sojourn_s * (1 - lost),  # a refusal takes no time
        "latency_ok_s.mean": queue.sojourn_s,
        "wait_s.mean": queue.wait_s,
        **case.cost(queue.throughput * length_s),
    }
    if stream.fifo:
        for p in QUANTILES:
            figures[f"latency_s.p{p}"] = queue.sojourn_quantile_s(p / 100, lost)
            figures[f"latency_ok_s.p{p}"] = queue.sojourn_quantile_s(p / 100)
    late = 0.0 if stream.deadline_s is None else 1 - min(1.0, stream.deadline_s / queue.sojourn_s)
    fill_s = stream.places / abs(rate - stream.servers / case.service.mean + 1e-12)
    obstacles = [*usual, *stream.limits(late, arrivals)]
    if rate * case.service.mean >= stream.servers and fill_s > length_s / SETTLED:
        obstacles.append(f"the queue takes {fill_s:,.0f} s to fill, of {length_s:g} s in all")
    return answer("M/M/c/K", "exact", STEADY, figures, obstacles)


def _by_wait(
    stream: Stream,
    formula: str,
    kind: Kind,
    good: str,
    rate: float,
    wait_s: float,
    usual: list[str],
) -> Answer:
    """An answer that knows the mean wait and no more."""
    if wait_s == inf:
        why = "the load is more than can be served: no steady state"
        return answer(formula, kind, good, {}, [*usual, why])
    obstacles = list(usual)
    sojourn_s = wait_s + stream.case.connected.mean
    if stream.deadline_s is not None and sojourn_s > stream.deadline_s / 10:
        obstacles.append(
            f"there is a deadline of {stream.deadline_s:g} s, and only a mean to go by"
        )
    if rate * wait_s > 0.1 * stream.places:
        obstacles.append("the queue may be full at times")
    figures = {"throughput_per_s": rate, "latency_s.mean": sojourn_s, "wait_s.mean": wait_s}
    return answer(formula, kind, good, figures, obstacles)


def _rules(stream: Stream, rate: float) -> Iterator[Answer]:
    """What to know about a queue whose callers are impatient, or come again."""
    case, mean_s = stream.case, stream.case.connected.mean
    if stream.deadline_s is not None:
        depth = useful_depth(stream.servers, mean_s, stream.deadline_s)
        why = "places in the queue behind which the mean answer comes too late"
        yield answer("useful queue depth", "bound", why, {"useful_depth": depth})
    retries = case.scenario.pipeline.retries
    if retries:
        low, high = vulnerable_band(stream.servers, mean_s, retries)
        where = "inside" if low < rate < high else "outside"
        why = f"{rate:g}/s is {where}: there the load would not recover from a burst of failures"
        figures = {"vulnerable_from_per_s": low, "vulnerable_to_per_s": high}
        yield answer("vulnerable band", "bound", why, figures)


def user_answers(case: Case) -> Iterator[Answer]:
    """Throughput and latency of users who think, ask and wait."""
    work, stream, mean_s = case.scenario.workload, Stream(case), case.connected.mean
    think_s, users = case.think.mean, work.users
    low, high = loop_throughput_bounds(users, think_s, mean_s, stream.servers)
    usual = case.obstacles(high * (work.duration_s or 0.0), high)
    if work.mix is not None:
        usual.append("workload.mix: users are of several kinds")
    figures = {"throughput_per_s_min": low, "throughput_per_s_max": high}
    yield answer("asymptotic bounds (Little)", "bound", "any law of service", figures, usual)
    if users > stream.places:
        usual.append("the queue has an end that is met")
    length_s = work.duration_s or (work.requests_per_user or 0) * (think_s + mean_s)
    if length_s - work.ramp_s < SETTLED / 5 * (think_s + mean_s):
        usual.append(f"{length_s:g} s are too few rounds of {think_s + mean_s:.3g} s")
    busy = all_users_busy(stream.servers, users, mean_s / (think_s + mean_s))
    if busy * high * length_s <= SELDOM:
        figures = {"throughput_per_s": high, "latency_s.mean": mean_s, "timeout_rate": 0.0}
        if (quantile := case.connected_quantile) is not None:
            figures |= {f"latency_s.p{p}": quantile(p / 100) for p in QUANTILES}
        late = 0.0 if stream.deadline_s is None else case.exceeds(stream.deadline_s)
        obstacles = [*usual, *stream.limits(late, high * length_s)]
        name = "N / (S + Z): a server for each"
        yield answer(name, "exact", "any law of service", figures, obstacles)
    elif think_s > 0:
        yield _repairmen(stream, users, think_s, length_s, usual)


def _repairmen(
    stream: Stream, users: int, think_s: float, length_s: float, usual: list[str]
) -> Answer:
    case = stream.case
    queue = closed(users, think_s, case.connected.mean, stream.servers)
    figures = {
        "throughput_per_s": queue.throughput,
        "latency_s.mean": queue.sojourn_s,
        "wait_s.mean": queue.wait_s,
        "timeout_rate": 0.0,
    }
    if stream.fifo:
        for p in QUANTILES:
            figures[f"latency_s.p{p}"] = queue.sojourn_quantile_s(p / 100)
    obstacles = list(usual)
    if not case.exponential:
        obstacles.append(f"{NOT_EXPONENTIAL}: for screening")
    limit_s = stream.deadline_s
    if limit_s is not None:
        early = queue.sojourn_quantile_s(1 - min(0.5, SELDOM / (queue.throughput * length_s)))
        if early > NEAR * limit_s:
            obstacles.append(f"some requests would pass their {limit_s:g} s")
    return answer("M/M/c//N (mean value analysis)", "exact", STEADY, figures, obstacles)
