"""A body under the wrong name."""

import msgspec

from mock_llm.faults.base import FormFault
from mock_llm.plan import Plan


class WrongContentType(FormFault, frozen=True, kw_only=True, tag="wrong_content_type"):
    """A good answer says that it is `text/plain`; a good stream, that it is `application/json`.

    Evidence: ollama#12694. Clients that check refuse it; others never notice.
    """

    def strike(self, plan: Plan, uniform: float) -> Plan:  # noqa: ARG002 - nothing to draw
        """Return the plan, mislabelled."""
        return msgspec.structs.replace(plan, forms=(*plan.forms, "wrong_type"))
