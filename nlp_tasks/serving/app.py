"""The ASGI application: the REST interface below /v1, /healthz, /metrics, and the page for people at /."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nlp_tasks.serving import described, pages, rest
from nlp_tasks.serving.batcher import Batcher
from nlp_tasks.serving.metrics import Metrics
from nlp_tasks.serving.models import Models
from nlp_tasks.serving.refused import Refused, invalid, late
from nlp_tasks.serving.rest import Asked

LARGE = 1 << 17
"""Bodies of more bytes, and answers of more values, are read and written in a thread: others are answered meanwhile."""
LINGER, MOST_DISCARDED = 1.0, 1 << 26
"""What of a refused body still comes is read for so many seconds and bytes, so that its sender gets to read why."""
GONE = 499
"""Status in the metrics where the client went away; nobody is sent it."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_log = logging.getLogger(__name__)


class Gone(Exception):
    """The client went away."""


def build(
    models: Models, batcher: Batcher, metrics: Metrics, *,
    most_bytes: int, poll_seconds: float, hosts: Sequence[str] = (),
) -> Starlette:  # fmt: skip
    """The application.

    Args:
        most_bytes: of a request's body.
        poll_seconds: between two looks at the folder of models.
        hosts: names that it answers to; every name where there are none.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await models.look(first=True)
        watching = asyncio.create_task(models.watch(poll_seconds))
        try:
            yield
        finally:
            watching.cancel()
            await batcher.close(0)  # whoever gets an answer has been waited for
            models.close()

    async def health(request: Request) -> Response:
        served = {name: numbers[-1] for name in models.names() if (numbers := models.served(name))}
        return _json(rest.body({"models": served}), 200 if served else 503)

    async def counted(request: Request) -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def page(request: Request) -> Response:
        text, policy = pages.page(models)
        return Response(text, media_type="text/html", headers={"content-security-policy": policy, "cache-control": "no-store"})

    async def failed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json(rest.error(error.detail), error.status_code)

    routes = [
        Route("/", page), Route("/healthz", health), Route("/metrics", counted),
        Mount("/v1", app=_Rest(models, batcher, metrics, most_bytes)),
    ]  # fmt: skip
    middleware = [Middleware(_Hosts, hosts=frozenset(hosts))]
    return Starlette(routes=routes, middleware=middleware, lifespan=lifespan, exception_handlers={HTTPException: failed})


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, {"x-content-type-options": "nosniff", **(headers or {})}, "application/json")


class _Hosts:
    """Answers only to its own names: a page elsewhere whose name was made to point here (DNS rebinding), or one that posts here, is
    refused."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._hosts:
            headers = Headers(scope=scope)
            host, origin = _name(f"//{headers.get('host', '')}"), headers.get("origin")
            if host not in self._hosts or (origin is not None and _name(origin) not in self._hosts):
                who = f"Host {headers.get('host', '')!r}" if host not in self._hosts else f"Origin {origin!r}"
                response = _json(rest.error(f"{who} is not a name of this server; --allow-host adds one"), 403)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class _Rest:
    """The REST interface."""

    def __init__(self, models: Models, batcher: Batcher, metrics: Metrics, most_bytes: int) -> None:
        self._models, self._batcher, self._metrics, self._most_bytes = models, batcher, metrics, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun, body, asked = time.perf_counter(), _Body(Headers(scope=scope), receive, self._most_bytes), None
        path = scope["raw_path"].decode("utf-8", "replace")
        try:
            asked = rest.asked(scope["method"], path)
            response = await self._answered(asked, body)
        except Gone:
            self._count(asked, GONE, begun)
            return
        except Refused as error:
            response = _json(rest.error(error.message), error.status, error.headers)
        except Exception:
            _log.exception("%s %s", scope["method"], path)
            response = _json(rest.error("Internal error; the server's log says more"), 500)
        if not await body.is_read():
            response.headers["connection"] = "close"
        self._count(asked, response.status_code, begun)
        await response(scope, receive, send)

    def _count(self, asked: Asked | None, status: int, begun: float) -> None:
        if asked and asked.method == "predict":
            model = asked.model if self._models.states(asked.model) else ""
            self._metrics.request(model, status, time.perf_counter() - begun)

    async def _answered(self, asked: Asked, body: _Body) -> Response:
        if asked.method == "status":
            return _json(rest.body(described.status(self._models, asked.model, asked.version)))
        if asked.method == "metadata":
            version: Any = self._models.find(asked.model, asked.version, asked.label)
            return _json(rest.body(described.metadata(version.name, version.number, version.signature_def)))
        if asked.method in ("classify", "regress"):
            self._models.find(asked.model, asked.version, asked.label)
            kind = {"classify": "classification", "regress": "regression"}[asked.method]
            raise invalid(
                f"Expected {kind} signature method_name to be tensorflow/serving/{asked.method}. Was: tensorflow/serving/predict"
            )
        return await self._predicted(asked, body)

    async def _predicted(self, asked: Asked, body: _Body) -> Response:
        deadline = asyncio.get_running_loop().time() + self._batcher.limits.deadline
        with self._batcher.admitted() as hold:
            try:
                async with asyncio.timeout_at(deadline):
                    content = await body.read(hold)
            except TimeoutError:
                raise late(self._batcher.limits.deadline) from None
            request = await _beside(len(content), lambda: rest.request(content))
            version: Any = self._models.find(asked.model, asked.version, asked.label)
            signature = version.signatures.get(request.signature)
            if signature is None:
                raise invalid(f'Serving signature name: "{request.signature}" not found in signature def')
            inputs = await _beside(len(content), lambda: request.arrays(signature.inputs))
            parts = await _unless_gone(body, self._batcher.answer(signature, inputs, deadline))
            size = sum(array.size for outputs in parts for array in outputs.values())
            answer = await _beside(size, lambda: rest.response(parts, in_rows=request.in_rows))
            return _json(answer, headers={"x-model-version": str(version.number)})


class _Body:
    """The body of a request, and the end of its client."""

    def __init__(self, headers: Headers, receive: Receive, most_bytes: int) -> None:
        self._headers, self._receive, self._most = headers, receive, most_bytes
        self._more = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

    async def read(self, hold: Callable[[int], None]) -> bytes:
        """All of it, unpacked; `hold` is told of each piece.

        Raises:
            Refused: too long, or packed in a way that is not understood.
            Gone: the client went away.
        """
        length, encoding = self._headers.get("content-length", ""), self._headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            raise Refused(415, f"Content-Encoding {encoding!r} is not understood", {"accept-encoding": "gzip"})
        if length.isdigit() and int(length) > self._most:
            raise self._too_large()
        unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
        parts, size = [], 0
        while self._more:
            part = await self._next()
            if unpack:
                part = self._unpacked(unpack, part, self._most - size)
            size += len(part)
            if size > self._most:
                raise self._too_large()
            hold(len(part))
            parts.append(part)
        if unpack and not unpack.eof:
            raise invalid("Content-Encoding: gzip, but the body is not whole")
        return b"".join(parts)

    async def is_read(self) -> bool:
        """Whether nothing of it is left, after waiting for a little more of it, which is thrown away."""
        if self._headers.get("expect", "").lower() == "100-continue":
            return not self._more  # nothing more comes before it is asked for
        left = MOST_DISCARDED
        try:
            async with asyncio.timeout(LINGER):
                while self._more and left > 0:
                    left -= len(await self._next())
        except (TimeoutError, Gone):
            return False
        return not self._more

    async def gone(self) -> None:
        """Returns when the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        self._more = message.get("more_body", False)
        return message.get("body", b"")

    def _unpacked(self, unpack: Any, part: bytes, room: int) -> bytes:
        try:
            return unpack.decompress(part, room + 1)  # what a small body unpacks to may be large
        except zlib.error:
            raise invalid("Content-Encoding: gzip, but the body is not") from None

    def _too_large(self) -> Refused:
        return Refused(413, f"Request body is too large: more than {self._most:,} bytes")


async def _beside(size: int, function: Callable[[], Any]) -> Any:
    """In a thread where there is much to do."""
    return await asyncio.to_thread(function) if size > LARGE else function()


async def _unless_gone(body: _Body, answering: Any) -> Any:
    """The answer. Raises Gone where the client goes away before, and cancels what it asked for."""
    answer, gone = asyncio.ensure_future(answering), asyncio.ensure_future(body.gone())
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise Gone
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()
