"""Scenario files: read, merged with a variant and the command line, and checked to the last leaf.

Theory of operation. The file is converted once, which fills in every default. A variant's tables
are then merged into that full table, so that an override of one key of a default table keeps the
others, and the sum is converted again; `--set` comes last. All variants are resolved at load:
a fault in the seventh is found before the first has run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.scenario.merge import merge
from harness.scenario.model import Scenario, Variant
from harness.scenario.settings import Setting, apply, blame, fitted, parse_setting
from harness.scenario.slo import flat, parse_slo
from harness.scenario.variants import (
    BASE,
    ancestors_first,
    check_names,
    find_variant,
    lineage,
    tables,
    variant_names,
)
from harness.scenario.workload import Workload
from mock_llm.config import Upstream
from mock_llm.loader import beside, read_table
from mock_llm.strict import FieldError, convert

__all__ = ["BASE", "ScenarioFile", "load_defaults", "load_file", "load_scenario", "variant_names"]


class ScenarioFile(msgspec.Struct, frozen=True):
    """A checked scenario file and the command line's changes to it.

    Attributes:
        where: the file, for messages.
        written: the file as it is, without any override.
        settings: of the command line, applied last to the base and to every variant.
    """

    where: str
    written: Scenario
    settings: tuple[Setting, ...] = ()

    def names(self, selected: str | None = None) -> list[str]:
        """See `variant_names`."""
        return variant_names(self.written, selected)

    def variant(self, name: str) -> Variant:
        """What the file says of a variant; the base has an empty one.

        Raises:
            InputError: there is no such variant.
        """
        return find_variant(self.written, name)

    def resolve(self, name: str = BASE) -> Scenario:
        """The scenario as one variant, or `base`, has it, `--set` included.

        Raises:
            InputError: there is no such variant, or a setting does not fit it.
        """
        find_variant(self.written, name)
        scenario = self._merged(name)
        if not self.settings:
            return scenario
        table = _table(scenario)
        settings = fitted(self.settings, table)
        try:
            return self._made(apply(settings, table, scenario))
        except FieldError as error:
            raise blame(error, settings, "" if name == BASE else name) from None

    def _merged(self, name: str) -> Scenario:
        table = _table(self.written)
        for link in lineage(self.written.variants, name):
            table = merge(table, tables(self.written.variants[link]))
        try:
            return self._made(table)
        except FieldError as error:
            raise error.at(self.where, ("variants", name)) from None

    def _made(self, table: dict[str, Any]) -> Scenario:
        scenario = _checked(convert(table, Scenario, ""))
        upstream = beside(Path(self.where), scenario.upstream)
        return msgspec.structs.replace(scenario, upstream=upstream, variants=self.written.variants)


def load_file(
    path: Path, overrides: Sequence[str] = (), selected: str | None = None
) -> ScenarioFile:
    """Read a scenario file and check all of it, every variant too.

    Args:
        path: TOML, or JSON by its suffix.
        overrides: `dotted.key=value` each; checked in the variants selected.
        selected: as for `variant_names`.

    Raises:
        InputError: one line with the culprit's dotted path, or with the `--set` at fault.
    """
    settings = tuple(map(parse_setting, overrides))
    try:
        written = _written(path)
        order = ancestors_first(written.variants)
    except FieldError as error:
        raise error.at(str(path)) from None
    plain = ScenarioFile(str(path), written)
    for name in order:
        plain.resolve(name)
    changed = ScenarioFile(str(path), written, settings)
    for name in changed.names(selected):
        changed.resolve(name)
    return changed


def load_defaults(overrides: Sequence[str] = (), selected: str | None = None) -> ScenarioFile:
    """A scenario in which everything is as it is unless it is changed; see `load_file`.

    Raises:
        InputError: a `--set` is at fault, or there is no such variant.
    """
    written = Scenario(name="defaults", workload=Workload(), upstream=Upstream())
    file = ScenarioFile("defaults", written, tuple(map(parse_setting, overrides)))
    for name in file.names(selected):
        file.resolve(name)
    return file


def load_scenario(path: Path, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of a file without its variants' overrides; see `load_file`."""
    return load_file(path, overrides, BASE).resolve(BASE)


def _written(path: Path) -> Scenario:
    table = read_table(path)
    if isinstance(table.get("slo"), dict):
        table = {**table, "slo": flat(table["slo"])}
    scenario = convert(table, Scenario, "")
    return _checked(msgspec.structs.replace(scenario, name=scenario.name or path.stem))


def _checked(scenario: Scenario) -> Scenario:
    check_names(scenario)
    parse_slo(scenario.slo)
    return scenario


def _table(scenario: Scenario) -> dict[str, Any]:
    """The scenario as plain data, every default written out, without its variants."""
    table: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(scenario, variants={}))
    del table["variants"]
    return table
