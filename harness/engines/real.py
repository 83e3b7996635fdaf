"""The `real` engine: the same client against an endpoint that takes real money.

Before: the endpoint is asked whether it takes the key, and what it charges. After: what the books
say is held against what the account was billed. In between all is as on every engine.
"""

import asyncio
import time
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from harness.engines.base import EngineResult, OnProgress, Prepared, Target, toolkit
from harness.engines.certificate import LAG_BOUND_S
from harness.engines.reconcile import Reconciled, reconciled
from harness.engines.runner import interruptible, result_of
from harness.errors import InputError
from harness.metrics import quantiles
from harness.pipeline.account import Account
from harness.pipeline.costs import Price
from harness.pipeline.job import Job
from harness.pipeline.journal import Replayed
from harness.pipeline.money import worst_case_usd
from harness.pipeline.projection import REPLY, first_sent
from harness.pipeline.prompt import encode
from harness.pipeline.secret import Secret
from harness.pipeline.service.lag import LagMeter
from harness.records import moved

_AROUND = 80  # bytes of JSON around an exchange, and more


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the calls go.

    Attributes:
        base_url: see `checked_address`.
        key: sent as Bearer token.
        ca_file: of a private authority; None: the system's are trusted.
    """

    base_url: str
    key: Secret
    ca_file: Path | None = None


class Worst(NamedTuple):
    """What calls can cost at most, dollars: the dearest one, and one for every request."""

    call_usd: float
    requests_usd: float


def checked_address(option: str, address: str) -> str:
    """The address of an API, without a slash at its end.

    Raises:
        InputError: it is none, there is more in it (what, is not repeated: it may be a key), or a
            key would go over the network in the clear.
    """
    try:
        url = urlsplit(address.strip())
        host, _ = url.hostname, url.port
    except ValueError:
        host = None
    if not host or url.scheme not in {"http", "https"}:
        raise InputError(f"{option}: not an address such as https://openrouter.ai/api/v1")
    if url.username or url.password or url.query or url.fragment:
        raise InputError(f"{option}: only scheme, host and path; the key comes from --key-env")
    if url.scheme == "http" and not _is_loopback(host):
        raise InputError(f"{option}: a key is sent over https only, or to this machine")
    return url.geturl().rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def introduced(prepared: Prepared, endpoint: Endpoint) -> tuple[Prepared, tuple[str, ...]]:
    """Ask the endpoint whether it takes the key and what it charges, before anything is paid for.

    Returns:
        The same work, where the endpoint is dearer at the endpoint's prices; and notes.

    Raises:
        InputError: it cannot be reached, does not take the key, or does not have a model.
    """
    refused, listed = asyncio.run(_ask(endpoint))
    where = f"--base-url {endpoint.base_url}"
    if refused:
        raise InputError(f"{where}: {refused}")
    if listed is None:
        return prepared, ("the endpoint has no list of prices: the scenario's are taken for true",)
    prices, dearer = dict(prepared.prices), []
    for model in prepared.projection.distribution:
        if model not in listed:
            raise InputError(f"{where}: it does not offer {model}: choose another router")
        ours, theirs = prices[model], listed[model]
        prices[model] = Price(
            max(ours.prompt_usd_per_m, theirs.prompt_usd_per_m),
            max(ours.completion_usd_per_m, theirs.completion_usd_per_m),
        )
        if prices[model] != ours:
            dearer.append(model)
    notes = (f"dearer there than in the scenario: {', '.join(dearer)}",) if dearer else ()
    return msgspec.structs.replace(prepared, prices=prices), notes


async def _ask(endpoint: Endpoint) -> tuple[str, dict[str, Price] | None]:
    """Why the endpoint cannot be used, or ""; and its prices."""
    async with Account(endpoint.base_url, endpoint.key, endpoint.ca_file) as account:
        page = await account.page("key")
        if page.status is None:
            return f"cannot be reached: {page.why}", None
        if page.status in {401, 403}:
            return "it does not take the key: check the variable of --key-env", None
        return "", await account.prices()


def worst_of(prepared: Prepared) -> Worst:
    """The worst case of one call for every request, were they served in input order."""
    settings = prepared.scenario.pipeline
    models = prepared.scenario.upstream.models
    texts = [item.review.text for item in prepared.items]
    reply = max(len(REPLY), 4 * (settings.max_tokens or 0)) + _AROUND
    before = [0, *accumulate(len(msgspec.json.encode(text)) + reply for text in texts)]
    found = []
    for n, item in enumerate(prepared.items):
        model = item.route.model
        size = len(encode(settings, model, [], texts[n]))
        size += before[n] - before[first_sent(settings, n)]
        most = settings.max_tokens or models[model].max_completion_tokens
        found.append(worst_case_usd(prepared.prices[model], size, most))
    return Worst(max(found, default=0.0), sum(found))


def run_real(
    prepared: Prepared,
    *,
    seed: int,
    endpoint: Endpoint,
    target: Target | None = None,
    on_progress: OnProgress | None = None,
    replayed: Replayed | None = None,
) -> EngineResult:
    """Run prepared work against a real endpoint; see `engines.base.Engine`.

    Raises:
        InputError: a target was given, or the journal cannot be written on.
    """
    if target is not None:
        raise InputError("--engine real: for our own pipeline only: a target's calls have no cap")
    tools = msgspec.structs.replace(
        toolkit(prepared, seed, endpoint.base_url, on_progress, replayed),
        api_key=endpoint.key,
        ca_file=endpoint.ca_file,
        metered=True,
    )
    job = Job(prepared.items, prepared.scenario.pipeline, tools)
    began = time.perf_counter()
    with asyncio.Runner() as runner:
        lags_s, told = runner.run(_main(job, endpoint, replayed or Replayed()))
    job.records[:] = [moved(row, -job.origin) for row in job.records]
    lag_s = quantiles(lags_s)["p99"]
    result = result_of(
        job, list, time.perf_counter() - began, certificate={"loop_lag_s_p99": lag_s}
    )
    notes = list(told.notes)
    if lag_s > LAG_BOUND_S:
        notes.append(f"this machine was busy: its event loop lagged by {lag_s:.2f} s (p99)")
    return msgspec.structs.replace(
        result, notes=(*result.notes, *notes), reconciliation=told.figures
    )


async def _main(
    job: Job, endpoint: Endpoint, before: Replayed
) -> tuple[Sequence[float], Reconciled]:
    async with Account(endpoint.base_url, endpoint.key, endpoint.ca_file) as account:
        used_usd = await account.used_usd()
        with interruptible(asyncio.get_running_loop(), job):
            async with LagMeter() as meter:
                await job.run()
        rows = job.records[len(before.rows) :]
        told = await reconciled(account, used_usd, rows, job.generations, job.money)
    return meter.lags_s, told
