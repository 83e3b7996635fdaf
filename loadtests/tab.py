"""The tab `Flight` of Locust's web UI: the mock's switches, and what they do to the users.

Theory of operation. Locust's own tabs hold tables; one with switches in it is a page of its own,
`/flight`, which a small script shows under a tab that Locust was asked for. Whoever has the token
and asks from this machine may read and switch, as with the mock's control: Locust's web UI listens
on every address, and lets other origins read its answers.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple, Protocol

import msgspec
from flask import Blueprint, Flask, Response, request

from harness.errors import InputError
from mock_llm.control.access import Access

NAME = "flight"
SWITCHES = ("hang", "throttle", "outage")
OUTCOMES = ("ok", "timed_out", "failed", "rejected")
_MOST_CAUSES = 12
_TAGS = b'<script src="flight/tab.js" defer></script></head>'

Ask = Callable[[str, str, Any], Any]
"""Method, path below `/__control` and body -> what the mock answers; `OSError` if it does not."""


class Seen(Protocol):
    """What the tally reads of a request."""

    @property
    def outcome(self) -> str:
        """As records have it."""

    @property
    def cause(self) -> str:
        """Why it was not answered; empty when it was."""


class Tally:
    """Requests by outcome and cause, counted once each however often one looks."""

    def __init__(self) -> None:
        self._seen = 0
        self._counts: Counter[tuple[str, str]] = Counter()

    def look(self, rows: Sequence[Seen]) -> None:
        """Count those that are new; fewer than before are another test's."""
        if len(rows) < self._seen:
            self._seen, self._counts = 0, Counter()
        self._counts.update((row.outcome, row.cause) for row in rows[self._seen :])
        self._seen = len(rows)

    def told(self) -> dict[str, Any]:
        """`outcomes`, and the most frequent `causes` of what was not answered."""
        outcomes: Counter[str] = Counter()
        for (outcome, _), count in self._counts.items():
            outcomes[outcome] += count
        causes = [
            {"outcome": outcome, "cause": cause, "count": count}
            for (outcome, cause), count in self._counts.most_common()
            if outcome != "ok"
        ]
        return {"outcomes": outcomes, "causes": causes[:_MOST_CAUSES]}


class Provider:
    """The mock's switches.

    Args:
        ask: the mock's control.
        throttle: requests a minute that the scenario allows; None: any number.
    """

    def __init__(self, ask: Ask, throttle: int | None) -> None:
        self._ask, self._throttle = ask, throttle

    def look(self) -> tuple[dict[str, float | None], list[str]]:
        """Where the switches are, and why the mock calls itself the bottleneck.

        Per cent, or requests a minute, of each switch; None: it is off.
        """
        told = self._ask("GET", "", None)
        upstream = told["upstream"]
        per_min = upstream["throttle"].get("requests_per_min")
        switches = {
            "hang": _per_cent(upstream["faults"].get("dashboard_hang")),
            "throttle": None if per_min == self._throttle else per_min,
            "outage": _per_cent(upstream["faults"].get("dashboard_outage")),
        }
        return switches, [f"the mock: {why}" for why in told["fidelity"]["minute"]["reasons"]]

    def flip(self, name: str, amount: float | None) -> None:
        """Throw a switch.

        Args:
            name: one of `SWITCHES`.
            amount: per cent of the calls, or calls a minute; None switches it off.

        Raises:
            InputError: there is no such switch, or not so much of it.
        """
        self._ask(*command(name, amount, self._throttle))


def command(name: str, amount: float | None, throttle: int | None) -> tuple[str, str, Any]:
    """What a switch stands for at the mock's control, as its own page has it.

    Raises:
        InputError: see `Provider.flip`.
    """
    if name == "throttle":
        if amount is not None and not (amount >= 1 and amount == int(amount)):
            raise InputError(f"throttle: expected a whole number of at least 1, got {amount}")
        per_min = throttle if amount is None else int(amount)
        return "PATCH", "/throttle", {"requests_per_min": per_min}
    if name not in SWITCHES:
        raise InputError(f"{name}: there is no such switch: name one of {', '.join(SWITCHES)}")
    path = f"/faults/dashboard_{name}"
    if amount is None:
        return "DELETE", path, None
    if not 0 < amount <= 100:
        raise InputError(f"{name}: expected a share above 0 and up to 100 per cent, got {amount}")
    kind = {"kind": "hang_before_headers"} if name == "hang" else _OUTAGE
    return "PUT", path, {**kind, "rate": amount / 100}


_OUTAGE = {"kind": "server_error", "status": 503}


def _per_cent(fault: Mapping[str, Any] | None) -> float | None:
    return None if fault is None else round(100 * float(fault["rate"]), 2)


class Live(NamedTuple):
    """A run at this moment.

    Attributes:
        runner: what Locust is doing.
        users: that are there.
        about: which scenario.
        rows: requests that have ended.
        reasons: why the measurement is INVALID.
        measured: of itself, a line each.
        workers: what there is to say of them, a line each.
    """

    runner: str
    users: int
    about: str
    rows: Sequence[Seen]
    reasons: Sequence[str] = ()
    measured: Sequence[str] = ()
    workers: Sequence[str] = ()


class _Flip(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    amount: float | None = None


class Tab:
    """The page and what it asks for.

    Args:
        access: who may.
        live: looks at the run.
        provider: None: there is no mock to switch.
    """

    def __init__(self, access: Access, live: Callable[[], Live], provider: Provider | None) -> None:
        self._access, self._live, self._provider = access, live, provider
        self._tally = Tally()

    def mount(self, app: Flask, base: str = "") -> None:
        """Serve the page below `base`, and show it in Locust's."""
        pages = Blueprint(NAME, __name__, url_prefix=base or None)
        for name, kind in (("style.css", "text/css"), ("tab.js", "text/javascript")):
            text = _style() if name == "style.css" else _text(name)
            pages.add_url_rule(f"/{NAME}/{name}", name.partition(".")[0], _always(text, kind))
        pages.add_url_rule(f"/{NAME}", "page", _always(_text("tab.html"), "text/html"))
        pages.add_url_rule(f"/{NAME}/state", "state", self._guarded(self._state))
        pages.add_url_rule(
            f"/{NAME}/switch", "switch", self._guarded(self._switch), methods=["POST"]
        )
        app.register_blueprint(pages)
        app.after_request(_showing(f"{base}/"))

    def _guarded(self, answer: Callable[[], Any]) -> Callable[[], Response]:
        def guarded() -> Response:
            peer = (request.remote_addr, 0)
            if not self._access.near(peer, request.host):
                return _json({"error": "from this machine only, by address or localhost"}, 403)
            fields = request.headers
            given = fields.get("Authorization", ""), fields.get("X-Control-Token", "")
            if not self._access.knows(*given):
                return _json({"error": "the token of this run is needed"}, 401)
            try:
                return _json(answer())
            except (InputError, msgspec.DecodeError) as error:
                return _json({"error": str(error)}, 422)
            except OSError as error:
                return _json({"error": f"the mock did not answer: {error}"}, 502)

        return guarded

    def _state(self) -> dict[str, Any]:
        live = self._live()
        self._tally.look(live.rows)
        found = {**live._asdict(), **self._tally.told(), "switches": None, "trouble": ""}
        del found["rows"]
        if self._provider is not None:
            try:
                found["switches"], doubts = self._provider.look()
                found["reasons"] = [*live.reasons, *doubts]
            except OSError as error:
                found["trouble"] = f"the mock does not answer: {error}"
        return found

    def _switch(self) -> dict[str, Any]:
        if self._provider is None:
            raise InputError("there is no mock to switch")
        wanted = msgspec.json.decode(request.get_data(), type=_Flip)
        self._provider.flip(wanted.name, wanted.amount)
        return {"name": wanted.name, "amount": wanted.amount}


def extended_tabs() -> list[dict[str, str]]:
    """What Locust's page is told, so that it has the tab."""
    return [{"title": NAME.capitalize(), "key": NAME}]


def _showing(home: str) -> Callable[[Response], Response]:
    """Puts the script into Locust's own page."""

    def show(response: Response) -> Response:
        if request.path == home and response.mimetype == "text/html":
            response.set_data(response.get_data().replace(b"</head>", _TAGS, 1))
        return response

    return show


def _always(text: str, kind: str) -> Callable[[], Response]:
    return lambda: _answer(text, 200, kind)


def _json(body: object, status: int = 200) -> Response:
    return _answer(msgspec.json.encode(body), status, "application/json")


def _answer(data: str | bytes, status: int, kind: str) -> Response:
    fields = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(data, status, fields, mimetype=kind)


def _text(name: str) -> str:
    return (files("loadtests") / name).read_text(encoding="utf-8")


def _style() -> str:
    """The mock's page has it: one look for both."""
    page = (files("mock_llm.control") / "dashboard.html").read_text(encoding="utf-8")
    return page.partition("<style>")[2].partition("</style>")[0]
