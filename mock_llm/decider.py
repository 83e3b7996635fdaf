"""What an edge needs of whoever decides about attempts."""

from collections.abc import Awaitable
from typing import Protocol

from mock_llm.config import Upstream
from mock_llm.counts import Memory
from mock_llm.plan import Call, Plan


class Decider(Protocol):
    """A `behaviour.Provider`, or a way to one elsewhere."""

    @property
    def upstream(self) -> Upstream:
        """What is imitated at the moment."""

    def change(self, upstream: Upstream) -> None:
        """Be another upstream from the next attempt on."""

    @property
    def seed(self) -> int:
        """Of the weather."""

    @property
    def memory(self) -> Memory:
        """What its weather needs of the past."""

    def reset(self, seed: int | None = None) -> None:
        """Forget all that has happened; see `behaviour.Provider.reset`."""

    def transit_s(self, key: str) -> float:
        """How long an arriving attempt travels before it is decided about."""

    def finish(self, plan: Plan, completion_tokens: int, billed_usd: float) -> None:
        """End an attempt whose plan has a ticket."""

    def admit(self, call: Call, now: float) -> Plan | Awaitable[Plan]:
        """Decide about an attempt; a decision that is made elsewhere has to be awaited."""
