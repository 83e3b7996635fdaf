"""When requests begin, whose they are and what they are called: fixed before a run, and pure.

Every number is keyed by what it is for (seed, stream, request), so that the n-th gap and a user's
n-th pause are the same whatever the others do, and in whatever order they are asked for.
"""

from collections.abc import Iterator, Sequence
from itertools import count, repeat
from math import inf

from harness.scenario.arrivals import TraceArrivals
from harness.scenario.workload import KINDS, Kind, Workload
from mock_llm.distributions import quantile_function
from mock_llm.rng import Keyed

MIN_GAP_S = 1e-6
"""No two requests begin at one instant: their order on the wire would be nobody's choice. A
microsecond is what records resolve."""


def batch_key(n: int) -> str:
    """Request key of review `n` of a batch."""
    return f"r{n:06d}"


def arrival_key(n: int) -> str:
    """Request key of arrival `n`."""
    return "a%06d" % n  # noqa: UP031 - it is asked for often, and an f-string takes a third longer


def user_key(user: int, n: int) -> str:
    """Request key of a user's request `n`."""
    return f"{user_name(user)}.{n}"


def user_name(user: int) -> str:
    """What a user is called in records."""
    return f"u{user}"


def arrival_user(work: Workload, n: int) -> int:
    """Whose arrival `n` is: users take turns."""
    return n % work.users


def review_index(work: Workload, reviews: int, n: int, user: int = 0) -> int:
    """Which review a request is about: the corpus in order, and over again when it is used up.

    Args:
        work: its kind and users.
        reviews: how many the corpus has.
        n: number of the arrival, or of the user's request.
        user: of the request; 0 for arrivals.
    """
    return (n * work.users + user if work.kind == "users" else n) % reviews


def schedule(work: Workload, seed: int, trace: Sequence[float] = ()) -> list[float]:
    """Intended starts of all arrivals, seconds from the start, strictly rising.

    Args:
        work: of kind `arrivals`.
        seed: the gaps of two seeds have nothing in common, but for constant ones and a trace's.
        trace: what `read_trace` gives, for a trace.
    """
    starts: list[float] = []
    least, until = 0.0, inf if work.duration_s is None else work.duration_s
    for raw_s in _raw(work, seed, trace):
        start_s = raw_s if raw_s > least else least  # noqa: FURB136 - max takes twice as long
        if start_s >= until:
            break
        starts.append(start_s)
        least = start_s + MIN_GAP_S
    return starts


def _raw(work: Workload, seed: int, trace: Sequence[float]) -> Iterator[float]:
    shape = work.arrivals
    if shape is None:
        return iter(())
    if isinstance(shape, TraceArrivals):
        return (t / shape.scale for t in trace)
    uniform = Keyed(seed).stream("workload.gap")
    uniforms = map(uniform, map(arrival_key, count()), repeat(0))
    return shape.starts(uniforms, work.duration_s or 0.0)


def kinds(work: Workload) -> list[Kind]:
    """What each user is like, by number.

    Of the first n users, whatever n is, each kind has its share but for less than one; so a crowd
    that is still coming is mixed as the whole is. Who is next is of the kind that lacks most.
    """
    if work.mix is None:
        return ["reviewer"] * work.users
    shares = {kind: float(getattr(work.mix, kind)) for kind in KINDS}
    whole = sum(shares.values())
    lacks = dict.fromkeys(KINDS, 0.0)
    found: list[Kind] = []
    for _ in range(work.users):
        for kind in KINDS:
            lacks[kind] += shares[kind] / whole
        found.append(max(KINDS, key=lacks.__getitem__))
        lacks[found[-1]] -= 1.0
    return found


def think_s(work: Workload, seed: int, user: int, n: int) -> float:
    """Seconds from the end of a user's request `n - 1` to the intended start of its request `n`."""
    return quantile_function(work.think)(Keyed(seed).uniform("workload.think", user_key(user, n)))


def first_start_s(work: Workload, seed: int, user: int) -> float:
    """Intended start of a user's first request, seconds from the start.

    Each has a stretch of the ramp for itself, and comes somewhere in its first nine tenths: so no
    two come within a tenth of a stretch. Without a ramp a stretch is ten times `MIN_GAP_S`. Who
    thinks first begins so much later.
    """
    stretch_s = max(work.ramp_s / work.users, 10 * MIN_GAP_S)
    came_s = stretch_s * (user + 0.9 * Keyed(seed).uniform("workload.first", user_name(user)))
    return came_s + think_s(work, seed, user, 0) if work.think_first else came_s
