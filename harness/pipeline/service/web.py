"""The service over HTTP: routes, and nothing else.

| | |
|---|---|
| `POST /v1/reviews` | one review, waits for its label |
| `POST /v1/batches` | many, returns an id at once |
| `GET /v1/batches/{id}` | progress, results so far, cost |
| `GET /v1/batches/{id}/events` | progress as server-sent events |
| `DELETE /v1/batches/{id}` | withdraw it |
| `GET /v1/usage` | what the user, and the session, have asked and spent |
| `GET`, `PUT /v1/pool` | size of the pool of workers; only from this machine |
| `GET /healthz`, `/readyz`, `/metrics`, `/openapi.json` | |
"""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from itertools import count

import msgspec
from aiohttp import web

from harness.pipeline.service import replies
from harness.pipeline.service.batches import Batch, Batches
from harness.pipeline.service.bodies import (
    BatchIn,
    Complaint,
    PoolIn,
    ReviewIn,
    body_of,
    deadline_s,
    key_of,
    name_of,
    review_of,
)
from harness.pipeline.service.core import Service
from harness.pipeline.service.openapi import document
from harness.pipeline.service.replies import Reply
from harness.pipeline.service.tickets import Ask, Refused

MAX_BODY_BYTES = 8 * 1024 * 1024
PAGE = 1_000
KEEP_ALIVE_S = 15.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Front:
    """The service's HTTP side.

    Args:
        service: does the work.
        batches: of the service.
        metrics: text for `/metrics`, and its content type.
        first: number of the first request without a key.
    """

    def __init__(
        self,
        service: Service,
        batches: Batches,
        metrics: Callable[[], tuple[bytes, str]],
        first: int = 1,
    ) -> None:
        self._service = service
        self._batches = batches
        self._metrics = metrics
        self._numbers = count(first)
        self._document = msgspec.json.encode(document())
        self._now = asyncio.get_running_loop().time

    def app(self) -> web.Application:
        """The aiohttp application; its handlers are cancelled when their client leaves."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_envelope])
        one = "/v1/batches/{id}"
        app.router.add_post("/v1/reviews", self._review)
        app.router.add_post("/v1/batches", self._begin)
        app.router.add_get(one, self._show, allow_head=False)
        app.router.add_delete(one, self._cancel)
        app.router.add_get(f"{one}/events", self._events, allow_head=False)
        app.router.add_get("/v1/usage", self._usage)
        app.router.add_get("/v1/pool", self._pool)
        app.router.add_put("/v1/pool", self._scale)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._tell)
        app.router.add_get("/openapi.json", self._describe)
        return app

    async def _review(self, request: web.Request) -> web.StreamResponse:
        seconds = deadline_s(request.headers)
        arrived = self._now()
        given = key_of(request.headers)
        key = given or f"s{next(self._numbers):08d}"
        ask = Ask(
            review=review_of(body_of(await request.read(), ReviewIn), 0),
            user=name_of(request.headers, "X-User", "anonymous"),
            session=name_of(request.headers, "X-Session"),
            key=key,
            deadline=None if seconds is None else arrived + seconds,
            named=bool(given),
        )
        try:
            found = await self._service.submit(ask)
        except Refused as refused:
            return _sent(replies.refusal(refused, key))
        return _sent(replies.served(found))

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        key = key_of(request.headers)
        given = body_of(await request.read(), BatchIn).reviews
        reviews = [review_of(one, n, f"reviews[{n}].text") for n, one in enumerate(given)]
        user = name_of(request.headers, "X-User", "anonymous")
        session = name_of(request.headers, "X-Session")
        batch = self._batches.begin(user, session, reviews, key)
        place = f"/v1/batches/{batch.id}"
        body = msgspec.json.encode({**replies.progress(batch), "url": place})
        return _sent(Reply(202, body, {"Location": place}))

    async def _show(self, request: web.Request) -> web.StreamResponse:
        batch = self._batch(request)
        start, limit = _whole(request, "from", 0), _whole(request, "limit", PAGE)
        results = batch.results[start : start + limit]
        body = {**replies.progress(batch), "from": start, "results": results}
        return _sent(Reply(200, msgspec.json.encode(body)))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        batch = self._batch(request)
        await self._batches.cancel(batch)
        return _sent(Reply(200, msgspec.json.encode(replies.progress(batch))))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Progress whenever there is some; what a slow reader misses is in the next event."""
        batch = self._batch(request)
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        steps = aiter(batch.changes())
        step = asyncio.ensure_future(anext(steps, None))
        try:
            while True:
                done, _ = await asyncio.wait([step], timeout=KEEP_ALIVE_S)
                if not done:
                    await response.write(b": still here\n\n")
                    continue
                kind = b"progress" if batch.status == "running" else b"end"
                data = msgspec.json.encode(replies.progress(batch))
                await response.write(b"event: " + kind + b"\ndata: " + data + b"\n\n")
                if batch.status != "running":
                    return response
                step = asyncio.ensure_future(anext(steps, None))
        finally:
            step.cancel()

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        user = name_of(request.headers, "X-User", "anonymous")
        session = name_of(request.headers, "X-Session")
        told = await self._service.accounts.told(user, session)
        return _sent(Reply(200, msgspec.json.encode(told)))

    async def _pool(self, _: web.Request) -> web.StreamResponse:
        pool = {"workers": self._service.workers, "busy": self._service.busy}
        return _sent(Reply(200, msgspec.json.encode(pool)))

    async def _scale(self, request: web.Request) -> web.StreamResponse:
        if not _is_local(request):
            message = "the pool is scaled from the service's own machine"
            return _sent(replies.error(403, "forbidden", message))
        self._service.workers = body_of(await request.read(), PoolIn).workers
        return await self._pool(request)

    async def _health(self, _: web.Request) -> web.StreamResponse:
        return _sent(Reply(200, b'{"status":"alive"}'))

    async def _ready(self, _: web.Request) -> web.StreamResponse:
        if self._service.draining:
            return _sent(replies.refusal(Refused("draining")))
        return _sent(Reply(200, b'{"status":"ready"}'))

    async def _tell(self, _: web.Request) -> web.StreamResponse:
        body, content_type = self._metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _describe(self, _: web.Request) -> web.StreamResponse:
        return _sent(Reply(200, self._document))

    def _batch(self, request: web.Request) -> Batch:
        """The batch that is asked for; somebody else's is as good as none.

        Raises:
            Complaint: there is none of that id.
        """
        batch = self._batches.get(request.match_info["id"])
        user = name_of(request.headers, "X-User", "anonymous")
        if batch is None or batch.user != user:
            message = f"this user has no batch {request.match_info['id']!r}"
            raise Complaint("not_found", message, field="id", status=404)
        return batch


def _sent(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


def _whole(request: web.Request, name: str, default: int) -> int:
    """A whole number of the query.

    Raises:
        Complaint: it is none.
    """
    given = request.query.get(name, str(default))
    if not (given.isdecimal() and given.isascii()) or len(given) > 9:
        raise Complaint("invalid_request", "a whole number is wanted", field=name)
    return int(given)


def _is_local(request: web.Request) -> bool:
    """Whether it comes from this machine, and not by way of somebody's web page."""
    if "Origin" in request.headers:
        return False
    peer = request.transport and request.transport.get_extra_info("peername")
    # On the virtual clock connections are pairs of sockets, which have no address.
    return not isinstance(peer, tuple) or ip_address(peer[0]).is_loopback


@web.middleware
async def _envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say every error in the same shape."""
    try:
        return await handler(request)
    except Complaint as found:
        return _sent(replies.complaint(found))
    except Refused as refused:
        return _sent(replies.refusal(refused))
    except web.HTTPRequestEntityTooLarge:
        message = f"at most {MAX_BODY_BYTES:,} bytes are taken"
        return _sent(replies.error(413, "payload_too_large", message, field="body"))
    except web.HTTPNotFound:
        return _sent(replies.error(404, "not_found", f"there is no {request.path}"))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        message = f"{request.path} takes {allowed}"
        return _sent(replies.error(405, "method_not_allowed", message, {"Allow": allowed}))
