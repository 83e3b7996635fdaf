"""The `[workload]` table: which work there is, and when it comes."""

from typing import Annotated, Literal

from msgspec import Meta

from harness.scenario.arrivals import Arrivals, SpikeArrivals, TraceArrivals
from harness.scenario.resilience import PositiveSeconds
from mock_llm.config import Positive, Seconds, Share, Table
from mock_llm.distributions import Distribution

MOST = 5_000_000
"""Reviews, users or arrivals: more are a slip of the finger, and no memory holds them."""

Many = Annotated[int, Meta(ge=1, le=MOST)]

Kind = Literal["reviewer", "batch", "stream", "abuser"]
KINDS: tuple[Kind, ...] = ("reviewer", "batch", "stream", "abuser")

_ONLY_WITH = {
    "mix": ("users",),
    "think": ("users",),
    "think_first": ("users",),
    "ramp_s": ("users",),
    "requests_per_user": ("users",),
    "arrivals": ("arrivals",),
    "duration_s": ("users", "arrivals"),
    "deadline_s": ("users", "arrivals"),
}


class Mix(Table, frozen=True, kw_only=True):
    """What users are like: shares of all of them, in whatever proportion they are given.

    Attributes:
        reviewer: have one review labelled, and wait for it.
        batch: hand in a batch, and look after it until it is done.
        stream: ask the provider itself, past the service, and read its answer as it comes.
        abuser: send on and on, whatever they are told.
        batch_reviews: of each batch.
        poll_s: between two looks at a batch.
        abuser_per_s: requests a second of each abuser.
    """

    reviewer: Share = 0.0
    batch: Share = 0.0
    stream: Share = 0.0
    abuser: Share = 0.0
    batch_reviews: Annotated[int, Meta(ge=1, le=1000)] = 20
    poll_s: PositiveSeconds = 1.0
    abuser_per_s: Annotated[float, Meta(gt=0, le=1000)] = 5.0

    def __post_init__(self) -> None:
        """Refuse a mix of nobody."""
        if not any(getattr(self, kind) for kind in KINDS):
            raise ValueError(f"nobody is in it: give a share to one of {', '.join(KINDS)}")


class Workload(Table, frozen=True, kw_only=True):
    """The work.

    Attributes:
        kind: `batch` is a job of reviews handed over at once; `arrivals` come at times fixed before
            the run, whatever becomes of those before; `users` think after an answer, then ask.
        reviews: how many of a batch; else how many there are to ask about, in turn. A corpus file
            that has fewer gives what it has.
        corpus: `synthetic`, `synthetic:CATEGORY`, `templates8`, or a CSV or JSONL path.
        columns: our field -> the file's column.
        users: a batch's reviews, or arrivals, belong to so many users in turn; or so many users
            ask, each for itself.
        arrivals: a table with `kind`: when requests come.
        duration_s: no request begins after it; None is the whole trace, or all that
            `requests_per_user` allows.
        deadline_s: how long a caller waits for its answer, sent along with its request; None waits.
        mix: what users are like; None: all are reviewers.
        think: from the end of a user's request to the intended start of its next, seconds.
        think_first: users who have come think before their first request too, so that a crowd does
            not ask as one.
        ramp_s: users come evenly over it.
        requests_per_user: a user who has had so many leaves; None: none does.
    """

    kind: Literal["batch", "arrivals", "users"] = "batch"
    reviews: Many = 1000
    corpus: str = "synthetic"
    columns: dict[str, str] = {}
    users: Many = 1
    arrivals: Arrivals | None = None
    duration_s: PositiveSeconds | None = None
    deadline_s: PositiveSeconds | None = None
    mix: Mix | None = None
    think: Distribution = 0.0
    think_first: bool = False
    ramp_s: Seconds = 0.0
    requests_per_user: Positive | None = None

    def __post_init__(self) -> None:
        """Refuse keys of another kind of work, and work without an end."""
        for name, kinds in _ONLY_WITH.items():
            if getattr(self, name) and self.kind not in kinds:
                wanted = " or ".join(f'"{kind}"' for kind in kinds)
                raise ValueError(f'{name} needs kind = {wanted}, not "{self.kind}"')
        if self.kind == "users":
            self._check_users()
        if self.kind == "arrivals":
            self._check_arrivals()

    @property
    def spike_s(self) -> tuple[float, float] | None:
        """When a spike of arrivals begins and ends; None where there is none."""
        shape = self.arrivals
        if not isinstance(shape, SpikeArrivals):
            return None
        return shape.at_s, shape.at_s + shape.for_s

    def _check_users(self) -> None:
        if self.duration_s is None:
            if self.requests_per_user is None:
                raise ValueError("duration_s is missing: users go on for ever without it")
        elif self.ramp_s > self.duration_s:
            raise ValueError(f"ramp_s is longer than the duration_s of {self.duration_s:g}")

    def _check_arrivals(self) -> None:
        if self.arrivals is None:
            raise ValueError("arrivals are missing: say how they come in [workload.arrivals]")
        if isinstance(self.arrivals, TraceArrivals):
            return
        if self.duration_s is None:
            raise ValueError("duration_s is missing: arrivals go on for ever without it")
        expected = self.arrivals.expected(self.duration_s)
        if expected > MOST:
            most = f"{MOST:,} are the most"
            raise ValueError(f"arrivals: about {expected:,.0f} of them; {most}")
        if expected == 0:
            raise ValueError("duration_s ends before anybody comes")
