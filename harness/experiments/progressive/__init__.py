"""Growing a job step by step: a hundred reviews first, the next size only if all went well."""

from harness.experiments.progressive.forecast import Forecast, forecast
from harness.experiments.progressive.sizes import (
    Manner,
    Step,
    Stops,
    check_sizes,
    forecasts,
    progress,
)

__all__ = [
    "Forecast",
    "Manner",
    "Step",
    "Stops",
    "check_sizes",
    "forecast",
    "forecasts",
    "progress",
]
