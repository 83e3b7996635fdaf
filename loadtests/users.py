"""What `locust -f loadtests/users.py` runs: users of the service, as the scenario has them."""

import math
import time

from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.exception import RescheduleTask

from harness.workload import first_start_s, think_s, user_key, user_name
from loadtests import judge, shapes, spread, web
from loadtests.arrivals import Caller
from loadtests.asking import ask_review
from loadtests.session import PATIENT_S, attach, session_of

__all__ = ["Caller", "Visitor"]

attach(events)
spread.attach(events)
judge.attach(events)
shapes.attach(events)
web.attach(events)


class Visitor(FastHttpUser):
    """A user with a number: asks, waits for the answer, thinks, asks again.

    What it asks and when is a function of the scenario, the seed and its number, and the same as on
    the virtual clock.
    """

    insecure = False
    max_retries = 0
    concurrency = 1

    def __init__(self, environment: Environment) -> None:
        self.session = session_of(environment)
        self.network_timeout = self.connection_timeout = self.session.patience_s
        super().__init__(environment)

    def on_start(self) -> None:
        """Take a number, and find out when to ask first."""
        self.flight = self.session.flight
        self.number, self.n = self.session.numbers.take()
        work, seed = self.flight.work, self.flight.seed
        if self.n or self.flight.shaped:
            self.plan(time.monotonic() + think_s(work, seed, self.number, self.n))
        else:
            self.plan(self.session.began_s + first_start_s(work, seed, self.number))

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
        """Ask when it is time to."""
        if time.monotonic() < self.due_s:
            raise RescheduleTask
        hint_s = self.review()
        self.n += 1
        work, seed = self.flight.work, self.flight.seed
        self.plan(time.monotonic() + max(think_s(work, seed, self.number, self.n), hint_s))

    def review(self) -> float:
        """Have one review labelled; return the seconds after which to come back at the earliest."""
        return ask_review(
            self,
            self.session,
            user_key(self.number, self.n),
            user_name(self.number),
            self.session.review(self.number, self.n),
            self.due_s,
        )
