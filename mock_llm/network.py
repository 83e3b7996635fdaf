"""What befalls connections and look-ups before there is any request: pure, the time is handed in.

The faults are those of `[upstream.faults]` that are `NetworkFault`s; which connection or look-up
they strike is keyed by its number.
"""

from collections.abc import Callable, Mapping

from mock_llm.config import Upstream
from mock_llm.counts import Counting, Counts
from mock_llm.faults import DnsFailure, Fault, NetworkFault, TlsStall
from mock_llm.rng import Keyed


class Armed:
    """The faults of one kind in a run, in the order of the scenario.

    Args:
        kind: of these faults.
        thing: what they strike, for the keys: `connection` or `look-up`.
        seed: of the weather.
        counts: of these things, which processes may share.
    """

    def __init__(
        self, kind: type[NetworkFault], thing: str, seed: int, counts: Counting | None = None
    ) -> None:
        self._kind, self._thing = kind, thing
        self._counts = Counts() if counts is None else counts
        self._given: Mapping[str, Fault] = {}
        self._faults: list[tuple[str, NetworkFault, Callable[[str, int], float]]] = []
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Begin anew, once the counts have been cleared."""
        self._weather = Keyed(seed)
        self._began: float | None = None
        self.change(self._given)

    def change(self, faults: Mapping[str, Fault]) -> None:
        """Have other faults from now on; the numbers go on."""
        self._given = faults
        self._faults = [
            (name, fault, self._weather.stream(f"fault:{name}"))
            for name, fault in faults.items()
            if isinstance(fault, self._kind)
        ]

    def __bool__(self) -> bool:
        return bool(self._faults)

    def strikes(self, now: float) -> str | None:
        """Return the name of the fault that strikes the next connection or look-up, if one does.

        Args:
            now: seconds since any fixed origin; must not fall between calls.
        """
        if self._began is None:
            self._began = now
        key = f"{self._thing}:{self._counts.next(self._thing)}"
        for name, fault, uniform in self._faults:
            if not (rate := fault.rate_at(now - self._began)):
                continue
            seen = self._counts.next(f"{self._thing}:{name}")
            if (fault.first_n is None or seen < fault.first_n) and uniform(key, 0) < rate:
                return name
        return None


class Network:
    """The network between a client and the provider.

    Args:
        upstream: has the faults.
        seed: of the weather.
        counts: see `Armed`.

    Attributes:
        stalls: what stalls connections.
        look_ups: what fails look-ups.
    """

    def __init__(self, upstream: Upstream, seed: int, counts: Counting) -> None:
        self.stalls = Armed(TlsStall, "connection", seed, counts)
        self.look_ups = Armed(DnsFailure, "look-up", seed, counts)
        self.change(upstream)

    def reset(self, seed: int) -> None:
        """See `Armed.reset`."""
        self.stalls.reset(seed)
        self.look_ups.reset(seed)

    def change(self, upstream: Upstream) -> None:
        """Have another upstream's faults from now on."""
        self.stalls.change(upstream.faults)
        self.look_ups.change(upstream.faults)


def absent(upstream: Upstream) -> list[str]:
    """What a reader must know of faults that a server on the wall clock cannot inject."""
    names = [name for name, fault in upstream.faults.items() if isinstance(fault, DnsFailure)]
    return [
        f"fault {name!r} (dns_failure) does nothing here: no server can make its clients' look-ups "
        "fail; it exists on the virtual clock only"
        for name in names
    ]


def aimless(upstream: Upstream) -> list[str]:
    """What a reader must know of faults whose models are not on offer, such as misspelt ones."""
    if upstream.cassette is not None:  # recorded models are on offer too
        return []
    return [
        f"fault {name!r} strikes nobody as {model!r}: no such model is on offer"
        for name, fault in upstream.faults.items()
        for model in fault.models
        if model not in upstream.models
    ]
