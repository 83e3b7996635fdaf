"""Capacity planning: the cheapest configuration that reaches a goal, and what holds it back.

    question = ask(path, goals=["5000 reviews in 10 min"], over=["pipeline.concurrency=5-20"])
    with executor(jobs=2) as pool:
        found = plan(question, partial(sweep, pool=pool, kept=Kept(folder / "points.jsonl")))
    print(found.winner.configuration.label if found.winner else found.why)

`search` says how it is looked for, `judge` what it takes to be recommended, `levers` what the next
unit of each knob is worth.
"""

from harness.experiments.plan.answer import Plan, Verified, plan
from harness.experiments.plan.curve import frontier, knee
from harness.experiments.plan.goal import Goal, parse_goal, shown
from harness.experiments.plan.judge import LEAST, predicted, value
from harness.experiments.plan.knobs import Configuration, Knob, parse_knob
from harness.experiments.plan.levers import Worth, binding
from harness.experiments.plan.question import Question, ask
from harness.experiments.plan.search import Candidate, Sweep, cheapest_first

__all__ = [
    "LEAST",
    "Candidate",
    "Configuration",
    "Goal",
    "Knob",
    "Plan",
    "Question",
    "Sweep",
    "Verified",
    "Worth",
    "ask",
    "binding",
    "cheapest_first",
    "frontier",
    "knee",
    "parse_goal",
    "parse_knob",
    "plan",
    "predicted",
    "shown",
    "value",
]
