"""Routers: which model reads a review. Pure; the same review always goes the same way."""

from harness.pipeline.routing.base import Route, Router
from harness.pipeline.routing.legacy import LegacyRouter
from harness.pipeline.routing.scores import Scores, score
from harness.pipeline.routing.single import SingleRouter
from harness.pipeline.routing.smart import MEASURED_SHARES, TARGET_SHARES, SmartRouter, complexity

__all__ = [
    "MEASURED_SHARES",
    "TARGET_SHARES",
    "LegacyRouter",
    "Route",
    "Router",
    "Scores",
    "SingleRouter",
    "SmartRouter",
    "complexity",
    "score",
]
