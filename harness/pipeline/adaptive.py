"""Slots that adapt to what the provider can do: AIMD and Gradient2.

Both are Netflix's (github.com/Netflix/concurrency-limits, classes AIMDLimit and Gradient2Limit,
with their constants), changed where a provider of language models is unlike a server of one's own;
each class says how. Which to choose is told in docs/pipeline.md.
"""

from typing import Protocol

from harness.scenario.resilience import Aimd, Gradient2


class AdaptiveLimit(Protocol):
    """A number of slots that follows what is seen of calls."""

    @property
    def limit(self) -> int:
        """How many calls may be under way now."""

    def sample(self, now: float, latency_s: float, in_flight: int, dropped: bool) -> None:
        """A call has ended.

        Args:
            now: the moment.
            latency_s: since it was sent.
            in_flight: calls under way before it ended, it included.
            dropped: it ran out of time or was refused for load: 429, 503, 529.
        """


class AimdLimit:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989), as TCP does it.

    A whole window of good answers, one for each slot, adds a slot, if at least half of the slots
    were in use. A bad one takes a tenth. Netflix's adds one at each good answer, which doubles the
    limit in one latency, and cuts at each bad one; here only a call that was sent after the last
    cut can cut again, for those sent before tell of the same overload (RFC 5681).
    """

    def __init__(self, settings: Aimd) -> None:
        self._set = settings
        self._slots = float(max(settings.lowest, min(settings.highest, settings.initial)))
        self._cut_s = float("-inf")

    @property
    def limit(self) -> int:
        """See `AdaptiveLimit`."""
        return int(self._slots)

    def sample(self, now: float, latency_s: float, in_flight: int, dropped: bool) -> None:
        """See `AdaptiveLimit`."""
        if dropped:
            if now - latency_s >= self._cut_s:
                self._cut_s = now
                self._slots = max(self._set.lowest, self._slots * self._set.backoff)
        elif 2 * in_flight >= self.limit:
            self._slots = min(self._set.highest, self._slots + 1 / self._slots)


class _Window:
    def __init__(self) -> None:
        self.calls = self.good = self.busiest = 0
        self.sum_s = 0.0
        self.dropped = False


class Gradient2Limit:
    """The limit falls as latency rises over its long-term average, and else creeps up.

    limit <- (1 - smoothing) * limit + smoothing * (limit * gradient + queue), where gradient =
    tolerance * long-term latency / present latency, within 1/2 and 1. Present is the mean of a
    window of at least ten calls and a second (their WindowedLimit): answers differ in length so
    much that single calls would keep the limit near 26, whatever the provider can do.

    Netflix's takes no notice of refusals, which are quick and would look like a provider with time
    to spare: here a window with one has a gradient of 1/2, and no latency.
    """

    QUEUE = 4  # room for a queue, calls: how fast the limit grows
    WARM_UP = 10  # windows that are averaged plainly before the long-term average is exponential
    WINDOW_S = 1.0
    WINDOW_CALLS = 10

    def __init__(self, settings: Gradient2) -> None:
        self._set = settings
        self._slots = float(max(settings.lowest, min(settings.highest, settings.initial)))
        self._long_s = 0.0
        self._windows = 0
        self._next_s = float("-inf")
        self._window = _Window()

    @property
    def limit(self) -> int:
        """See `AdaptiveLimit`."""
        return int(self._slots)

    def sample(self, now: float, latency_s: float, in_flight: int, dropped: bool) -> None:
        """See `AdaptiveLimit`."""
        window = self._window
        window.calls += 1
        window.busiest = max(window.busiest, in_flight)
        if dropped:
            window.dropped = True
        else:
            window.good += 1
            window.sum_s += latency_s
        if window.calls >= self.WINDOW_CALLS and now >= self._next_s:
            self._next_s = now + self.WINDOW_S
            self._window = _Window()
            gradient = 0.5 if window.dropped else self._gradient(window.sum_s / window.good)
            if 2 * window.busiest >= self._slots:
                self._move(gradient)

    def _move(self, gradient: float) -> None:
        share = self._set.smoothing
        wanted = self._slots * gradient + self.QUEUE
        slots = (1 - share) * self._slots + share * wanted
        self._slots = max(self._set.lowest, min(self._set.highest, slots))

    def _gradient(self, latency_s: float) -> float:
        self._windows += 1
        of_new = 2 / (self._set.long_window + 1)
        if self._windows <= self.WARM_UP:
            of_new = 1 / self._windows
        self._long_s += of_new * (latency_s - self._long_s)
        ratio = self._long_s / latency_s if latency_s > 0 else 1.0
        if ratio > 2:
            # Times have become much better: forget the bad ones sooner.
            self._long_s *= 0.95
        return max(0.5, min(1.0, self._set.tolerance * ratio))


def adaptive_of(settings: Aimd | Gradient2) -> AdaptiveLimit:
    """Return the limit that a `[pipeline.adaptive]` table asks for."""
    return AimdLimit(settings) if isinstance(settings, Aimd) else Gradient2Limit(settings)
