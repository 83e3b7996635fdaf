"""Master and workers: who has which users, and that every row arrives; the part on Locust's events.

Theory of operation. The master starts the stack; workers are told before their first user is made
which users are theirs, when the test has begun, and the texts that they could not find themselves.
They hand their rows in with the reports that Locust sends anyway. When the test ends, Locust's
master would wait half a second for the last of them; a request may take longer. So it first has
its workers finish what is under way, and waits until each has said that it is done or is not heard
of any more: nothing is cut, and what a dead worker leaves open has a name.
"""

import inspect
import logging
import time
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust import argument_parser, runners
from locust.env import Environment
from locust.event import Events
from locust.rpc import Message
from locust.runners import STATE_MISSING, MasterRunner, Runner, WorkerRunner

from loadtests.certificate import Strain
from loadtests.dealing import Deal, Orders, Worker
from loadtests.session import UNDER_WAY, Session, session_of

REPORT, ORDERS, FINISH, DONE = "flight", "flight_orders", "flight_finish", "flight_done"
_LOOK_S = 0.5
_REPORT_S = 1.0
"""Between a worker's reports; Locust's own 3 s are what nobody would know of a dead one."""
_GRACE_S = 10.0
"""For the last report of a worker, once its users have had the time that they may take."""

_LOG = logging.getLogger(__name__)


def attach(events: Events) -> None:
    """Have Locust tell us what happens between its processes; after `session.attach`."""
    events.init.add_listener(_on_init)


def _on_init(environment: Environment, runner: Runner, **_: Any) -> None:
    session = session_of(environment)
    # Locust looks at its own stack when a test is stopped; the first time that stops the process
    # for 40 ms, while users still wait for their answers.
    inspect.stack()
    if isinstance(runner, MasterRunner):
        Crew(environment, session)
    elif isinstance(runner, WorkerRunner):
        Hand(environment, session)


def machine() -> str:
    """Names the machine whose monotonic clock this process reads (Linux: random(4), boot_id)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""  # elsewhere: taken for one machine, where processes of one share the clock


class Crew:
    """The master's side: its workers.

    Args:
        environment: Locust's.
        session: of this process.
    """

    def __init__(self, environment: Environment, session: Session) -> None:
        assert isinstance(environment.runner, MasterRunner)  # noqa: S101 - the caller has looked
        self._environment, self._session, self._roll = environment, session, session.roll
        self._runner = environment.runner
        self._test, self._reviews = 0, b""
        self._runner.register_message(DONE, self._on_done)
        self._runner.greenlet.spawn(self._watch)
        events = environment.events
        events.test_start.add_listener(self._on_start)
        events.worker_connect.add_listener(self._on_connect)
        events.worker_report.add_listener(self._on_report)
        events.heartbeat_sent.add_listener(self._on_heartbeat)
        events.test_stopping.add_listener(self._on_stopping)

    def _on_start(self, **_: Any) -> None:
        runner = self._runner
        ready = [one.id for one in (*runner.clients.ready, *runner.clients.running)]
        self._test += 1
        self._reviews = msgspec.msgpack.encode(self._session.reviews)
        self._roll.begin({one: runner.get_worker_index(one) for one in ready})
        for one, worker in self._roll.workers.items():
            self._order(one, worker.deal)

    def _on_connect(self, client_id: str, **_: Any) -> None:
        if self._runner.state in UNDER_WAY:
            index = self._runner.get_worker_index(client_id)
            self._order(client_id, self._roll.join(client_id, index))

    def _order(self, client_id: str, deal: Deal) -> None:
        orders = Orders(
            test=self._test,
            flight=self._session.flight,
            deal=deal,
            began_s=self._session.began_s,
            sent_s=time.monotonic(),
            machine=machine(),
            reviews=self._reviews,
        )
        self._runner.send_message(ORDERS, {"orders": msgspec.msgpack.encode(orders)}, client_id)

    def _on_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        told, worker = data.get(REPORT), self._roll.workers.get(client_id)
        if told is None or worker is None or told["test"] != self._test:
            return
        self._session.sight.take(told["rows"])
        self._session.strains[client_id] = msgspec.convert(told["strains"], tuple[Strain, ...])
        worker.rows += len(told["rows"])
        worker.made = told["made"]
        self._heard(worker)

    def _on_heartbeat(self, client_id: str, **_: Any) -> None:
        if client_id in self._roll.workers:
            self._heard(self._roll.workers[client_id])

    def _heard(self, worker: Worker) -> None:
        worker.heard_s = self._now()
        if worker.state == "lost":  # Locust calls it healed: it had no time to be heard of
            worker.state = "here"

    def _on_done(self, environment: Environment, msg: Message, **_: Any) -> None:
        del environment
        worker = self._roll.workers.get(msg.node_id)
        if worker is not None and msg.data["test"] == self._test:
            worker.state = "done"

    def _on_stopping(self, **_: Any) -> None:
        """Have all finish, and wait for the last row of everybody who lives."""
        self._runner.send_message(FINISH)
        until = time.monotonic() + self._environment.stop_timeout + _GRACE_S
        while self._roll.waiting() and time.monotonic() < until:
            gevent.sleep(0.05)
            self._look()
        for one in self._roll.waiting():
            self._lose(self._roll.workers[one])

    def _watch(self) -> None:
        while True:
            gevent.sleep(_LOOK_S)
            self._look()

    def _look(self) -> None:
        for one in self._roll.waiting():
            client = self._runner.clients.get(one)
            if client is not None and client.state == STATE_MISSING:
                self._lose(self._roll.workers[one])

    def _lose(self, worker: Worker) -> None:
        worker.state = "lost"
        _LOG.warning("worker %d was lost at %.1f s", worker.index, worker.heard_s)

    def _now(self) -> float:
        return time.monotonic() - self._session.began_s


class Hand:
    """A worker's side: its orders, and its rows.

    Args:
        environment: Locust's.
        session: of this process.
    """

    def __init__(self, environment: Environment, session: Session) -> None:
        assert isinstance(environment.runner, WorkerRunner)  # noqa: S101 - the caller has looked
        self._session, self._runner = session, environment.runner
        self._environment = environment
        self._test, self._ahead_s = 0, 0.0
        runners.WORKER_REPORT_INTERVAL = _REPORT_S
        # Locust makes a parser for each option of each message that makes users: 0.2 s of CPU.
        once = argument_parser.default_args_dict()
        argument_parser.default_args_dict = lambda: once
        self._runner.register_message(ORDERS, self._on_orders)
        self._runner.register_message(FINISH, self._on_finish, concurrent=True)
        environment.events.report_to_master.add_listener(self._on_report)
        environment.events.test_stop.add_listener(self._on_stop)

    def _on_orders(self, environment: Environment, msg: Message, **_: Any) -> None:
        del environment
        orders = msgspec.msgpack.decode(msg.data["orders"], type=Orders)
        self._test = orders.test
        self._ahead_s = orders.ahead_s(time.monotonic(), machine())
        began_s = orders.began_s + self._ahead_s
        self._session.orders = msgspec.structs.replace(orders, began_s=began_s)

    def _on_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        del client_id
        if self._test:
            sight = self._session.sight
            rows = sight.packed(self._ahead_s)
            strains = msgspec.to_builtins(self._session.meter.strains())
            made = len(sight.rows)
            data[REPORT] = {"test": self._test, "rows": rows, "made": made, "strains": strains}

    def _on_finish(self, environment: Environment, msg: Message, **_: Any) -> None:
        del environment, msg
        self._runner.stop()

    def _on_stop(self, **_: Any) -> None:
        """Hand in what is left: all users have ended."""
        data: dict[str, Any] = {}
        events = self._environment.events
        events.report_to_master.fire(client_id=self._runner.client_id, data=data)
        self._runner.send_message("stats", data)
        self._runner.send_message(DONE, {"test": self._test})
