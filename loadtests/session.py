"""One Locust process's part in a load test: the stack, what users have seen, and the exit code.

Theory of operation. The process that is no worker starts the stack when Locust is ready, and ends
it when Locust quits. What users need is the `Flight`, which a worker has from its master. Each test
of a long-lived Locust gets a stack of its own, so that every request is a new one.
"""

import atexit
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any

from gevent import get_hub, signal_handler, sleep, spawn_later
from gevent.event import Event
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.event import Events
from locust.runners import STATE_INIT, MasterRunner, Runner, WorkerRunner

from harness.corpus import Review
from harness.engines.asking import GRACE_S, cheapest
from harness.errors import InputError
from harness.experiments.lint import lint, lint_lines
from harness.scenario.workload import Kind
from harness.workload import kinds, review_index
from loadtests import rows
from loadtests.certificate import Strain
from loadtests.dealing import Flight, Orders, Roll
from loadtests.meter import Meter
from loadtests.numbers import Numbers
from loadtests.options import LEAD_S, add_options, checked, token_of
from loadtests.search import Found
from loadtests.sight import Sight
from loadtests.stack import Choice, Stack

PATIENT_S = 86_400.0
"""Of a user who waits for ever."""
BATCHES_S = 600.0
"""For batches, which nobody has promised to be done within a request's deadline."""
LAST_S = 1.0
"""Of a test that is broken off: for answers that are just coming."""
MASTERS_S = 15.0
"""Of a master that ends a test which was broken off: a little more than it takes."""
UNDER_WAY = {"spawning", "running", "cleanup"}
BAD_INPUT, INTERRUPTED = 2, 130


class Session:
    """What this process has to do with the load test.

    Attributes:
        options: Locust's, and ours.
        choice: the world that is flown; None on a worker.
        stack: what is driven; None on a worker, and before Locust is ready.
        sight: what the users of this process have seen, and workers have handed over.
        numbers: which users are in this process.
        flight: what users need; there from the start of a test.
        kinds: what each user is like, by number.
        began_s: monotonic time from which the plan of the running test counts.
        interrupted: it was ended before its time.
        landed: no test is under way, and the last one has been judged.
        prophets: processes that foretell the test that is judged; None: nothing is foretold.
        quits: Locust does.
        tests: that have begun.
        spike_s: when a spike of users began and ended, from the start of the test; None: none has.
        found: what a search has come to; None: none has.
        meter: measures this process, and those of the stack, while the test runs.
        strains: of workers' processes, by worker, as they told last.
        reviews: what is asked about.
        orders: what the master has said; None: this is no worker.
        roll: the workers, of a master.
    """

    flight: Flight
    kinds: list[Kind]
    began_s: float
    meter: Meter

    def __init__(self, options: Namespace) -> None:
        self.options = options
        works = options.worker and not options.master
        self.choice: Choice | None = None if works else checked(options)
        self.stack: Stack | None = None
        self.sight = Sight()
        self.numbers = Numbers()
        self.strains: dict[str, Sequence[Strain]] = {}
        self.spike_s: tuple[float, float] | None = None
        self.found: Found | None = None
        self.interrupted = False
        self.landed = Event()
        self.prophets: list[Popen[str]] | None = None
        self.quits = False
        self.reviews: tuple[Review, ...] = ()
        self.orders: Orders | None = None
        self.roll = Roll()
        self.tests = 0

    @property
    def patience_s(self) -> float:
        """How long a user waits for an answer: longer than the service lets it."""
        limit_s = self.flight.work.deadline_s
        return PATIENT_S if limit_s is None else limit_s + GRACE_S

    @property
    def _last_s(self) -> float:
        """How long users may go on with what they do when the time is over."""
        mix = self.flight.work.mix
        return max(self.patience_s, BATCHES_S if mix is not None and mix.batch else 0.0)

    @property
    def place(self) -> Path:
        """Folder for what came of this test; those after a Locust's first have one each in it."""
        first = Path(self.options.out)
        return first / f"test-{self.tests}" if self.tests > 1 else first

    def review(self, user: int, n: int) -> Review:
        """What a user's request `n` is about."""
        work = self.flight.work
        return self.reviews[review_index(work, len(self.reviews), n, user)]

    def launch(self, environment: Environment) -> None:
        """Start the stack, or take what `--host` names.

        Raises:
            InputError: it cannot be had.
        """
        choice, options = self.choice, self.options
        if choice is None:
            return
        if options.host:
            self.stack = Stack.given(choice, options.host, options.mock_url, token_of(options))
        else:
            self.stack = Stack(choice, options.service_port, options.service_host)
            self.stack.start()
            atexit.register(self.stack.close)
            environment.host = self.stack.service_url

    def begin(self, environment: Environment) -> None:
        """A test begins: everybody's plan counts from a little later."""
        if self.tests and self.stack is not None:
            self.stack.close()
            self.launch(environment)
        self.tests += 1
        self.landed.clear()
        self.sight, self.numbers = Sight(), Numbers()
        self.strains = {}
        self.spike_s, self.found = None, None
        if self.choice is None:
            self._follow()
        else:
            self.reviews = self.choice.prepared.corpus.reviews
            self.flight = Flight(
                work=self.choice.prepared.scenario.workload,
                seed=self.choice.seed,
                mock_url=None if self.stack is None else self.stack.mock_url,
                model=cheapest(self.choice.prepared.prices),
                shaped=self.choice.shape is not None,
                trace=self.choice.prepared.trace,
                most_in_flight=self.options.most_in_flight,
                tag=f"-{time.monotonic_ns():x}" if self.options.host else "",
            )
            self.began_s = time.monotonic() + LEAD_S
        self.kinds = kinds(self.flight.work)
        environment.stop_timeout = environment.stop_timeout or self._last_s

    def _follow(self) -> None:
        """Do as the master has said."""
        orders = self.orders
        if orders is None:
            raise RuntimeError("a test begins, and the master has not said which")
        self.flight, self.reviews, self.began_s = orders.flight, orders.texts(), orders.began_s
        self.numbers = Numbers(orders.deal.first, orders.deal.step)

    def end(self, environment: Environment) -> None:
        """Locust quits: whoever still runs is stopped, and so is the stack."""
        if self.quits:  # once for SIGTERM, once since its runner has ended: the first one exits
            Event().wait()
        runner, self.quits = environment.runner, True
        try:
            if self.prophets is not None:
                self.predict_no_more()
                self.landed.wait()
            if runner is not None and runner.state in UNDER_WAY:
                self.interrupted = True
                environment.stop_timeout = LAST_S
                if runner.state == "cleanup":  # somebody is ending it: that shall not take long
                    runner.user_greenlets.kill()
                    self.landed.wait()
                else:
                    runner.quit()
            if self.interrupted:
                environment.process_exit_code = INTERRUPTED
        finally:
            if self.stack is not None:
                self.stack.close()

    def predict_no_more(self) -> None:
        """Break a prediction off, and have the test judged without it."""
        self.interrupted = True
        while self.prophets is not None:  # one more may just be starting
            for one in self.prophets:
                one.kill()
            sleep(0.05)


_SESSIONS: list[Session] = []


def session_of(environment: Environment) -> Session:
    """The session of this process; there as soon as the command line has been read."""
    assert environment.parsed_options is not None  # noqa: S101 - Locust has read its command line
    session = _SESSIONS[0]
    session.options = environment.parsed_options
    return session


def attach(events: Events) -> None:
    """Have Locust tell us what happens."""
    rows.exact()
    events.init_command_line_parser.add_listener(_on_parser)
    events.init.add_listener(_on_init)
    events.test_start.add_listener(_on_start)


def attach_last(events: Events) -> None:
    """To be called when all others have been attached: have Locust tell when all have been told."""
    events.test_stop.add_listener(_on_stop)


def _on_stop(environment: Environment, **_: Any) -> None:
    session_of(environment).landed.set()


def _on_parser(parser: LocustArgumentParser, **_: Any) -> None:
    add_options(parser)
    parse = parser.parse_args

    def parse_and_check(*arguments: Any, **named: Any) -> Any:
        options = parse(*arguments, **named)
        if not _SESSIONS:  # Locust's web pages read the command line once more
            try:
                _SESSIONS.append(Session(options))
            except InputError as error:
                parser.error(" ".join(str(error).split()))
        return options

    parser.parse_args = parse_and_check


def _on_init(environment: Environment, runner: Runner, **_: Any) -> None:
    session = session_of(environment)
    # Only now, to be told before Locust's own: it would have the test judged as if it were whole.
    environment.events.quitting.add_listener(_on_quitting)
    hub = get_hub()
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)  # it would print where that came about
    if isinstance(runner, WorkerRunner):
        session.choice = None  # forked off when it was the master's
        forked = session.options.processes is not None
        signal.signal(signal.SIGINT, _wait_for_master if forked else signal.default_int_handler)
        return
    # Python's own may raise it in a finalizer, where it is lost; gevent does in the main greenlet.
    signal_handler(signal.SIGINT, _told, session, runner)
    # Until Locust looks for it: with a shape, only when that is over.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    choice = session.choice
    if choice is not None:
        for line in lint_lines({choice.variant: lint(choice.prepared)}):
            sys.stderr.write(f"lint: {line}\n")
    try:
        session.launch(environment)
    except InputError as error:
        complain(str(error))
    except KeyboardInterrupt:  # Locust looks for it later
        sys.exit(INTERRUPTED)


def _wait_for_master(*_: Any) -> None:
    """Ctrl-C at the terminal of a master is for the master, which ends its workers: let it.

    When it does not, having ended before it knew them, they end by themselves.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    spawn_later(MASTERS_S, os.kill, os.getpid(), signal.SIGINT)


def _told(session: Session, runner: Runner) -> None:
    """Ctrl-C, or a SIGTERM that Locust does not look for yet.

    Raises:
        KeyboardInterrupt: Locust shall quit.
        SystemExit: it waits for workers, where it would take no KeyboardInterrupt.
    """
    if session.quits or (session.interrupted and not session.landed.is_set()):
        return  # the first one has seen to it
    if session.prophets is not None:
        session.predict_no_more()
        return
    session.interrupted = runner.state in UNDER_WAY
    waits = isinstance(runner, MasterRunner) and runner.state == STATE_INIT
    if waits and session.options.headless:
        session.quits = True
        sys.stderr.write("locust: interrupted before the test began\n")
        runner.quit()  # its workers, too
        sys.exit(INTERRUPTED)
    raise KeyboardInterrupt


def complain(message: str) -> None:
    """Tell what a user has done wrong, and end.

    Raises:
        SystemExit: always.
    """
    sys.stderr.write(f"locust: error: {' '.join(message.split())}\n")
    sys.exit(BAD_INPUT)


def _on_start(environment: Environment, **_: Any) -> None:
    session_of(environment).begin(environment)


def _on_quitting(environment: Environment, **_: Any) -> None:
    session_of(environment).end(environment)
