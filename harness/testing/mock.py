"""`MockLLM`: what a test sees of the mock. Settings, canned answers, calls and judgements."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import methodcaller
from typing import Any, TypeVar

import msgspec

from harness.client_findings import FINDINGS, Finding, Traffic, client_findings
from harness.client_findings.outcomes import not_retried
from harness.errors import InputError
from harness.testing.hosts import Host, InThread
from harness.testing.seen import SeenCall, last_user_text, parsed, report, told
from mock_llm.config import Model, Upstream
from mock_llm.faults import Fault
from mock_llm.ledger import Row
from mock_llm.plan import Call
from mock_llm.rng import request_key
from mock_llm.server import MockServer
from mock_llm.strict import convert, suggest

T = TypeVar("T")

API_KEY = "sk-or-v1-mock"
MOST_CALLS = 10_000
ANY_MODEL = Model(prompt_usd_per_m=0.15, completion_usd_per_m=0.60)
AT_ONCE: dict[str, Any] = {"profile": {"ttft": 0.0}, "reply": "text"}
_KIND_OF_STATUS = {429: "rate_limited", 402: "no_credit"}
# pytest shows a mistake in a test where it was made, and leaves out this module's frames.
__tracebackhide__ = methodcaller("errisinstance", InputError)


class MockLLM:
    """A mock OpenRouter for one test.

    Every change works from the next attempt on, and stays until `reset`. Only one of several faults
    decides how an attempt ends: the first that strikes, in the order in which they were set.

    Args:
        upstream: what it imitates at first, and after `reset`.
        seed: of its weather.
        any_model: models that are not on offer are, at the price of the cheapest; else they are
            refused with 400, as at OpenRouter.
        ignore: names of findings that are none here.
        host: makes the server's home.

    Attributes:
        server: the mock itself.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        seed: int = 1,
        any_model: bool = True,
        ignore: Collection[str] = (),
        host: Callable[[MockServer], Host] = InThread,
    ) -> None:
        self._first, self._any_model, self._ignore = upstream, any_model, _known(ignore)
        self.server = MockServer(upstream, seed=seed)
        self.server.on_request = self._on_request
        self._calls: deque[SeenCall] = deque(maxlen=MOST_CALLS)
        self._says: list[tuple[str, tuple[str, ...], dict[str, str]]] = []
        self._took: set[str] | None = None
        self.stuck: set[str] = set()
        self._at_end: list[Finding] | None = None
        self._host = host(self.server)

    @property
    def url(self) -> str:
        """The server's root: `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._host.port}"

    @property
    def base_url(self) -> str:
        """What an OpenAI-compatible client takes for its `base_url`."""
        return f"{self.url}/api/v1"

    @property
    def api_key(self) -> str:
        """A key that is accepted, as any other is unless `keys` are set."""
        return API_KEY

    @property
    def openai_kwargs(self) -> dict[str, Any]:
        """For `openai.OpenAI(**mock_llm.openai_kwargs)` and its asynchronous twin."""
        return {"base_url": self.base_url, "api_key": API_KEY}

    # What the provider does

    def fault(self, kind: str, *, rate: float = 1.0, **keys: Any) -> None:
        """Let a fault of the catalogue strike: any `kind` of docs/mock.md, with its keys.

        Raises:
            InputError: there is no such kind or key, or a value is out of bounds.
        """
        table = msgspec.to_builtins({"kind": kind, "rate": rate, **keys})
        fault: Any = _converted(table, Fault, f"fault {kind!r}")

        def change(upstream: Upstream) -> Upstream:
            name = kind if kind not in upstream.faults else f"{kind}-{len(upstream.faults) + 1}"
            return msgspec.structs.replace(upstream, faults={**upstream.faults, name: fault})

        self._change(change)

    def hang(self, **keys: Any) -> None:
        """Never answer: not even headers."""
        self.fault("hang_before_headers", **keys)

    def fail(self, status: int = 503, **keys: Any) -> None:
        """Refuse with 402, 408, 429 or a 5xx; `retry_after_s` tells the client to wait."""
        kind = _KIND_OF_STATUS.get(status, "server_error")
        self.fault(kind, **(keys if kind != "server_error" else {"status": status, **keys}))

    def fail_first(self, count: int, *, status: int = 529, **keys: Any) -> None:
        """Refuse the next `count` attempts, then be fine."""
        self.fail(status=status, first_n=count, **keys)

    def fail_in_turn(self, *statuses: int) -> None:
        """Refuse the next attempts with these, one after the other, then be fine."""
        for count, status in enumerate(statuses, 1):
            # All count the same attempts, and the first that strikes decides.
            self.fail_first(count, status=status)

    def truncate(self, *, after_chunks: int = 3, **keys: Any) -> None:
        """Break answers off so that they seem to end well.

        A stream ends after so many chunks without its `[DONE]`, any other answer in half of its
        JSON.
        """
        self.fault("no_done", after_chunks=after_chunks, **keys)
        self.fault("truncated_json", **keys)

    def throttle(self, per_min: int) -> None:
        """Refuse with 429 and Retry-After what is over so many requests in any 60 s."""
        self.settings(throttle={"requests_per_min": per_min})

    def slow(self, *, ttft_s: float, itl_s: float = 0.0) -> None:
        """Take so long to the first token, and between two tokens."""
        self.settings(profile={"ttft": ttft_s, "itl": itl_s})

    def settings(self, **keys: Any) -> None:
        """Change keys of `[upstream]`; each replaces what stood there before.

        Raises:
            InputError: there is no such key, or a value does not fit.
        """
        partial: Upstream = _converted(msgspec.to_builtins(keys), Upstream, "settings")
        new = {name: getattr(partial, name) for name in keys}
        self._change(lambda upstream: msgspec.structs.replace(upstream, **new))

    def reply(self, *texts: str, to: str = "") -> None:
        """Answer with given texts: the first request gets the first, all later ones the last.

        The newest call goes first. A request that is tried again gets the same text again.

        Args:
            texts: at least one.
            to: only to requests whose last user message contains this.
        """
        if not texts:
            raise InputError("reply: give at least one text")
        self._do(lambda: self._says.insert(0, (to, texts, {})))
        self._do(lambda: self.server.say(self._text_of))

    def reset(self) -> None:
        """Be what it was at the beginning of the test, and forget calls and canned answers."""
        self._change(lambda _: self._first)
        for memory in (self._says, self._calls, self.stuck):
            self._do(memory.clear)
        self._took = None

    # What the client did

    @property
    def calls(self) -> list[SeenCall]:
        """Every attempt that was read, under way or ended, the newest last (10,000 at most)."""
        return self._do(lambda: list(self._calls))

    def took(self, *requests: str) -> None:
        """Say which results your code took for good answers: by prompt, or by X-Request-Key."""
        self._took = self._took or set()
        self._took.update(requests, map(request_key, requests))

    def findings(self, *, over: bool = False) -> list[Finding]:
        """What is wrong with the client, the gravest first.

        Args:
            over: it has done its work and was closed: connections that are still open have leaked,
                and who still waits has no time limit. At the end of the test that is so anyway.
        """
        if self._at_end is not None:
            return self._at_end
        found = self._do(lambda: client_findings(self._traffic(over=over)))
        return [one for one in found if one.name not in self._ignore]

    def _traffic(self, *, over: bool) -> Traffic:
        return Traffic(
            [call.row for call in self._calls],
            succeeded=self._took,
            stuck=self.stuck,
            open_connections=self.server.open_connections,
            over=over,
            now=self._host.now(),
        )

    def assert_no_findings(self, *, except_: Iterable[str] = (), over: bool = False) -> None:
        """Fail with every finding but those named."""
        __tracebackhide__ = True
        spared = _known(except_)
        _fail_with([one for one in self.findings(over=over) if one.name not in spared], self.calls)

    def assert_no_retry_storm(self) -> None:
        """Fail when one request was tried too often, or again and again without a pause."""
        __tracebackhide__ = True
        _fail_with([one for one in self.findings() if one.name == "retry_storm"], self.calls)

    def assert_honoured_retry_after(self) -> None:
        """Fail when a retry came sooner than the mock had told, or when none was ever told."""
        __tracebackhide__ = True
        if all(call.row.retry_after_s is None for call in self.calls):
            raise AssertionError("nothing was told to wait: no refusal with Retry-After was sent")
        ignored = [one for one in self.findings() if one.name == "ignored_retry_after"]
        _fail_with(ignored, self.calls)

    def assert_all_retried(self, *, status: int | None = None) -> None:
        """Fail when a passing failure was some request's last word.

        Args:
            status: only failures with this HTTP status; else every 402 with Retry-After, 408, 429,
                5xx, and answers that the mock broke off or never gave.
        """
        __tracebackhide__ = True
        left = self._do(lambda: not_retried(self._traffic(over=False), status))
        if left:
            calls = self.calls
            lines = "\n  ".join(told(row, calls) for row in left[:5])
            raise AssertionError(f"{len(left)} failed attempts were not tried again:\n  {lines}")

    def judge_end(self) -> list[Finding]:
        """Judge the client for the last time: it has done its work."""
        if self._at_end is None:
            self._at_end = self.findings(over=True)
        return self._at_end

    def close(self) -> None:
        """Stop the server; what it saw can still be read where it stopped."""
        self.judge_end()
        self._host.close()

    def note_stuck(self) -> None:
        """Nothing can ever wake again: note whose answer never comes, and judge."""
        self.stuck = {call.key for call in self._calls if not call.row.ended}
        self.judge_end()

    def enter(self, loop: Any) -> None:
        """Live on this loop from now on (of a host that lives on the test's own)."""
        self._host.loop = loop  # type: ignore[attr-defined]

    # In the server's loop

    def _do(self, work: Callable[[], T]) -> T:
        return work() if self._at_end is not None else self._host.do(work)

    def _change(self, change: Callable[[Upstream], Upstream]) -> None:
        self._do(lambda: self.server.change(change(self.server.upstream)))

    def _on_request(self, row: Row, body: bytes) -> None:
        seen = SeenCall(row, parsed(body))
        if not row.key:  # refused before it was read, and yet somebody's attempt
            row.key = request_key(last_user_text(seen.body) or body.decode("utf-8", "replace"))
        self._calls.append(seen)
        upstream = self.server.upstream
        if self._any_model and row.model and row.model not in upstream.models:
            models = {**upstream.models, row.model: ANY_MODEL}
            self.server.change(msgspec.structs.replace(upstream, models=models))

    def _text_of(self, call: Call) -> str | None:
        for to, texts, given in self._says:
            if to in call.text:
                return given.setdefault(call.key, texts[min(len(given), len(texts) - 1)])
        return None


def upstream_of(keys: Mapping[str, Any]) -> Upstream:
    """An upstream that answers at once with words, but for these keys of `[upstream]`.

    Raises:
        InputError: there is no such key, or a value does not fit.
    """
    made: Upstream = _converted(msgspec.to_builtins({**AT_ONCE, **keys}), Upstream, "mark.mock_llm")
    return made


def _converted(table: Any, type_: Any, where: str) -> Any:
    """`convert`, whose complaint comes from here: the rest of its way is nobody's mistake."""
    try:
        return convert(table, type_, where)
    except InputError as error:
        raise error.with_traceback(None) from None


def _known(names: Iterable[str]) -> set[str]:
    found = {names} if isinstance(names, str) else set(names)
    if unknown := sorted(found - FINDINGS.keys()):
        told = suggest(unknown[0], list(FINDINGS), "there are")
        raise InputError(f"there is no finding {unknown[0]!r}: {told}")
    return found


def _fail_with(findings: Iterable[Finding], calls: Sequence[SeenCall]) -> None:
    __tracebackhide__ = True
    if found := report(findings, calls):
        raise AssertionError(f"the client is not sound\n{found}")
