"""The faults that a scenario can inject: each is one file and one line here."""

from mock_llm.faults.base import ArmedFault, FaultBase
from mock_llm.faults.connection_reset import ConnectionReset
from mock_llm.faults.dns_failure import DnsFailure
from mock_llm.faults.duplicated_chunks import DuplicatedChunks
from mock_llm.faults.empty_choices import EmptyChoices
from mock_llm.faults.empty_content import EmptyContent
from mock_llm.faults.error_in_200 import ErrorIn200
from mock_llm.faults.finish_error import FinishError
from mock_llm.faults.hang_after_headers import HangAfterHeaders
from mock_llm.faults.hang_before_headers import HangBeforeHeaders
from mock_llm.faults.hang_mid_stream import HangMidStream
from mock_llm.faults.html_error import HtmlError
from mock_llm.faults.idle_race import IdleRace
from mock_llm.faults.invalid_utf8 import InvalidUtf8
from mock_llm.faults.keep_alive_hang import KeepAliveHang
from mock_llm.faults.moderation import Moderation
from mock_llm.faults.network import NetworkFault
from mock_llm.faults.no_credit import NoCredit
from mock_llm.faults.no_done import NoDone
from mock_llm.faults.premature_eof import PrematureEof
from mock_llm.faults.rate_limited import RateLimited
from mock_llm.faults.rejected import Rejected
from mock_llm.faults.server_error import ServerError
from mock_llm.faults.slow_trickle import SlowTrickle
from mock_llm.faults.split_utf8 import SplitUtf8
from mock_llm.faults.sse_for_json import SseForJson
from mock_llm.faults.tls_stall import TlsStall
from mock_llm.faults.truncated_json import TruncatedJson
from mock_llm.faults.unclosed_body import UnclosedBody
from mock_llm.faults.whitespace_then_eof import WhitespaceThenEof
from mock_llm.faults.wrong_content_type import WrongContentType

Fault = (
    HangBeforeHeaders  # silence before headers
    | HangAfterHeaders  # silence behind them
    | HangMidStream  # silence in the middle
    | KeepAliveHang  # keep-alives for ever
    | WhitespaceThenEof  # keep-alives and a proper end
    | UnclosedBody  # everything but the end
    | SlowTrickle  # everything, drop by drop
    | ConnectionReset  # at the start or in the body
    | PrematureEof  # closed in the middle
    | NoDone  # a stream without its end mark
    | TruncatedJson  # half a text, properly ended
    | HtmlError  # a web page, even with 200
    | WrongContentType  # a good body, mislabelled
    | SseForJson  # a stream nobody asked for
    | ErrorIn200  # a body with an error
    | EmptyChoices  # no choice
    | EmptyContent  # a choice without text
    | FinishError  # broken off by the provider
    | RateLimited  # 429 in five forms
    | NoCredit  # 402 in flight
    | Moderation  # 403
    | Rejected  # 400, 401, 402, 404, 413, 422
    | ServerError  # 408, 500, 502, 503, 524, 529
    | DuplicatedChunks  # events twice
    | SplitUtf8  # a character cut by a chunk
    | InvalidUtf8  # bytes that are no text
    | IdleRace  # a pooled connection that ends as it is used
    | TlsStall  # a connection that is never ready
    | DnsFailure  # a name that is not found
)

__all__ = [
    "ArmedFault",
    "ConnectionReset",
    "DnsFailure",
    "DuplicatedChunks",
    "EmptyChoices",
    "EmptyContent",
    "ErrorIn200",
    "Fault",
    "FaultBase",
    "FinishError",
    "HangAfterHeaders",
    "HangBeforeHeaders",
    "HangMidStream",
    "HtmlError",
    "IdleRace",
    "InvalidUtf8",
    "KeepAliveHang",
    "Moderation",
    "NetworkFault",
    "NoCredit",
    "NoDone",
    "PrematureEof",
    "RateLimited",
    "Rejected",
    "ServerError",
    "SlowTrickle",
    "SplitUtf8",
    "SseForJson",
    "TlsStall",
    "TruncatedJson",
    "UnclosedBody",
    "WhitespaceThenEof",
    "WrongContentType",
]
