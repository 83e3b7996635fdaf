"""Answers from a cassette: the recording is looked up by the request's content.

Recordings of equal requests are played in the order in which they were made; then the last one
repeats. An attempt that the throttle or a fault refuses uses none.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from mock_llm import miss
from mock_llm.behaviour import Provider
from mock_llm.cassette import Ended, Exchange, below_root, decoded, identity, read_cassette
from mock_llm.config import Model, Playback, Upstream
from mock_llm.envelope import Refusal
from mock_llm.plan import Call, Ending, Plan
from mock_llm.redact import stored
from mock_llm.rng import request_key
from mock_llm.said import Said, read_said
from mock_llm.tape import Piece, Tape
from mock_llm.tapes import Retime, Sampled, as_recorded, at_once, first_s, is_good, tape_of

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

    Attributes:
        models: that any recorded request names.

    Raises:
        InputError: the cassette cannot be read.
    """

    def __init__(self, settings: Playback, seed: int) -> None:
        cassette = read_cassette(Path(settings.file))
        self._settings = settings
        self._takes: defaultdict[str, list[Take]] = defaultdict(list)
        for exchange in cassette.exchanges:
            self._takes[identity(exchange.request)].append(_take(exchange))
        requests = [exchange.request for exchange in cassette.exchanges]
        self.models = {one.model for one in requests if one.model}
        self._places = {(one.method, one.path) for one in requests}
        self._played: Counter[str] = Counter()
        self._retime = _retime(settings, cassette.exchanges, seed)

    def has(self, method: str, path: str) -> bool:
        """Whether anything was recorded there; the path begins with the API's root."""
        return (method, below_root(path)) in self._places

    def call(self, asked: Asked, account: str, *, new_connection: bool) -> Call | Refusal | None:
        """Return the call that a request makes; a refusal or None when it is not recorded.

        Args:
            asked: the request.
            account: its API key.
            new_connection: first request on its connection.
        """
        request, _ = stored(asked.method, asked.path, asked.query, asked.headers, asked.body)
        name = identity(request)
        takes = self._takes.get(name)
        if takes is None:
            if self._settings.on_miss == "mock" and asked.path == CHAT:
                return None
            known = [takes[0].exchange.request for takes in self._takes.values()]
            return miss.refusal(request, known)
        body = decoded(asked.body)
        text = miss.last_user_message(body)
        keys = (value for field, value in asked.headers if field.lower() == "x-request-key")
        return Call(
            key=next(keys, "") or request_key(text),
            model=request.model,
            account=account,
            prompt_tokens=max(take.said.prompt_tokens for take in takes),
            text=text,
            stream=isinstance(body, dict) and body.get("stream") is True,
            new_connection=new_connection,
            recording=name,
        )

    def played(self, plan: Plan, call: Call) -> Plan:
        """Return a plan with the recording in its place, as far as faults have left room for it.

        Args:
            plan: what the mock would do.
            call: whose `recording` is looked up.
        """
        if plan.ending in {"refused", "hang"}:
            return plan
        exchange, said, tape = self._next(call.recording)
        good = is_good(exchange) and not said.failed
        if plan.injected and good and (plan.forms or plan.ending not in _CUTS):
            # In a shape of its own the mock says what was recorded.
            return replace(plan, reply=said.text) if plan.reply and said.text else plan
        timed = self._retime(tape, exchange, call.key, plan.draw)
        taped = _taped(timed, exchange, said, plan)
        return _cut(taped, plan, call.stream) if plan.injected and good else taped

    def _next(self, name: str) -> Take:
        takes, place = self._takes[name], self._played[name]
        self._played[name] += 1
        return takes[min(place, len(takes) - 1)]


class ReplayProvider(Provider):
    """A provider whose answers are recorded; throttle, faults and all else are as they were."""

    def __init__(
        self, upstream: Upstream, replay: Replay, *, seed: int, answers: Mapping[str, str]
    ) -> None:
        self._replay = replay
        super().__init__(upstream, seed=seed, answers=answers)

    def change(self, upstream: Upstream) -> None:
        """Be another upstream from the next attempt on, with the cassette's models on offer."""
        free = Model(prompt_usd_per_m=0.0, completion_usd_per_m=0.0, context_length=10**9)
        models = dict.fromkeys(sorted(self._replay.models), free) | upstream.models
        super().change(replace(upstream, models=models))

    def admit(self, call: Call, now: float) -> Plan:
        """Decide everything that will happen to an attempt; see `Provider.admit`."""
        if not call.recording:
            return super().admit(call, now)
        if not call.model:  # no model is asked, such as for the list of them
            return self._replay.played(Plan(), call)
        return self._replay.played(super().admit(call, now), call)


def _retime(settings: Playback, exchanges: list[Exchange], seed: int) -> Retime:
    if settings.timing == "sampled":
        return Sampled(exchanges, seed)
    return at_once if settings.timing == "none" else as_recorded


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


def provider_of(
    upstream: Upstream, replay: Replay | None, *, seed: int, answers: Mapping[str, str]
) -> Provider:
    """Return who decides: a provider of weather alone, or one that plays recordings too."""
    if replay is None:
        return Provider(upstream, seed=seed, answers=answers)
    return ReplayProvider(upstream, replay, seed=seed, answers=answers)


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
