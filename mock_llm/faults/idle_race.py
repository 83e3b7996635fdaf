"""The race between a pooled connection's end and its next request."""

import msgspec

from mock_llm.faults.base import FaultBase, Times, unsaid
from mock_llm.plan import Call, Plan


class IdleRace(FaultBase, frozen=True, kw_only=True, tag="idle_race"):
    """A pooled connection is closed in the very moment in which its next request is sent.

    Evidence: aiohttp#9138 (the server's keep-alive limit ends connections that are in use again),
    #7297. It strikes only on a connection that has served before. The client cannot know whether
    the request was seen; it was not, and nothing is billed.
    """

    def concerns(self, call: Call, times: Times) -> bool:
        """Whether it could strike an attempt: not the first on its connection."""
        return not call.new_connection and super().concerns(call, times)

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return a plan that closes the connection without a byte."""
        return msgspec.structs.replace(unsaid(plan), ending="eof", reach="nothing")
