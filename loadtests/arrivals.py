"""Open loop: requests that come when they are meant to, whatever became of those before.

Theory of operation. The schedule is made before the test. Each process has one caller, who plays
the process's share of it: at each intended start a greenlet of its own sends the request. Greenlets
and connections grow as answers are awaited, up to a bound; whatever would pass it waits, and is
late. Latency counts from the intended start, so that nothing is forgiven; what is sent late is
counted, and voids the test past the certificate's bound.
"""

import time

from gevent import sleep
from gevent.pool import Pool
from locust import FastHttpUser, task
from locust.env import Environment
from locust.exception import StopUser
from locust.user.task import LOCUST_STATE_STOPPING

from harness.workload import arrival_key, arrival_user, schedule, user_name
from loadtests.asking import ask_review
from loadtests.session import session_of


class Caller(FastHttpUser):
    """Sends a process's share of the arrivals; a second one in the same process has nothing to do.

    With w processes, process k has arrivals k, k + w, k + 2w, and so on.
    """

    insecure = False
    max_retries = 0

    def __init__(self, environment: Environment) -> None:
        self.session = session_of(environment)
        self.network_timeout = self.connection_timeout = self.session.patience_s
        self.concurrency = self.session.flight.most_in_flight
        super().__init__(environment)

    def on_start(self) -> None:
        """Take the process's share, if nobody has."""
        number, _ = self.session.numbers.take()
        mine = self.session.numbers.first
        flight, step = self.session.flight, self.session.numbers.step
        starts = schedule(flight.work, flight.seed, flight.trace) if number == mine else []
        self.share = [(n, starts[n]) for n in range(mine, len(starts), step)]
        self.pool = Pool(self.concurrency)

    def on_stop(self) -> None:
        """Whatever is still awaited then is given up: the time for it is over."""
        self.pool.kill()

    @task
    def play(self) -> None:
        """Send each when it is due, and wait for the last answer."""
        for n, start_s in self.share:
            due_s = self.session.began_s + start_s
            sleep(max(0.0, due_s - time.monotonic()))
            if self._state == LOCUST_STATE_STOPPING:
                break
            self.pool.spawn(self.ask, n, due_s)
        self.pool.join()
        raise StopUser

    def ask(self, n: int, due_s: float) -> None:
        """Have arrival `n` answered."""
        user = user_name(arrival_user(self.session.flight.work, n))
        ask_review(self, self.session, arrival_key(n), user, self.session.review(0, n), due_s)
