"""The scenario file as frozen structs; `load` fills them."""

from typing import Any, Literal

from harness.scenario.pipeline import Pipeline
from harness.scenario.workload import Workload
from mock_llm.config import Table, Upstream


class Variant(Table, frozen=True, kw_only=True):
    """A named change to a scenario: tables that override the file's own, key by key.

    A table that names its `kind` replaces the one it overrides, whole.

    Attributes:
        about: what it is, for the table.
        claim: what somebody said it does, in their words, for the table.
        claims: what was said of it at a size: reviews -> metric of a run -> value.
        expect: `fail` for a before or a trap: the run is as it should be when it fails its SLO.
        like: start from this other variant.
    """

    about: str = ""
    claim: str = ""
    claims: dict[str, dict[str, float]] = {}
    expect: Literal["pass", "fail"] = "pass"
    like: str | None = None
    workload: dict[str, Any] = {}
    upstream: dict[str, Any] = {}
    pipeline: dict[str, Any] = {}
    slo: dict[str, Any] = {}


class Scenario(Table, frozen=True, kw_only=True):
    """One file, resolved for one variant: what every engine reads.

    Attributes:
        name: the file's stem unless given.
        seed: of the weather, unless the command line gives another.
        slo: metric path -> bound, such as `"latency_s.p95" = "<= 10"`.
        variants: see `Variant`.
    """

    name: str = ""
    about: str = ""
    seed: int = 1
    workload: Workload
    upstream: Upstream
    pipeline: Pipeline = Pipeline()
    slo: dict[str, str] = {}
    variants: dict[str, Variant] = {}
