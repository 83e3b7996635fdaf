"""What users have seen: one row for each thing they asked, in the process where they live."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Self

import msgspec

Outcome = Literal["ok", "timed_out", "failed", "rejected"]

ABUSE = "abuse"
"""The kind of request whose refusal is no failure: it is what it asks for."""

_OUTCOMES: dict[int, Outcome] = {200: "ok", 408: "timed_out", 500: "failed", 502: "failed"}
_OUTCOMES |= {504: "timed_out"}


class Asked(NamedTuple):
    """One request as its user saw it. Times are seconds of the machine's monotonic clock.

    Attributes:
        key: of the request.
        user: who asked.
        kind: `review`, `batch`, `stream` or `abuse`.
        t_intended: when it was to begin.
        t_sent: when it did.
        t_end: when all of the answer was there, or the user gave up.
        status: of HTTP; 0 when there was no answer.
        outcome: what it means.
        attempts: HTTP calls that the service made for it.
        cost_usd: what they cost.
        times_s: seconds by stage, as the service or the stream tells.
        cause: why there is no answer, as the service tells; empty when there is one.
    """

    key: str
    user: str
    kind: str
    t_intended: float
    t_sent: float
    t_end: float
    status: int
    outcome: Outcome
    attempts: int = 0
    cost_usd: float = 0.0
    times_s: dict[str, float] = {}
    cause: str = ""

    def earlier(self, by_s: float) -> Self:
        """The same, by a clock that is so much behind."""
        if not by_s:
            return self
        return self._replace(
            t_intended=self.t_intended - by_s,
            t_sent=self.t_sent - by_s,
            t_end=self.t_end - by_s,
        )


def outcome_of(status: int) -> Outcome:
    """What a status of the service means to whoever asked; 0 is no answer at all.

    Other refusals (4xx, 503) are `rejected`: nothing was sent to the provider for them.
    """
    return _OUTCOMES.get(status, "rejected" if status else "failed")


def cause_of(status: int, data: bytes | None) -> str:
    """Why a request was not answered, in the words of the service (`docs/service.md`, Errors)."""
    if status == 200:
        return ""
    if not status:
        return "no_answer"
    try:
        error = msgspec.json.decode(data or b"")["error"]
        return str(error.get("cause") or error["type"])
    except (msgspec.DecodeError, TypeError, KeyError, AttributeError):
        return f"status_{status}"


class Sight:
    """All that the users of this process have seen, and what other processes have handed over.

    Attributes:
        rows: in the order in which they ended, or arrived here.
    """

    def __init__(self) -> None:
        self.rows: list[Asked] = []
        self._packed = 0

    def add(self, asked: Asked) -> None:
        """Note what a user has seen."""
        self.rows.append(asked)

    def packed(self, ahead_s: float = 0.0) -> list[list[Any]]:
        """Rows since the last call, as plain values that any message can carry.

        Args:
            ahead_s: by which this process' clock is ahead of the one that the rows shall have.
        """
        new, self._packed = self.rows[self._packed :], len(self.rows)
        return [list(row.earlier(ahead_s)) for row in new]

    def take(self, packed: Iterable[Sequence[Any]]) -> None:
        """Add rows that another process has packed."""
        self.rows.extend(Asked(*values) for values in packed)
