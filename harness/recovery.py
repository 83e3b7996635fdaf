"""When a service is itself again after a spike: read from a run's rows, by intended starts.

Theory of operation. Requests are laid out by when they were meant to begin. What the second half of
the time before the spike was like is what the service has to come back to: the share of requests
that were answered, and how long they took on average, whatever became of them. From every request
after the spike a window is looked at. The service is back where the first window is within a tenth
of before, and all that came after its beginning is as well: a lull in a storm is no recovery.
Where that cannot be looked at, nothing is said: of a run that ends before a window is over, or had
hardly a request before the spike, nobody knows whether the service would have been back.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from statistics import stdev
from typing import Any, NamedTuple

from harness.records import Record, requests

WITHIN = 0.1
WINDOW_S = 5.0
LEAST_REQUESTS = 50
"""A window is so long that about as many came in it before the spike: fewer say little."""
LEAST_BEFORE = 10
"""The mean of fewer than so many, and how they scatter, is not what a service is usually like."""


class Span(NamedTuple):
    """What requests that began in a stretch of time met.

    Attributes:
        requests: how many there were.
        goodput: share of them that was answered.
        latency_s: mean from intended start to end, over all outcomes.
        attempts: HTTP calls a request, on average: above 1 is the storm of retries.
    """

    requests: int
    goodput: float
    latency_s: float
    attempts: float


class Line:
    """A run's requests in the order of their intended starts."""

    def __init__(self, records: Sequence[Record]) -> None:
        rows = sorted(requests(records), key=lambda one: one[0].t_intended)
        self.starts = [one[0].t_intended for one in rows]
        self.latencies = [one[-1].t_end - one[0].t_intended for one in rows]
        self._ok = _sums([one[-1].outcome == "ok" for one in rows])
        self._latency = _sums(self.latencies)
        self._sent = _sums([sum(row.t_sent is not None for row in one) for one in rows])

    def at(self, t: float) -> int:
        """How many began before `t`."""
        return bisect_left(self.starts, t)

    def span(self, first: int, end: int) -> Span:
        """Of requests `first` to before `end`; zeros for none."""
        n = end - first
        sums = (self._ok, self._latency, self._sent)
        return Span(n, *((one[end] - one[first]) / max(n, 1) for one in sums))


def recovery(records: Sequence[Record], spike_s: tuple[float, float] | None) -> dict[str, Any]:
    """How a run took a spike.

    Args:
        records: of one run, from its beginning at 0.
        spike_s: when it began and ended; None: there was none.

    Returns:
        `recovery_s`, seconds from the spike's end until the service was back; None: it never was,
        or nothing can be said. `spike`: `from_s`, `to_s`, `window_s`, why nothing can be said
        (`too_few`; None: it can), and what requests met `before`, in it (`meanwhile`) and in the
        run's last window (`at_last`), see `Span`; or None.
    """
    if spike_s is None or not records:
        return {"recovery_s": None, "spike": None}
    begin_s, end_s = spike_s
    line = Line(records)
    half, begin, end = (line.at(t) for t in (begin_s / 2, begin_s, end_s))
    before = line.span(half, begin)
    window_s = max(WINDOW_S, LEAST_REQUESTS * begin_s / 2 / max(before.requests, 1))
    too_few = _too_few(before.requests, window_s, line.starts[-1] - end_s)
    back = None
    if too_few is None:
        enough = before.requests * window_s / begin_s
        back = _back(line, slice(half, begin), end, window_s, enough)
    last = line.span(max(line.at(line.starts[-1] - window_s), end), len(line.starts))
    spans = {"before": before, "meanwhile": line.span(begin, end), "at_last": last}
    return {
        "recovery_s": None if back is None else line.starts[back] - end_s,
        "spike": {"from_s": begin_s, "to_s": end_s, "window_s": window_s, "too_few": too_few}
        | {name: span._asdict() for name, span in spans.items()},
    }


def _too_few(before: int, window_s: float, after_s: float) -> str | None:
    """Why nothing can be said of a spike with so many requests before, and so long after it."""
    if before < LEAST_BEFORE:
        return f"too few requests to tell: {before} in the second half of the time before the spike"
    if after_s < window_s:
        left = f"they come for {max(after_s, 0.0):.1f} s after the spike"
        return f"too few requests to tell: {left}, and a window takes {window_s:.1f} s"
    return None


def _back(line: Line, before: slice, end: int, window_s: float, enough: float) -> int | None:
    """The request from which on things are as before; None: there is none.

    Args:
        line: the requests.
        before: those to compare with.
        end: the first after the spike.
        window_s: how long a window is.
        enough: requests in a window, half as many as before: of users who all wait for an answer
            the few that ask are not the measure.
    """
    usual = line.span(before.start, before.stop)
    scatter_s = stdev(line.latencies[before])

    def as_before(span: Span) -> bool:
        # A mean of few scatters by more than a tenth: up to twice its error is chance.
        error_s = scatter_s * sqrt(1 / max(span.requests, 1) + 1 / usual.requests)
        slack_s = max(WITHIN * usual.latency_s, 2 * error_s)
        in_time = span.latency_s <= usual.latency_s + slack_s
        return in_time and span.goodput >= (1 - WITHIN) * usual.goodput

    for first in range(end, line.at(line.starts[-1] - window_s) + 1):
        window = line.span(first, line.at(line.starts[first] + window_s))
        rest = line.span(first, len(line.starts))
        if window.requests >= enough and as_before(window) and as_before(rest):
            return first
    return None


def _sums(values: Sequence[float]) -> list[float]:
    return [0.0, *accumulate(values)]
