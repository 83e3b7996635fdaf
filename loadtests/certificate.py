"""A load test certifies its own measurement: past a bound its figures say nothing of the service.

All bounds are here, each with its reason. What is measured of processes and the machine comes from
`meter`, what users met from their own rows, and the mock's lateness from its ledger or its control.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from harness.engines.certificate import DELAY_BOUND_S, LAG_BOUND_S, SENT_BOUND_S, STEAL_BOUND
from harness.metrics import quantiles
from loadtests.sight import Asked
from mock_llm.histogram import Histogram
from mock_llm.ledger import Row, delay_s


class Strain(msgspec.Struct, frozen=True, kw_only=True):
    """How one process fared while a test ran.

    Attributes:
        name: of the process.
        drives: users live in it.
        lag: how late it woke what should wake every 10 ms; None: not measured.
        lag_s_p99: of its event loop, as it says itself; None: it does not.
        cpu_share: of one core.
        files: open descriptors, at most.
        most_files: that it may have.
    """

    name: str
    drives: bool = False
    lag: Histogram | None = None
    lag_s_p99: float | None = None
    cpu_share: float = 0.0
    files: int = 0
    most_files: int = 0


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """How the machine fared that the load comes from.

    Attributes:
        cpu_share: of all its cores.
        steal_share: of their time, taken by the machine's host.
        ports: of those for outgoing connections that were in use, at most.
        most_ports: that there are.
    """

    cpu_share: float = 0.0
    steal_share: float = 0.0
    ports: int = 0
    most_ports: int = 1


class Mocks(msgspec.Struct, frozen=True, kw_only=True):
    """How faithful the mock was.

    Attributes:
        delay_s_p50: how much later than planned it answered.
        delay_s_p99: the same.
        reasons: why it calls itself the bottleneck.
    """

    delay_s_p50: float
    delay_s_p99: float
    reasons: tuple[str, ...] = ()

    @classmethod
    def of(cls, rows: Iterable[Row], reasons: tuple[str, ...] = ()) -> "Mocks":
        """From its ledger, and what it says itself."""
        delays = quantiles([late for row in rows if (late := delay_s(row)) is not None])
        return cls(delay_s_p50=delays["p50"], delay_s_p99=delays["p99"], reasons=reasons)


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a load test measured of itself; None where nobody could tell.

    Attributes:
        greenlet_lag_s_p99: of the process with users in it that was latest.
        sent_late_s_p99: how much later than intended users sent.
        service_lag_s_p99: of its event loop, in its worst ten seconds.
        mock_delay_s_p50: how much later than planned the mock answered.
        mock_delay_s_p99: the same.
        generator_cpu_share: of one core, of the busiest process with users in it.
        service_cpu_share: of one core.
        mock_cpu_share: of one core.
        machine_cpu_share: of all cores.
        steal_share: of their time, taken by the machine's host.
        files_share: descriptors in use of those allowed, of the process that has fewest left.
        ports_share: ports for outgoing connections in use of those that there are.
        said: what the mock says against itself, and what else is wrong.
    """

    greenlet_lag_s_p99: float
    sent_late_s_p99: float
    service_lag_s_p99: float | None = None
    mock_delay_s_p50: float | None = None
    mock_delay_s_p99: float | None = None
    generator_cpu_share: float
    service_cpu_share: float | None = None
    mock_cpu_share: float | None = None
    machine_cpu_share: float
    steal_share: float
    files_share: float
    ports_share: float
    said: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        asked: Sequence[Asked],
        strains: Sequence[Strain],
        machine: Machine,
        mock: Mocks | None = None,
        said: Sequence[str] = (),
    ) -> "Certificate":
        """From what users met, every process of the test, its machine, and the mock."""
        drivers = [one for one in strains if one.drives]
        named = {one.name: one for one in strains}
        service, provider = named.get("service"), named.get("mock")
        late = quantiles([max(0.0, one.t_sent - one.t_intended) for one in asked])
        return cls(
            greenlet_lag_s_p99=max(
                (one.lag.quantile(0.99) for one in drivers if one.lag), default=0.0
            ),
            sent_late_s_p99=late["p99"],
            service_lag_s_p99=None if service is None else service.lag_s_p99,
            mock_delay_s_p50=None if mock is None else mock.delay_s_p50,
            mock_delay_s_p99=None if mock is None else mock.delay_s_p99,
            generator_cpu_share=max((one.cpu_share for one in drivers), default=0.0),
            service_cpu_share=None if service is None else service.cpu_share,
            mock_cpu_share=None if provider is None else provider.cpu_share,
            machine_cpu_share=machine.cpu_share,
            steal_share=machine.steal_share,
            files_share=max((one.files / max(one.most_files, 1) for one in strains), default=0.0),
            ports_share=machine.ports / machine.most_ports,
            said=(*said, *(f"the mock: {why}" for why in (mock.reasons if mock else ()))),
        )

    def reasons(self) -> tuple[str, ...]:
        """Why the run is INVALID; empty when it is VALID."""
        found = []
        for bound in BOUNDS:
            value: float | None = getattr(self, bound.of)
            if value is not None and value > bound.limit:
                shown = f"{bound.shown(value)} > {bound.shown(bound.limit)}"
                found.append(f"{bound.says}: {shown}")
        return (*found, *self.said)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _share(share: float) -> str:
    return f"{share:.0%}"


class Bound(NamedTuple):
    """What a figure of the certificate may be at most.

    Attributes:
        of: the figure.
        limit: in its own unit.
        says: what is wrong when it is passed.
        shown: the figure as people read it.
    """

    of: str
    limit: float
    says: str
    shown: Callable[[float], str]


BOUNDS: tuple[Bound, ...] = (
    # A greenlet that wakes late reads its answer late: the lag is in every latency.
    Bound(
        "greenlet_lag_s_p99", LAG_BOUND_S, "the generator is starved: greenlets woke late, p99", _ms
    ),
    # What is sent late is another load than the one that was meant.
    Bound("sent_late_s_p99", SENT_BOUND_S, "requests were sent late, p99", _ms),
    # Figures would be of a Python process on a busy machine, and not of the pipeline's settings.
    Bound("service_lag_s_p99", LAG_BOUND_S, "the service's event loop lags, p99", _ms),
    # The same for the provider, whose latencies are the ones that were injected.
    Bound("mock_delay_s_p99", DELAY_BOUND_S, "the mock answered late, p99", _ms),
    # From here on the next request waits for the processor; Locust warns at the same share.
    Bound("generator_cpu_share", 0.9, "a process of the generator has no processor left", _share),
    # A service or a mock that has used up its core answers as fast as it can, not as it is told to.
    Bound("service_cpu_share", 0.95, "the service has no processor left", _share),
    Bound("mock_cpu_share", 0.95, "the mock has no processor left", _share),
    # As in every live run: nothing measures itself on a machine that is away half of the time.
    Bound("steal_share", STEAL_BOUND, "the machine's host takes its processors away", _share),
    # A tenth is left for what is not counted: files, pipes, a peak between two looks.
    Bound("files_share", 0.9, "file descriptors run out", _share),
    # Connections cannot be opened, or wait for those that have just been closed.
    Bound("ports_share", 0.8, "ports for outgoing connections run out", _share),
)
# No bound on the machine's processors: two cores may be busy all the time and nobody late.
