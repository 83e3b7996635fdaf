"""The twin against every closed form that there is for it: `make closed-forms`.

Usage: python tests/closed_forms.py [--only REGEX] [--runs N] [--size F] [--alone N] [--jobs N]

Each row is a scenario on the engine `sim` that grants what its formula takes for granted. A service
takes 1,000 s, beside which a transit delay of half a millisecond is nothing; times are told in
services. Runs are replications, each with a seed of its own. Their warm-up is cut by MSER-5 over
all, and is a tenth of a run at least: MSER-5 looks for the least error of a few hundred runs, and
what bias it leaves is small beside that, and not beside the error of millions of requests.

A queue near its limit needs millions of requests for one per cent, and the twin does thousands a
second. So it is told twice. `alone` is Student's interval over the twin's runs, freed by control
variates from the luck of their gaps and services. `with control` has an external one: the recursion
of Kiefer and Wolfowitz (Trans. AMS 78, 1955), ten lines that know nothing of the twin, is fed the
very gaps and services of each run, and by itself runs a million requests and more. What the twin
and the recursion differ by, on the same runs, is added to the recursion's mean. `apart` is the
greatest difference of any request's wait: 0 where the twin is the recursion, request by request.

Of intervals at 95 % a twentieth misses the truth. A row fails where its closed form is outside one
of its two intervals, at the confidence that holds all intervals of the table at once at 95 %
(Bonferroni), or where half the width of that with control passes 2 %.

The scenario language has a deadline for the whole of a request and none for its wait alone, and no
patience that is random. For M/M/c+D and M/M/c+M the twin's own service is driven by callers who
have such patience, and whose requests, once begun, are served to their end.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from heapq import heappop, heappush, heapreplace
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace
from queues import MANY, UNIT_S, Patience, Queueing, Row, rows

from harness.engines.base import Prepared, prepare
from harness.engines.twin.endpoint import Endpoint
from harness.engines.twin.engine import run_in_twin
from harness.engines.twin.service import TwinCallers, TwinDesk
from harness.experiments.executors import executor
from harness.pipeline.service.tickets import Ask, Ticket
from harness.records import Record
from harness.scenario.arrivals import PoissonArrivals
from harness.scenario.model import Scenario
from harness.scenario.pipeline import Pipeline, Queue, Single
from harness.scenario.workload import Workload
from harness.statistics import Interval, controlled, interval, mser5
from harness.workload import arrival_key
from mock_llm.config import Capacity, Profile, Upstream
from mock_llm.distributions import (
    Constant,
    Exponential,
    quantile_function,
)

RUNS, ALONE = 12, 4_000_000
WIDEST, WARM_UP = 0.02, 10
KEPT = 200
Array = np.ndarray[tuple[int], np.dtype[np.float64]]
Bools = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Run(NamedTuple):
    """What one run saw, request by request in order of arrival, in services."""

    gap: Array
    wait: Array
    service: Array
    served: Bools


class Seen(NamedTuple):
    """A run's figure, and the means of its gaps and services."""

    value: float
    gap: float
    service: float


class Told(NamedTuple):
    """An interval at 95 %, and at the confidence that holds the whole table."""

    mean: Interval
    wide: Interval

    def inside(self, value: float) -> str:
        """`yes`: a value is inside at 95 %; `table`: in the wide one; else `NO`."""
        if self.mean.contains(value):
            return "yes"
        return "table" if self.wide.contains(value) else "NO"


class Found(NamedTuple):
    """What was simulated of a row.

    Attributes:
        cut: requests of each run that were warm-up.
        alone: by the twin.
        told: with the recursion for control.
        apart: greatest difference of a wait between twin and recursion.
        twin_s: what a request took the twin, on one core.
    """

    cut: int
    alone: Told
    told: Told
    apart: float
    twin_s: float


class ImpatientDesk(TwinDesk):
    """Takes in who leaves unless it is served in time, and lets who is being served stay."""

    def __init__(self, callers: "Impatient", prepared: Prepared, end: Endpoint) -> None:
        super().__init__(callers, prepared, end)
        self._patience_s = callers.patience_s

    def enter(self, ask: Ask) -> Ticket:
        """Let a request in, to wait for as long as its caller likes to."""
        return super().enter(replace(ask, deadline=self._now() + self._patience_s(ask.key)))

    def _start(self, ticket: Ticket) -> None:
        ticket.request.deadline = None
        super()._start(ticket)


class Impatient(TwinCallers):
    """Callers who leave when they are not served in time."""

    def __init__(self, prepared: Prepared, seed: int, patience: Patience) -> None:
        super().__init__(prepared, seed, None)
        self._patience, self._of = patience, seed
        scenario = prepared.scenario
        end = Endpoint(scenario.upstream, seed, prepared.answer_key, scenario.pipeline, self.clock)
        self._desk = ImpatientDesk(self, prepared, end)

    def patience_s(self, key: str) -> float:
        """How long the caller of a request waits for a server."""
        return UNIT_S * self._patience(self._of, key)


def prepared_for(queue: Queueing) -> Prepared:
    """The scenario that is that queue."""
    rate = queue.arrival / UNIT_S
    slots = not queue.waiting and not queue.at_service
    return prepare(
        Scenario(
            name=queue.name,
            workload=Workload(
                kind="arrivals",
                reviews=10,
                duration_s=queue.requests / rate,
                arrivals=PoissonArrivals(rate_per_s=rate),
            ),
            upstream=Upstream(
                profile=Profile(ttft=queue.service, output_tokens=1),
                capacity=Capacity(slots=queue.servers, queue=0) if slots else None,
            ),
            pipeline=Pipeline(
                workers=MANY if slots else queue.servers,
                queue=Queue(size=MANY if slots else queue.waiting, useful_only=False),
                attempt_timeout_s=None,
                rate_limit=None,
                context=None,
                retries=0,
                instructions="Judge.",
                router=Single(model="openai/gpt-4o-mini"),
            ),
        )
    )


def flown(queue: Queueing, prepared: Prepared, seed: int) -> tuple[Run, Array]:
    """One replication of the twin, and how patient its callers were."""
    if queue.patience is None:
        records: Sequence[Record] = run_in_twin(prepared, seed=seed).records
        patience = np.full(len(records), np.inf)
    else:
        callers = Impatient(prepared, seed, queue.patience)
        callers.fly()
        records = callers.records
        patience = np.array([queue.patience(seed, arrival_key(n)) for n in range(len(records))])
    rows = sorted(records, key=lambda row: row.t_intended)
    came = np.array([row.t_intended for row in rows])
    ended = np.array([row.t_end for row in rows])
    served = np.array([row.outcome == "ok" for row in rows])
    begun = np.array([row.t_admitted if row.outcome == "ok" else row.t_end for row in rows])
    gap = np.diff(came, prepend=0.0)
    run = Run(gap / UNIT_S, (begun - came) / UNIT_S, (ended - begun) / UNIT_S, served)
    return run, patience


def recursion(queue: Queueing, gap: Array, service: Array, patience: Array) -> Run:
    """The same queue without a twin: who comes takes the first server that will be free.

    Whoever would wait for longer than it likes takes none, and so does who finds no place.
    """
    free, present = [0.0] * queue.servers, list[float]()
    places, most = queue.servers + queue.waiting, np.inf
    waits, served = np.zeros(len(gap)), np.zeros(len(gap), bool)
    arrivals = np.cumsum(gap)
    triples = zip(arrivals.tolist(), service.tolist(), patience.tolist(), strict=True)
    bounded = queue.waiting < MANY
    for n, (arrival, length, most) in enumerate(triples):
        if bounded:
            while present and present[0] <= arrival:
                heappop(present)
            if len(present) >= places:
                continue
        begin = max(free[0], arrival)
        waits[n] = min(begin - arrival, most)
        if begin - arrival < most:
            served[n] = True
            heapreplace(free, begin + length)
            if bounded:
                heappush(present, begin + length)
    return Run(gap, waits, service, served)


def drawn(queue: Queueing, seed: int) -> Run:
    """A run of the recursion by itself."""
    random, n = np.random.default_rng(seed), queue.requests
    quantile = quantile_function(queue.service)
    if isinstance(queue.service, Exponential):
        service = random.exponential(1.0, n)
    else:
        service = np.array([quantile(u) for u in random.uniform(size=n).tolist()]) / UNIT_S
    patience = np.full(n, np.inf)
    if queue.patience is not None:
        patience = np.array([queue.patience(seed, arrival_key(k)) for k in range(n)])
    return recursion(queue, random.exponential(1 / queue.arrival, n), service, patience)


def figure(row: Row, run: Run, cut: int) -> float:
    """A run's value of a row's figure, its warm-up left out."""
    wait, service, served = run.wait[cut:], run.service[cut:], run.served[cut:]
    if row.figure == "sojourn":
        return float((wait + service)[served].mean())
    if row.figure == "wait":
        return float(wait[served].mean())
    if row.figure == "wait of all":
        return float(wait.mean())
    return float(1 - served.mean())


def seen(row: Row, run: Run, cut: int) -> Seen:
    """A run's value of a row's figure, and its luck: means of gaps and services."""
    service = run.service[cut:][run.served[cut:]]
    return Seen(figure(row, run, cut), float(run.gap[cut:].mean()), float(service.mean()))


def freed(queue: Queueing, runs: Sequence[Seen], confidence: float) -> Interval:
    """The interval of a figure, freed from the luck of gaps and services."""
    same = isinstance(queue.service, Constant)
    luck = [[run.gap] if same else [run.gap, run.service] for run in runs]
    known = [1 / queue.arrival] if same else [1 / queue.arrival, 1.0]
    return controlled([run.value for run in runs], luck, known, confidence)


def together(more: Interval, long: Interval) -> Interval:
    """The recursion's mean, and what the twin adds to it on the same runs."""
    half_width = (more.half_width**2 + long.half_width**2) ** 0.5
    return Interval(more.mean + long.mean, half_width, more.n, more.confidence)


def simulated(rows: Sequence[Row], runs: int, alone: int, table: int) -> Iterator[Found]:
    """All rows of one queue, from the same replications.

    Args:
        rows: of one queue.
        runs: of the twin.
        alone: requests that the recursion runs by itself.
        table: intervals that are to be believed all at once.
    """
    queue = rows[0].queue
    prepared, began = prepared_for(queue), time.process_time()
    flights = [flown(queue, prepared, seed) for seed in range(1, runs + 1)]
    twins = [twin for twin, _ in flights]
    twin_s = (time.process_time() - began) / sum(len(one.gap) for one in twins)
    same = [recursion(queue, one.gap, one.service, patience) for one, patience in flights]
    more = max(runs, queue.effort * alone // queue.requests)
    others = [drawn(queue, 1000 + n) for n in range(min(more, KEPT))]
    filled = int(queue.filling * queue.requests)
    # Where nobody waits, losses are what settles.
    every = [run.wait if queue.waiting else 1.0 - run.served for run in (*others, *twins)]
    found = mser5([run[filled:].tolist() for run in every])
    if found is None:
        raise SystemExit(f"{queue.name}: runs of {queue.requests} are too short for a warm-up")
    cut = max(filled + found, queue.requests // WARM_UP)
    by_run = [[seen(row, run, cut) for row in rows] for run in others]
    for n in range(len(others), more):  # too many to be kept
        run = drawn(queue, 1000 + n)
        by_run.append([seen(row, run, cut) for row in rows])
    apart = max(float(np.abs(a.wait - b.wait).max()) for a, b in zip(twins, same, strict=True))
    for number, row in enumerate(rows):
        mine = [seen(row, run, cut) for run in twins]
        theirs = [seen(row, run, cut) for run in same]
        added = [a.value - b.value for a, b in zip(mine, theirs, strict=True)]
        long = [one[number] for one in by_run]
        sure = (0.95, 1 - 0.05 / table)
        by_twin = Told(*(freed(queue, mine, one) for one in sure))
        told = Told(*(together(interval(added, one), freed(queue, long, one)) for one in sure))
        yield Found(cut, by_twin, told, apart, twin_s)


def holds(row: Row, found: Found) -> bool:
    """Whether both intervals have the closed form inside, and that with control is narrow."""
    outside = "NO" in {found.alone.inside(row.value), found.told.inside(row.value)}
    return not outside and found.told.mean.half_width <= WIDEST * row.value


def asked(name: str, runs: int, size: float, alone: int) -> list[Found]:
    """All rows of the queue of that name: the work of one process, for a patience cannot travel."""
    table = rows()
    mine = [row for row in table if row.queue.name == name]
    longer = mine[0].queue._replace(requests=int(mine[0].queue.requests * size))
    longer_rows = [row._replace(queue=longer) for row in mine]
    return list(simulated(longer_rows, runs, alone, 2 * len(table)))


def main() -> None:
    """Print the table; exit with 1 when a row is off."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="queues whose name this expression is found in")
    parser.add_argument("--runs", type=int, default=RUNS, help="replications of the twin")
    parser.add_argument("--size", type=float, default=1.0, help="their length, as a factor")
    parser.add_argument("--alone", type=int, default=ALONE, help="requests of the recursion alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    given = parser.parse_args()
    table = [row for row in rows() if re.search(given.only, row.queue.name)]
    # The longest first, so that no process is alone with it in the end.
    queues = sorted({row.queue for row in table}, key=lambda one: -one.requests)
    found: dict[str, list[Found]] = {}
    began, work = time.time(), sum(one.requests for one in queues)
    with executor(given.jobs) as pool:
        options = (given.runs, given.size, given.alone)
        waited = {pool.submit(asked, one.name, *options): one for one in queues}
        for future in as_completed(waited):
            found[waited[future].name] = future.result()
            done = sum(one.requests for one in queues if one.name in found)
            ends = time.strftime(
                "%H:%M", time.localtime(began + (time.time() - began) * work / done)
            )
            told = f"{len(found)} of {len(queues)} queues; the end is at about {ends}"
            print(f"{told}: {waited[future].name}", file=sys.stderr)
    good = _print_table(table, found, given.runs, given.size)
    print(f"\n{(time.time() - began) / 60:.0f} minutes, {given.jobs} processes", file=sys.stderr)
    sys.exit(not good)


def _print_table(
    table: Sequence[Row], found: Mapping[str, Sequence[Found]], runs: int, size: float
) -> bool:
    head = "queue|figure|closed form|twin alone|±|inside|with control|±|inside|runs|warm-up|apart"
    print("| " + " | ".join(head.split("|")) + " |")
    print("|---" * (head.count("|") + 1) + "|")
    pending = {name: iter(one) for name, one in found.items()}
    pairs = [(row, next(pending[row.queue.name])) for row in table]
    for row, one in pairs:
        cells = [row.queue.name, row.figure, f"{row.value:.6f}"]
        for by in (one.alone, one.told):
            off = by.mean.half_width / row.value
            cells += [_shown(by.mean), f"{off:.2%}", by.inside(row.value)]
        cells += [f"{runs} of {int(row.queue.requests * size):,}", str(one.cut), f"{one.apart:.0e}"]
        print("| " + " | ".join(cells) + " |")
    bad = [f"{row.queue.name} {row.figure}" for row, one in pairs if not holds(row, one)]
    print(f"\n{len(table) - len(bad)} of {len(table)} rows hold.", *(f"NOT {one}." for one in bad))
    for row, one in pairs:
        wide = one.alone.mean.half_width / row.value / WIDEST
        if wide > 1:
            more = runs * row.queue.requests * size * wide**2
            minutes = more * one.twin_s / 60
            print(
                f"- {row.queue.name} {row.figure}: for {WIDEST:.0%} the twin alone would need "
                f"{more / 1e6:.1f} million requests, {minutes:.0f} minutes of a core"
            )
    return not bad


def _shown(one: Interval) -> str:
    return f"{one.mean:.6f} ± {one.half_width:.6f}"


if __name__ == "__main__":
    main()
