"""Books against the account: what differs is named, what is late is asked again."""

from typing import Any

import pytest

from harness.engines.reconcile import Reconciled, reconciled
from harness.engines.virtual_loop import run_virtual
from harness.pipeline.account import Account
from harness.pipeline.money import Purse, Ticket
from harness.pipeline.secret import Secret
from harness.records import Record


class Told(Account):
    """An account that says what it is told to, some of it only when asked again."""

    def __init__(self, costs: dict[str, list[float | None]], used_usd: float | None) -> None:
        super().__init__("https://nowhere.test/v1", Secret("key"))
        self.asked: list[str] = []
        self._costs = costs
        self._used_usd = used_usd

    async def cost_usd(self, generation: str) -> float | None:
        """The next answer that there is for this one."""
        self.asked.append(generation)
        answers = self._costs.get(generation, [None])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def used_usd(self) -> float | None:
        """The total after the run."""
        return self._used_usd


def row(number: int, usd: float, **more: Any) -> Record:
    """A call that was answered, or not."""
    given = {"outcome": "ok", **more}
    key = f"r{number}"
    return Record(key=key, attempt=1, t_intended=0, t_queued=0, t_end=1, cost_usd=usd, **given)


def held(account: Told, rows: dict[str, Record], before_usd: float | None = 1.0) -> Reconciled:
    """The books of these rows against an account; what was not answered is held at ten cents."""
    purse = Purse(None)
    for one in rows.values():
        ticket = purse.reserve(0, user="u", session="", worst_usd=0.1)
        assert isinstance(ticket, Ticket)
        sure = one.outcome == "ok"
        kind: Any = "useful" if sure else "abandoned"
        purse.settle(ticket, 0, one.cost_usd, kind=kind, estimated=not sure)
    money = purse.statistics()
    return run_virtual(reconciled(account, before_usd, list(rows.values()), rows, money), seed=1)


def test_what_was_billed_otherwise_is_named() -> None:
    """A difference has its id, its request, and both figures, and a person is told."""
    told = held(Told({"g1": [0.01], "g2": [0.03]}, 1.03), {"g1": row(1, 0.01), "g2": row(2, 0.02)})
    answers = told.figures["generations"]
    assert (answers["asked"], answers["agreed"], answers["unknown"]) == (2, 1, 0)
    (difference,) = answers["differences"]
    assert difference == {
        "id": "g2",
        "key": "r2",
        "attempt": 1,
        "ours_usd": 0.02,
        "theirs_usd": 0.03,
    }
    assert "1 of 2 answers" in told.notes[0]
    assert told.figures["credits"]["explained"]


def test_what_is_late_is_asked_again() -> None:
    """An answer that the account does not know yet is asked for until it does, and not for ever."""
    account = Told({"g1": [None, None, 0.01], "g2": [0.02], "g3": [None]}, 1.0)
    rows = {name: row(n, n / 100) for n, name in enumerate(("g1", "g2", "g3"), start=1)}
    answers = held(account, rows).figures["generations"]
    assert (answers["agreed"], answers["unknown"], answers["differences"]) == (2, 1, [])
    assert (account.asked.count("g1"), account.asked.count("g3")) == (3, 4)


@pytest.mark.parametrize(
    ("after_usd", "explained"),
    [(1.01, True), (1.03, True), (1.11, True), (1.12, False), (1.009, False), (0.9, False)],
)
def test_a_difference_is_explained_by_what_nobody_told(
    after_usd: float, *, explained: bool
) -> None:
    """An abandoned call may have cost anything from nothing to its worst case, and no more."""
    rows = {"g1": row(1, 0.01), "g2": row(2, 0.02, outcome="timed_out")}
    told = held(Told({"g1": [0.01]}, after_usd), rows)
    assert told.figures["credits"]["explained"] is explained
    assert bool(told.notes) is not explained


def test_an_endpoint_without_pages_is_none_the_worse() -> None:
    """Where nothing can be asked nothing is said, once each and without waiting."""
    account = Told({}, None)
    told = held(account, {"g1": row(1, 0.01)})
    assert (told.figures["credits"], told.notes, account.asked) == (None, [], ["g1"])


def test_twenty_are_asked_for_and_the_doubtful_first() -> None:
    """Of many answers a sample over the whole run is enough, with all whose cost was estimated."""
    rows = {f"g{n}": row(n, 0.01) for n in range(100)}
    rows["gx"] = row(100, 0.01, outcome="timed_out")
    account = Told({name: [0.01] for name in rows}, 1.0)
    held(account, rows)
    assert len(account.asked) == 20
    assert account.asked[0] == "gx"
    assert account.asked[1] == "g0"
    assert int(account.asked[-1][1:]) > 80
