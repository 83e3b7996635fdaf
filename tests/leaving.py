"""Users told to leave, in a process of their own: gevent may not come into that of the tests.

Prints JSON: what was asked by one who was told to leave just when its pause was over
(`at_its_turn`), by one who was taken away while it waited for its answer (`cut`), and by whoever
had the number after it (`after`).
"""

import json
import sys
import time
from argparse import Namespace
from types import SimpleNamespace

import gevent
from gevent.monkey import get_original
from gevent.pool import Group
from locust.env import Environment
from locust.user.task import LOCUST_STATE_WAITING

from harness.scenario.workload import Workload
from harness.workload import user_key
from loadtests import session
from loadtests.dealing import Flight
from loadtests.numbers import Numbers
from loadtests.users import Visitor

PAUSE_S, LONG_S = 0.3, 60.0


class Asking(Visitor):
    """A user of a service that takes long; what it asks is remembered."""

    abstract = True
    host = "http://127.0.0.1:9"
    asked: list[str]

    def ask(self) -> float:
        """Ask once; nobody answers."""
        self.asked.append(user_key(self.number, self.n))
        gevent.sleep(LONG_S)
        return 0.0


def begun(first_s: float) -> Asking:
    """A user whose first request is due after so many seconds, and who waits for it by now."""
    user = Asking(Environment(parsed_options=Namespace()))
    user.asked = []
    session._SESSIONS[0].began_s = time.monotonic() + first_s
    user.start(Group())
    while not user.asked and user._state != LOCUST_STATE_WAITING:
        gevent.sleep(0)
    return user


def leaving() -> Asking:
    """One who waits for its first request, and will be told to leave before that is due."""
    while True:
        session._SESSIONS[0].numbers = Numbers()
        user = begun(PAUSE_S)
        told = gevent.spawn_later(PAUSE_S / 2, user.stop)
        if time.monotonic() < user.due_s - PAUSE_S / 2:
            return user
        told.kill()  # the machine stood still: it would be told too late
        taken_away(user)


def taken_away(user: Asking) -> list[str]:
    """What it has asked by the time that it is gone."""
    user.stop(force=True)
    user.greenlet.join()
    return user.asked


def main() -> None:
    """Have three users leave."""
    work = Workload(kind="users", users=1, duration_s=LONG_S)
    place = {"flight": Flight(work=work, seed=1), "kinds": ["reviewer"], "patience_s": LONG_S}
    session._SESSIONS.append(SimpleNamespace(numbers=Numbers(), **place))  # type: ignore[arg-type]
    user = leaving()
    # The loop stands still, so that both are due in one turn: it is told, then its pause ends, and
    # only after that whoever was told while it paused would be taken away.
    get_original("time", "sleep")(2 * PAUSE_S)
    user.greenlet.join()
    session._SESSIONS[0].numbers = Numbers()
    cut = taken_away(begun(0.0))
    session._SESSIONS[0].flight = Flight(work=work, seed=1, shaped=True)  # the next begins at once
    after = taken_away(begun(0.0))
    sys.stdout.write(json.dumps({"at_its_turn": user.asked, "cut": cut, "after": after}))


if __name__ == "__main__":
    main()
