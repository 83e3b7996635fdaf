"""A client of the user's own in the pipeline's place: any async callable of (review, base URL).

Nothing of its inside is seen. Its calls are read off the wire by the mock: when each arrived, when
its answer began and ended, when the client gave up. What the mock injected stays out of it, so the
verdicts rest on no more than the client itself could know.
"""

import asyncio
import importlib
import inspect
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from harness.client_findings import Traffic
from harness.engines.base import OnProgress, Target
from harness.errors import InputError
from harness.pipeline.answer import label_of
from harness.pipeline.client import Stamps
from harness.pipeline.dispatch import OUTCOME_OF_STOP, Dispatch, Stop
from harness.pipeline.progress import Meter
from harness.pipeline.request import Item, Request
from harness.records import Outcome, Record
from harness.scenario.pipeline import Pipeline
from mock_llm.ledger import Row
from mock_llm.rng import request_key

# The mock of a live run notes what it has sent after its client may have read it, on a clock that
# ticks in milliseconds (libuv's).
_SLACK_S = 0.01
_NO_TIERS: Mapping[str, int] = {}


class Span(NamedTuple):
    """One call of the target, from outside."""

    item: Item
    worker: int
    queued: float
    began: float
    ended: float
    outcome: Outcome
    error: str


class TargetJob:
    """Calls the target for every item, as many at once as the pipeline has slots.

    Attributes:
        labels: request key -> label that the target returned, as text, JSON or mapping.
        spans: every call that came to an end.
        failures: request key -> what the target raised, in a line.
        tiers: rank of price by model id.
    """

    def __init__(
        self,
        target: Target,
        items: Sequence[Item],
        settings: Pipeline,
        base_url: str,
        on_progress: OnProgress | None = None,
        *,
        tiers: Mapping[str, int] = _NO_TIERS,
    ) -> None:
        self.tiers = tiers
        self.labels: dict[str, str | None] = {}
        self.spans: list[Span] = []
        self.failures: dict[str, str] = {}
        self._target = target
        self._items = items
        self._base_url = base_url
        # Whatever the settings say of slots and limits is for a pipeline of ours.
        self._dispatch = Dispatch(
            items, msgspec.structs.replace(settings, slot="before_timeout"), self._handle
        )
        self._meter = Meter(len(items), settings.batch_size or 10, on_progress, prices_known=False)

    @property
    def stopped(self) -> Stop | None:
        """Why the job was ended before its end, or None."""
        return self._dispatch.stopped

    def stop(self, reason: Stop) -> None:
        """End the job now; to be called from the loop."""
        self._dispatch.stop(reason)

    async def run(self) -> None:
        """Call the target for every item."""
        now = asyncio.get_running_loop().time
        self._meter.start(now())
        await self._dispatch.run()
        if self.stopped == "job_deadline":
            began = self._dispatch.began
            self.spans += [
                Span(item, 0, began, began, now(), "timed_out", "job_deadline")
                for item in self._items
                if item.key not in self._dispatch.started
            ]

    async def _handle(self, item: Item, worker: int, queued: float) -> None:
        now = asyncio.get_running_loop().time
        began = now()
        outcome: Outcome = "ok"
        error = ""
        headers = {"X-Request-Key": item.key}
        task = asyncio.current_task()
        if task is not None:
            task.set_name(f"target on {item.key}")  # a report of what spins or hangs says whose
        try:
            given = await self._target(
                msgspec.structs.replace(item.review, headers=headers), self._base_url
            )
            self.labels[item.key] = _label(given)
        except asyncio.CancelledError as caught:
            if task is not None and not task.cancelling():
                outcome, error = self._failed(item, caught)  # it cancelled itself: its own doing
            else:
                stopped = self.stopped or "interrupted"
                outcome, error = OUTCOME_OF_STOP[stopped], stopped
                raise
        except (Exception, SystemExit) as caught:  # noqa: BLE001 - whatever it raises is its result
            outcome, error = self._failed(item, caught)
        finally:
            self.spans.append(Span(item, worker, queued, began, now(), outcome, error))
        self._meter.done(now())

    def _failed(self, item: Item, caught: BaseException) -> tuple[Outcome, str]:
        self.failures[item.key] = " ".join(f"{type(caught).__name__}: {caught}".split())
        return _judged(caught)


def records_of(
    spans: Sequence[Span], rows: Iterable[Row], tiers: Mapping[str, int]
) -> tuple[list[Record], list[Row]]:
    """Join the target's calls with what the mock saw on the wire.

    Args:
        spans: one per request.
        rows: the mock's, whole.
        tiers: rank of price by model id.

    Returns:
        The records, and the calls on the wire that belong to no request that is known, because the
        client sent neither `review.headers` along nor the review's bare text as last message.
    """
    named = {span.item.key: span for span in spans}
    texts: defaultdict[str, list[Span]] = defaultdict(list)
    for span in spans:
        texts[request_key(span.item.review.text)].append(span)
    calls: defaultdict[str, list[Row]] = defaultdict(list)
    strays: list[Row] = []
    # Without key and status it is a connection that stalled, and no call.
    called = [row for row in rows if row.key or row.status]
    for row in sorted(called, key=lambda row: row.arrived_s):
        owner = named.get(row.key) or _owner(row, texts[row.key], calls)
        if owner is None:
            strays.append(row)
        else:
            calls[owner.item.key].append(_seen_by(owner, row))
    return [row for span in spans for row in _rows_of(span, calls[span.item.key], tiers)], strays


def traffic_of(spans: Sequence[Span], rows: Iterable[Row]) -> Traffic:
    """What the mock saw of a target, with what its calls came to: a return is a success."""
    ok: set[str] = set()
    other: set[str] = set()
    stuck: set[str] = set()
    for span in spans:
        names = {span.item.key, request_key(span.item.review.text)}
        (ok if span.outcome == "ok" else other).update(names)
        if span.error == "never_answered":
            stuck.update(names)
    return Traffic(rows, succeeded=ok - other, stuck=stuck)


def _owner(row: Row, spans: Sequence[Span], calls: Mapping[str, Sequence[Row]]) -> Span | None:
    """Of the requests with this very text the one that was waiting for an answer at that moment."""
    for span in spans:
        answered = any(call.ended == "complete" for call in calls[span.item.key])
        if not answered and span.began - _SLACK_S <= row.arrived_s <= span.ended + _SLACK_S:
            return span
    return spans[0] if len(spans) == 1 else None


def _seen_by(span: Span, row: Row) -> Row:
    """A call as its client can have seen it: inside the request, whatever the mock's clock says."""

    def seen(moment: float | None) -> float | None:
        if moment is None or moment > span.ended + _SLACK_S:
            return None  # it came when nobody waited for it any more
        return min(max(moment, span.began), span.ended)

    return msgspec.structs.replace(
        row,
        arrived_s=min(max(row.arrived_s, span.began), span.ended),
        headers_s=seen(row.headers_s),
        first_token_s=seen(row.first_token_s),
        last_token_s=seen(row.last_token_s),
        ended_s=seen(row.ended_s) or span.ended,
    )


def _rows_of(span: Span, calls: Sequence[Row], tiers: Mapping[str, int]) -> list[Record]:
    request = Request(span.item, span.worker, span.queued, span.began, span.began)
    if span.error == "job_deadline" and span.began == span.queued and not calls:
        request.t_admitted = None
    else:
        request.t_limited = request.t_slot = span.began
    if not calls:
        stamps = Stamps()
        stamps.t_connected = request.t_slot
        row = request.row(0, stamps, span.ended, outcome=span.outcome, error=span.error)
        return [msgspec.structs.replace(row, model="", tier=0)]
    records = []
    for number, call in enumerate(calls, 1):
        last = number == len(calls)
        if number > 1:
            request.back(call.arrived_s)
            request.t_slot = call.arrived_s
        row = _row_of(request, number, call, span if last else None)
        tier = tiers.get(call.model, 0)
        records.append(msgspec.structs.replace(row, model=call.model, tier=tier))
    return records


def _row_of(request: Request, number: int, call: Row, last_of: Span | None) -> Record:
    stamps = Stamps()
    stamps.new_connection = call.new_connection
    stamps.status = call.status if call.headers_s is not None else None
    stamps.t_connected = stamps.t_sent = call.arrived_s
    stamps.t_headers = call.headers_s
    stamps.t_first_token = call.first_token_s
    stamps.t_last_token = call.last_token_s
    outcome, error = _ending(call)
    end = call.ended_s if call.ended_s is not None else call.arrived_s
    if last_of is not None:
        end, outcome = last_of.ended, last_of.outcome
        error = last_of.error or ("" if outcome == "ok" else error)
    return request.row(
        number,
        stamps,
        end,
        outcome=outcome,
        error=error,
        prompt_tokens=call.prompt_tokens,
        cached_tokens=call.cached_tokens,
        completion_tokens=call.completion_tokens,
        cost_usd=call.billed_usd,
    )


def _ending(call: Row) -> tuple[Outcome, str]:
    if call.ended == "complete" and call.status == 200:
        return "ok", ""
    if call.ended == "client_left":
        return "timed_out", "gave_up"
    return "failed", f"http_{call.status}" if call.ended == "refused" else "no_answer"


def _judged(error: BaseException) -> tuple[Outcome, str]:
    """A foreign exception is a time-out when it or a base of it calls itself one."""
    names = [kind.__name__ for kind in type(error).__mro__]
    timed_out = any("Timeout" in name for name in names)
    return ("timed_out" if timed_out else "failed"), names[0]


def _label(given: object) -> str | None:
    """The label in whatever a target returns; None when it has none."""
    if isinstance(given, dict):
        given = given.get("label")
    if not isinstance(given, str):
        return None
    found = label_of(given) or given.strip().lower()
    return found if found in {"positive", "negative"} else None


def load_target(spec: str) -> Target:
    """Import `package.module:function`; the current folder comes first, as with `python -m`.

    Raises:
        InputError: it does not import, is not there, or is not async.
    """
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise InputError(f"--target {spec}: write it as package.module:function")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise InputError(f"--target {spec}: cannot import {module_name}: {reason}") from error
    target = getattr(module, name, None)
    if target is None:
        raise InputError(f"--target {spec}: {module_name} has no {name}")
    called = target if inspect.isroutine(target) else type(target).__call__
    if not callable(target) or not inspect.iscoroutinefunction(called):
        raise InputError(
            f"--target {spec}: must be an async callable of (review, base_url): "
            f"`async def {name}(review, base_url)`"
        )
    try:
        inspect.signature(target).bind(None, "")
    except TypeError as error:
        raise InputError(f"--target {spec}: must take (review, base_url): {error}") from error
    found: Target = target
    return found
