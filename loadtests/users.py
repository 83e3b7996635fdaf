"""What `locust -f loadtests/users.py` runs: users of the service, as the scenario has them."""
# ruff: noqa: E402 - what is imported takes seconds, and so does reading the scenario

import math
import signal
import sys
import time

signal.signal(signal.SIGINT, lambda *_: sys.exit(130))  # no traceback until `session` looks for it

from gevent import sleep
from gevent.pool import Group
from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.exception import RescheduleTask, StopUser
from locust.user.task import LOCUST_STATE_STOPPING

from harness.engines.callers import KEEP_ALIVE_S
from harness.scenario.workload import Mix
from harness.workload import first_start_s, think_s, user_key, user_name
from loadtests import judge, shapes, spread, web
from loadtests.arrivals import Caller
from loadtests.asking import ask_batch, ask_review, ask_stream
from loadtests.session import PATIENT_S, attach, attach_last, session_of

__all__ = ["Caller", "Visitor"]

attach(events)
spread.attach(events)
judge.attach(events)
shapes.attach(events)
web.attach(events)
attach_last(events)


class Visitor(FastHttpUser):
    """A user with a number: asks, waits for the answer, thinks, asks again.

    What it asks and when is a function of the scenario, the seed and its number, and the same as on
    the virtual clock.
    """

    insecure = False
    max_retries = 0
    concurrency = 10_000

    def __init__(self, environment: Environment) -> None:
        self.session = session_of(environment)
        self.leaves = False
        self.network_timeout = self.connection_timeout = self.session.patience_s
        super().__init__(environment)

    def on_start(self) -> None:
        """Take a number, and find out when to ask first."""
        self.flight = self.session.flight
        self.mix = self.flight.work.mix or Mix(reviewer=1.0)
        self.number, self.n = self.session.numbers.take()
        self.kind = self.session.kinds[self.number % len(self.session.kinds)]
        self.last_s = time.monotonic()
        work, seed = self.flight.work, self.flight.seed
        if self.n or self.flight.shaped or self.number >= work.users:  # nobody's plan has it
            self.plan(time.monotonic() + think_s(work, seed, self.number, self.n))
        else:
            self.plan(self.session.began_s + first_start_s(work, seed, self.number))

    def stop(self, force: bool = False) -> bool:
        """Leave: at once where it waits or `force` is given, else after the request under way."""
        self.leaves = True
        return bool(super().stop(force))

    def on_stop(self) -> None:
        """Somebody else may have the number."""
        self.session.numbers.give_back(self.number, self.n)

    def plan(self, due_s: float) -> None:
        """Intend to ask at a moment of the monotonic clock; never, when all is over by then."""
        work = self.flight.work
        most, until = work.requests_per_user, work.duration_s
        late = until is not None and due_s >= self.session.began_s + until
        self.due_s = math.inf if late or (most is not None and self.n >= most) else due_s

    def wait_time(self) -> float:
        """Seconds until the intended start."""
        return min(PATIENT_S, max(0.0, self.due_s - time.monotonic()))

    @task
    def visit(self) -> None:
        """Ask when it is time to.

        Raises:
            RescheduleTask: it is not.
            StopUser: it was told to leave at this very moment.
        """
        if self.leaves:  # else it would be taken away in the midst of its request
            raise StopUser
        if time.monotonic() < self.due_s:
            raise RescheduleTask
        if self.kind == "abuser":
            self.abuse()
        if time.monotonic() - self.last_s > KEEP_ALIVE_S:
            self.client.client.close()  # before the service does, and a request meets it
        try:
            hint_s = self.ask()
        finally:
            self.n += 1  # also when it is taken away: the next of this number asks something else
        self.last_s = time.monotonic()
        work, seed = self.flight.work, self.flight.seed
        self.plan(self.last_s + max(think_s(work, seed, self.number, self.n), hint_s))

    def ask(self) -> float:
        """Ask once; return the seconds after which to come back at the earliest."""
        key, name = user_key(self.number, self.n), user_name(self.number)
        if self.kind == "batch":
            many = self.mix.batch_reviews
            numbers = range(self.n * many, (self.n + 1) * many)
            reviews = [self.session.review(self.number, n) for n in numbers]
            return ask_batch(self, self.session, key, name, reviews, self.due_s)
        ask = ask_stream if self.kind == "stream" else ask_review
        review = self.session.review(self.number, self.n)
        return ask(self, self.session, key, name, review, self.due_s)

    def abuse(self) -> None:
        """Send on and on, and wait for no answer but at the very end.

        Raises:
            StopUser: always.
        """
        session, name, flying = self.session, user_name(self.number), Group()
        try:
            while self.due_s < math.inf and self._state != LOCUST_STATE_STOPPING:
                key, due_s = user_key(self.number, self.n), self.due_s
                review = session.review(self.number, self.n)
                flying.spawn(ask_review, self, session, key, name, review, due_s, "abuse")
                self.n += 1
                self.plan(due_s + 1 / self.mix.abuser_per_s)
                if self.due_s < math.inf:
                    sleep(max(0.0, self.due_s - time.monotonic()))
            flying.join()
        finally:
            flying.kill()
        raise StopUser
