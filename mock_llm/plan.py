"""The contract between behaviour and edge: a `Call` goes in, a `Plan` comes out.

Theory of operation. The edge (an aiohttp server, or a discrete-event twin) turns a request into a
`Call`, waits the call's transit delay, asks `behaviour.Provider.admit` what will happen, and then
only plays the `Plan` it was handed. The times of a plan are seconds of the provider's work, which
begins when the connection is set up: clock seconds, unless the provider has a finite capacity.
Nothing here holds bytes: rendering a plan to the wire is the edge's own business, so that a twin
without sockets drives the very same objects.
"""

from typing import Literal, NamedTuple

import msgspec

from mock_llm.tape import Tape
from mock_llm.wants import Wants

Ending = Literal["clean", "refused", "hang", "stall", "keep_alive", "end", "eof", "reset"]
Reach = Literal["nothing", "headers", "part", "done", "all"]
Route = Literal["chat", "models", "key", "credits", "generation"]
Form = Literal[
    # of errors
    "html",
    "upstream_2025",
    "upstream_2026",
    "free_per_day",
    "free_per_minute",
    "bare",
    "hints_in_headers",
    "hints_in_body",
    "in_flight_budget",
    "moderation",
    # of bodies that are no answer
    "error_body",
    "no_choices",
    "null_content",
    "usage_chunk",
    "string_code",
    "torn",
    # of how an answer is sent
    "short_length",
    "events",
    "wrong_type",
    "trickle",
    "duplicated",
    "split_utf8",
    "invalid_utf8",
]


class ToolCall(msgspec.Struct, frozen=True):
    """A tool that the model calls; the arguments are JSON."""

    name: str
    arguments: str


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What behaviour needs to know of one HTTP request.

    Attributes:
        key: identity of the request for keyed weather (`X-Request-Key`, else a hash of the last
            user message); equal for every attempt at the same request.
        model: model id as requested; the first of several that is on offer.
        fallbacks: models to try when that one is refused by its provider's fault, in order.
        account: who is throttled: the API key.
        prompt_tokens: tokens of all messages.
        prefix: chained digests of the messages, shortest prefix first, with the tokens up to and
            including each: what a prompt cache can look up. Empty when nobody needs it.
        text: last user message, for the classifier's reply.
        max_tokens: cap on the completion, or None.
        stream: server-sent events were asked for.
        include_usage: the stream is to end with its usage; OpenRouter sends it anyhow.
        wants: what the answer has to look like; None: it is free.
        new_connection: first request on its connection.
        recording: identity of the recorded request that it repeats; "" for none.
        route: the endpoint; any but `chat` has no model, and its plan says nothing.
    """

    key: str
    model: str
    fallbacks: tuple[str, ...] = ()
    account: str = ""
    prompt_tokens: int
    prefix: tuple[tuple[bytes, int], ...] = ()
    text: str = ""
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    wants: Wants | None = None
    new_connection: bool = False
    recording: str = ""
    route: Route = "chat"


class Left(NamedTuple):
    """One limit: its size, what is left of it, seconds until all of it is there again."""

    limit: int
    remaining: int
    reset_s: float


class Quota(NamedTuple):
    """Both limits of an account."""

    requests: Left
    tokens: Left


class Plan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that will happen to one attempt, decided at admission.

    Attributes:
        status: HTTP status; 200 unless refused.
        error: wire error class (`rate_limit_exceeded`, `provider_overloaded`, ...) or "".
        message: the error's human text, "" when there is none.
        reasons: of a moderation: what the input was flagged for.
        model: the fallback that serves; "" for the model of the call.
        retry_after_s: the true wait until a retry can succeed, when the provider tells it.
        limit: what a 429 says the limit is, in the forms that say it; None: the free tier's.
        ending: `clean` plays to the end; `refused` answers with the error; `hang` sends nothing and
            never answers. The others play as far as `reach`: then `stall` is silent for ever,
            `keep_alive` sends keep-alives for ever, `end` ends as a good answer would though it is
            none, `eof` closes the connection without the end, `reset` resets it.
        reach: `nothing` not even headers, `headers`, `part` of the text (see `share` and `chunks`),
            `done` all but a stream's end mark, or `all`, with which a `stall` lacks only the end of
            the HTTP body.
        share: of the text that a `part` has.
        chunks: of a stream, events that a `part` has in place of a share.
        forms: variants of the shape, see `Form`; none is OpenRouter's usual shape.
        setup_s: the connection's set-up: everything else begins so much after admission.
        first_token_s: first token (or the refusal) is ready, after so much of the provider's work.
        last_token_s: last token is ready.
        reply: the text to send.
        tool_calls: sent in place of a text.
        completion_tokens: its length, or theirs, in tokens.
        finish_reason: `stop`, `length`, `tool_calls`, `error`, or "" for none.
        prompt_tokens: as counted.
        cached_tokens: of these, served by the prompt cache.
        cost_usd: what a completed answer costs.
        draw: which draw of the request's weather this attempt used; -1 when it used none.
        injected: names of the faults that fired, in order.
        tape: a recorded answer that is played in place of a rendered one.
        ticket: what the attempt holds of limits and credits until `Provider.finish`; 0: nothing.
        quota: what the account may still ask for, where the answer says it.
    """

    status: int = 200
    error: str = ""
    message: str = ""
    reasons: tuple[str, ...] = ()
    model: str = ""
    retry_after_s: float | None = None
    limit: int | None = None
    ending: Ending = "clean"
    reach: Reach = "all"
    share: float = 1.0
    chunks: int | None = None
    forms: tuple[Form, ...] = ()
    setup_s: float = 0.0
    first_token_s: float = 0.0
    last_token_s: float = 0.0
    reply: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    completion_tokens: int = 0
    finish_reason: Literal["stop", "length", "tool_calls", "error", ""] = "stop"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    draw: int = -1
    injected: tuple[str, ...] = ()
    tape: Tape | None = None
    ticket: int = 0
    quota: Quota | None = None
