"""What a pipeline is handed by whoever runs it."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from harness.pipeline.costs import Price
from harness.pipeline.journal import Replayed
from harness.pipeline.money import Purse
from harness.pipeline.progress import Progress
from harness.pipeline.secret import Secret


class Toolkit(msgspec.Struct, frozen=True, kw_only=True):
    """What a job or a service is handed: no clock, no randomness and no price list of its own.

    Attributes:
        base_url: of the provider, such as `https://host/api/v1`.
        api_key: sent as Bearer token, never stored or shown.
        ca_file: of a private authority; None: the system's are trusted.
        metered: an endpoint that takes real money: the ids of its answers are kept, and a 402 that
            will not pass ends a run.
        prices: by model id.
        uniform: keyed uniforms in (0, 1): (stream, key, draw).
        count_tokens: estimates the tokens of a text, for what was sent and never answered.
        router_version: part of every cache key.
        on_progress: called at the end of each batch.
        purse: what calls may cost, and do.
        max_completions: model id -> the longest completion, for requests without a cap on theirs.
        replayed: what a run that is resumed has done already, and the journal that it goes on with;
            None where none is kept.
    """

    base_url: str
    api_key: Secret
    prices: dict[str, Price]
    uniform: Callable[[str, str, int], float]
    count_tokens: Callable[[str], int]
    router_version: str = ""
    on_progress: Callable[[Progress], None] | None = None
    purse: Purse = msgspec.field(default_factory=lambda: Purse(None))
    max_completions: dict[str, int] = {}
    replayed: Replayed | None = None
    ca_file: Path | None = None
    metered: bool = False
