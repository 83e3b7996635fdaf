"""The two pictures of a plan: what more of a knob brings, and what time costs."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

from harness.report.plots.figure import ACCENT, BAD, FAINT, GOOD, INK, drawn, told


class Spot(NamedTuple):
    """One configuration in the picture of the frontier.

    Attributes:
        x: what it costs.
        y: seconds, or whatever the goal is about.
        holds: it keeps every promise.
        label: told beside it, if it is on the frontier or the answer.
    """

    x: float
    y: float
    holds: bool
    label: str


def draw_capacity(
    path: Path,
    dots: Sequence[tuple[float, float]],
    *,
    title: str,
    knob: str,
    metric: str,
    knee: float | None,
    chosen: float | None,
    limit: float | None,
) -> None:
    """A figure over a knob, with the knee, the value that was chosen, and what is promised.

    Raises:
        InputError: the picture cannot be written.
    """
    values = dict(dots)
    with drawn(path, title, knob, metric) as axes:
        axes.plot(*zip(*dots, strict=True), color=ACCENT, marker="o", markersize=4)
        if limit is not None:
            axes.axhline(limit, color=BAD, linestyle="--", linewidth=1, label="goal")
        if knee is not None:
            mark = f"knee at {knee:g}"
            axes.plot(
                knee, values[knee], "o", color=INK, markersize=11, fillstyle="none", label=mark
            )
        if chosen in values:
            text = f"recommended: {chosen:g}"
            axes.plot(chosen, values[chosen], "*", color=GOOD, markersize=15, label=text)
        axes.set_ylim(bottom=0)
        told(axes, values)


def draw_frontier(
    path: Path,
    spots: Sequence[Spot],
    *,
    title: str,
    price: str,
    metric: str,
    best: Sequence[int],
    chosen: int | None,
    limit: float | None,
) -> None:
    """Cost against time of every configuration that ran, and those that nothing beats in both.

    Args:
        path: of the PNG.
        spots: all of them.
        title: see `drawn`.
        price: what is along the axis.
        metric: what is up the axis.
        best: indices of the frontier, by cost.
        chosen: index of the answer.
        limit: the goal, along `metric`.

    Raises:
        InputError: the picture cannot be written.
    """
    with drawn(path, title, price, metric) as axes:
        for holds, color, text in ((False, FAINT, "misses"), (True, ACCENT, "holds (so far)")):
            some = [spot for spot in spots if spot.holds is holds]
            if some:
                xs, ys = [spot.x for spot in some], [spot.y for spot in some]
                axes.scatter(xs, ys, s=18, color=color, label=text, clip_on=False)
        line = [spots[at] for at in best]
        axes.plot(
            [s.x for s in line], [s.y for s in line], color=INK, linewidth=1, label="frontier"
        )
        if limit is not None:
            axes.axhline(limit, color=BAD, linestyle="--", linewidth=1, label="goal")
        if chosen is not None:
            spot = spots[chosen]
            text = fill(f"recommended: {spot.label}", 50)
            axes.plot(spot.x, spot.y, "*", color=GOOD, markersize=15, label=text)
        axes.set_ylim(bottom=0)
        told(axes, (spot.x for spot in spots))
