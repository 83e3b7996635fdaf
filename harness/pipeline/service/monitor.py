"""What is counted of a service while it serves, and what is logged: no clock and no I/O here.

Theory of operation. A request is counted once, when it has ended, from its rows: dictionaries and
lists of numbers, about 10 microseconds. Nothing is made of them before somebody asks, see
`metrics`. No figure is told by user: a thousand users would be a thousand time series.
"""

import hashlib
import logging
from bisect import bisect_left
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Literal

from harness.attribution import STAGES, Stage, stages, verdict
from harness.pipeline.service.logs import told
from harness.pipeline.service.tickets import Ask, Reason, Served
from harness.records import Record

BOUNDS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120)
"""Upper ends of the buckets of all histograms: from an answer of a cache to a hopeless one."""

MOST_TEXTS = 20_000
"""Texts that are remembered; the oldest are forgotten."""

OURS = frozenset({"hedge_lost", "client_left", "cancelled", "draining"})
"""Error words of what was given up through no fault of the provider's."""

Kind = Literal["interactive", "batch"]


class Histogram:
    """Durations by bucket.

    Attributes:
        counts: as many as there are bounds, and those beyond the last.
        sum_s: of all durations.
    """

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds


class Monitor:
    """Counts what has ended.

    Args:
        log: is told of each request and each refusal; None: nobody is.

    Attributes:
        requests: by kind and outcome; an item of a batch that was refused comes again, and is not
            counted before it has ended.
        refusals: by kind and reason.
        attempts: by model and how they ended.
        latency: from a request's arrival to its end, by kind.
        service: from the sending of an attempt to its end.
        stages_s: where requests spent their time.
        tokens: `prompt`, `cached` of these, and `completion`.
        texts: `first` or `before`: whether a text had been asked before.
    """

    def __init__(self, log: logging.Logger | None = None) -> None:
        self.requests: Counter[tuple[Kind, str]] = Counter()
        self.refusals: Counter[tuple[Kind, Reason]] = Counter()
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.latency: dict[Kind, Histogram] = {"interactive": Histogram(), "batch": Histogram()}
        self.service = Histogram()
        self.stages_s: dict[Stage, float] = dict.fromkeys(STAGES, 0.0)
        self.tokens: Counter[str] = Counter()
        self.texts: Counter[str] = Counter()
        self._log = log
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._alarms: dict[str, object] = {}

    def ended(self, ask: Ask, served: Served, arrived: float) -> None:
        """A request has ended, other than by being refused.

        Args:
            ask: what was asked.
            served: what became of it; rows of an earlier process are not counted.
            arrived: when it came to this one.
        """
        rows = [row for row in served.rows if row.t_end >= arrived]
        if not rows:
            return
        kind, last = _kind(ask), rows[-1]
        latency_s = last.t_end - arrived
        spent = stages(rows)
        self.requests[kind, last.outcome] += 1
        self.latency[kind].add(latency_s)
        for stage, took_s in spent.items():
            self.stages_s[stage] += took_s
        for row in rows:
            if row.t_sent is not None:
                self._attempt(row, row.t_end - row.t_sent)
        if last.t_admitted is not None:
            self._note(ask.review.text)
        level = _level(last)
        if self._log is not None and self._log.isEnabledFor(level):
            self._log.log(level, "request", extra=told(_about(ask, rows, spent, latency_s)))

    def refused(self, ask: Ask, reason: Reason, retry_after_s: float | None) -> None:
        """A request was not let in."""
        kind = _kind(ask)
        self.refusals[kind, reason] += 1
        if ask.interactive:
            self.requests[kind, "rejected"] += 1
        if self._log is not None and self._log.isEnabledFor(logging.WARNING):
            about = {
                "key": ask.key,
                "user": ask.user,
                "session": ask.session,
                "kind": kind,
                "reason": reason,
                "retry_after_s": retry_after_s,
            }
            self._log.warning("refused", extra=told(about))

    def changed(self, name: str, state: object, *, good: object) -> None:
        """Something that can go wrong is in this state; said when it has changed, not before."""
        before = self._alarms.get(name, good)
        self._alarms[name] = state
        if before != state and self._log is not None:
            level = logging.INFO if state == good else logging.WARNING
            self._log.log(level, name, extra=told({"state": state, "before": before}))

    def _attempt(self, row: Record, took_s: float) -> None:
        self.attempts[row.model, how_ended(row)] += 1
        self.service.add(took_s)
        self.tokens["prompt"] += row.prompt_tokens
        self.tokens["cached"] += row.cached_tokens
        self.tokens["completion"] += row.completion_tokens

    def _note(self, text: str) -> None:
        """Whether the text was asked before: so much could come from a cache."""
        mark = hashlib.blake2b(" ".join(text.split()).encode(), digest_size=8).digest()
        known = mark in self._seen
        self.texts["before" if known else "first"] += 1
        self._seen[mark] = None
        self._seen.move_to_end(mark)
        if len(self._seen) > MOST_TEXTS:
            self._seen.popitem(last=False)


def how_ended(row: Record) -> str:
    """An attempt's end as a label.

    Returns:
        `2xx`, `4xx`, `5xx` for an answer by its status, `bad_answer` for one of status 200 that is
        none, `timed_out`, `no_answer`, or `given_up` for one that nobody waits for any more.
    """
    if row.outcome == "timed_out":
        return "timed_out"
    if row.error in OURS:
        return "given_up"
    if row.status is None:
        return "no_answer"
    if row.outcome != "ok" and row.status == 200:
        return "bad_answer"
    return f"{row.status // 100}xx"


def _kind(ask: Ask) -> Kind:
    return "interactive" if ask.interactive else "batch"


def _level(last: Record) -> int:
    if last.outcome == "ok" or last.error in OURS:
        return logging.INFO
    return logging.ERROR if last.outcome == "failed" else logging.WARNING


def _about(
    ask: Ask, rows: Sequence[Record], spent: dict[Stage, float], latency_s: float
) -> dict[str, object]:
    last = rows[-1]
    return {
        "key": ask.key,
        "user": ask.user,
        "session": ask.session,
        "kind": _kind(ask),
        "outcome": last.outcome,
        "verdict": verdict(rows),
        "error": last.error,
        "model": last.model,
        "cache": last.cache,
        "attempts": sum(row.t_sent is not None for row in rows),
        "latency_s": round(latency_s, 6),
        "stages_s": {name: round(took, 6) for name, took in spent.items() if took},
        "cost_usd": sum(row.cost_usd for row in rows),
    }
