"""`/__control`, `/__dashboard` and `/metrics` over HTTP: a request becomes a command, if it may."""

import asyncio
import re
from base64 import b64encode
from collections.abc import Awaitable, Callable
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs

import msgspec
from aiohttp import hdrs, web

from mock_llm import framing
from mock_llm.control.access import Access
from mock_llm.control.commands import Command, Edit, Journal, Look, Result, apply, part
from mock_llm.control.routes import PARTS, Refused, command_of, not_allowed, path_of
from mock_llm.control.snapshot import Snapshot, view
from mock_llm.server import MockServer, Page

Send = Callable[[Command], Awaitable[Result]]

_PRIVATE = b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
_JSON = framing.JSON + _PRIVATE
_LINES = b"Content-Type: application/jsonl\r\n" + _PRIVATE


class Controls:
    """The pages with which a mock is watched and changed while it runs.

    Args:
        server: the mock.
        access: who may.
        send: carries commands out; on this server alone if it is left out.
    """

    def __init__(self, server: MockServer, access: Access, send: Send | None = None) -> None:
        self._server, self._access = server, access
        self._send = self._here if send is None else send

    def mount(self) -> None:
        """Serve the pages."""
        self._server.mount("/__control", self._guarded(self._control))
        self._server.mount("/__dashboard", self._guarded(_dashboard))
        self._server.mount("/metrics", self._guarded(self._metrics))

    async def _here(self, command: Command) -> Result:
        return apply(self._server, command, asyncio.get_running_loop().time())

    def _guarded(
        self, page: Callable[[web.BaseRequest, bytes], Awaitable[Page]]
    ) -> Callable[[web.BaseRequest, bytes], Awaitable[Page]]:
        """The page for those alone who are near enough; every refusal is one line of JSON."""

        async def guarded(request: web.BaseRequest, body: bytes) -> Page:
            transport = request.transport
            peer = None if transport is None else transport.get_extra_info("peername")
            if not self._access.near(peer, request.headers.get(hdrs.HOST, "")):
                return _json({"error": "only from this machine, as localhost or by address"}, 403)
            try:
                return await page(request, body)
            except Refused as refused:
                return _json({"error": str(refused)}, refused.status, refused.fields)

        return guarded

    async def _control(self, request: web.BaseRequest, body: bytes) -> Page:
        headers = request.headers
        given = headers.get(hdrs.AUTHORIZATION, ""), headers.get("X-Control-Token", "")
        if not self._access.knows(*given):
            why = "the control token is missing or wrong; the mock prints it when it starts"
            raise Refused(401, why, b"WWW-Authenticate: Bearer\r\n")
        route, _, query = request.raw_path.partition("?")
        path = path_of(route)
        command = command_of(request.method, path, parse_qs(query), body)
        result = await self._send(command)
        if result.error:
            raise Refused(result.status, result.error)
        if isinstance(command, Journal):
            return _journal(command, result, lines="format=jsonl" in query)
        if isinstance(command, Look):
            return _json(_shown(path, _snapshot(result)))
        # What a change has made of its place, as reading it would show.
        seen = _snapshot(await self._send(Look()))
        deleted = isinstance(command, Edit) and command.how == "delete"
        return _json({} if deleted else _shown(path, seen))

    async def _metrics(self, request: web.BaseRequest, _: bytes) -> Page:
        from mock_llm.control.metrics import CONTENT_TYPE, exposition

        _only_get(request)
        body = exposition(_snapshot(await self._send(Look())))
        return Page(200, f"Content-Type: {CONTENT_TYPE}\r\n".encode() + _PRIVATE, body, True)


def _only_get(request: web.BaseRequest) -> None:
    if request.method != hdrs.METH_GET:
        raise not_allowed("GET")


def _snapshot(result: Result) -> Snapshot:
    if result.snapshot is None:
        raise Refused(500, result.error or "the mock could not be looked at")
    return result.snapshot


def _shown(path: tuple[str, ...], seen: Snapshot) -> Any:
    """What of a snapshot a path asks for."""
    if path and path[0] in PARTS:
        found = part(seen.upstream, path)
        if found is msgspec.UNSET:
            raise Refused(404, f"{'.'.join(path)}: there is none")
        return found
    if path == ("upstream",):
        return seen.upstream
    return seen.changes if path == ("changes",) else view(seen)


def _journal(command: Journal, result: Result, *, lines: bool) -> Page:
    encode = msgspec.json.encode
    rows = [b'{"number":%d,%b' % (number, encode(row)[1:]) for number, row in result.rows]
    if lines:
        return Page(200, _LINES, b"".join(row + b"\n" for row in rows), private=True)
    last = result.rows[-1][0] if result.rows else command.after
    body = b'{"next":%d,"rows":[%b]}' % (last, b",".join(rows))
    return Page(200, _JSON, body, private=True)


def _json(value: object, status: int = 200, fields: bytes = b"") -> Page:
    return Page(status, _JSON + fields, msgspec.json.encode(value), private=True)


async def _dashboard(request: web.BaseRequest, _: bytes) -> Page:
    _only_get(request)
    body, policy = _page()
    fields = b"Content-Type: text/html; charset=utf-8\r\n" + _PRIVATE
    fields += b"Referrer-Policy: no-referrer\r\nContent-Security-Policy: " + policy + b"\r\n"
    return Page(200, fields, body, private=True)


@cache
def _page() -> tuple[bytes, bytes]:
    """The page, and a policy that lets it use its own style and script and talk to its own mock."""
    body = files("mock_llm.control").joinpath("dashboard.html").read_bytes()
    found = [b"default-src 'none'", b"connect-src 'self'", b"base-uri 'none'"]
    found += [b"form-action 'none'", b"frame-ancestors 'none'", b"img-src data:"]
    for tag in (b"style", b"script"):
        inside = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), body, re.DOTALL)
        hashes = [b"'sha256-%b'" % b64encode(sha256(one).digest()) for one in inside]
        found.append(b"%b-src %b" % (tag, b" ".join(hashes)))
    return body, b"; ".join(found)
