"""Puts the tab into Locust's web UI, where there is one."""

import sys
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import flask
import gevent
import msgspec
from locust.env import Environment
from locust.event import Events
from locust.web import WebUI

from harness.errors import InputError
from loadtests.certificate import BOUNDS, Certificate
from loadtests.session import Session, session_of
from loadtests.stack import Stack
from loadtests.tab import NAME, Live, Provider, Tab, extended_tabs
from mock_llm.control.access import Access

_PATIENCE_S = 5.0
_LATEST = 5_000
"""Requests that a look at a running test goes through: looking must not be what makes it late."""


def attach(events: Events) -> None:
    """Have the tab mounted before the web UI is served; after `session.attach`."""
    events.init.add_listener(_on_init)


def _on_init(environment: Environment, web_ui: WebUI | None, **_: Any) -> None:
    if web_ui is None or web_ui.app is None or environment.parsed_options is None:
        return
    session, access = session_of(environment), Access()
    base = environment.parsed_options.web_base_path or ""
    tab = Tab(access, lambda: live_of(environment, session), provider_of(session))
    tab.mount(web_ui.app, base)
    web_ui.app.before_request(lambda: nobody(environment, f"{base}/swarm"))
    web_ui.template_args["extended_tabs"] = extended_tabs()
    scheme = "https" if web_ui.tls_cert else "http"
    place = f"{scheme}://{web_ui.host or '127.0.0.1'}:{web_ui.port}{base}"
    gevent.spawn(_tell, web_ui, f"{place}/?tab={NAME}#token={access.token}")


def _tell(web_ui: WebUI, link: str) -> None:
    """Print the link, once it can be followed: Locust serves its web UI after all listeners."""
    while web_ui.server is None or not web_ui.server.started:
        gevent.sleep(0.05)
    # Not to Locust's log, which its web UI shows to everybody.
    sys.stderr.write(f"the mock's switches: {link}\n")


def nobody(environment: Environment, path: str) -> dict[str, object] | None:
    """What Locust's form is told when it asks for 0 users, which Locust would take."""
    wanted = flask.request.form.get("user_count", type=int)
    if flask.request.path != path or wanted != 0 or environment.shape_class:
        return None
    return {"success": False, "message": "0 users: give 1 at least", "host": environment.host}


def live_of(environment: Environment, session: Session) -> Live:
    """How a load test stands."""
    runner, choice = environment.runner, session.choice
    certificate = certificate_of(session)
    return Live(
        runner="no test" if runner is None else runner.state,
        users=0 if runner is None else runner.user_count,
        about="" if choice is None else f"{choice.path.stem}, {choice.variant}, seed {choice.seed}",
        rows=session.sight.rows,
        reasons=() if certificate is None else certificate.reasons(),
        measured=() if certificate is None else tuple(measured(certificate)),
        workers=session.roll.lines(),
    )


def certificate_of(session: Session) -> Certificate | None:
    """Of the test so far, and of the latest requests; None: there is none yet."""
    meter = getattr(session, "meter", None)
    if meter is None:
        return None
    strains = [*meter.strains(), *(one for told in session.strains.values() for one in told)]
    return Certificate.of(session.sight.rows[-_LATEST:], strains, meter.machine())


def measured(certificate: Certificate) -> Iterator[str]:
    """A line for each figure that has a bound."""
    for bound in BOUNDS:
        value: float | None = getattr(certificate, bound.of)
        if value is not None:
            name = bound.of.replace("_s_p99", ", p99").replace("_", " ").replace("cpu", "processor")
            yield f"{name}: {bound.shown(value)} of at most {bound.shown(bound.limit)}"


def provider_of(session: Session) -> Provider | None:
    """The switches of the mock that is driven; None: there is none, or no token for it."""
    stack, choice = session.stack, session.choice
    if stack is None or choice is None or stack.mock_url is None or stack.token is None:
        return None
    throttle = choice.prepared.scenario.upstream.throttle.requests_per_min

    def ask(method: str, path: str, body: object) -> object:
        # Each test has a mock of its own.
        return asked(session.stack or stack, method, path, body)

    return Provider(ask, throttle)


def asked(stack: Stack, method: str, path: str, body: object) -> object:
    """What the mock's control answers.

    Raises:
        OSError: it does not.
        InputError: it takes no such thing.
    """
    url = f"{(stack.mock_url or '').removesuffix('/api/v1')}/__control{path}"
    data = None if body is None else msgspec.json.encode(body)
    fields = {"Authorization": f"Bearer {stack.token}"}
    request = Request(url, data, fields, method=method)  # noqa: S310 - the mock's own address
    try:
        with urlopen(request, timeout=_PATIENCE_S) as answer:  # noqa: S310
            return msgspec.json.decode(answer.read())
    except HTTPError as error:
        raise InputError(error.read().decode("utf-8", "replace")[:200]) from error
