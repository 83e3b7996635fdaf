"""How far a job has come, batch by batch."""

from collections.abc import Callable
from typing import NamedTuple

from harness.records import HITS, Record


class Progress(NamedTuple):
    """How far a job has come, at the end of each batch; `before` reviews were done at its start."""

    batch: int
    batches: int
    reviews: int
    batch_s: float
    batch_usd: float | None
    hits: int
    before: int = 0


class Meter:
    """Counts completions into batches for whoever watches."""

    def __init__(
        self,
        reviews: int,
        batch_size: int,
        report: Callable[[Progress], None] | None,
        *,
        prices_known: bool = True,
    ) -> None:
        self._prices_known = prices_known
        self._reviews = reviews
        self._size = batch_size
        self._report = report
        self._done = self._before = 0
        self._usd = 0.0
        self._hits = 0
        self._since = 0.0

    def start(self, now: float) -> None:
        """The first batch begins."""
        self._since = now

    def skip(self, done: int) -> None:
        """So many have ended before anybody watched."""
        self._done = self._before = done

    def spent(self, row: Record) -> None:
        """An attempt has ended."""
        self._usd += row.cost_usd
        self._hits += row.cache in HITS

    def done(self, now: float) -> None:
        """A request has ended; reports when a batch is full."""
        self._done += 1
        if self._done % self._size and self._done != self._reviews:
            return
        if self._report is not None:
            self._report(
                Progress(
                    batch=-(-self._done // self._size),
                    batches=-(-self._reviews // self._size),
                    reviews=self._done,
                    batch_s=now - self._since,
                    batch_usd=self._usd if self._prices_known else None,
                    hits=self._hits,
                    before=self._before,
                )
            )
        self._usd = 0.0
        self._since = now
