"""Our books against the account's: what single answers were billed, and all of them together."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.pipeline.account import Account
from harness.pipeline.money import Statistics
from harness.records import Record

_SAMPLE = 20
_WAITS_S = (1.0, 3.0, 9.0)  # a generation is known some seconds after its end
_ROUNDING_USD = 1e-6


class Reconciled(NamedTuple):
    """Figures for the run's JSON, and what a person should know of them."""

    figures: dict[str, Any]
    notes: list[str]


async def reconciled(
    account: Account,
    used_before_usd: float | None,
    rows: Sequence[Record],
    generations: Mapping[str, Record],
    money: Statistics,
) -> Reconciled:
    """Ask for a sample of the answers, and for the account's total.

    Args:
        account: to ask.
        used_before_usd: its total before the run; None: it does not say.
        rows: of this process.
        generations: the provider's id -> row.
        money: of the whole run.
    """
    billed = await _billed(account, _sample(generations))
    answers = _answers(billed, generations)
    credits_ = await _credits(account, used_before_usd, rows, money)
    notes = []
    if answers["differences"]:
        first = answers["differences"][0]
        notes.append(
            f"{len(answers['differences'])} of {answers['asked']} answers that were asked for were "
            f"billed otherwise than booked, first {first['id']} (${first['ours_usd']:.6f} booked, "
            f"${first['theirs_usd']:.6f} billed)"
        )
    if credits_ is not None and not credits_["explained"]:
        notes.append(
            f"the account was billed ${credits_['billed_usd']:.4f}, the books say "
            f"${credits_['ours_usd']:.4f}: others may be using it, or it lags behind"
        )
    return Reconciled({"generations": answers, "credits": credits_}, notes)


def _sample(generations: Mapping[str, Record]) -> list[str]:
    """Ids to ask for: those first of which nobody told the cost, then evenly spread."""
    doubtful = [name for name, row in generations.items() if row.outcome != "ok"][:_SAMPLE]
    sure = [name for name in generations if name not in set(doubtful)]
    step = max(1, math.ceil(len(sure) / _SAMPLE))
    return [*doubtful, *sure[::step]][:_SAMPLE]


async def _billed(account: Account, wanted: Sequence[str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {name: await account.cost_usd(name) for name in wanted}
    if not any(usd is not None for usd in found.values()):
        return found  # it has no such page, or needs longer than we have
    for wait_s in _WAITS_S:
        missing = [name for name, usd in found.items() if usd is None]
        if not missing:
            break
        await asyncio.sleep(wait_s)
        for name in missing:
            found[name] = await account.cost_usd(name)
    return found


def _answers(
    billed: Mapping[str, float | None], generations: Mapping[str, Record]
) -> dict[str, Any]:
    known = {name: usd for name, usd in billed.items() if usd is not None}
    differences = [
        {
            "id": name,
            "key": generations[name].key,
            "attempt": generations[name].attempt,
            "ours_usd": generations[name].cost_usd,
            "theirs_usd": usd,
        }
        for name, usd in known.items()
        if abs(usd - generations[name].cost_usd) > _ROUNDING_USD
    ]
    return {
        "asked": len(billed),
        "agreed": len(known) - len(differences),
        "unknown": len(billed) - len(known),
        "differences": differences,
    }


async def _credits(
    account: Account, before_usd: float | None, rows: Sequence[Record], money: Statistics
) -> dict[str, Any] | None:
    after_usd = await account.used_usd()
    if before_usd is None or after_usd is None:
        return None
    billed, ours = after_usd - before_usd, math.fsum(row.cost_usd for row in rows)
    # What was estimated may have been billed as nothing, or with all that is held for it.
    low, high = ours - money.estimated_usd, ours + money.held_usd
    return {
        "before_usd": before_usd,
        "after_usd": after_usd,
        "billed_usd": billed,
        "ours_usd": ours,
        "difference_usd": billed - ours,
        "explained": low - _ROUNDING_USD <= billed <= high + _ROUNDING_USD,
    }
