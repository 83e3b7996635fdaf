"""The purse: what a call can cost at worst is reserved before it is sent, and settled after it.

Theory of operation. A cap is safe against every order of events if at any time what is booked,

    spent + held + reserved  <=  cap,

and if no call costs more than its reservation. `reserved` are the worst cases of calls under way.
`spent` is what ended calls cost, or are estimated to have cost: the figure that reports show.
`held` is what estimates may be short of: nobody told what a call cost that was abandoned, or whose
answer came without usage, and the provider may bill all of it, so it stays booked at its worst
case. A report of less than we count ourselves frees nothing below our own count either.

Sums are whole numbers of 1e-12 dollars, rounded against us, so that what is given back is exactly
what was taken. A purse has no clock; `now` never goes backwards.
"""

from collections import deque
from heapq import nlargest
from math import ceil, floor, inf
from typing import Literal, NamedTuple

import msgspec

from harness.pipeline.costs import Price, cost_usd
from harness.scenario.resilience import Budget

Cap = Literal["run_usd", "user_usd", "session_usd", "per_min_usd", "calls"]
Kind = Literal["useful", "failed", "abandoned", "duplicate"]

IN_FLIGHT_S = 1.0
"""When to ask again if it depends on calls under way: nobody knows when they end."""

_PER_USD = 10**12
_MINUTE_S = 60.0
_LEAST_S = 0.001  # a clock that is summed in floats may wake a caller a hair too early
_MOST_ACCOUNTS = 100_000
_SHOWN = 20
_CLOSED = "the ticket is closed: a call is settled or released once"


class Ticket(msgspec.Struct, eq=False, gc=False):
    """A reservation; `open` until it is settled or released.

    Attributes:
        accounts: those that it is booked on.
    """

    user: str
    session: str
    worst_usd: float
    amount: int
    accounts: "tuple[_Account, ...]"
    open: bool = True


class Refused(NamedTuple):
    """No money for a call.

    Attributes:
        cap: which setting of the budget says no.
        retry_after_s: when it may fit, as far as can be known; None when never.
        final: waiting cannot help. A run whose own cap is meant (`run_usd`, `calls`) ends.
    """

    cap: Cap
    retry_after_s: float | None
    final: bool


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """Where the money is.

    Attributes:
        spent_usd: by ended calls, the estimates included.
        held_usd: booked beyond it, since it may have been billed; see the module.
        reserved_usd: by calls under way.
        estimated_usd: of what is spent, what nobody has told.
        kind_usd: what is spent, by what it was good for.
        calls: sent or about to be.
        overruns: calls that cost more than they ever could.
        overrun_usd: by so much.
        users_usd: booked for the users that cost most.
        sessions_usd: likewise.
    """

    spent_usd: float
    held_usd: float
    reserved_usd: float
    estimated_usd: float
    kind_usd: dict[Kind, float]
    calls: int
    overruns: int
    overrun_usd: float
    users_usd: dict[str, float]
    sessions_usd: dict[str, float]


def prompt_tokens_most(body: bytes) -> int:
    """The most tokens that the prompt in a request's JSON body can have: one for each byte.

    A token of a byte-level vocabulary stands for at least one byte of UTF-8, and text that comes
    near the bound exists (rare scripts, noise), so nothing below it is sure. JSON only lengthens a
    text. What a chat template adds (4 tokens a message and 3 for the reply at OpenAI, 5 and 1 for
    Llama 3) has more than its match in what JSON has around a message, 28 bytes at least. English
    prose has 4.5 bytes a token: this is so much too high, but only while a call is under way.
    """
    return len(body)


def worst_case_usd(price: Price, prompt_tokens_upper: int, max_tokens: int) -> float:
    """Dollars that one call can cost at most.

    Args:
        price: of the model.
        prompt_tokens_upper: see `prompt_tokens_most`.
        max_tokens: cap on the completion; where the request has none, the model's own.
    """
    return cost_usd(price, prompt_tokens_upper, max_tokens)


class _Account:
    """One cap and what is booked against it; None is no cap."""

    __slots__ = ("booked", "cap", "reserved")

    def __init__(self, cap: int | None, booked: int = 0) -> None:
        self.cap = cap
        self.booked = booked
        self.reserved = 0

    def refuses(self, amount: int) -> Literal["later", "never"] | None:
        if self.cap is None or self.booked + self.reserved + amount <= self.cap:
            return None
        return "later" if self.booked + amount <= self.cap else "never"

    def settle(self, amount: int, booked: int) -> None:
        self.reserved -= amount
        self.booked += booked


class _Accounts:
    """An account for each user or session, as many as there is room for.

    When there are too many, the idle half that spent least is forgotten, and who is not known
    begins with as much as any that was forgotten had spent: too strict, but never too lax.
    """

    def __init__(self, cap: int | None, most: int) -> None:
        self._cap = cap
        self._most = most
        self._known: dict[str, _Account] = {}
        self._opening = 0

    def of(self, name: str) -> _Account:
        """The account of that name, opened where there is none."""
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= self._most:
                self._forget()
            found = self._known[name] = _Account(self._cap, self._opening)
        return found

    def dearest(self, count: int) -> dict[str, float]:
        """Those that have most booked, and how many dollars."""
        most = nlargest(count, self._known.items(), key=lambda one: one[1].booked)
        return {name: account.booked / _PER_USD for name, account in most}

    def _forget(self) -> None:
        idle = [(one.booked, name) for name, one in self._known.items() if not one.reserved]
        for booked, name in sorted(idle)[: max(1, len(idle) // 2)]:
            self._opening = max(self._opening, booked if self._cap is not None else 0)
            del self._known[name]


class _Minute(_Account):
    """A cap on any minute: a call counts from its reservation until a minute after its end.

    So whenever it is that the provider bills it, in between, it counts.
    """

    __slots__ = ("_ended",)

    def __init__(self, cap: int | None) -> None:
        super().__init__(cap)
        self._ended: deque[tuple[float, int]] = deque()

    def wait_s(self, now: float, amount: int) -> float | None:
        """Seconds until the amount may fit; 0 when it does now, None when it never can."""
        ended = self._ended
        while ended and ended[0][0] + _MINUTE_S <= now:
            self.booked -= ended.popleft()[1]
        if self.cap is None or amount > self.cap:
            return 0.0 if self.cap is None else None
        missing = self.booked + self.reserved + amount - self.cap
        if missing <= 0:
            return 0.0
        for ended_s, booked in ended:
            missing -= booked
            if missing <= 0:
                return max(ended_s + _MINUTE_S - now, _LEAST_S)
        return IN_FLIGHT_S

    def ended(self, now: float, booked: int) -> None:
        """Let go of what is booked for a call in a minute."""
        self._ended.append((now, booked))


class Purse:
    """The money of a run or of a service, and its caps; without a budget it only counts."""

    def __init__(self, budget: Budget | None, *, most_accounts: int = _MOST_ACCOUNTS) -> None:
        budget = budget or Budget()
        self._run = _Account(_down(budget.run_usd))
        self._calls = _Account(budget.calls)
        self._users = _Accounts(_down(budget.user_usd), most_accounts)
        self._sessions = _Accounts(_down(budget.session_usd), most_accounts)
        self._minute = _Minute(_down(budget.per_min_usd))
        # What is booked in a minute is no figure: without a cap on it, nobody asks for it.
        self._shared = (self._run,) if self._minute.cap is None else (self._run, self._minute)
        self._is_capped = budget != Budget()
        self._spent = self._estimated = self._overrun = self._overruns = 0
        self._kinds: dict[Kind, int] = dict.fromkeys(
            ("useful", "failed", "abandoned", "duplicate"), 0
        )

    def reserve(self, now: float, user: str, session: str, worst_usd: float) -> Ticket | Refused:
        """Reserve the worst case of a call that is about to be sent, or say which cap forbids it.

        Args:
            now: seconds.
            user: whose call it is.
            session: of the user.
            worst_usd: see `worst_case_usd`.
        """
        amount = ceil(worst_usd * _PER_USD)
        accounts = (self._users.of(user), self._sessions.of(session), *self._shared)
        ticket = Ticket(user, session, worst_usd, amount, accounts)
        if self._is_capped and (refused := self._refused(now, ticket)) is not None:
            return refused
        self._calls.reserved += 1
        for account in accounts:
            account.reserved += amount
        return ticket

    def settle(
        self,
        ticket: Ticket,
        now: float,
        usd: float,
        kind: Kind,
        estimated: bool,
        floor_usd: float = 0.0,
    ) -> float:
        """A call has ended; returns what stays booked for it, dollars.

        Args:
            ticket: its reservation, now closed.
            now: seconds.
            usd: what it cost, counted in full even beyond the reservation; no figure (negative,
                infinite, not a number) counts as an estimate.
            kind: what it was good for.
            estimated: nobody told what it cost: its worst case stays booked.
            floor_usd: by our own count; a report of less frees nothing below it.
        """
        if not ticket.open:
            raise ValueError(_CLOSED)
        ticket.open = False
        if not 0.0 <= usd < inf:
            usd, estimated = ticket.worst_usd, True
        spent = booked = round(usd * _PER_USD)
        amount = ticket.amount
        if estimated or floor_usd:
            least = amount if estimated else min(round(floor_usd * _PER_USD), amount)
            booked = max(spent, least)
        self._spent += spent
        self._kinds[kind] += spent
        if estimated:
            self._estimated += spent
        if spent > amount:
            self._overruns += 1
            self._overrun += spent - amount
        self._calls.reserved -= 1
        self._calls.booked += 1
        for account in ticket.accounts:
            account.reserved -= amount
            account.booked += booked
        if booked and self._minute.cap is not None:
            self._minute.ended(now, booked)
        return booked / _PER_USD

    def release(self, ticket: Ticket) -> None:
        """The call was never sent: it costs nothing, and is no call."""
        if not ticket.open:
            raise ValueError(_CLOSED)
        ticket.open = False
        self._calls.settle(1, 0)
        for account in ticket.accounts:
            account.settle(ticket.amount, 0)

    def carry(
        self,
        *,
        user: str,
        session: str,
        usd: float,
        booked_usd: float,
        kind: Kind,
        estimated: bool,
        calls: int = 1,
    ) -> None:
        """Count a call of an earlier process, or the sum of some; their minute is over.

        Args:
            user: whose call it was.
            session: of the user.
            usd: what it cost.
            booked_usd: what `settle` returned; its worst case where it was never settled.
            kind: what it was good for.
            estimated: nobody told what it cost.
            calls: how many there were.
        """
        spent = round(usd * _PER_USD)
        self._spent += spent
        self._kinds[kind] += spent
        self._estimated += spent if estimated else 0
        self._calls.settle(0, calls)
        for account in (self._run, self._users.of(user), self._sessions.of(session)):
            account.settle(0, round(booked_usd * _PER_USD))

    def statistics(self) -> Statistics:
        """Where the money is now."""
        return Statistics(
            spent_usd=self._spent / _PER_USD,
            held_usd=(self._run.booked - self._spent) / _PER_USD,
            reserved_usd=self._run.reserved / _PER_USD,
            estimated_usd=self._estimated / _PER_USD,
            kind_usd={kind: amount / _PER_USD for kind, amount in self._kinds.items()},
            calls=self._calls.booked + self._calls.reserved,
            overruns=self._overruns,
            overrun_usd=self._overrun / _PER_USD,
            users_usd=self._users.dearest(_SHOWN),
            sessions_usd=self._sessions.dearest(_SHOWN),
        )

    def _refused(self, now: float, ticket: Ticket) -> Refused | None:
        """The gravest reason why not."""
        amount = ticket.amount
        user, session, run, *_ = ticket.accounts
        answers: list[tuple[Cap, Literal["later", "never"] | None]] = [
            ("calls", self._calls.refuses(1)),
            ("run_usd", run.refuses(amount)),
            ("user_usd", user.refuses(amount)),
            ("session_usd", session.refuses(amount)),
        ]
        wait_s = self._minute.wait_s(now, amount)
        answers.append(("per_min_usd", "never" if wait_s is None else "later" if wait_s else None))
        for cap, answer in answers:
            if answer == "never":
                return Refused(cap, None, final=True)
        waits = [(cap, wait_s if cap == "per_min_usd" else IN_FLIGHT_S) for cap, a in answers if a]
        return Refused(*waits[-1], final=False) if waits else None


def _down(usd: float | None) -> int | None:
    return None if usd is None else floor(usd * _PER_USD)
