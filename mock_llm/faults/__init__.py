"""The faults that a scenario can inject: each is one file and one line here."""

from mock_llm.faults.base import FaultBase
from mock_llm.faults.hang_before_headers import HangBeforeHeaders
from mock_llm.faults.server_error import ServerError

Fault = (
    HangBeforeHeaders  # silence before headers
    | ServerError  # 500, 502, 503, 524, 529
)

__all__ = ["Fault", "FaultBase", "HangBeforeHeaders", "ServerError"]
