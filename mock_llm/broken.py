"""What goes out when of an answer that a fault has touched: spoiled, drawn out or cut short.

Three steps, each a pure function of the one before: the parts of the body and their times, as far
as the plan reaches; what happens to their bytes; HTTP around them. What then becomes of the
connection is not bytes, and is the player's.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat

import msgspec

from mock_llm import defects, framing, pages, shapes, wire
from mock_llm.faults.marked import MARK
from mock_llm.framing import Framing
from mock_llm.pacing import Write
from mock_llm.plan import Call, Plan
from mock_llm.playback import Script

_KEEP_ALIVE_S = 0.4  # where a fault is made of keep-alives and the upstream sends none
_BLANK = ("end", "headers")  # keep-alives and nothing else, to a proper end
_DRIP_BYTES = 16
_MARK = MARK.encode()


class Broken(msgspec.Struct, frozen=True):
    """An answer to be sent as its plan has it.

    Attributes:
        call: the request.
        plan: what was decided for it; status 200 and some fault.
        who: the answer's identity.
        completion_usd: the part of the plan's cost that the completion has.
        keep_alive_s: interval of keep-alives; None: only where the fault is made of them.
        frame: how the connection wants it.
        elastic: it may take longer than planned.
    """

    call: Call
    plan: Plan
    who: wire.Identity
    completion_usd: float
    keep_alive_s: float | None
    frame: Framing
    elastic: bool = False

    @property
    def is_page(self) -> bool:
        """A web page comes, whatever was asked for."""
        return "html" in self.plan.forms

    @property
    def is_stream(self) -> bool:
        """Events come, asked for or not."""
        return not self.is_page and (self.call.stream or "events" in self.plan.forms)

    def script(self) -> Script:
        """Return everything that is sent."""
        plan = self.plan
        if plan.reach == "nothing":
            return Script()
        if self.is_page or (not self.is_stream and "short_length" in plan.forms):
            return Script((self._whole(),))
        opens = self.is_stream or plan.reach == "headers"
        if not (opens or self._is_slow or self._in_pieces):
            return Script((self._whole(),))
        idle_s = self._interval_s()
        return Script(
            self._writes(),
            opening=self.frame.opening(self._fields()),
            at_once=opens,
            unopened=b"" if opens or self._in_pieces else self._whole().data,
            keep_alive=b"" if idle_s is None else self.frame.piece(self._keep_alive()),
            interval_s=idle_s or 0.0,
            between=self.is_stream,
            for_ever=plan.ending == "keep_alive",
        )

    @property
    def _in_pieces(self) -> bool:
        """It needs chunks, however quick it is."""
        forms = {"trickle", "split_utf8"}.intersection(self.plan.forms)
        return bool(forms) or self.plan.ending not in {"clean", "end"}

    @property
    def _is_slow(self) -> bool:
        if self.keep_alive_s is None:
            return False
        return self.elastic or self.plan.last_token_s + self.plan.setup_s > self.keep_alive_s

    def _interval_s(self) -> float | None:
        plan = self.plan
        of_keep_alives = plan.ending == "keep_alive" or (plan.ending, plan.reach) == _BLANK
        return self.keep_alive_s or (_KEEP_ALIVE_S if of_keep_alives else None)

    def _writes(self) -> Iterator[Write]:
        """What is due, framed; what ends a body comes with its last part."""
        due: Write | None = None
        for part in _recoded(self._parts(), self.plan):
            if due is not None:
                yield due
            data = self.frame.piece(part.data) if part.data else b""
            due = Write(part.at_s, data, part.tokens)
        if due is not None:
            end = self.frame.end if self.plan.ending in {"clean", "end"} else b""
            yield Write(due.at_s, due.data + end, due.tokens)

    def _fields(self) -> bytes:
        if self.is_page:
            return pages.HTML + framing.ray(self.who)
        marks = shapes.marks(self.who, self.call, self.plan)
        wrong = "wrong_type" in self.plan.forms
        if self.is_stream:
            return (framing.JSON if wrong else framing.EVENTS) + marks
        return (framing.TEXT if wrong else framing.JSON) + marks

    def _usd(self) -> float:
        return min(self.completion_usd, self.plan.cost_usd)

    def _body(self) -> bytes:
        if self.is_page:
            return pages.page(200, self.who.ray)
        return defects.body(self.who, self.call, self.plan, self._usd())

    def _whole(self) -> Write:
        """A body that goes out at once, behind its length."""
        plan = self.plan
        short = "short_length" in plan.forms
        body = _broken_text(self._body(), plan)
        size = _part(len(body), plan)
        whole = self.frame.whole(200, self._fields(), body if short else body[:size])
        tokens = plan.completion_tokens if size == len(body) else 0
        return Write(plan.last_token_s, whole[: len(whole) - short * (len(body) - size)], tokens)

    def _parts(self) -> Iterator[Write]:
        """The body in parts, without framing; an empty part only marks a time."""
        plan = self.plan
        if plan.reach != "headers":
            return self._events() if self.is_stream else self._pieces()
        return iter((Write(plan.last_token_s, b""),) if plan.ending == "end" else ())

    def _keep_alive(self) -> bytes:
        return wire.PROCESSING if self.is_stream else wire.KEEP_ALIVE

    def _events(self) -> Iterator[Write]:
        plan = self.plan
        text, tail = defects.stream(self.who, self.call, plan, self._usd())
        if plan.reach == "part":
            count = len(text) * plan.share if plan.chunks is None else plan.chunks
            yield from self._stuttered(text[: int(count)])
            if "torn" in plan.forms:
                yield _half((*text, Write(plan.last_token_s, tail[0]))[min(int(count), len(text))])
            elif not int(count):
                yield Write(plan.first_token_s, b"")
            return
        if plan.reach == "done" and tail[-1] == wire.DONE:
            tail.pop()
        said = text[-1].tokens if text else 0
        yield from chain(
            self._stuttered(text), (Write(plan.last_token_s, data, said) for data in tail)
        )

    def _stuttered(self, text: list[Write]) -> Iterable[Write]:
        times = 2 if "duplicated" in self.plan.forms else 1
        return chain.from_iterable(repeat(one, times) for one in text)

    def _pieces(self) -> Iterator[Write]:
        plan = self.plan
        body = self._body()
        sent = body[: _part(len(body), plan)]
        tokens = plan.completion_tokens if len(sent) == len(body) else 0
        if "trickle" not in plan.forms:
            yield Write(plan.last_token_s, sent, tokens)
            return
        span_s = plan.last_token_s - plan.first_token_s
        for start in range(0, len(sent), _DRIP_BYTES):
            rest = len(body) - start
            share = 1.0 if rest <= _DRIP_BYTES else start / len(body)
            drip = sent[start : start + _DRIP_BYTES]
            done = start + _DRIP_BYTES >= len(sent)
            yield Write(plan.first_token_s + span_s * share, drip, tokens if done else 0)


def _part(size: int, plan: Plan) -> int:
    """Bytes of a body that are sent."""
    return int(size * plan.share) if plan.reach == "part" else size


def _half(event: Write) -> Write:
    return Write(event.at_s, event.data[: len(event.data) // 2])


def _recoded(parts: Iterable[Write], plan: Plan) -> Iterator[Write]:
    """The parts with their bytes cut or damaged."""
    for part in parts:
        data = _broken_text(part.data, plan)
        cut = data.find(_MARK) + 1 if "split_utf8" in plan.forms else 0
        pieces = [data[:cut], data[cut:]] if cut else [data]
        for piece in pieces:
            yield Write(part.at_s, piece, part.tokens)


def _broken_text(data: bytes, plan: Plan) -> bytes:
    return data.replace(_MARK, _MARK[:-1]) if "invalid_utf8" in plan.forms else data
