"""Pictures, by what matplotlib is about to draw: ticks, and where the legend is."""

from pathlib import Path

import pytest

from harness.report.plots import drawn
from harness.report.plots.figure import told


@pytest.mark.parametrize(
    ("xs", "whole"), [([5.0, 10.0], True), ([5.0, 5.0], True), ([0.5, 1.0], False)]
)
def test_no_tick_is_between_whole_numbers(tmp_path: Path, xs: list[float], *, whole: bool) -> None:
    """Where all values are whole, all ticks are, and the legend is below all that is drawn."""
    with drawn(tmp_path / "a.png", "title", "slots", "seconds") as axes:
        axes.scatter(xs, [float(n) for n in range(len(xs))], label="runs")
        told(axes, xs)
    ticks = [float(x) for x in axes.get_xticks()]
    assert all(x.is_integer() for x in ticks) is whole
    legend = axes.get_legend()
    assert legend is not None
    assert legend.get_window_extent().y1 < axes.get_window_extent().y0


def test_numbers_are_written_out_along_a_logarithm(tmp_path: Path) -> None:
    """A logarithmic axis says 1,000, not a power of ten."""
    with drawn(tmp_path / "a.png", "title", "reviews", "minutes") as axes:
        axes.plot([100, 10_000], [1, 100])
        axes.set_xscale("log")
    assert "1,000" in [label.get_text() for label in axes.get_xticklabels()]
