"""Small random worlds from a seed: any work against any provider, every feature now and then.

Swarm testing (Groce et al., ISSTA 2012): each world leaves most features out, so that those it has
are not hidden by the others. What a key is set to is keyed by the key's name: a new feature changes
no other one's choice.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.engines.base import Prepared, prepare
from harness.scenario.model import Scenario
from mock_llm.rng import Keyed
from mock_llm.strict import convert

MINI, TURBO = "openai/gpt-4o-mini", "openai/gpt-3.5-turbo"
LATENCIES = (
    0.4,
    {"kind": "exponential", "mean": 0.5},
    {"kind": "lognormal", "mean": 0.8, "sigma": 0.7},
    {"kind": "uniform", "low": 0.1, "high": 2.0},
    {"kind": "pareto", "alpha": 1.5, "scale": 0.2, "cap": 60.0},
)
SETUPS = (0.05, 0.2, {"kind": "exponential", "mean": 0.3})


class Knob(NamedTuple):
    """A key that is set in a share of the worlds, to one of some values."""

    path: str
    share: float
    values: Sequence[Any]


PROVIDER = (
    Knob("upstream.profile.ttft", 1.0, LATENCIES),
    Knob(
        "upstream.profile.output_tokens", 0.8, (1, 4, 15, {"kind": "uniform", "low": 1, "high": 40})
    ),
    Knob("upstream.profile.itl", 0.4, (0.0, 0.01, {"kind": "exponential", "mean": 0.03})),
    Knob("upstream.profile.prefill_s_per_1k", 0.2, (0.1, 0.5)),
    Knob("upstream.profile.cold_start", 0.15, ({"extra_s": 2.0, "decay_s": 3.0, "idle_s": 5.0},)),
    Knob(
        "upstream.profile.prompt_cache",
        0.2,
        ({"min_tokens": 64}, {"min_tokens": 200, "ttl_s": 2.0}),
    ),
    Knob("upstream.connection_setup", 0.4, SETUPS),
    Knob("upstream.capacity.slots", 0.3, (1, 2, 4)),
    Knob("upstream.capacity.full_speed", 0.2, (1, 2, 5)),
    Knob("upstream.capacity.exponent", 0.1, (0.5, 1.5)),
    Knob("upstream.throttle.requests_per_min", 0.25, (5, 20, 40)),
    Knob("upstream.throttle.tokens_per_min", 0.15, (2000, 10_000)),
    Knob("upstream.throttle.concurrent", 0.15, (1, 3)),
    Knob("upstream.throttle.window", 0.2, ("fixed",)),
    Knob("upstream.throttle.hints", 0.2, ("headers", "body")),
    Knob("upstream.regime", 0.25, ({"good_s": 5.0, "bad_s": 3.0, "slowdown": 4.0},)),
    Knob("upstream.drift", 0.15, ({"period_s": 20.0, "factors": [1.0, 3.0, 0.5]},)),
    Knob("upstream.handler_cancellation", 0.4, (True,)),
    Knob("upstream.abort_billing", 0.2, ("full",)),
    Knob("upstream.keep_alive_s", 0.3, ("none", 0.15, 2.0)),
)
CLIENT = (
    Knob("pipeline.retries", 1.0, (0, 1, 3)),
    Knob("pipeline.attempt_timeout_s", 1.0, (0.7, 2.0, 7.3, 30.0)),
    Knob("pipeline.backoff.base_s", 0.5, (0.0, 0.2, 2.0)),
    Knob("pipeline.backoff.jitter", 0.5, ("none", "equal", "decorrelated")),
    Knob("pipeline.backoff.honour_retry_after", 0.2, (False,)),
    Knob("pipeline.backoff.longest_hint_s", 0.1, (1.0, 20.0)),
    Knob("pipeline.context", 0.5, ("none", "grow", "send_all")),
    Knob("pipeline.context_exchanges", 0.3, (0, 1, 3)),
    Knob("pipeline.pool", 0.25, (False,)),
    Knob("pipeline.pool_limit", 0.2, (1, 3)),
    Knob("pipeline.rate_limit", 0.7, ("none", "none", 4, 12)),
    Knob("pipeline.limiter", 0.3, ("gcra",)),
    Knob("pipeline.cache", 0.3, ("memory",)),
    Knob("pipeline.cache_ttl_s", 0.2, (1.0,)),
    Knob("pipeline.stream", 0.35, (True,)),
    Knob("pipeline.max_tokens", 0.3, (3, "none")),
    Knob(
        "pipeline.retry_budget", 0.15, ({"share": 0.2, "per_s": 0.1}, {"share": 0.0, "per_s": 0.5})
    ),
    Knob("pipeline.breaker", 0.2, ({"min_calls": 3, "window_s": 5.0, "open_s": 1.0, "probes": 1},)),
    Knob("pipeline.hedge", 0.15, ({"quantile": 0.7, "min_samples": 4, "share": 0.3},)),
    Knob(
        "pipeline.adaptive",
        0.2,
        (
            {"kind": "aimd", "initial": 3, "highest": 6, "backoff": 0.5},
            {"kind": "gradient2", "initial": 3, "lowest": 1, "highest": 8, "long_window": 5},
        ),
    ),
    Knob("pipeline.fallbacks", 0.2, ([TURBO],)),
    Knob("pipeline.budget", 0.1, ({"calls": 25}, {"run_usd": 0.002}, {"per_min_usd": 0.001})),
    Knob("pipeline.router", 0.6, ({"kind": "single", "model": MINI}, {"kind": "legacy"})),
    Knob("pipeline.instructions", 0.7, ("Judge.",)),
)
BATCH = (
    Knob("workload.users", 0.4, (2, 3)),
    Knob("pipeline.concurrency", 1.0, (1, 2, 5, 8)),
    Knob("pipeline.slot", 0.3, ("inside_timeout", "never")),
    Knob("pipeline.batch_size", 0.5, (3, 7)),
    Knob("pipeline.barrier", 0.3, (True,)),
    Knob("pipeline.job_deadline_s", 0.1, (3.0, 20.0)),
    Knob("pipeline.deadline_s", 0.2, (2.0, 10.0)),
)
SERVICE = (
    Knob("workload.deadline_s", 0.7, (1.0, 4.0, 30.0)),
    Knob("pipeline.workers", 1.0, (1, 2, 5, 20)),
    Knob("pipeline.queue.size", 0.4, (0, 3, 10)),
    Knob("pipeline.queue.order", 0.3, ("lifo_when_late",)),
    Knob("pipeline.queue.late_s", 0.3, (0.2,)),
    Knob("pipeline.queue.useful_only", 0.4, (False,)),
)
ARRIVALS = (
    {"kind": "poisson", "rate_per_s": 4.0},
    {"kind": "constant", "rate_per_s": 5.0},
    {"kind": "gamma", "rate_per_s": 4.0, "cv": 2.0},
    {"kind": "spike", "base_per_s": 2.0, "factor": 5.0, "at_s": 3.0, "for_s": 2.0},
    {"kind": "step", "rates_per_s": [1.0, 8.0], "at_s": [4.0]},
)
FAULTS: tuple[Mapping[str, Any], ...] = (
    {"kind": "hang_before_headers"},
    {"kind": "hang_after_headers"},
    {"kind": "hang_mid_stream"},
    {"kind": "hang_mid_stream", "after_chunks": 2},
    {"kind": "keep_alive_hang", "share": 0.3},
    {"kind": "whitespace_then_eof", "after_s": 1.0},
    {"kind": "unclosed_body"},
    {"kind": "slow_trickle", "over_s": 5.0},
    {"kind": "connection_reset"},
    {"kind": "connection_reset", "at": "body"},
    {"kind": "premature_eof"},
    {"kind": "premature_eof", "framing": "length"},
    {"kind": "no_done"},
    {"kind": "truncated_json"},
    {"kind": "html_error"},
    {"kind": "html_error", "status": 200},
    {"kind": "wrong_content_type"},
    {"kind": "sse_for_json"},
    {"kind": "error_in_200"},
    {"kind": "empty_choices"},
    {"kind": "empty_content"},
    {"kind": "finish_error"},
    {"kind": "rate_limited", "retry_after_s": 1.5},
    {"kind": "rate_limited", "hints": "body", "after_s": 0.5},
    {"kind": "no_credit", "retry_after_s": 1.0},
    {"kind": "moderation"},
    {"kind": "rejected", "status": 400},
    {"kind": "server_error", "retry_after_s": 2.0},
    {"kind": "server_error", "status": 529},
    {"kind": "duplicated_chunks"},
    {"kind": "split_utf8"},
    {"kind": "invalid_utf8"},
    {"kind": "idle_race"},
    {"kind": "tls_stall"},
    {"kind": "dns_failure"},
)

NETWORK = {"idle_race", "tls_stall", "dns_failure"}  # a connection knows no regime


class World(NamedTuple):
    """A scenario of the swarm: its dotted keys."""

    seed: int
    chosen: dict[str, Any]

    def prepared(self) -> Prepared:
        """It, ready for an engine."""
        return prepare(convert(tomllib.loads(self.told()), Scenario, ""))

    def told(self) -> str:
        """Its seed, and itself as TOML."""
        lines = [line for path, value in self.chosen.items() for line in _lines(path, value)]
        return "\n".join([f"# swarm seed {self.seed}", *lines, ""])


class Dice:
    """Choices of one world, each by its name."""

    def __init__(self, seed: int) -> None:
        self._uniform = Keyed(seed).uniform

    def on(self, name: str, share: float) -> bool:
        """Whether a feature is there."""
        return self._uniform("swarm.on", name) < share

    def of(self, name: str, values: Sequence[Any], draw: int = 0) -> Any:
        """One of some values."""
        return values[int(self._uniform("swarm.of", name, draw) * len(values))]


def world(seed: int, kinds: Sequence[str] = ("batch", "arrivals", "users")) -> World:
    """The scenario of a seed, of at most about sixty requests."""
    dice = Dice(seed)
    kind = dice.of("kind", kinds)
    knobs = (*PROVIDER, *CLIENT, *(BATCH if kind == "batch" else SERVICE))
    chosen = {one.path: dice.of(one.path, one.values) for one in knobs if dice.on(*one[:2])}
    chosen |= {"name": f"swarm_{seed}", "seed": seed % 7, "workload.kind": kind}
    chosen |= {f"workload.{key}": value for key, value in _work(dice, kind).items()}
    if "upstream.capacity.slots" in chosen and dice.on("capacity.queue", 0.5):
        chosen["upstream.capacity.queue"] = dice.of("capacity.queue", (0, 3))
        chosen["upstream.capacity.order"] = dice.of("capacity.order", ("fifo", "lifo"))
    chosen["upstream.faults"] = _faults(dice, regime="upstream.regime" in chosen)
    _settle(chosen, dice)
    return World(seed, chosen)


def _work(dice: Dice, kind: str) -> dict[str, Any]:
    corpus = dice.of("corpus", ("synthetic", "synthetic", "templates8"))
    work = {"corpus": corpus, "reviews": dice.of("reviews", (7, 25, 60))}
    if kind == "arrivals":
        work["users"] = dice.of("work.users", (1, 4))
        work |= {"duration_s": 8.0, "arrivals": dice.of("arrivals", ARRIVALS)}
    if kind == "users":
        work |= {"users": dice.of("work.users", (1, 4, 12)), "duration_s": 12.0}
        work |= {"ramp_s": dice.of("ramp", (0.0, 3.0)), "think": dice.of("think", LATENCIES)}
        work["requests_per_user"] = dice.of("each", (2, 5))
    return work


def _faults(dice: Dice, *, regime: bool) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for n in range(dice.of("faults", (0, 1, 2, 3))):
        name = f"fault{n}"
        fault = {"rate": dice.of("rate", (0.05, 0.2, 0.5), n), **dice.of("fault", FAULTS, n)}
        if dice.on(f"{name}.window", 0.25):
            fault |= {"from_s": 2.0, "until_s": 6.0, "ramp_s": dice.of("fault.ramp", (0.0, 1.0), n)}
        if dice.on(f"{name}.first_n", 0.1):
            fault["first_n"] = 3
        if regime and fault["kind"] not in NETWORK and dice.on(f"{name}.regimes", 0.5):
            fault["regimes"] = ["bad"]
        found[name] = fault
    return found


def _settle(chosen: dict[str, Any], dice: Dice) -> None:
    """Take back what contradicts the rest, and add what needs it."""
    if "pipeline.adaptive" in chosen:
        chosen.pop("pipeline.slot", None)
    if chosen.get("pipeline.slot") != "inside_timeout" and dice.on("patience", 0.1):
        chosen["pipeline.attempt_timeout_s"] = "none"
    if "pipeline.stream" in chosen and dice.on("stall", 0.4):
        chosen["pipeline.stall_s"] = dice.of("stall", (0.3, 1.0))
    if "pipeline.cache" in chosen and dice.on("near", 0.2):
        chosen["pipeline.near.threshold"] = 0.6


def _lines(path: str, value: Any) -> list[str]:
    """Dotted keys and their values, a line each."""
    if isinstance(value, Mapping):
        return [line for key, one in value.items() for line in _lines(f"{path}.{key}", one)]
    return [f"{path} = {json.dumps(value)}"]
