"""Engines held against each other: what is equal, what is near, what differs first."""

from collections.abc import Sequence

import msgspec
import pytest
from runs import flown

from harness.experiments.agree import agreements, first_difference, witnesses
from harness.experiments.agree.checks import Agreement, near
from harness.experiments.agree.closed import against_theory
from harness.experiments.run import Run
from harness.records import Record

SMALL = ("workload.reviews=20", "pipeline.retries=1")


@pytest.fixture(scope="module", name="run")
def small_run() -> Run:
    """Twenty reviews on the virtual clock."""
    return flown("after", *SMALL)


def as_engine(run: Run, engine: str, records: Sequence[Record], **report: object) -> Run:
    """A run with other rows and figures, as if another engine had made it."""
    result = msgspec.structs.replace(run.result, records=list(records))
    changed = {**run.report, "engine": engine, **report}
    return msgspec.structs.replace(run, engine=engine, result=result, report=changed)


def moved(rows: Sequence[Record], by_s: dict[str, float]) -> list[Record]:
    """Rows of which some, by key, end later."""
    return [msgspec.structs.replace(r, t_end=r.t_end + by_s.get(r.key, 0.0)) for r in rows]


def only(found: Sequence[Agreement]) -> Agreement:
    """The one there is."""
    (one,) = found
    return one


def test_equal_rows_agree(run: Run) -> None:
    """The same rows in another order agree, and so do times that differ by half a microsecond."""
    rows = run.result.records
    twin = as_engine(run, "sim", moved(rows[::-1], {rows[3].key: 5e-7}))
    found = only(agreements([twin, run]))
    assert (found.left, found.right, found.agreed) == ("sim", "virtual", True)
    assert found.first_difference is None


def test_the_first_to_differ_in_time_is_named(run: Run) -> None:
    """Of two requests that differ the earlier one is told, with both of its timelines."""
    rows = sorted(run.result.records, key=lambda row: row.t_end)
    early, late = rows[2], rows[9]
    doctored = moved(rows, {early.key: 0.25, late.key: 0.25})
    found = first_difference(doctored, run.result.records)
    assert found is not None
    assert (found.key, found.at_s, found.differing) == (early.key, early.t_end, 2)
    assert [one.field for one in found.timeline if not one.same] == ["t_end"]
    assert {"t_admitted", "t_sent", "t_headers", "outcome"} <= {one.field for one in found.timeline}


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "failed"},
        {"worker": 9},
        {"t_sent": None},
        {"cost_usd": 1.0},
        {"cached_tokens": 1},
    ],
)
def test_every_field_counts(run: Run, change: dict[str, object]) -> None:
    """A field that differs is a disagreement, whichever it is."""
    rows = list(run.result.records)
    rows[5] = msgspec.structs.replace(rows[5], **change)
    found = only(agreements([as_engine(run, "sim", rows), run]))
    assert not found.agreed
    assert found.first_difference is not None
    assert found.first_difference.key == rows[5].key


def test_a_request_that_is_missing_differs(run: Run) -> None:
    """A request, or an attempt, that only one engine has is where the two part."""
    rows = run.result.records
    found = first_difference(rows[1:], rows)
    assert found is not None
    assert (found.key, found.at_s) == (rows[0].key, rows[0].t_admitted)


@pytest.mark.parametrize(
    ("p95", "late", "agreed"),
    [(1.025, 0.0, True), (1.04, 0.0, False), (1.04, 0.05, True), (1.06, 0.05, False)],
)
def test_bands_are_wider_in_overload(run: Run, p95: float, late: float, *, agreed: bool) -> None:
    """Live may be 3 % off at the 95th percentile, and 5 % where requests time out."""
    calm = as_engine(run, "virtual", run.result.records, timed_out=late * 20, timeout_rate=late)
    latency = {**run.report["latency_s"], "p95": run.report["latency_s"]["p95"] * p95}
    live = as_engine(calm, "live", [], latency_s=latency)
    assert near(calm, live).agreed is agreed


def test_an_invalid_run_says_nothing(run: Run) -> None:
    """A live run that is invalid neither agrees nor differs, and says why."""
    live = as_engine(run, "live", [], valid=False, invalid_reasons=["loop lag"], timeout_rate=1.0)
    checks = near(run, live).checks
    assert {(one.agreed, one.why) for one in checks} == {(None, "loop lag")}


def closed_form(value: float, kind: str = "exact", **more: object) -> dict[str, object]:
    """What theory says of the throughput."""
    name = "throughput_per_s_max" if kind == "bound" else "throughput_per_s"
    said = {"formula": "F", "kind": kind, "applies": True, "why": "w", "figures": {name: value}}
    return {**said, **more}


@pytest.mark.parametrize(
    ("answer", "agreed", "why"),
    [
        (closed_form(3.5), True, "w"),
        (closed_form(3.6), False, "w"),
        (closed_form(9.0, "bound"), True, "w"),
        (closed_form(3.4, "bound"), False, "w"),
        (closed_form(7.0, "approximate"), None, "approximate: +100.0% off; w"),
        (closed_form(9.0, applies=False, why="faults strike"), None, "faults strike"),
    ],
)
def test_a_closed_form_is_inside_the_interval(
    run: Run, answer: dict[str, object], *, agreed: bool | None, why: str
) -> None:
    """A closed form that applies lies inside the interval of eight runs, or the report says so."""
    theory = as_engine(run, "theory", [], theory=[answer])
    runs = [
        as_engine(run, "sim", [], throughput_per_s=3.5 + off)
        for off in (-0.02, 0.02, -0.01, 0.01, 0.0, 0.0, 0.03, -0.03)
    ]
    (check,) = against_theory(theory, runs).checks
    assert check.agreed is agreed
    assert why in check.why


def test_few_runs_judge_no_closed_form(run: Run) -> None:
    """Seven runs are too few for a verdict on theory."""
    theory = as_engine(run, "theory", [], theory=[closed_form(9.0)])
    (check,) = against_theory(theory, [as_engine(run, "sim", [])] * 7).checks
    assert check.agreed is None
    assert "--seeds" in check.why


def test_it_says_what_it_cannot_see(run: Run) -> None:
    """Where two engines share their objects, the report says that these have no witness."""
    runs = [as_engine(run, "sim", run.result.records), run]
    said = " ".join(witnesses(runs, agreements(runs)))
    assert "cannot see" in said
    assert "--engines virtual,live" in said


@pytest.mark.parametrize(
    ("valid", "beside", "line"),
    [(True, True, "out in 1 of 1"), (False, True, "is no witness"), (True, False, "is no witness")],
)
def test_live_is_a_witness_only_where_it_was_held_against_something(
    run: Run, line: str, *, valid: bool, beside: bool
) -> None:
    """A live run that is INVALID, or without a virtual one beside it, bears nothing out."""
    live = as_engine(run, "live", run.result.records, valid=valid, invalid_reasons=["late"])
    runs = [run, live] if beside else [live]
    assert line in witnesses(runs, agreements(runs))[-1]
