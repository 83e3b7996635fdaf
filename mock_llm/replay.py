"""Answers from a cassette: the recording is looked up by the request's content.

Recordings of equal requests are played in the order in which they were made; then the last one
repeats. An attempt that the throttle or a fault refuses uses none. How often a request was played
is not counted here, for several processes may serve one cassette.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
from msgspec.structs import replace

from mock_llm import miss
from mock_llm.cassette import Ended, Exchange, below_root, identity, read_cassette
from mock_llm.config import Recordings, Upstream
from mock_llm.counts import Counting
from mock_llm.envelope import Refusal
from mock_llm.ledger import Row
from mock_llm.plan import Call, Ending, Plan, Route
from mock_llm.redact import stored
from mock_llm.rng import request_key
from mock_llm.said import Said, read_said
from mock_llm.tape import Piece, Tape
from mock_llm.tapes import Sampled, at_once, first_s, is_good, tape_of

CHAT = "/chat/completions"
_DONE = b"data: [DONE]\n\n"
# A client that left had waited in vain: without an end of its own, an answer falls silent.
_ENDINGS: Mapping[Ended, Ending] = {
    "complete": "clean",
    "eof": "eof",
    "reset": "reset",
    "client_left": "stall",
    "stopped": "stall",
    "unreachable": "refused",
}
_MOST_TOKENS = 10**9
_CUTS = frozenset({"stall", "eof", "reset", "end"})


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it comes in: method, path below the root, query, header fields, body."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes


class Take(NamedTuple):
    """A recorded exchange, what it says, and how it is played."""

    exchange: Exchange
    said: Said
    tape: Tape


class Replay:
    """A cassette being played.

    Args:
        settings: of the scenario.
        seed: of sampled times.

    Raises:
        InputError: the cassette cannot be read.
    """

    def __init__(self, settings: Recordings, seed: int) -> None:
        self._settings = settings
        self._exchanges = read_cassette(Path(settings.file)).exchanges
        self._takes: defaultdict[str, list[Take]] = defaultdict(list)
        for exchange in self._exchanges:
            self._takes[identity(exchange.request)].append(_take(exchange))
        self._places = {(one.request.method, one.request.path) for one in self._exchanges}
        self.begin(seed)

    def begin(self, seed: int) -> None:
        """Draw with another seed from now on."""
        sampled = self._settings.timing == "sampled"
        self._sampled = Sampled(self._exchanges, seed) if sampled else None

    def has(self, method: str, path: str) -> bool:
        """Whether anything with a body was recorded there; the path begins with the API's root."""
        return method != "HEAD" and (method, below_root(path)) in self._places

    def call(self, asked: Asked, key: str, account: str, row: Row) -> Call | Refusal | None:
        """Return the call that a request makes; a refusal or None when it is not recorded.

        Args:
            asked: the request.
            key: its `X-Request-Key`, "" when it has none.
            account: its API key.
            row: of the attempt.
        """
        request, _ = stored(asked.method, asked.path, asked.query, asked.headers, asked.body)
        name = identity(request)
        takes = self._takes.get(name)
        if takes is None:
            if self._settings.on_miss == "mock" and asked.path == CHAT:
                return None
            known = [takes[0].exchange.request for takes in self._takes.values()]
            return miss.refusal(request, known)
        body = request.body if isinstance(request.body, dict) else {}
        text = miss.last_user_message(body)
        cap = body.get("max_completion_tokens") or body.get("max_tokens")
        return Call(
            key=key or request_key(text),
            model=request.model,
            account=account,
            prompt_tokens=max(take.said.prompt_tokens for take in takes),
            text=text,
            max_tokens=cap if isinstance(cap, int) and 0 < cap < _MOST_TOKENS else None,
            stream=body.get("stream") is True,
            new_connection=row.new_connection,
            route=_route(asked),
            recording=name,
        )

    def plan(self, plan: Plan, call: Call, played: Counting) -> Plan:
        """Return a plan with the recording in its place, as far as faults have left room for it.

        Args:
            plan: what the mock would do.
            call: whose `recording` is looked up.
            played: counts how often a recorded request is played, for all processes.
        """
        if plan.ending in {"refused", "hang"}:
            return plan
        takes = self._takes[call.recording]
        number = played.next(f"{self._settings.file}:{call.recording}")
        exchange, said, tape = takes[min(number, len(takes) - 1)]
        good = is_good(exchange) and not said.failed
        if plan.injected and good and (plan.forms or plan.ending not in _CUTS):
            # In a shape of its own the mock says what was recorded.
            return replace(plan, reply=said.text) if plan.reply and said.text else plan
        if self._settings.timing == "none":
            tape = at_once(tape)
        elif self._sampled is not None:
            tape = self._sampled(tape, exchange, call.key, plan.draw)
        taped = _taped(tape, exchange, said, plan)
        return _cut(taped, plan, call.stream) if plan.injected and good else taped


def _route(asked: Asked) -> Route:
    """The endpoint; what else is read, and asks no model, is like their list."""
    if asked.method == "POST":
        return "chat"
    name = asked.path.rpartition("/")[2]
    return next((route for route in get_args(Route) if route == name), "models")


def _take(exchange: Exchange) -> Take:
    said = read_said(b"".join(chunk.data for chunk in exchange.chunks))
    return Take(exchange, said, tape_of(exchange, said))


def _taped(tape: Tape, exchange: Exchange, said: Said, plan: Plan) -> Plan:
    """The plan of a recorded exchange."""
    ending = _ENDINGS[exchange.ended]
    if ending == "clean" and exchange.status != 200:
        ending = "refused"
    answered = exchange.status == 200
    began = first_s(tape) if answered else tape.headers_s
    if not exchange.status:
        began = tape.end_s  # somebody worked on it for as long as that
    return Plan(
        status=exchange.status or 200,
        error="" if answered or not exchange.status else "recorded",
        ending=ending,
        first_token_s=began,
        last_token_s=tape.pieces[-1].at_s if answered and tape.pieces else began,
        reply=said.text,
        completion_tokens=tape.pieces[-1].tokens if tape.pieces else 0,
        finish_reason="error" if said.failed else "stop",
        prompt_tokens=said.prompt_tokens,
        cached_tokens=said.cached_tokens,
        cost_usd=said.cost_usd or 0.0,
        draw=plan.draw,
        ticket=plan.ticket,
        tape=tape,
    )


def _cut(taped: Plan, plan: Plan, stream: bool) -> Plan:
    """A recorded answer that a fault breaks off: a stream between its chunks."""
    tape = taped.tape
    if tape is None or plan.reach == "nothing":
        return plan
    pieces = tape.pieces if plan.reach != "headers" else ()
    if plan.reach == "part" and stream:
        pieces = pieces[: int(len(pieces) * plan.share) if plan.chunks is None else plan.chunks]
    elif plan.reach == "part":
        pieces = _first_bytes(pieces, plan.share)
    if plan.reach == "done" and pieces:
        last = replace(pieces[-1], data=pieces[-1].data.removesuffix(_DONE))
        pieces = (*pieces[:-1], last)
    whole = plan.reach in {"done", "all"}
    end_s = tape.end_s if whole else pieces[-1].at_s if pieces else tape.headers_s
    short = replace(tape, pieces=pieces, end_s=end_s)
    return replace(taped, ending=plan.ending, reach=plan.reach, injected=plan.injected, tape=short)


def _first_bytes(pieces: tuple[Piece, ...], share: float) -> tuple[Piece, ...]:
    """The pieces that begin before a share of all bytes is out, the last one cut there."""
    left, kept = int(sum(len(piece.data) for piece in pieces) * share), []
    for piece in pieces:
        data = piece.data[:left]
        kept += [replace(piece, data=data, tokens=0)] if data else []
        left -= len(data)
    return tuple(kept)


def replay_of(upstream: Upstream, seed: int) -> Replay | None:
    """The cassette that an upstream names, or None.

    Raises:
        InputError: it cannot be read.
    """
    return None if upstream.cassette is None else Replay(upstream.cassette, seed)


def asked(method: str, raw_path: str, headers: Any, body: bytes) -> Asked:
    """Return a request as the recorder would have seen it."""
    path, _, query = raw_path.partition("?")
    return Asked(
        method=method,
        path=below_root(path),
        query=query,
        headers=list(headers.items()),
        body=body,
    )
