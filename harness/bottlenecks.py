"""What holds a run back, read from its records: never from its name or its variant's.

Each bottleneck says what share of the run it cost, so that the greatest comes first. The settings
are consulted only to say what was meant: five slots, a limit of 30 s.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, variance

import msgspec

from harness.attribution import STAGES, verdict
from harness.metrics import Tally, duration_s, quantiles, time_s
from harness.records import HITS, Record
from harness.scenario.pipeline import Pipeline


class Bottleneck(msgspec.Struct, frozen=True, kw_only=True):
    """One cause.

    Attributes:
        cause: `barrier`, `semaphore_not_acquired`, `slot_inside_limit`, `too_few_slots`, `serial`,
            `no_time_limit`,
            `limit_too_long`, `no_first_token`, `waits_for_ever`, `job_deadline`, `limiter`,
            `throttled`, `server_errors`, `failures`, `slots`, `connections`, `warming_up` or
            `patience`.
        lost: share of the run that it cost, in 0-1: of the slots' time, or of the requests.
        text: for a person.
    """

    cause: str
    lost: float
    text: str


def peak_in_flight(records: Sequence[Record]) -> int:
    """Calls on the wire at one moment, at most."""
    edges = [
        edge
        for row in records
        if row.t_sent is not None
        for edge in ((row.t_sent, 1), (row.t_end, -1))
    ]
    # An end sorts before a start at the same instant: handing over is not overlapping.
    level = peak = 0
    for _, step in sorted(edges):
        level += step
        peak = max(peak, level)
    return peak


def held_s(records: Sequence[Record]) -> float:
    """Seconds that slots were held: from a request's slot to its end, backoff included."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for row in records:
        if row.t_slot is not None and row.t_sent is not None:
            first[row.key] = min(first.get(row.key, row.t_slot), row.t_slot)
            last[row.key] = max(last.get(row.key, row.t_end), row.t_end)
    return sum(last[key] - first[key] for key in first)


def late_for_a_slot(tally: Tally) -> int:
    """Requests that lost an attempt, or everything, to awaiting the slot inside the limit."""
    return sum(
        verdict(rows) == "slot"
        or any(row.error == "attempt_timeout" and row.t_slot is None for row in rows)
        for rows in tally.requests
    )


def bottlenecks(
    records: Sequence[Record], settings: Pipeline, *, job_failed: bool = False
) -> list[Bottleneck]:
    """Every cause found, the costliest first.

    Args:
        records: rows of one run.
        settings: of its pipeline.
        job_failed: the job's own deadline ended it.
    """
    if not records:
        return []
    tally = Tally(records, job_failed=job_failed)
    found = [
        *_structure(records, settings, tally),
        *_limits(records, settings, tally),
        *_provider(records, tally),
    ]
    return sorted(found, key=lambda bottleneck: -bottleneck.lost)


def _structure(records: Sequence[Record], settings: Pipeline, tally: Tally) -> Iterator[Bottleneck]:
    """How the calls were arranged."""
    n, length, peak = len(tally.requests), duration_s(records), peak_in_flight(records)
    if not peak or length <= 0:
        return
    late = late_for_a_slot(tally)
    if late:
        # Where slots adapt they are awaited before any limit but the request's own deadline.
        where = (
            "the slot is awaited inside the time limit"
            if settings.adaptive is None
            else ("the adaptive slots are too few for the deadline")
        )
        yield Bottleneck(
            cause="slot_inside_limit" if settings.adaptive is None else "too_few_slots",
            lost=late / n,
            text=f"{where}: {late:,} requests used it up in line",
        )
    if peak > settings.concurrency and not late and not (settings.hedge or settings.adaptive):
        yield Bottleneck(
            cause="semaphore_not_acquired",
            lost=1 - settings.concurrency / peak,
            text=f"the semaphore of {settings.concurrency} is never acquired: "
            f"{peak} calls in flight at once",
        )
    waits = list(_waits(records, settings, tally))
    yield from waits
    causes = {bottleneck.cause for bottleneck in waits}
    sent = sum(row.t_sent is not None for row in records)
    busy = min(1.0, held_s(records) / (peak * length))
    # What another slot is worth can only be said where nothing else stands in its way.
    causes |= {str(row.error) for row in records if row.status == 429 or row.outcome == "timed_out"}
    causes |= {"cache"} if any(row.cache in HITS for row in records) else set()
    if peak == 1 and sent > 1 and not causes & {"barrier", "pool"}:
        yield Bottleneck(cause="serial", lost=0.5, text="one call at a time")
    elif sent > peak == settings.concurrency and busy > 0.5 and not causes and not late:
        worth = tally.answered / length / peak
        text = f"its {peak} slots, {busy:.0%} busy: one more is worth {worth:.2f}/s"
        yield Bottleneck(cause="slots", lost=0.0, text=text)
    opened = sum(row.new_connection for row in records)
    if opened > 2 * peak and opened > 0.5 * sent:
        yield Bottleneck(
            cause="connections", lost=0.01, text=f"{opened:,} connections for {sent:,} calls"
        )


def _waits(records: Sequence[Record], settings: Pipeline, tally: Tally) -> Iterator[Bottleneck]:
    """What slots waited for instead of serving."""
    # Of the slots that were meant: ten calls in flight on five slots are not half idle.
    slot_s = min(peak_in_flight(records), settings.concurrency) * duration_s(records)
    n, spent = len(tally.requests), time_s(tally.requests)
    # A worker awaits the per-user limit in its slot; in the published mistakes without one.
    in_slot = settings.slot == "before_timeout"
    since_admission = n * sum(spent[stage] for stage in STAGES[1:])
    limited = min(1.0, n * spent["limiter"] / (slot_s if in_slot else since_admission))
    if limited > 0.02:
        yield Bottleneck(
            cause="limiter",
            lost=limited,
            text=f"the limit per user: {limited:.0%} of the {'slots' if in_slot else 'requests'}' "
            "time is spent waiting for it",
        )
    pool_s = sum(
        row.t_connected - row.t_slot
        for row in records
        if row.t_connected is not None and row.t_slot is not None and not row.new_connection
    )
    if pool_s > 0.02 * slot_s:
        yield Bottleneck(
            cause="pool",
            lost=min(1.0, pool_s / slot_s),
            text=f"the connection pool is too small: {min(1.0, pool_s / slot_s):.0%} of the slots' "
            "time is spent waiting for a connection",
        )
    idle = max(0.0, 1 - held_s(records) / slot_s - (limited if in_slot else 0.0))
    # Slots are idle for other causes too, and what ended early may have left its slot to others.
    barred = min(idle, n * spent["barrier"] / slot_s)
    if barred > 0.02:
        yield Bottleneck(
            cause="barrier",
            lost=barred,
            text=f"the barrier: {barred:.0%} of the slots' time is spent waiting for the slowest "
            "of each batch",
        )


def _limits(records: Sequence[Record], settings: Pipeline, tally: Tally) -> Iterator[Bottleneck]:
    """What time limits did, or would have done."""
    n, length = len(tally.requests), duration_s(records)
    slots = max(1, peak_in_flight(records))
    stuck = [row for row in records if row.error == "never_answered"]
    if stuck:
        yield Bottleneck(
            cause="waits_for_ever",
            lost=1.0,
            text=f"no answer comes and nothing times out: {_names(stuck)} would wait for ever",
        )
    met = any(row.error == "job_deadline" for row in records)
    if met or tally.verdicts["job_deadline"]:
        yield Bottleneck(
            cause="job_deadline",
            lost=1.0,
            text=f"the job's deadline: {tally.answered:,} of {n:,} answered, nothing handed over",
        )
    waited = [row for row in records if row.error == "job_deadline" and row.t_sent is not None]
    longest = max((row.t_end - (row.t_sent or 0.0) for row in waited), default=0.0)
    served = [
        row.t_end - row.t_sent for row in records if row.outcome == "ok" and row.t_sent is not None
    ]
    p99 = quantiles(served)["p99"]
    # Where nothing was ever answered there is no measure: a minute is long for any call.
    if settings.attempt_timeout_s is None and longest > (10 * p99 or 60.0):
        yield Bottleneck(
            cause="no_time_limit",
            lost=min(1.0, longest / length),
            text=f"one call hung for {longest:.0f} s and nothing timed it out",
        )
    yield from _given_up(records, settings, slots * length, p99)
    yield from _patience(records, slots * length, p99)


def _given_up(
    records: Sequence[Record], settings: Pipeline, slot_s: float, p99: float
) -> Iterator[Bottleneck]:
    limit = settings.attempt_timeout_s
    gone = [row for row in records if row.error == "attempt_timeout" and row.t_sent is not None]
    held = sum(row.t_end - (row.t_slot or row.t_queued) for row in gone)
    if limit is None or not gone or settings.slot == "inside_timeout":
        return
    better = max(0.1, 2 * p99)
    share = min(1.0, held / slot_s) if slot_s > 0 else 0.0
    told = f"{len(gone):,} calls held a slot for {limit:g} s each until they were given up, "
    told += f"{share:.0%} of the slots' time"
    # Without one answer nothing says how long is long enough.
    if p99 > 0 and better < limit:
        advice = f"{better:.{0 if better >= 10 else 1}f} s would do (p99 of answers is {p99:.1f} s)"
        yield Bottleneck(cause="limit_too_long", lost=share, text=f"{told}; {advice}")
    else:
        yield Bottleneck(cause="no_first_token", lost=share, text=told)


def _patience(records: Sequence[Record], slot_s: float, p99: float) -> Iterator[Bottleneck]:
    """Calls that a client gave up by a limit of its own, which no setting knows: a target's."""
    waits = [
        row.t_end - row.t_sent
        for row in records
        if row.outcome == "timed_out" and row.error not in {"attempt_timeout", "job_deadline"}
        if row.t_sent is not None and row.t_first_token is None
    ]
    if not waits or slot_s <= 0:
        return
    share = min(1.0, sum(waits) / slot_s)
    told = f"{len(waits):,} calls waited {max(waits):.0f} s for a first token before they gave up, "
    told += f"{share:.0%} of the slots' time"
    if 0 < max(0.1, 2 * p99) < max(waits) and p99 > 0:
        told += f"; a limit of {max(0.1, 2 * p99):.1f} s would do (p99 of answers is {p99:.1f} s)"
    yield Bottleneck(cause="patience", lost=share, text=told)


def _provider(records: Sequence[Record], tally: Tally) -> Iterator[Bottleneck]:
    """What the provider did."""
    n, status = len(tally.requests), Counter(row.status for row in records)
    unpaid = sum(rows[-1].status == 402 for rows in tally.requests if verdict(rows) == "refused")
    refused, failed = tally.verdicts["refused"] - unpaid, tally.verdicts["server_error"]
    if status[429]:
        spent = time_s(tally.requests)
        share = spent["backoff"] / (sum(spent[stage] for stage in STAGES[1:]) or 1.0)
        text = f"throttled {status[429]:,} times, {share:.0%} of the slots' time spent backing off"
        yield Bottleneck(
            cause="throttled",
            lost=max(share, refused / n),
            text=f"{text}, {refused:,} requests given up" if refused else text,
        )
    if status[402]:
        end = f"{unpaid:,} requests given up" if unpaid else "retried"
        yield Bottleneck(
            cause="no_credit", lost=unpaid / n, text=f"{status[402]:,} answers of 402, {end}"
        )
    errors = sum(count for code, count in status.items() if code is not None and code >= 500)
    if errors:
        end = f"{failed:,} requests given up" if failed else "retried"
        yield Bottleneck(
            cause="server_errors", lost=failed / n, text=f"{errors:,} answers of 5xx, {end}"
        )
    yield from _failures(tally)
    yield from _warming(tally)


def _failures(tally: Tally) -> Iterator[Bottleneck]:
    """Requests lost to what no other bottleneck tells of."""
    causes = Counter(
        cause
        for rows in tally.requests
        if (cause := verdict(rows)) is not None
        and cause not in {"slot", "job_deadline", "refused", "server_error"}
        and rows[-1].error not in {"never_answered", "job_deadline", "interrupted"}
    )
    if causes:
        lost = causes.total()
        named = ", ".join(f"{cause} {count:,}" for cause, count in causes.most_common(3))
        yield Bottleneck(
            cause="failures",
            lost=lost / len(tally.requests),
            text=f"{lost:,} of {len(tally.requests):,} requests came to nothing: {named}",
        )


def _warming(tally: Tally) -> Iterator[Bottleneck]:
    """A provider that gets faster over the run: its first fifth against its last.

    Chance must not explain it: of fifty lognormal times (sigma .65) the medians of two fifths
    differ by 30 % in every fourth run, so the logarithms' means must lie three errors apart as well
    (Welch, Biometrika 34, 1947).
    """
    served = [
        (rows[-1].t_sent, rows[-1].t_end - rows[-1].t_sent)
        for rows in tally.requests
        if rows[-1].outcome == "ok" and rows[-1].t_sent is not None
    ]
    served.sort()
    fifth = len(served) // 5
    if fifth < 10:
        return
    times = [seconds for _, seconds in served]
    first, last = median(times[:fifth]), median(times[-fifth:])
    if first - last > 0.05 and first > 1.3 * last > 0 and _welch(times[:fifth], times[-fifth:]) > 3:
        yield Bottleneck(
            cause="warming_up",
            lost=max(0.0, 1 - last / fmean(times)),
            text=f"the provider warms up: {first:.1f} s a call at first, {last:.1f} s at last",
        )


def _welch(one: Sequence[float], other: Sequence[float]) -> float:
    """By how many standard errors the means of the logarithms differ; times are positive."""
    logs = [[math.log(max(seconds, 1e-9)) for seconds in times] for times in (one, other)]
    error = math.sqrt(sum(variance(values) / len(values) for values in logs))
    return (fmean(logs[0]) - fmean(logs[1])) / max(error, 1e-9)


def connection_cost_s(unpooled: Sequence[Record], pooled: Sequence[Record]) -> float | None:
    """Seconds that a new connection adds to a call: median over requests that both runs made.

    The weather is keyed, so a request meets the same service time in both and the difference is
    the connection's alone. None when no request allows the comparison.
    """
    calls = [_first_calls(unpooled, new=True), _first_calls(pooled, new=False)]
    both = calls[0].keys() & calls[1].keys()
    return median(calls[0][key] - calls[1][key] for key in both) if both else None


def _first_calls(records: Sequence[Record], *, new: bool) -> Mapping[str, float]:
    return {
        row.key: row.t_end - row.t_sent
        for row in records
        if row.attempt == 1
        and row.outcome == "ok"
        and row.t_sent is not None
        and row.new_connection is new
    }


def _names(rows: Sequence[Record]) -> str:
    keys = [row.key for row in rows]
    shown = ", ".join(keys[:3])
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"
