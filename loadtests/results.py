"""What a load test brings back: the same run, rows and JSON as every engine's."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from harness.attribution import stages
from harness.engines.base import EngineResult, Prepared
from harness.engines.certificate import SENT_BOUND_S
from harness.experiments.reports import figures_of, slo_of
from harness.experiments.run import Run, run_of
from harness.metrics import quantiles
from harness.pipeline.dispatch import Stop
from harness.records import Record, lost, moved, requests
from loadtests.certificate import Certificate
from loadtests.reconcile import Reconciled, request_of
from loadtests.search import Found
from loadtests.sight import ABUSE, Asked
from mock_llm.behaviour import TRANSIT_S
from mock_llm.ledger import Row, delay_s

ENGINE = "live"
PROMISED = ("lost", "unanswered")
"""Of which there shall be none, whatever a scenario promises."""
SPENT = ("lost", "attempts", "cost_usd")
"""Promises about every request, whoever made it: what was spent is spent."""
_USERS_TIMES = ("t_intended", "t_sent", "t_end")


class Flown(msgspec.Struct, frozen=True, kw_only=True):
    """A load test that is over, as its parts have written it down.

    Attributes:
        prepared: what was run.
        variant: its name.
        expect: whether it is to keep its promises; nothing here goes by it.
        seed: of the weather.
        began_s: monotonic time of its start.
        took_s: from there to its end.
        asked: what users saw, on the monotonic clock.
        records: the service's rows; None: unknown.
        origin_s: monotonic time from which they count.
        rows: the mock's, on the monotonic clock; None: unknown.
        stopped: why it ended before its time, or None.
        spike_s: when a spike of users began and ended, from the start of the test.
        found: what a search has come to.
    """

    prepared: Prepared
    variant: str
    expect: str = "pass"
    seed: int
    began_s: float
    took_s: float
    asked: Sequence[Asked]
    records: Sequence[Record] | None
    origin_s: float = 0.0
    rows: Sequence[Row] | None = None
    stopped: Stop | None = None
    spike_s: tuple[float, float] | None = None
    found: Found | None = None


def run_of_test(flown: Flown, certificate: Certificate, counts: Reconciled) -> Run:
    """The run object: rows from the start of the test, from the users' intended starts on.

    A time-out on the user's side is in its latency; what was lost has a row that says so. The
    figures are of all rows, the promises are judged without those of `_set_apart`.
    """
    records, apart = records_of(flown), _set_apart(flown, counts)
    reasons = [f"the counts differ: {one}" for one in counts.differences]
    result = EngineResult(
        records=records,
        labels={},
        context_bytes={"peak": 0, "last": 0},
        stopped=flown.stopped,
        # A search goes on until something gives way, and judges each level by itself.
        invalid=(*(() if flown.found else certificate.reasons()), *reasons),
        wall_s=flown.took_s,
        certificate=msgspec.to_builtins(certificate),
        notes=(*_notes(counts), *_apart_notes(apart)),
        reconciliation=msgspec.to_builtins(counts),
        submitted=tuple(dict.fromkeys(row.key for row in records)),
        spike=flown.spike_s,
        ends={one.key: one.t_end - flown.began_s for one in flown.asked},
    )
    run = run_of(
        flown.prepared,
        result,
        variant=flown.variant,
        expect=flown.expect,
        engine=ENGINE,
        seed=flown.seed,
    )
    run.report["added_s"] = added(flown) or run.report["added_s"]
    figures = run.report
    if apart:
        kept = [row for row in records if request_of(row.key) not in apart]
        figures = figures_of(flown.prepared, msgspec.structs.replace(result, records=kept))
    known = {name: run.report[name] for name in (*SPENT, "added_s")}
    run.report["slo"] = slo_of(flown.prepared.scenario.slo, {**figures, **known})
    if flown.found is not None:
        run.report["search"] = flown.found.report()
        run.report["slo"]["checks"] = [flown.found.check()]
    _promise(run, counts)
    run.report["users"] = users_of(flown.asked)
    return run


def _set_apart(flown: Flown, counts: Reconciled) -> dict[str, str]:
    """Requests that promises are not judged by -> why not.

    A worker that dies breaks its users' connections: that they left is no fault of the service.
    """
    abuse = {one.key: "an abuser's" for one in flown.asked if one.kind == ABUSE}
    return abuse | dict.fromkeys(counts.unseen, "unseen, of a lost worker")


def _apart_notes(apart: Mapping[str, str]) -> Iterator[str]:
    for why, count in Counter(apart.values()).items():
        yield f"the promises are judged without {count:,} requests: {why}"


def _promise(run: Run, counts: Reconciled) -> None:
    """Add to a run's promises those that need not be made: no request is lost on its way."""
    slo, report = run.report["slo"], run.report
    report["unanswered"] = len(counts.unanswered)
    made = {check["metric"] for check in slo["checks"]}
    for metric in PROMISED:
        if metric not in made:
            value = report[metric]
            check = {"metric": metric, "bound": "== 0", "value": value, "passed": not value}
            slo["checks"].append(check)
    slo["passed"] = all(check["passed"] for check in slo["checks"])


def lines_of(flown: Flown) -> Iterator[bytes]:
    """What users saw, one JSON object a line, from the start of the test."""
    for one in flown.asked:
        times = {name: getattr(one, name) - flown.began_s for name in _USERS_TIMES}
        yield msgspec.json.encode({**one._asdict(), **times}) + b"\n"


def records_of(flown: Flown) -> list[Record]:
    """Rows from the start of the test: the service's where they are known, else the users' own."""
    asked = {one.key: one for one in flown.asked if one.kind != "stream"}
    if flown.records is None:
        return [_seen(one, flown.began_s) for one in asked.values()]
    by_s = flown.origin_s - flown.began_s
    kept = [_intended(moved(row, by_s), asked, flown.began_s) for row in flown.records]
    known = {row.key for row in kept}
    return kept + [
        lost(key, one.user, one.t_intended - flown.began_s, one.t_end - flown.began_s)
        for key, one in asked.items()
        if key not in known and not one.status
    ]


def _intended(row: Record, asked: dict[str, Asked], began_s: float) -> Record:
    one = asked.get(row.key)
    if one is None:
        return row
    return msgspec.structs.replace(row, t_intended=one.t_intended - began_s)


def _seen(one: Asked, began_s: float) -> Record:
    """A request of which its user is the only witness."""
    return Record(
        key=one.key,
        attempt=min(one.attempts, 1),
        user=one.user,
        t_intended=one.t_intended - began_s,
        t_queued=one.t_sent - began_s,
        t_sent=one.t_sent - began_s if one.attempts else None,
        t_end=one.t_end - began_s,
        status=one.status or None,
        outcome=one.outcome,
        error="" if one.outcome == "ok" else f"status {one.status}" if one.status else "lost",
        cost_usd=one.cost_usd,
    )


def _notes(counts: Reconciled) -> Iterator[str]:
    if counts.lost:
        yield f"{len(counts.lost)} requests never reached the service, first {counts.lost[0]}"
    if counts.unanswered:
        yield (
            f"{len(counts.unanswered)} requests were served and their users had no answer, first "
            f"{counts.unanswered[0]}: a time limit of the user's, or a connection that broke"
        )
    if counts.estimated_usd or counts.billed_usd:
        yield (
            f"calls whose end was not waited for: ${counts.estimated_usd:.6f} estimated, "
            f"${counts.billed_usd:.6f} billed"
        )


def users_of(asked: Sequence[Asked]) -> dict[str, object]:
    """What users saw, by kind: latency from the intended start, service time from the send."""
    kinds = dict.fromkeys(one.kind for one in asked)
    return {kind: _figures([one for one in asked if one.kind == kind]) for kind in kinds}


def _figures(asked: Sequence[Asked]) -> dict[str, object]:
    outcomes = dict.fromkeys((one.outcome for one in asked), 0)
    for one in asked:
        outcomes[one.outcome] += 1
    return {
        "requests": len(asked),
        "outcomes": outcomes,
        "latency_s": quantiles([one.t_end - one.t_intended for one in asked]),
        "service_s": quantiles([one.t_end - one.t_sent for one in asked]),
        "sent_late": sum(one.t_sent - one.t_intended > SENT_BOUND_S for one in asked),
    }


def added(flown: Flown) -> dict[str, float] | None:
    """Seconds that everything but the provider's work and the waiting for it took, per request.

    Of each answered review: from its intended start until its user had the answer, without what the
    mock had planned for its calls (set-up, its own queue, the work, a transit of up to 1 ms) and
    without waiting in the queue, for the limit, for a slot, for a connection of the pool, and
    between attempts. What is left is the generator's own lateness, HTTP on both sides of the
    service, the service's work, and the mock's lateness. The means of the first and the last are
    told too, and as `service_...` what is left without them: what the service and its HTTP add.
    None where the service's records or the mock's ledger are unknown, or nothing was answered.
    """
    if flown.records is None or flown.rows is None:
        return None
    calls: dict[str, list[Row]] = {}
    for row in flown.rows:
        calls.setdefault(row.key, []).append(row)
    asked = {one.key: one for one in flown.asked if one.kind == "review" and one.outcome == "ok"}
    seen = []
    for rows in requests(flown.records):
        one, mine = asked.get(rows[0].key), calls.get(rows[0].key, [])
        own = [_own_s(row) for row in mine]
        if one is None or None in own or len(own) != sum(row.t_sent is not None for row in rows):
            continue
        rest_s = one.t_end - one.t_intended - _waits_s(rows) - sum(took for took in own if took)
        seen.append((rest_s, one.t_sent - one.t_intended, sum(delay_s(row) or 0.0 for row in mine)))
    if not seen:
        return None
    rests, sends, delays = zip(*seen, strict=True)
    served = [rest - send - delay for rest, send, delay in seen]
    return {
        **quantiles(rests),
        **{f"service_{name}": value for name, value in quantiles(served).items()},
        "requests": len(seen),
        "sent_late": math.fsum(sends) / len(seen),
        "mock_late": math.fsum(delays) / len(seen),
    }


def _waits_s(rows: Sequence[Record]) -> float:
    """Seconds that a request waited within the service for its turn, or for another try."""
    spent = stages(rows)
    pool = sum(
        row.t_connected - row.t_slot
        for row in rows
        if not row.new_connection and row.t_connected is not None and row.t_slot is not None
    )
    return spent["queue"] + spent["limiter"] + spent["slot"] + spent["backoff"] + pool


def _own_s(row: Row) -> float | None:
    """Seconds that the mock meant a call to take; None of one that was not played to its end."""
    late = delay_s(row)
    start = row.headers_s if row.status != 200 else row.first_token_s
    if row.ended not in {"complete", "refused"} or None in {late, start, row.admitted_s}:
        return None
    assert late is not None and start is not None and row.admitted_s is not None  # noqa: S101, PT018
    took_s = start - row.admitted_s - late + min(row.admitted_s - row.arrived_s, TRANSIT_S)
    if row.stream and row.planned_last_token_s and row.planned_first_token_s:
        took_s += row.planned_last_token_s - row.planned_first_token_s
    return took_s
