"""`harness alerts`: rules for Prometheus about a service."""

import sys
from importlib.resources import files


def alerts() -> None:
    """Print the alert rules for Prometheus that come with `harness serve`."""
    rules = files("harness.pipeline.service").joinpath("alerts.yml")
    sys.stdout.write(rules.read_text("utf-8"))
