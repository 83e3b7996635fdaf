"""What the faults below HTTP share: they strike connections and look-ups, not attempts."""

from msgspec import structs

from mock_llm.faults.base import FaultBase
from mock_llm.plan import Plan

_MEANT = frozenset({"rate", "from_s", "until_s", "ramp_s", "every_s", "first_n"})


class NetworkFault(FaultBase, frozen=True, kw_only=True):
    """A fault that strikes before there is any request.

    Its random stream is keyed by the number of the connection, or of the look-up, in the run;
    windows of time and `first_n` count from the first of them.
    """

    def __post_init__(self) -> None:
        """Refuse limits that only an attempt could keep.

        Raises:
            ValueError: one is set.
        """
        super().__post_init__()
        for field in structs.fields(FaultBase):
            if field.name not in _MEANT and getattr(self, field.name) != field.default:
                msg = f"{field.name} says nothing of a connection, which has no request yet"
                raise ValueError(msg)

    def leaves(self, plan: Plan) -> bool:  # noqa: ARG002 - the base's signature
        """Whether it has to leave a plan alone: always."""
        return True
