"""A plan as data: the JSON that machines read, and the numbers of its pictures."""

from collections.abc import Callable
from typing import Any

from harness.experiments.plan.answer import Plan
from harness.experiments.plan.curve import frontier
from harness.experiments.plan.goal import shown
from harness.experiments.plan.judge import missed, predicted, sure_share, value
from harness.experiments.plan.levers import binding
from harness.experiments.plan.search import SAME_DOLLARS, Candidate

ORDER = (
    "cheapest: dollars first, bills within 5 % being the same; then the fewest API keys, slots or "
    "workers, and retries"
)


def document(plan: Plan) -> dict[str, Any]:
    """Everything that a plan found, for `--json`."""
    question, worth = plan.question, binding(plan.worths)
    return {
        "scenario": question.scenario.name,
        "variant": question.variant,
        "engine": question.engine,
        "goals": [goal.text for goal in question.goals],
        "promises": [shown(bound) for bound in question.bounds],
        "order": ORDER,
        "holds": plan.holds,
        "winner": _told(plan, plan.winner),
        "next_cheaper": _told(plan, plan.cheaper),
        "why": plan.why or None,
        "closest": None if plan.winner else _told(plan, plan.closest),
        "binding": None if worth is None else worth.constraint,
        "next_unit": [
            {
                "constraint": one.constraint,
                "unit": one.unit,
                "metric": plan.tightest.metric,
                "before": one.before,
                "change": one.change.mean,
                "half_width": one.change.half_width,
                "runs": one.change.n,
                "better": one.better,
                "elasticity": one.elasticity,
                "cost_usd": one.usd,
            }
            for one in plan.worths
        ],
        "verified": {
            name: {"engine": "virtual", "missed": one.missed, "agrees": one.agrees}
            for name, one in plan.verified.items()
        },
        "curve": plan.curve
        and {
            "knob": plan.curve.knob,
            "metric": plan.curve.metric,
            "dots": plan.curve.dots,
            "runs": 1,
            "knee": plan.curve.knee,
        },
        "frontier": [one.configuration.label for one in on_frontier(plan)],
        "configurations": [_told(plan, one) for one in plan.candidates],
        "runs_spared": plan.spared,
        "notes": question.notes,
    }


def _told(plan: Plan, one: Candidate | None) -> dict[str, Any] | None:
    if one is None:
        return None
    told: dict[str, Any] = {
        "configuration": one.configuration.label,
        "settings": one.configuration.flags(),
        "verdict": one.verdict,
        "why": one.why,
        "runs": len(one.points),
    }
    for bound in plan.question.bounds if one.points else ():
        told[bound.metric] = one.mean(bound)
    if one.points:
        told["cost_usd"] = one.cost_usd
    if one.verdict == "in":
        told["runs_that_hold_at_least"] = sure_share(len(one.points))
    if len(one.points) > 1:
        near = predicted(one.points, plan.tightest)
        told["next_run"] = {"metric": plan.tightest.metric, "low": near.low, "high": near.high}
    return told


def price_of(plan: Plan) -> tuple[str, Callable[[Candidate], float]]:
    """What configurations are weighed by: dollars, or slots where all bills are the same.

    Returns:
        Its name, and how much of it one takes.
    """
    bills = [one.cost_usd for one in plan.candidates if one.points]
    if bills and max(bills) > SAME_DOLLARS * min(bills):
        return "cost ($)", lambda one: one.cost_usd
    batch = plan.question.scenario.workload.kind == "batch"
    name = "slots" if batch else "workers"
    return f"{name} (the dollars are the same)", lambda one: float(one.configuration.slots)


def on_frontier(plan: Plan) -> list[Candidate]:
    """What nothing beats in both cost and time, the cheapest first; all other promises kept."""
    others = [bound for bound in plan.question.bounds if bound is not plan.tightest]
    ran = [one for one in plan.candidates if one.points and not missed(one.points[0], others)]
    sign = -1 if ">" in plan.tightest.op else 1
    _, price = price_of(plan)
    dots = [(price(one), sign * value(one.points[0], plan.tightest)) for one in ran]
    return [ran[at] for at in frontier(dots)]
