"""What a process of the mock is told when it starts, and the server made of it."""

import asyncio
import gc
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec

from mock_llm.config import Capacity, Profile, Upstream
from mock_llm.decider import Decider
from mock_llm.door import server_context
from mock_llm.player import Streams
from mock_llm.server import MockServer
from mock_llm.service import Service


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a mock but its address.

    Attributes:
        upstream: the provider to imitate, see `instant` for one without delays.
        seed: of all the weather.
        ledger_file: every row is appended to it as it ends (JSONL).
        answers: the right label of a request, by request key.
        transit: attempts take their keyed transit delay.
        drain_s: how long what is under way may go on at the end; see `MockServer.close`.
        at_stop: how the rest ends.
        tls: certificate and key (PEM files): HTTPS in place of HTTP.
        token: of control; None: there is none.
        anywhere: control is for other machines too.
        paused: attempts wait before they are admitted.
    """

    upstream: Upstream
    seed: int = 1
    ledger_file: str | None = None
    answers: dict[str, str] = {}
    transit: bool = True
    drain_s: float = 0.0
    at_stop: Streams = "finish"
    tls: tuple[str, str] | None = None
    token: str | None = None
    anywhere: bool = False
    paused: bool = False

    def context(self) -> ssl.SSLContext | None:
        """Return the context of HTTPS; None: HTTP.

        Raises:
            InputError: its files are no good.
        """
        return server_context(*map(Path, self.tls)) if self.tls else None

    def server(
        self,
        provider: Decider | None = None,
        service: Callable[[Capacity], Service] = Service,
    ) -> MockServer:
        """Make the server; see `MockServer` for what can go wrong.

        Args:
            provider: decides, in place of the server's own.
            service: makes the slots of a capacity, in place of slots of the server's own.
        """
        return MockServer(
            self.upstream,
            seed=self.seed,
            answers=self.answers,
            ledger_file=None if self.ledger_file is None else Path(self.ledger_file),
            transit=self.transit,
            provider=provider,
            service=service,
        )


def calm_collector() -> None:
    """Let the garbage collector pass over what stays, and come less often.

    For a process that serves and does nothing else. A pass over everything that was imported stops
    all answers for milliseconds: at 1,000 connections it doubled the p99 beyond the planned delay.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the fastest event loop there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def instant(upstream: Upstream) -> Upstream:
    """The same upstream with every answer ready at once: only the server's own time is left."""
    models = {
        slug: msgspec.structs.replace(model, profile=model.profile and _instant(model.profile))
        for slug, model in upstream.models.items()
    }
    cassette = upstream.cassette and msgspec.structs.replace(upstream.cassette, timing="none")
    return msgspec.structs.replace(
        upstream,
        profile=_instant(upstream.profile),
        models=models,
        connection_setup=0.0,
        cassette=cassette,
    )


def _instant(profile: Profile) -> Profile:
    return msgspec.structs.replace(
        profile, ttft=0.0, itl=0.0, prefill_s_per_1k=0.0, cold_start=None
    )
