"""The named variants of a scenario: which there are, and what each overrides."""

import re
from collections.abc import Sequence
from typing import Any

from harness.errors import InputError
from harness.scenario.model import Scenario, Variant
from harness.scenario.slo import flat
from mock_llm.strict import FieldError, suggest

BASE = "base"
ALL = "all"

# Names of scenarios and variants become folders.
_FOLDER = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]*")


def variant_names(scenario: Scenario, selected: str | None = None) -> list[str]:
    """The variants to run, in file order: for `all` or None every named one, else `base`.

    Raises:
        InputError: there is no variant `selected`.
    """
    if selected is None or selected == ALL:
        return list(scenario.variants) or [BASE]
    find_variant(scenario, selected)
    return [selected]


def find_variant(scenario: Scenario, name: str) -> Variant:
    """What the file says of a variant; the base has an empty one.

    Raises:
        InputError: there is no such variant.
    """
    if name not in (BASE, *scenario.variants):
        raise InputError(f"{scenario.name}: {_unknown(name, list(scenario.variants))}")
    return scenario.variants.get(name, Variant())


def lineage(variants: dict[str, Variant], name: str) -> list[str]:
    """A variant and those it is `like`, the first ancestor first; the base has none.

    Raises:
        FieldError: `like` names no variant, or goes in a circle.
    """
    chain: list[str] = []
    link: str | None = name
    while link is not None and link != BASE:
        if link not in variants:
            others = [other for other in variants if other != chain[-1]]
            raise FieldError(("variants", chain[-1], "like"), _unknown(link, others))
        if link in chain:
            circle = " -> ".join([*chain[chain.index(link) :], link])
            raise FieldError(("variants", link, "like"), f"goes in a circle: {circle}")
        chain.append(link)
        link = variants[link].like
    return chain[::-1]


def ancestors_first(variants: dict[str, Variant]) -> list[str]:
    """Every variant after those it is like, so that a fault is found in the one that has it."""
    return sorted(variants, key=lambda name: len(lineage(variants, name)))


def tables(variant: Variant) -> dict[str, Any]:
    """The tables that a variant lays on the scenario."""
    return {
        "workload": variant.workload,
        "upstream": variant.upstream,
        "pipeline": variant.pipeline,
        "slo": flat(variant.slo),
    }


def check_names(scenario: Scenario) -> None:
    """Refuse what cannot name a folder of results, and variants nobody could select.

    Raises:
        FieldError: at `name` or at the variant.
    """
    if not _FOLDER.fullmatch(scenario.name):
        raise FieldError(("name",), f"{scenario.name!r} cannot name a folder")
    for name in scenario.variants:
        if name in (BASE, ALL):
            raise FieldError(("variants", name), f"'{name}' is reserved; choose another name")
        if not _FOLDER.fullmatch(name):
            raise FieldError(("variants", name), "this cannot name a folder")


def _unknown(name: str, named: Sequence[str]) -> str:
    return f"unknown variant {name!r}; {suggest(name, [BASE, *named])}"
