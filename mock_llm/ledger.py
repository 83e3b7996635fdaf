"""What the mock injected and what it delivered: one row per attempt, as seen from its side."""

from collections import Counter, deque
from pathlib import Path
from typing import Literal

import msgspec

from mock_llm.accounts import Accounts
from mock_llm.errors import InputError
from mock_llm.plan import Plan

End = Literal["", "complete", "refused", "broken", "client_left", "shutdown"]


class Row(msgspec.Struct, kw_only=True, gc=False):
    """One attempt, filled in as it goes. Moments are the server's loop time, seconds.

    Attributes:
        key: see `plan.Call`; empty when the request could not be read.
        attempt: the client's `X-Attempt` header, for the record only.
        account: the API key, shortened when it is long enough to be a real one.
        model: as requested; of several, the one that served.
        stream: server-sent events were asked for.
        new_connection: first request on its connection.
        arrived_s: its head was read.
        admitted_s: the provider decided about it; None when it never came to that.
        status: as planned or refused; 0 when nothing was decided.
        error: wire error class, "" for none.
        finish_reason: as planned; "" for none.
        injected: names of the faults that fired.
        draw: which draw of the request's weather it used; -1 for none.
        planned_first_token_s: seconds from admission.
        planned_last_token_s: seconds from admission.
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
    finish_reason: str = ""
    injected: tuple[str, ...] = ()
    draw: int = -1
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
    """Sums over every row there ever was."""

    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    billed_usd: float = 0.0
    ended: Counter[str] = msgspec.field(default_factory=Counter)


class Delays(msgspec.Struct, frozen=True):
    """How much later than planned answers began, seconds, over `count` of them."""

    count: int
    p50_s: float
    p99_s: float


def billed(
    plan: Plan, ended: End, *, stream: bool, delivered_tokens: int, completion_usd: float
) -> tuple[int, float]:
    """Completion tokens and dollars that one attempt is billed.

    A refusal costs nothing. A non-stream call is billed in full even when its client has left, for
    the model does not stop; a stream that is cut short costs its prompt and the tokens sent so far
    (OpenRouter, at providers where cancelling works). Free are answers that the provider broke off
    with `finish_reason: error`, and those without tokens or a finish reason; a stream that a fault
    kept from its first token is one of them.

    Args:
        plan: what was decided.
        ended: how the attempt ended.
        stream: it was a stream.
        delivered_tokens: completion tokens that went out.
        completion_usd: the part of `plan.cost_usd` that the whole completion has.
    """
    blank = not plan.finish_reason and not plan.completion_tokens
    if plan.status != 200 or plan.finish_reason == "error" or blank:
        return 0, 0.0
    if ended == "complete" or not stream:
        return plan.completion_tokens, plan.cost_usd
    if plan.ending != "clean" and plan.completion_tokens and not delivered_tokens:
        return 0, 0.0
    missing = 1 - delivered_tokens / max(plan.completion_tokens, 1)
    return delivered_tokens, plan.cost_usd - completion_usd * missing


class Ledger:
    """Finished rows in bounded memory, and in full in a file if there is one.

    Attributes:
        rows: the last `limit` finished rows, oldest first.
        totals: over all of them.
        accounts: likewise, by account.
    """

    def __init__(self, file: Path | None = None, *, limit: int = 10_000) -> None:
        self.rows: deque[Row] = deque(maxlen=limit)
        self.totals = Totals()
        self.accounts = Accounts()
        self._encode = msgspec.json.Encoder().encode
        try:
            # Unbuffered, so that a row is in the file as soon as it has ended.
            self._file = file.open("ab", buffering=0) if file else None
        except OSError as error:
            raise InputError(f"{file}: cannot write the ledger: {error.strerror}") from error

    def add(self, row: Row) -> None:
        """Keep a row that has ended."""
        self.rows.append(row)
        totals = self.totals
        totals.attempts += 1
        totals.prompt_tokens += row.prompt_tokens
        totals.completion_tokens += row.completion_tokens
        totals.billed_usd += row.billed_usd
        totals.ended[row.ended] += 1
        tokens = row.prompt_tokens + row.completion_tokens
        self.accounts.add(row.account, tokens, row.billed_usd)
        if self._file:
            self._file.write(self._encode(row) + b"\n")

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


def delay_s(row: Row) -> float | None:
    """Return how much later than planned one answer began; None if it was never due."""
    refused = row.status != 200
    due_s = row.planned_first_token_s if refused or row.stream else row.planned_last_token_s
    actual_s = row.headers_s if refused else row.first_token_s
    if row.admitted_s is None or due_s is None or actual_s is None:
        return None
    return actual_s - row.admitted_s - due_s
