"""The regression gate: today's runs against committed baselines, figure by figure.

On the virtual clock a run repeats to the byte, so a gate on it is never flaky: what differs does so
because something changed. The tolerances say which changes are worse.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from harness.errors import InputError
from harness.experiments.run import Run, prepare_variant, run_one
from harness.files import write_whole
from harness.scenario.load import load_file
from mock_llm.config import Table

State = Literal["same", "changed", "better", "worse", "broken"]


class Tolerances(Table, frozen=True, kw_only=True):
    """How much worse is still the same.

    Attributes:
        throughput: relative loss.
        timeout_rate: absolute rise, in shares (0.001 is 0.1 percentage points).
        latency_p95: relative rise.
        cost: relative rise.
    """

    throughput: float = 0.01
    timeout_rate: float = 0.001
    latency_p95: float = 0.02
    cost: float = 0.01


class Figures(Table, frozen=True, kw_only=True):
    """What is guarded of one run."""

    throughput_per_s: float
    timeout_rate: float
    latency_s_p95: float
    cost_usd: float
    ok: int
    requests: int
    slo_passed: bool
    records_sha256: str


class Baseline(Table, frozen=True, kw_only=True):
    """One file of `results/baselines/`.

    Attributes:
        scenario: path of the scenario file, from the folder the gate is run in.
        seed: of every run.
        settings: `--set` overrides that the runs were made with.
        tolerances: see `Tolerances`.
        variants: what each variant did.
    """

    scenario: str
    seed: int = 1
    settings: tuple[str, ...] = ()
    tolerances: Tolerances = Tolerances()
    variants: dict[str, Figures] = {}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one variant, then and now."""

    baseline: str
    variant: str
    figure: str
    before: float | str
    now: float | str
    state: State


def figures_of(report: Mapping[str, Any]) -> Figures:
    """The guarded figures of a run report."""
    return Figures(
        throughput_per_s=report["throughput_per_s"],
        timeout_rate=report["timeout_rate"],
        latency_s_p95=report["latency_s"]["p95"],
        cost_usd=report["cost_usd"],
        ok=report["ok"],
        requests=report["requests"],
        slo_passed=report["slo"]["passed"],
        records_sha256=report["records_sha256"],
    )


def judge(
    baseline: str, variant: str, before: Figures, now: Figures, allowed: Tolerances
) -> list[Check]:
    """Compare two sets of figures; a pure function.

    Args:
        baseline: name of the baseline, for the report.
        variant: name of the variant, for the report.
        before: as committed.
        now: as measured.
        allowed: how much worse is still the same.
    """
    rise = {
        "throughput_per_s": _relative(now.throughput_per_s, before.throughput_per_s),
        "timeout_rate": now.timeout_rate - before.timeout_rate,
        "latency_s_p95": _relative(now.latency_s_p95, before.latency_s_p95),
        "cost_usd": _relative(now.cost_usd, before.cost_usd),
    }
    worse_by = {**rise, "throughput_per_s": -rise["throughput_per_s"]}
    limits = {
        "throughput_per_s": allowed.throughput,
        "timeout_rate": allowed.timeout_rate,
        "latency_s_p95": allowed.latency_p95,
        "cost_usd": allowed.cost,
    }
    states = {figure: _state(worse_by[figure], limits[figure]) for figure in limits}
    # Every time-out costs an ok as well: what is allowed there is allowed here.
    states["ok"] = _state((before.ok - now.ok) / max(1, before.requests), allowed.timeout_rate)
    states["slo_passed"] = _state(float(before.slo_passed) - float(now.slo_passed), 0.0)
    for figure in ("requests", "records_sha256"):
        same = getattr(before, figure) == getattr(now, figure)
        states[figure] = "same" if same else "changed"
    return [
        Check(
            baseline=baseline,
            variant=variant,
            figure=figure,
            before=getattr(before, figure),
            now=getattr(now, figure),
            state=state,
        )
        for figure, state in states.items()
    ]


# Sums of the same numbers may differ in their last digits between machines.
_ROUNDING = 1e-9


def _relative(now: float, before: float) -> float:
    if before == 0:
        return 0.0 if now == 0 else float("inf")
    return now / before - 1


def _state(worse_by: float, limit: float) -> State:
    if worse_by > limit + _ROUNDING:
        return "worse"
    if worse_by < -limit - _ROUNDING:
        return "better"
    return "same" if abs(worse_by) <= _ROUNDING else "changed"


def read_baselines(folder: Path) -> dict[str, Baseline]:
    """Every baseline of a folder, by file stem.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path.stem] = msgspec.json.decode(path.read_bytes(), type=Baseline)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a baseline: {error}") from error
    if not found:
        raise InputError(f"{folder}: no baselines there; make them with `harness gate --update`")
    return found


def run_baseline(baseline: Baseline, settings: Sequence[str]) -> Iterator[Run]:
    """Run again what a baseline guards, on the virtual clock.

    Args:
        baseline: names the scenario and, unless it is new, the variants.
        settings: further `--set` overrides, applied last: a change under trial.

    Raises:
        InputError: the scenario or a setting is bad, or it has lost a variant that is guarded.
    """
    path = Path(baseline.scenario)
    file = load_file(path, [*baseline.settings, *settings])
    for name in baseline.variants or file.names(None):
        yield run_one(
            prepare_variant(file, name, path.parent),
            variant=name,
            expect=file.variant(name).expect,
            engine="virtual",
            seed=baseline.seed,
        )


def checks_of(name: str, baseline: Baseline, run: Run) -> list[Check]:
    """Everything that the gate has to say of one run."""
    broken = [
        Check(
            baseline=name, variant=run.variant, figure="valid", before="", now=why, state="broken"
        )
        for why in run.report["invalid_reasons"]
    ]
    before = baseline.variants[run.variant]
    now = figures_of(run.report)
    return [*broken, *judge(name, run.variant, before, now, baseline.tolerances)]


def guarded(name: str, baseline: Baseline) -> Baseline:
    """The baseline, which must have figures to hold others to.

    Raises:
        InputError: it names a scenario and no figures yet.
    """
    if not baseline.variants:
        raise InputError(f"{name}: a baseline without figures; `harness gate --update` adds them")
    return baseline


def updated(baseline: Baseline, runs: Sequence[Run]) -> Baseline:
    """The baseline with today's figures.

    Raises:
        InputError: a run is invalid: nothing to hold others to.
    """
    for run in runs:
        if not run.report["valid"]:
            reasons = "; ".join(run.report["invalid_reasons"])
            raise InputError(f"{baseline.scenario}, {run.variant}: {reasons}: not a baseline")
    return msgspec.structs.replace(
        baseline, variants={run.variant: figures_of(run.report) for run in runs}
    )


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Write one file, readable in a diff; never half of one."""
    text = json.dumps(msgspec.to_builtins(baseline), indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [text.encode()])
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
