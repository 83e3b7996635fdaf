"""At the end of a load test: what it measured, whether that can be trusted, whether it will do."""

import json
import logging
import sys
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import gevent
import msgspec
from locust.env import Environment
from locust.event import Events
from locust.runners import MasterRunner, WorkerRunner
from locust.stats import RequestStats
from rich.console import Console

from harness.errors import InputError
from harness.experiments.run import save
from harness.files import write_whole
from harness.pipeline.service.lines import batch_of
from harness.records import read_jsonl
from harness.report.cases import cases_of
from harness.report.load_test import told
from harness.workload import schedule
from loadtests.certificate import Certificate, Mocks
from loadtests.junit import INVALID, exit_code, junit
from loadtests.meter import Meter, raise_file_limit
from loadtests.options import STDOUT
from loadtests.pages import doubts_of, metrics_of, requests_counted, working
from loadtests.prediction import agreements, predicted
from loadtests.reconcile import reconcile
from loadtests.results import Flown, lines_of, run_of_test
from loadtests.rows import PHASE
from loadtests.session import BAD_INPUT, Session, session_of
from loadtests.stack import Choice, Stack
from mock_llm.ledger import Row
from mock_llm.settings import calm_collector

SETTLED_S, SETTLE_S = 0.3, 10.0
"""Files in which nothing was written for so long are whole; for so long that is waited for."""

_LOG = logging.getLogger(__name__)


def attach(events: Events) -> None:
    """Have Locust tell us when a test begins and ends, after the session has been told."""
    raise_file_limit()
    events.test_start.add_listener(_on_start)
    events.test_stop.add_listener(_on_stop)


def _on_start(environment: Environment, **_: Any) -> None:
    session, runner = session_of(environment), environment.runner
    stack = session.stack
    if not isinstance(runner, WorkerRunner):
        environment.process_exit_code = INVALID  # a test that nobody could judge
    session.meter = Meter(
        pids=None if stack is None else stack.pids,
        service_url=None if stack is None else stack.service_url,
        drives=not isinstance(runner, MasterRunner),
    )
    # A pass over the corpus and the rows so far would stop all users for a fifth of a second.
    calm_collector()
    session.meter.start(session.began_s)


def _on_stop(environment: Environment, **_: Any) -> None:
    session = session_of(environment)
    if not session.tests:
        return  # Locust quits, and stops what has never begun
    session.meter.stop()
    if isinstance(environment.runner, WorkerRunner):
        return
    try:
        environment.process_exit_code = judge(session, environment.stats)
    except InputError as error:  # a full disk, a prediction that could not be made
        Console(stderr=True).print(f"locust: error: {error}", markup=False)
        environment.process_exit_code = BAD_INPUT


def judge(session: Session, stats: RequestStats) -> int:
    """Write down what came of a test, say it, and return the exit code."""
    options, stack, choice = session.options, session.stack, session.choice
    if stack is None or choice is None:
        raise RuntimeError("a worker judges nothing")
    said = _settle(stack)
    flown = flown_of(session, stack)
    # A batch is called by its id, in which nobody's name is.
    whose = {id_: row.user for row in flown.records or () if (id_ := batch_of(row.key))}
    in_table = _counts_of(stats)
    if session.roll.lost():  # Locust counts a batch when it is handed in, its user when it is done
        in_table.pop("batch", None)
    counts = reconcile(
        flown.asked,
        flown.records,
        flown.rows,
        locust=None if options.reset_stats else in_table,
        orphaned=lambda key: session.roll.owner(whose.get(key, key)) is not None,
    )
    said += [*_metrics_differ(stack, flown), *session.roll.gaps(), *_unsent(session)]
    meter = session.meter
    mock = None if flown.rows is None else Mocks.of(flown.rows, _doubts(stack))
    strains = [*meter.strains(), *(one for told in session.strains.values() for one in told)]
    certificate = Certificate.of(flown.asked, strains, meter.machine(), mock, said)
    run = run_of_test(flown, certificate, counts)
    unseen = [whose.get(key, key) for key in counts.unseen]
    run.report["notes"] += session.roll.obituaries(unseen) + _others(meter, stack, flown)
    place = save(run, session.place)  # before a prediction, which may take minutes
    write_whole(place / "asked.jsonl", lines_of(flown))
    found: list[dict[str, Any]] = []
    if options.predict and not session.interrupted:
        found = _foretold(session, choice, run.report)
    _write(options, run.report, found)
    console = Console(stderr=options.run_json == STDOUT, highlight=False)
    for one in told(run.report, cases_of(run.report, found), found):
        console.print(one)
    console.print(str(place), style="dim", markup=False)
    return exit_code(cases_of(run.report, found))


def _foretold(session: Session, choice: Choice, report: dict[str, Any]) -> list[dict[str, Any]]:
    """How a run agrees with those on the virtual clock; nothing if that is broken off."""
    count = session.options.predict
    _LOG.info("predicting: %d runs on the virtual clock", count)
    session.prophets = []
    try:
        virtual = predicted(choice, count, session.prophets)
    except InputError:
        if not session.interrupted:
            raise
        return []
    finally:
        session.prophets = None
    return list(msgspec.to_builtins(agreements(report, virtual)))


def flown_of(session: Session, stack: Stack) -> Flown:
    """Everything that was written down of the test."""
    rows = None
    if stack.ledger is not None:
        lines = stack.ledger.read_bytes().splitlines()
        rows = [msgspec.json.decode(line, type=Row) for line in lines]
    return Flown(
        prepared=stack.choice.prepared,
        variant=stack.choice.variant,
        expect=stack.choice.expect,
        seed=stack.choice.seed,
        began_s=session.began_s,
        took_s=session.meter.took_s,
        asked=session.sight.rows,
        records=None if stack.records is None else read_jsonl(stack.records),
        origin_s=stack.origin_s,
        rows=rows,
        stopped="interrupted" if session.interrupted else None,
        spike_s=session.spike_s,
        found=session.found,
    )


def _settle(stack: Stack) -> list[str]:
    """Wait until everything that was asked has been written down; returns what is wrong if not."""
    files = [path for path in (stack.records, stack.ledger) if path is not None]
    began = since = time.monotonic()
    before: list[int] = []
    while True:
        sizes, now = [path.stat().st_size for path in files], time.monotonic()
        if sizes != before:
            before, since = sizes, now
        elif now - since >= SETTLED_S and (now - began > SETTLE_S or not working(stack.mock_url)):
            return []
        if now - began > SETTLE_S + SETTLED_S:
            return [f"calls still went on {SETTLE_S:g} s after the last user had left"]
        gevent.sleep(SETTLED_S / 6)


def _counts_of(stats: RequestStats) -> dict[str, int]:
    """Requests in Locust's own table, by name."""
    counts: Counter[str] = Counter()
    for (name, method), entry in stats.entries.items():
        if method != PHASE:
            counts[name] += entry.num_requests
    return counts


def _unsent(session: Session) -> list[str]:
    """Arrivals for which no place became free before the end: they are in nobody's lateness."""
    flight, sent = session.flight, len(session.sight.rows)
    if flight.work.kind != "arrivals" or session.interrupted or session.roll.lost():
        return []
    due = len(schedule(flight.work, flight.seed, flight.trace))
    return [f"{due - sent:,} of {due:,} arrivals were never sent"] if sent < due else []


def _metrics_differ(stack: Stack, flown: Flown) -> list[str]:
    """The service's own counter against its records: both are of the same requests."""
    counted = requests_counted(metrics_of(stack.service_url))
    if flown.records is None or counted is None:
        return []
    written = len({row.key for row in flown.records})
    if counted == written:
        return []
    return [f"the service counts {counted} requests and has written down {written}"]


def _others(meter: Meter, stack: Stack, flown: Flown) -> list[str]:
    """What a service that others have started has counted besides the requests of these users."""
    counted = requests_counted(metrics_of(stack.service_url))
    kinds = {one.kind for one in flown.asked}
    if flown.records is not None or "batch" in kinds or None in {counted, meter.counted}:
        return []
    asked = sum(one.kind != "stream" and one.status > 0 for one in flown.asked)
    more = (counted or 0) - (meter.counted or 0) - asked
    if not more:
        return []
    return [f"the service counts {more:+} requests against these users': others may be using it"]


def _doubts(stack: Stack) -> tuple[str, ...]:
    if stack.mock_url is None or stack.token is None:
        return ()
    return doubts_of(stack.mock_url, stack.token)


def _write(options: Namespace, report: dict[str, Any], found: list[dict[str, Any]]) -> None:
    """The JSON, and JUnit's file, where they are asked for."""
    if options.junit:
        write_whole(Path(options.junit), [junit(report, cases_of(report, found))])
    if not options.run_json:
        return
    text = json.dumps({"runs": [report], "agreement": found}, indent=1, allow_nan=False) + "\n"
    if options.run_json == STDOUT:
        sys.stdout.write(text)
    else:
        write_whole(Path(options.run_json), [text.encode()])
