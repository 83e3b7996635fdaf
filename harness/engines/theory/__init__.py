"""The `theory` engine: closed forms for a scenario, in microseconds, where they apply.

Nothing is run and there are no records: a figure that no formula gives is None, never a guess.
"""

from harness.engines.theory.report import run_theory, theory_report

__all__ = ["run_theory", "theory_report"]
