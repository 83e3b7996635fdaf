"""What the mock injected and what it delivered: one row per attempt, as seen from its side."""

from collections import Counter, deque
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec

from mock_llm.accounts import Accounts
from mock_llm.config import AbortBilling
from mock_llm.errors import InputError
from mock_llm.fidelity import LATE_S, LATE_SHARE
from mock_llm.gauges import OTHER, Gauges, Tally, other_outcome, tick
from mock_llm.plan import Plan

End = Literal["", "complete", "refused", "broken", "client_left", "shutdown"]


class Row(msgspec.Struct, kw_only=True, gc=False):
    """One attempt, filled in as it goes. Moments are the server's loop time, seconds.

    Attributes:
        key: see `plan.Call`; empty when the request could not be read.
        attempt: the client's `X-Attempt` header, for the record only.
        account: the API key, as `masking.masked` shows it.
        model: as requested; of several, the one that served.
        stream: server-sent events were asked for.
        new_connection: first request on its connection.
        arrived_s: its head was read.
        admitted_s: the provider decided about it; None when it never came to that.
        status: as planned or refused; 0 when nothing was decided.
        error: wire error class, "" for none.
        retry_after_s: the wait that a refusal told.
        ending: how its plan was to end, see `plan.Plan`; "" when there was no plan.
        finish_reason: as planned; "" for none.
        injected: names of the faults that fired.
        draw: which draw of the request's weather it used; -1 for none.
        setup_s: after it the connection was set up, and the rest began.
        queued_s: it then waited so long for a slot at the provider.
        slowed_s: sharing the provider's speed kept its first text back for so long.
        planned_first_token_s: seconds of the provider's work.
        planned_last_token_s: seconds of the provider's work.
        headers_s: the first byte went out.
        first_token_s: the first text went out (all of it, in a non-stream answer).
        last_token_s: the last text went out.
        ended_s: it was over: all sent, or the client was gone, or the server stopped.
        ended: how; "" while it goes on. `broken`: a fault broke it off, or made it no answer.
        prompt_tokens: as counted.
        cached_tokens: of these, from the prompt cache.
        completion_tokens: as billed.
        billed_usd: see `billed`.
    """

    key: str = ""
    attempt: str = ""
    account: str = ""
    model: str = ""
    stream: bool = False
    new_connection: bool = False
    arrived_s: float
    admitted_s: float | None = None
    status: int = 0
    error: str = ""
    retry_after_s: float | None = None
    ending: str = ""
    finish_reason: str = ""
    injected: tuple[str, ...] = ()
    draw: int = -1
    setup_s: float = 0.0
    queued_s: float = 0.0
    slowed_s: float = 0.0
    planned_first_token_s: float | None = None
    planned_last_token_s: float | None = None
    headers_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    ended_s: float | None = None
    ended: End = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    billed_usd: float = 0.0


class Totals(msgspec.Struct):
    """Sums over every row since the start or the last reset."""

    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    billed_usd: float = 0.0
    ended: Counter[str] = msgspec.field(default_factory=Counter)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody changed the mock while it ran.

    Attributes:
        number: 1 for the first.
        at_s: the server's loop time, as in the rows.
        attempts: so many had ended.
        did: what, in a word or two: `patch throttle`, `pause`.
        value: what was sent along, keys masked; None when nothing was.
    """

    number: int
    at_s: float
    attempts: int
    did: str
    value: Any = None


class Delays(msgspec.Struct, frozen=True):
    """How much later than planned answers began, seconds, over `count` of them."""

    count: int
    p50_s: float
    p99_s: float


def billed(
    plan: Plan,
    ended: End,
    *,
    stream: bool,
    delivered_tokens: int,
    completion_usd: float,
    abort_billing: AbortBilling = "sent",
) -> tuple[int, float]:
    """Completion tokens and dollars that one attempt is billed.

    A refusal costs nothing. A non-stream call is billed in full even when its client has left, for
    the model does not stop; a stream that is cut short costs its prompt and the tokens sent so far
    where cancelling works, and all of it elsewhere. Free are answers that the provider broke off
    with `finish_reason: error`, and those without tokens or a finish reason; a stream that a fault
    kept from its first token is one of them.

    Args:
        plan: what was decided.
        ended: how the attempt ended.
        stream: it was a stream.
        delivered_tokens: completion tokens that went out.
        completion_usd: the part of `plan.cost_usd` that the whole completion has.
        abort_billing: see `config.Upstream`.
    """
    blank = not plan.finish_reason and not plan.completion_tokens
    if plan.status != 200 or plan.finish_reason == "error" or blank:
        return 0, 0.0
    if ended == "complete" or not stream:
        return plan.completion_tokens, plan.cost_usd
    if plan.ending != "clean" and plan.completion_tokens and not delivered_tokens:
        return 0, 0.0
    if abort_billing == "full":
        return plan.completion_tokens, plan.cost_usd
    missing = 1 - delivered_tokens / max(plan.completion_tokens, 1)
    # What a recorded answer cost need not agree with the list.
    return delivered_tokens, max(plan.cost_usd - completion_usd * missing, 0.0)


class Ledger:
    """Finished rows in bounded memory, and in full in a file if there is one.

    Args:
        file: every row is appended to it.
        limit: rows kept in memory; None for all of them.

    Attributes:
        rows: the last finished rows, oldest first.
        count: rows there ever were; the last of `rows` has this number.
        in_flight: attempts that have begun and not ended.
        fired: the last rows that a fault struck, from the moment it does; they may still go on.
        changes: the last changes by control, oldest first.
        gauges: figures of all rows.
        accounts: sums of the finished rows, by account.
    """

    def __init__(self, file: Path | None = None, *, limit: int | None = 10_000) -> None:
        self.rows: deque[Row] = deque(maxlen=limit)
        self.count = self.in_flight = self._changed = 0
        self.changes: deque[Change] = deque(maxlen=1000)
        self.reset()
        self._encode = msgspec.json.Encoder().encode
        try:
            # Unbuffered, so that a row is in the file as soon as it has ended.
            self._file = file.open("ab", buffering=0) if file else None
        except OSError as error:
            raise InputError(f"{file}: cannot write the ledger: {error.strerror}") from error

    def reset(self) -> None:
        """Forget all rows and figures; the numbers of rows and what is in flight go on."""
        self.rows.clear()
        self.fired: deque[Row] = deque(maxlen=50)
        self.gauges = Gauges()
        self.accounts = Accounts()

    def begin(self) -> None:
        """Count an attempt in, whose row will be added when it has ended."""
        self.in_flight += 1

    def fire(self, row: Row) -> None:
        """Note that faults struck an attempt, at the moment they do."""
        self.fired.append(row)
        faults = self.gauges.at(row.admitted_s or row.arrived_s).faults
        for name in row.injected:
            tick(faults, name)

    def add(self, row: Row) -> None:
        """Keep a row that has ended."""
        self.in_flight -= 1
        self.count += 1
        self.rows.append(row)
        _count(self.gauges.at(row.arrived_s if row.ended_s is None else row.ended_s), row)
        tokens = row.prompt_tokens + row.completion_tokens
        self.accounts.add(row.account, tokens, row.billed_usd)
        if self._file:
            self._file.write(self._encode(row) + b"\n")

    def changed(self, at_s: float, did: str, value: object = None) -> None:
        """Note what control did."""
        self._changed += 1
        attempts = self.count
        self.changes.append(
            Change(number=self._changed, at_s=at_s, attempts=attempts, did=did, value=value)
        )

    def after(self, number: int, limit: int) -> list[tuple[int, Row]]:
        """Rows that are still kept, with their numbers, oldest first: those after a number."""
        first = self.count - len(self.rows) + 1
        begin = max(number + 1, first)
        kept = islice(self.rows, begin - first, begin - first + limit)
        return list(enumerate(kept, begin))

    @property
    def totals(self) -> Totals:
        """Sums over all rows, those that are not kept any more included."""
        whole = self.gauges.total()
        return Totals(
            whole.attempts,
            whole.prompt_tokens,
            whole.completion_tokens,
            whole.billed_usd,
            Counter(whole.by(1)),
        )

    def delays(self) -> Delays:
        """Actual minus planned start of the kept rows' answers: how faithful the mock was.

        A non-stream answer has no other beginning than its end, so it is held against its planned
        last token, and a refusal against its planned moment.
        """
        late = sorted(delay for row in self.rows if (delay := delay_s(row)) is not None)
        if not late:
            return Delays(0, 0.0, 0.0)
        return Delays(len(late), late[len(late) // 2], late[len(late) * 99 // 100])

    def close(self) -> None:
        """Close the file; rows added later are kept in memory only."""
        if self._file:
            self._file.close()
            self._file = None


def _count(tally: Tally, row: Row) -> None:
    tally.attempts += 1
    tally.prompt_tokens += row.prompt_tokens
    tally.completion_tokens += row.completion_tokens
    tally.billed_usd += row.billed_usd
    if row.status == 429 and not row.injected:
        tally.throttled += 1
    # The model of a bad request may be made up.
    model = row.model if row.status != 400 else OTHER
    tick(tally.outcomes, f"{row.status} {row.ended} {model}", other_outcome)
    if row.ended_s is not None:
        tally.latency.add(row.ended_s - row.arrived_s)
    planned_s = _planned_s(row)
    if planned_s is not None and (late_s := _delay_s(row, planned_s)) is not None:
        tally.delay.add(late_s)
        tally.planned_s += planned_s
        if late_s > LATE_S and late_s > LATE_SHARE * planned_s:
            tally.late += 1


def delay_s(row: Row) -> float | None:
    """Return how much later than planned one answer began; None if it was never due."""
    due_s = _planned_s(row)
    return None if due_s is None else _delay_s(row, due_s)


def _delay_s(row: Row, due_s: float) -> float | None:
    actual_s = row.headers_s if row.status != 200 else row.first_token_s
    if row.admitted_s is None or actual_s is None:
        return None
    return actual_s - row.admitted_s - row.setup_s - row.queued_s - row.slowed_s - due_s


def _planned_s(row: Row) -> float | None:
    if row.status != 200 or row.stream:
        return row.planned_first_token_s
    return row.planned_last_token_s
