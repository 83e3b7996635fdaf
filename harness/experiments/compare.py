"""What can only be seen by holding runs against each other."""

from collections.abc import Sequence
from statistics import fmean

import msgspec

from harness.bottlenecks import connection_cost_s
from harness.experiments.run import Run


def explain_connections(runs: Sequence[Run]) -> None:
    """Put a figure on every "a connection per call" for which a pooled run saw the same weather."""
    for run in runs:
        for bottleneck in run.bottlenecks:
            if bottleneck.cause == "connections":
                _explain(run, runs)


def _explain(run: Run, runs: Sequence[Run]) -> None:
    for other in runs:
        if other is run or other.seed != run.seed or other.engine != run.engine:
            continue
        if other.prepared.scenario.upstream != run.prepared.scenario.upstream:
            continue
        cost_s = connection_cost_s(run.result.records, other.result.records)
        if cost_s is not None:
            _put(run, cost_s)
            return


def _put(run: Run, cost_s: float) -> None:
    served = [
        row.t_end - row.t_sent
        for row in run.result.records
        if row.outcome == "ok" and row.t_sent is not None
    ]
    share = cost_s / fmean(served)
    for at, bottleneck in enumerate(run.bottlenecks):
        if bottleneck.cause == "connections":
            text = f"{bottleneck.text}: {cost_s:.2f} s each, {share:.1%} of its time"
            run.bottlenecks[at] = msgspec.structs.replace(bottleneck, text=text, lost=share)
    run.bottlenecks.sort(key=lambda bottleneck: -bottleneck.lost)
    run.report["bottlenecks"] = msgspec.to_builtins(run.bottlenecks)
