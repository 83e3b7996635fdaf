"""Exchanges become tapes: their bytes as they came, at recorded, at no, or at sampled times."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil

import msgspec

from mock_llm.cassette import Exchange
from mock_llm.distributions import Distribution, Empirical, Quantile, quantile_function
from mock_llm.rng import Keyed
from mock_llm.said import Said, says_text
from mock_llm.tape import Piece, Tape

FINEST = 1001
"""Points of a quantile function: one for every tenth of a percent."""


def tape_of(exchange: Exchange, said: Said) -> Tape:
    """Return an exchange as it was recorded."""
    lines = [f"{name.title()}: {value}\r\n" for name, value in exchange.headers]
    return Tape(
        status=exchange.status,
        fields="".join(lines).encode(),
        length=exchange.length,
        headers_s=exchange.headers_s or 0.0,
        pieces=_pieces(exchange, said),
        end_s=exchange.total_s,
    )


def is_stream(exchange: Exchange) -> bool:
    """Whether an answer came as server-sent events."""
    return dict(exchange.headers).get("content-type", "").startswith("text/event-stream")


def is_good(exchange: Exchange) -> bool:
    """Whether it is an answer that came to its end."""
    return exchange.status == 200 and exchange.ended == "complete" and bool(exchange.chunks)


def first_s(tape: Tape) -> float:
    """When the first bytes came that say something; the last ones, when none do."""
    return next((p.at_s for p in tape.pieces if says_text(p.data)), tape.end_s)


def _pieces(exchange: Exchange, said: Said) -> tuple[Piece, ...]:
    datas = [chunk.data for chunk in exchange.chunks]
    telling = [says_text(data) for data in datas]
    tokens = said.completion_tokens or sum(telling) * is_good(exchange)
    done, pieces = 0, []
    for index, (chunk, data) in enumerate(zip(exchange.chunks, datas, strict=True)):
        done += telling[index]
        # A whole answer is there when its last byte is; a stream token by token.
        share = done / sum(telling) if is_stream(exchange) and done else 0.0
        share = 1.0 if index == len(datas) - 1 else share
        pieces.append(Piece(chunk.at_s, data, ceil(tokens * share)))
    return tuple(pieces)


def at_once(tape: Tape) -> Tape:
    """Return the tape without any waiting."""
    pieces = tuple(Piece(0.0, piece.data, piece.tokens) for piece in tape.pieces)
    return msgspec.structs.replace(tape, headers_s=0.0, pieces=pieces, end_s=0.0)


class Sampled:
    """Times drawn from those of a whole cassette, by model.

    A stream has its time to first token and every gap behind it drawn anew, each with a uniform of
    its own; an answer in one piece its whole length. What comes before, such as keep-alives, is
    stretched along. Answers that are no good ones keep their times.
    """

    def __init__(self, exchanges: Iterable[Exchange], seed: int) -> None:
        weather = Keyed(seed)
        self._first = weather.stream("cassette:first")
        self._gap = weather.stream("cassette:gap")
        firsts: defaultdict[tuple[str, bool], list[float]] = defaultdict(list)
        gaps: defaultdict[str, list[float]] = defaultdict(list)
        for one in filter(is_good, exchanges):
            model, tape = one.request.model, tape_of(one, Said())
            began = first_s(tape)
            firsts[model, is_stream(one)].append(began if is_stream(one) else tape.end_s)
            if is_stream(one):
                times = [piece.at_s for piece in tape.pieces if piece.at_s >= began]
                gaps[model] += [late - early for early, late in pairwise(times)]
        self._firsts = {name: _quantile(values) for name, values in firsts.items()}
        self._gaps = {name: _quantile(values) for name, values in gaps.items() if values}

    def __call__(self, tape: Tape, exchange: Exchange, key: str, draw: int) -> Tape:
        """Return the tape at other times."""
        stream, model = is_stream(exchange), exchange.request.model
        law = self._firsts.get((model, stream))
        if law is None or not is_good(exchange):
            return tape
        old = first_s(tape) if stream else tape.end_s
        new = law(self._first(key, draw))

        def early(at_s: float) -> float:
            return at_s * new / old if old else new

        pieces: list[Piece] = []
        before = old
        for index, piece in enumerate(tape.pieces):
            if piece.at_s <= old or not pieces:
                at_s = early(piece.at_s)
            else:
                gap = self._gaps[model](self._gap(f"{index}:{key}", draw))
                at_s = max(pieces[-1].at_s, new) + gap
            pieces.append(Piece(at_s, piece.data, piece.tokens))
            before = piece.at_s
        end_s = early(tape.end_s) if not stream else pieces[-1].at_s + tape.end_s - before
        return msgspec.structs.replace(
            tape, headers_s=early(tape.headers_s), pieces=tuple(pieces), end_s=end_s
        )


def empirical(values: Sequence[float], points: int = FINEST) -> Distribution:
    """Return values as a distribution: their quantiles, at no more points than asked for."""
    ordered = sorted(values)
    if len(ordered) == 1:
        return ordered[0]
    count, last = min(points, len(ordered)), len(ordered) - 1
    places = [index * last / (count - 1) for index in range(count)]
    found = [ordered[int(p)] + (ordered[ceil(p)] - ordered[int(p)]) * (p % 1) for p in places]
    return Empirical(quantiles=tuple(round(value, 6) for value in found))


def _quantile(values: Sequence[float]) -> Quantile:
    return quantile_function(empirical(values))
