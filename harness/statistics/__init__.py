"""What a handful of runs say about the truth, and what they leave open. Pure; all numbers are data.

The unit is the run: requests of one run share queues, so that an interval over them is far too
narrow. `intervals` is about several runs, `series` about what happens along one.
"""

from harness.statistics.intervals import (
    Answer,
    Interval,
    compare,
    controlled,
    enough,
    interval,
    paired,
    student_t,
)
from harness.statistics.series import BatchMeans, batch_means, mser5

__all__ = [
    "Answer",
    "BatchMeans",
    "Interval",
    "batch_means",
    "compare",
    "controlled",
    "enough",
    "interval",
    "mser5",
    "paired",
    "student_t",
]
