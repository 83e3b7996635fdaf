"""What is asked by users and arrivals, by whom and when, and what became of it: no waiting here.

Those who call the service over HTTP and those of its discrete-event twin are the same; each waits
in its own way.
"""

import msgspec

from harness.corpus.review import Review
from harness.engines.base import OnProgress, Prepared, toolkit
from harness.pipeline.answer import Answer
from harness.pipeline.context import Context
from harness.pipeline.dispatch import OUTCOME_OF_STOP, Stop
from harness.pipeline.progress import Progress
from harness.records import HITS, Record, lost
from harness.workload import review_index, think_s

KEEP_ALIVE_S = 60.0
"""Less than the service's 75 s, so that no call meets a connection that is just being closed."""

SLICES = 10
"""In which a run tells how far it is."""


class Callers:
    """One run of users or arrivals.

    Args:
        prepared: what is run.
        seed: of the weather, the gaps and the thinking.
        base_url: of the provider.
        on_progress: called ten times in the run.

    Attributes:
        records: the service's rows so far.
        answers: request key -> answer.
        intended: request key -> intended start, loop time, of all that was asked.
        items: request keys of what was handed in as batches, but for what was refused.
        truths: request key -> true label, where the corpus knows it.
        stopped: why the run was ended before its end, or None.
    """

    def __init__(
        self, prepared: Prepared, seed: int, base_url: str, on_progress: OnProgress | None
    ) -> None:
        self.records: list[Record] = []
        self.answers: dict[str, Answer] = {}
        self.intended: dict[str, float] = {}
        self.items: dict[str, None] = {}
        self.truths: dict[str, str] = {}
        self.context = Context(None, 0)
        self.stopped: Stop | None = None
        self._began = 0.0
        self._prepared = prepared
        self._work = prepared.scenario.workload
        self._seed = seed
        self._tools = toolkit(prepared, seed, base_url, None)
        self._on_progress = on_progress
        self._told = 0

    def stop(self, reason: Stop) -> None:
        """End it now."""
        raise NotImplementedError

    def _is_over(self, n: int, start: float) -> bool:
        """Whether a user makes no request of number `n`, which would begin at `start`."""
        work = self._work
        most, until = work.requests_per_user, work.duration_s
        return (most is not None and n >= most) or (until is not None and start >= until)

    def _next_start(self, user: int, n: int, now: float, wait_s: float) -> float:
        """When a user's request `n` begins, from the end of the one before and what it was told."""
        return now - self._began + max(think_s(self._work, self._seed, user, n), wait_s)

    def _intend(self, key: str, review: Review, start: float) -> float:
        """Write down that a request is made; return its intended start on the clock."""
        intended = self.intended[key] = self._began + start
        if review.label is not None:
            self.truths[key] = review.label
        return intended

    def _review(self, n: int, user: int = 0) -> Review:
        reviews = self._prepared.corpus.reviews
        return reviews[review_index(self._work, len(reviews), n, user)]

    def _record(self, row: Record) -> None:
        if self.stopped is not None and row.error == "client_left":
            # It is we who have left.
            outcome = OUTCOME_OF_STOP[self.stopped]
            row = msgspec.structs.replace(row, error=self.stopped, outcome=outcome)
        self.records.append(row)

    def _close(self, now: float) -> None:
        """Afterwards each request has its rows, from its intended start.

        What was asked and never reached the service is a failure of ours, and shows as one.
        """
        seen = {row.key for row in self.records}
        for key, intended in self.intended.items():
            if key not in seen and self.stopped is None:
                self.records.append(lost(key, "", intended, now))
        for n, row in enumerate(self.records):
            intended = self.intended.get(row.key, row.t_intended)
            if intended != row.t_intended:
                self.records[n] = msgspec.structs.replace(row, t_intended=intended)

    def _tell(self, number: int, duration_s: float) -> None:
        """Say how far it is, at the end of a slice."""
        new, self._told = self.records[self._told :], len(self.records)
        if self._on_progress is not None:
            self._on_progress(
                Progress(
                    batch=number,
                    batches=SLICES,
                    reviews=len(self.answers),
                    batch_s=duration_s / SLICES,
                    batch_usd=sum(row.cost_usd for row in new),
                    hits=sum(row.cache in HITS for row in new),
                )
            )
