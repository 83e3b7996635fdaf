"""Thousands of requests that nobody should send: the mock answers or hangs up, and stays well.

`make fuzz` sends fifty times as many, and other ones every time.
"""

import os
from collections import Counter

from fuzz_requests import CONVERSATIONS
from fuzzing import Conversation, Target
from hypothesis import HealthCheck, Phase, given, settings
from loopback import post

LONG = "FUZZ_LONG" in os.environ
CONVERSED = 150_000 if LONG else 4_100  # of one to three requests


def test_no_request_harms_the_mock() -> None:
    """Whatever comes, each request is answered in the envelope or ended, and nothing is left."""
    seen: Counter[int] = Counter()
    sent: Counter[str] = Counter()
    with Target() as target:

        @settings(
            max_examples=CONVERSED,
            derandomize=not LONG,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(CONVERSATIONS)
        def fire(conversation: Conversation) -> None:
            sent[conversation.then] += conversation.requests
            seen.update(one.status for one in target.fire(conversation))

        fire()
        good = target.fire(Conversation((post(),)))
        left = target.settled()
    assert [one.status for one in good] == [200, 200]
    assert left == []
    assert sent.total() >= 5_000  # generated ones: good last ones are not among them
    assert {200, 400, 404, 405, 408, 413} <= seen.keys()
