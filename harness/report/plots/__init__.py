"""Pictures, drawn without a screen; each function takes plain numbers and writes one PNG."""

from harness.report.plots.figure import drawn
from harness.report.plots.planning import Spot, draw_capacity, draw_frontier

__all__ = ["Spot", "draw_capacity", "draw_frontier", "drawn"]
