"""A figure as this project draws them all, and its way to the disk."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.errors import InputError
from harness.files import write_whole

SIZE_IN = (8.0, 5.0)
DPI = 110
INK, ACCENT, GOOD, BAD, FAINT = "#1f2933", "#1f6feb", "#1a7f37", "#c93c37", "#9aa5b1"


@contextmanager
def drawn(path: Path, title: str, x: str, y: str) -> Iterator[Axes]:
    """Axes to draw on; the picture is written when the block ends.

    Args:
        path: of the PNG; its folder is made.
        title: says what is to be seen.
        x: what is along the axis, with its unit.
        y: likewise.

    Raises:
        InputError: it cannot be written.
    """
    figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=INK)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(visible=True, color=FAINT, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter("{x:,g}")
    data = BytesIO()
    figure.savefig(data, format="png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [data.getvalue()])
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error


def told(axes: Axes, xs: Iterable[float]) -> None:
    """The legend where nothing is drawn, whatever the data; no tick at 7.5 of a whole number."""
    whole = all(float(x).is_integer() for x in xs)
    axes.locator_params(axis="x", integer=whole, min_n_ticks=1 if whole else 2)
    legend = axes.legend(ncols=3, frameon=False, scatteryoffsets=[0.5], loc="upper left")
    legend.set_bbox_to_anchor((0.0, -0.11), axes.transAxes)
