"""How much load there is and when: a shape of users, or a schedule of arrivals; pure but for files.

What the command line says becomes settings of the scenario, so that the service, the records and
whoever reads them know what was flown.
"""

import json
import math
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from locust.argument_parser import LocustArgumentParser

from harness.errors import InputError
from harness.scenario.arrivals import Arrivals
from harness.scenario.model import Scenario
from harness.scenario.workload import Workload
from loadtests.levels import Named, Search, parse_shape, parse_table
from loadtests.search import JUDGED, promises

MOST_IN_FLIGHT = 4_000
_FOR_EVER_S = 1e9


class Plan(NamedTuple):
    """What the command line says of the load.

    Attributes:
        shape: how many users there are and when; None: as the scenario says.
        sets: `dotted.key=value` each, of the workload.
    """

    shape: Named | None = None
    sets: tuple[str, ...] = ()


def add_plan_options(parser: LocustArgumentParser) -> None:
    """Add ours to Locust's own."""
    own = {"include_in_web_ui": False}
    parser.add_argument(
        "--shape",
        metavar="NAME:key=value,...",
        help="users over time: ramp, step, spike, soak, sawtooth, trace or search",
        **own,
    )
    parser.add_argument(
        "--open-loop",
        metavar="KIND:key=value,...",
        help="arrivals in place of users, as under [workload.arrivals]",
        **own,
    )
    parser.add_argument(
        "--most-in-flight",
        type=int,
        default=MOST_IN_FLIGHT,
        metavar="N",
        help="arrivals of one process that wait for an answer; more are sent late",
        **own,
    )


def plan_of(options: Namespace, work: Workload, base: Path) -> Plan:
    """The plan of a command line for a scenario's work.

    Args:
        options: as parsed.
        work: as the scenario has it.
        base: where a trace is looked for besides the current folder.

    Raises:
        InputError: a shape or schedule that is none, or does not go with the other options.
    """
    if options.most_in_flight < 1:
        raise InputError(f"--most-in-flight {options.most_in_flight}: must be at least 1")
    if options.shape and options.open_loop:
        raise InputError("--shape is of users, --open-loop of arrivals: leave one of them out")
    for name, value in (("-u", options.num_users), ("-r", options.spawn_rate)):
        if value is not None and (options.open_loop or work.kind == "arrivals"):
            raise InputError(f"{name} {value:g}: arrivals come by a schedule: leave it out")
    if options.open_loop:
        return Plan(None, tuple(_arrivals(options, work)))
    if options.shape is None:
        return Plan()
    if work.kind != "users":
        raise InputError(f'--shape {options.shape}: is of users, and workload.kind = "{work.kind}"')
    for name, value in (
        ("-u", options.num_users),
        ("-r", options.spawn_rate),
        ("-t", options.run_time),
        ("--predict", options.predict),
    ):
        if value is not None:
            raise InputError(f"{name} {value:g}: does not go with --shape: leave it out")
    shape = parse_shape(options.shape, base)
    length_s = shape.length_s if math.isfinite(shape.length_s) else _FOR_EVER_S
    return Plan(
        shape,
        (
            f"workload.users={shape.most}",
            "workload.ramp_s=0.0",
            f"workload.duration_s={length_s!r}",
        ),
    )


def check_plan(plan: Plan, scenario: Scenario) -> None:
    """Whether a search has anything to go by.

    Raises:
        InputError: it has not.
    """
    if isinstance(plan.shape, Search) and not promises(scenario.slo):
        raise InputError(f"--shape search: [slo] promises nothing of {', '.join(JUDGED)}")


def _arrivals(options: Namespace, work: Workload) -> Iterator[str]:
    """Settings that make arrivals of any work."""
    found = msgspec.to_builtins(parse_table("--open-loop", options.open_loop, Arrivals))
    pairs = ", ".join(f"{name} = {json.dumps(value)}" for name, value in found.items())
    yield 'workload.kind="arrivals"'
    yield f"workload.arrivals={{{pairs}}}"
    if work.kind == "users":
        gone = {"think": "0.0", "think_first": "false", "ramp_s": "0.0", "mix": "none"}
        yield from (f"workload.{key}={value}" for key, value in gone.items())
        yield "workload.requests_per_user=none"
    if options.run_time is not None:
        yield f"workload.duration_s={float(options.run_time)!r}"
