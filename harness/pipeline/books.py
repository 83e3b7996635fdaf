"""The books of a run: an attempt's worst case is reserved and written down, then what it came to.

This is where the purse and the journal, which know nothing of each other, meet the attempts.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Literal, NamedTuple

import msgspec

from harness.errors import InputError
from harness.pipeline.answer import Answer
from harness.pipeline.client import Stamps
from harness.pipeline.costs import cost_usd
from harness.pipeline.gate import Turn
from harness.pipeline.journal import Journal, Replayed, Settled
from harness.pipeline.money import (
    Cap,
    Kind,
    Purse,
    Refused,
    Ticket,
    prompt_tokens_most,
    worst_case_usd,
)
from harness.pipeline.request import Request
from harness.pipeline.toolkit import Toolkit
from harness.records import Record, moved
from harness.scenario.pipeline import Pipeline

KILLED = "killed"
"""The error word of an attempt whose process was killed: nobody knows what became of it."""

NO_MONEY = "budget"
"""The error word of a request that was not sent for lack of money."""

_OF_THE_RUN: tuple[Cap, ...] = ("run_usd", "calls")
_LONGEST_COMPLETION = 131_072  # of a model of which nothing is known; none was longer in 2026


class _Message(msgspec.Struct):
    content: str


class _Body(msgspec.Struct):
    messages: list[_Message]


_BODY = msgspec.json.Decoder(_Body)


class Tokens(NamedTuple):
    """Of a prompt and its completion."""

    prompt: int
    completion: int


class Books:
    """Keeps the books of everything that one processor sends.

    Args:
        settings: of the pipeline.
        tools: see `Toolkit`.
        now: tells the time.

    Attributes:
        waiting: those who wait for money to come back.
        broke: the cap of the run that has been reached, or the account's `credits`; None while
            there is money.
        generations: the provider's id -> row, of an endpoint that is metered.
        origin: the loop's time at the start of the run; of one that was resumed, so much earlier
            as it had run before.
    """

    def __init__(self, settings: Pipeline, tools: Toolkit, now: Callable[[], float]) -> None:
        self.waiting: list[Turn] = []
        self.broke: Cap | Literal["credits"] | None = None
        self.generations: dict[str, Record] = {}
        self._set = settings
        self._tools = tools
        self._purse: Purse = tools.purse
        self._journal: Journal | None = tools.replayed.journal if tools.replayed else None
        self._now = now
        self.origin = self._now()
        if tools.replayed is not None:
            self.origin -= tools.replayed.end_s
            _carry(tools.replayed, self._purse)

    def ask(
        self, request: Request, model: str, prompt_most: int, *, patient: bool = True
    ) -> Ticket | Refused:
        """Reserve the worst case of an attempt, or say why not.

        Args:
            request: what it is for.
            model: that is asked.
            prompt_most: tokens at most; see `prompt_tokens_most`.
            patient: who is not takes nobody's last money as the end of the run.
        """
        most = self._set.max_tokens or self._tools.max_completions.get(model, _LONGEST_COMPLETION)
        worst = worst_case_usd(self._tools.prices[model], prompt_most, most)
        answer = self._purse.reserve(self._now(), request.item.user, request.session, worst)
        if isinstance(answer, Refused) and patient and answer.final and answer.cap in _OF_THE_RUN:
            self.broke = answer.cap
        return answer

    def patience_s(self, request: Request, refused: Refused) -> float | None:
        """How long to wait at most before asking again, earlier if money comes back; None: not."""
        wait_s, deadline = refused.retry_after_s, request.deadline
        if wait_s is None or (deadline is not None and self._now() + wait_s > deadline):
            return None
        return wait_s

    async def reserve(
        self, request: Request, model: str, body: bytes, *, patient: bool = True
    ) -> Ticket | Refused:
        """Reserve the worst case of an attempt, and wait for it where waiting helps in time.

        Who is not patient does not wait.
        """
        while True:
            answer = self.ask(request, model, prompt_tokens_most(body), patient=patient)
            if isinstance(answer, Ticket) or not patient:
                return answer
            if (wait_s := self.patience_s(request, answer)) is None:
                return answer
            given_back = asyncio.get_running_loop().create_future()
            self.waiting.append(given_back)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await given_back

    def begin(
        self,
        request: Request,
        attempt: int,
        model: str,
        ticket: Ticket,
        guess: Callable[[], Tokens],
    ) -> None:
        """Write down that an attempt is about to be sent; the guess is what it may cost.

        Raises:
            InputError: it cannot be written down, so it must not be sent.
        """
        if self._journal is None:
            return
        tokens = guess()
        row = request.row(
            attempt,
            Stamps(),
            self._now(),
            model=model,
            outcome="failed",
            error=KILLED,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            cost_usd=cost_usd(self._tools.prices[model], *tokens),
        )
        try:
            self._journal.begun(moved(row, -self.origin), ticket.worst_usd)
        except InputError:
            self._purse.release(ticket)
            raise

    def end(
        self,
        ticket: Ticket,
        row: Record,
        kind: Kind,
        estimated: bool,
        generation: str = "",
        answer: Answer | None = None,
        floor_usd: float = 0.0,
    ) -> None:
        """An attempt has ended."""
        if self.waiting:
            waiting, self.waiting = self.waiting, []
            for one in waiting:
                if not one.done():
                    one.set_result(None)
        if generation and self._tools.metered:
            self.generations[generation] = row
        if row.t_sent is None:
            self._purse.release(ticket)
            booked = 0.0
        else:
            booked = self._purse.settle(ticket, row.t_end, row.cost_usd, kind, estimated, floor_usd)
        if self._journal is not None:
            self._journal.settled(
                Settled(
                    row=moved(row, -self.origin),
                    booked_usd=booked,
                    kind=kind,
                    estimated=estimated,
                    generation=generation,
                    answer=answer,
                )
            )

    def refused(self, *, passing: bool) -> None:
        """A call met a 402; one that does not pass says that the account is empty."""
        if self._tools.metered and not passing:
            self.broke = "credits"

    def note(self, row: Record, answer: Answer | None = None) -> None:
        """A request has a row without an attempt."""
        if self._journal is not None:
            self._journal.settled(Settled(row=moved(row, -self.origin), answer=answer))

    def done(self, key: str) -> None:
        """A request has come to nothing, and that is final."""
        if self._journal is not None:
            self._journal.done(key)

    def own_count(self, body: bytes, text: str) -> Tokens:
        """Tokens by our own count.

        A message adds four tokens, and the reply's primer three (OpenAI cookbook, "How to count
        tokens with tiktoken").
        """
        count = self._tools.count_tokens
        messages = _BODY.decode(body).messages
        return Tokens(3 + sum(4 + count(one.content) for one in messages), count(text))

    def floor_usd(self, model: str, body: bytes, text: str) -> float:
        """What an answer must have cost by our own count; 0 where no cap asks for it."""
        if self._set.budget is None:
            return 0.0
        return cost_usd(self._tools.prices[model], *self.own_count(body, text))


def _carry(replayed: Replayed, purse: Purse) -> None:
    """Book what earlier processes have spent, and what they may have spent."""
    for line in replayed.settled:
        if line.row.t_sent is not None:
            _book(purse, line.row, line.booked_usd, line.kind, estimated=line.estimated)
    for lost in replayed.lost:
        _book(purse, lost.row, lost.worst_usd, "abandoned", estimated=True)


def _book(purse: Purse, row: Record, booked_usd: float, kind: Kind, *, estimated: bool) -> None:
    purse.carry(
        user=row.user,
        session="",
        usd=row.cost_usd,
        booked_usd=booked_usd,
        kind=kind,
        estimated=estimated,
    )
