"""The command line of a load test, and what a user can get wrong there: one line, exit code 2.

Everything is looked at as soon as it has been read, before Locust forks or listens: so no process
is left behind. On a worker nothing is: its master knows.
"""

import os
import socket
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from locust.argument_parser import LocustArgumentParser

from harness.engines.base import prepare
from harness.errors import InputError
from harness.places import check_file, check_folder
from harness.scenario.load import load_file
from loadtests.plans import add_plan_options, check_plan, plan_of
from loadtests.stack import Choice

SCENARIO = Path(__file__).parents[1] / "scenarios" / "thousand_users.toml"
LEAD_S = 0.5
"""From the start of a test to the first moment of its plan: nobody is late by being made. Locust
ends it by as much after the last moment, so that nobody is ended just when it begins to ask."""
LEAST_RUNS = 8
"""Fewer say too little about their own scatter."""
STDOUT = "-"
EVERYWHERE = {"0.0.0.0", "::", "*", ""}  # noqa: S104 - to be refused
_CONNECT_S = 5.0


def add_options(parser: LocustArgumentParser) -> None:
    """Add ours to Locust's own."""
    own = {"include_in_web_ui": False}
    parser.add_argument("--scenario", default=str(SCENARIO), help="scenario file (TOML)", **own)
    parser.add_argument(
        "--variant", help="one of its variants; default: its last, or the file as it is", **own
    )
    parser.add_argument(
        *("--set", "--sets"),
        dest="sets",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override dotted.key=value; may be repeated",
        **own,
    )
    parser.add_argument("--seed", type=int, help="of the weather; default: the scenario's", **own)
    parser.add_argument("--out", help="folder for results; default: results/runs/<scenario>", **own)
    parser.add_argument(
        "--run-json", metavar="FILE", help="write the run as JSON; - is standard output", **own
    )
    parser.add_argument("--junit", metavar="FILE", help="write what held as JUnit XML", **own)
    parser.add_argument(
        "--predict",
        type=int,
        metavar="N",
        help="afterwards, run it N times on the virtual clock and compare",
        **own,
    )
    add_plan_options(parser)
    parser.add_argument(
        "--service-host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="that the service listens on, for workers on other machines",
        **own,
    )
    parser.add_argument(
        "--service-port", type=int, default=0, help="of the service; 0 takes a free one", **own
    )
    parser.add_argument(
        "--mock-url", help="with --host: the mock's base URL, for those who ask it directly", **own
    )
    parser.add_argument(
        "--mock-token-env", help="with --host: variable with the mock's control token", **own
    )


def checked(options: Namespace) -> Choice:
    """The world that the command line names; Locust's own numbers are put right in the options.

    Raises:
        InputError: something cannot be had.
    """
    path = Path(options.scenario)
    plain = load_file(path, options.sets)
    variant = options.variant or plain.names()[-1]
    work = plain.resolve(variant).workload
    _check_locusts(options, work.kind)
    if work.kind == "batch":
        raise InputError(f'--scenario {path}: workload.kind is "batch": a load test has no job')
    plan = plan_of(options, work, path.parent)
    sets = [*options.sets, *plan.sets]
    work = load_file(path, sets, variant).resolve(variant).workload
    sets += _overrides(options, work.users, work.ramp_s)
    file = load_file(path, sets, variant)
    choice = Choice(
        path=path,
        variant=variant,
        expect=file.variant(variant).expect,
        seed=file.written.seed if options.seed is None else options.seed,
        sets=tuple(sets),
        prepared=prepare(file.resolve(variant), base=path.parent),
        shape=plan.shape,
    )
    check_plan(plan, choice.prepared.scenario)
    options.out = options.out or str(Path("results/runs") / file.written.name)
    check_folder("--out", Path(options.out))
    _check_results(options)
    _check_places(options, choice)
    _tell_locust(options, choice)
    return choice


def _check_locusts(options: Namespace, kind: str) -> None:
    """Locust's own options, which it looks at too late, or which would leave nobody to ask.

    Raises:
        InputError: one does not go with our users.
    """
    if options.processes is not None and options.processes < -1:
        raise InputError(f"--processes {options.processes}: give a number, or -1: one a core")
    for other, given in (("--worker", options.worker), ("--processes", options.processes)):
        if options.master and given:
            raise InputError(f"--master: does not go with {other}: leave one of them out")
    for option, tags in (("--tags", options.tags), ("--exclude-tags", options.exclude_tags)):
        if tags is not None:
            raise InputError(f"{option} {' '.join(tags)}: these users have no tags: leave it out")
    for option, given, other in (
        ("--expect-workers", options.expect_workers != 1 and not options.master, "--master"),
        ("--mock-token-env", options.mock_token_env and not options.host, "--host"),
    ):
        if given:
            raise InputError(f"{option}: goes with {other}: leave it out, or give both")
    wanted = "Caller" if kind == "arrivals" or options.open_loop else "Visitor"
    for name in options.user_classes or ():
        if name != wanted:
            raise InputError(f"{name}: is no user class of this scenario: its users are {wanted}")


def _overrides(options: Namespace, users: int, ramp_s: float) -> Iterator[str]:
    """Locust's -u, -r and -t as settings of the workload.

    Raises:
        InputError: nobody, never or at no rate.
    """
    for name, value in (
        ("-u", options.num_users),
        ("-r", options.spawn_rate),
        ("-t", options.run_time),
    ):
        if value is not None and value <= 0:
            raise InputError(f"{name} {value:g}: must be more than 0")
    if options.num_users is not None:
        yield f"workload.users={options.num_users}"
    if options.spawn_rate is not None:
        ramp_s = (options.num_users or users) / options.spawn_rate
        yield f"workload.ramp_s={ramp_s!r}"
    if options.run_time is not None:
        if ramp_s > options.run_time:
            many = f"{options.num_users or users} users come over {ramp_s:g} s"
            raise InputError(f"-t {options.run_time:g}: {many}: give a higher -r, or more time")
        yield f"workload.duration_s={float(options.run_time)!r}"


def _tell_locust(options: Namespace, choice: Choice) -> None:
    """Let Locust do what the scenario says, where its own options say nothing."""
    work = choice.prepared.scenario.workload
    if work.kind != "users" or choice.shape is not None:
        options.run_time = None  # there is a shape, which knows when it ends
        return
    options.num_users = work.users
    options.spawn_rate = work.users / work.ramp_s if work.ramp_s else float(work.users)
    if work.duration_s is not None:
        options.run_time = work.duration_s + 2 * LEAD_S


def _check_results(options: Namespace) -> None:
    """Whether files can be written, and a prediction means something.

    Raises:
        InputError: it is not so.
    """
    for option, path in (("--run-json", options.run_json), ("--junit", options.junit)):
        if option == "--junit" and path == STDOUT:
            raise InputError("--junit -: takes a file, as standard output has the tables: name one")
        if path and path != STDOUT:
            check_file(option, path)
    if options.predict is not None and options.predict < LEAST_RUNS:
        raise InputError(f"--predict {options.predict}: takes {LEAST_RUNS} runs at least")


def _check_places(options: Namespace, choice: Choice) -> None:
    """Whether the ports are free, and who is to be driven is there.

    Raises:
        InputError: it is not so.
    """
    mix = choice.prepared.scenario.workload.mix
    if options.host:
        if mix is not None and mix.stream and not options.mock_url:
            raise InputError("--mock-url: is wanted by workload.mix.stream: say who is asked")
        _check_ready(options.host)
    elif options.mock_url:
        raise InputError(f"--mock-url {options.mock_url}: goes with --host: say who is driven")
    elif options.service_host in EVERYWHERE:
        every = f"--service-host {options.service_host}"
        raise InputError(f"{every}: name the one address at which its workers find this machine")
    else:
        _check_free("--service-host", options.service_host, 0)
        _check_free("--service-port", options.service_host, options.service_port)
    if not options.headless:
        _check_free("--web-port", options.web_host.replace("*", ""), options.web_port)
    if options.processes and not options.worker:  # its workers are to find this one
        options.master_port = options.master_bind_port
    if options.master or options.processes:
        host = options.master_bind_host.replace("*", "")
        _check_free("--master-bind-port", host, options.master_bind_port)


def _check_free(option: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            what = "port" if port else "address"
            raise InputError(f"{option} {port or host}: {why}; choose another {what}") from error


def _check_ready(url: str) -> None:
    place = urlsplit(url)
    make = HTTPSConnection if place.scheme == "https" else HTTPConnection
    if place.scheme not in {"http", "https"} or not place.hostname:
        raise InputError(f"--host {url}: no address: write it as http://HOST:PORT")
    try:
        with closing(make(place.hostname, place.port, timeout=_CONNECT_S)) as connection:
            connection.request("GET", f"{place.path.rstrip('/')}/readyz")
            status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f"--host {url}: cannot be reached: {error}") from error
    if status != 200:
        raise InputError(f"--host {url}: /readyz says {status}: it is not ready, or no service")


def token_of(options: Namespace) -> str | None:
    """The token of the mock's control, from the environment.

    Raises:
        InputError: the variable that was named is not set.
    """
    name = options.mock_token_env
    if not name:
        return None
    token = os.environ.get(name, "").strip()
    if not token:
        raise InputError(f"--mock-token-env {name}: is not set")
    return token
