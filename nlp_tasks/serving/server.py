"""Binds a port and runs the application until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nlp_tasks import machine
from nlp_tasks.errors import UserError
from nlp_tasks.serving.app import LOOPBACK, build
from nlp_tasks.serving.batcher import Batcher, Limits
from nlp_tasks.serving.metrics import Metrics
from nlp_tasks.serving.models import Models

_log = logging.getLogger(__name__)

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than reverse proxies keep theirs, so that the proxy is the one who closes."""


MOST_HEAD = 1 << 16
"""Bytes of a request before its body."""


@dataclass(frozen=True)
class Options:
    """What `nlp-tasks serve` is given.

    Attributes:
        folder: of all models.
        host, port: what to bind to; port 0 takes a free one.
        limits: what is taken on.
        most_bytes: of a request's body.
        poll_seconds: between two looks at the folder.
        versions: so many newest versions of a model are served.
        grace: seconds that requests under way have when the server is told to stop.
        allow_hosts: names that it answers to beside those of the loopback interface.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8501
    limits: Limits = field(default_factory=Limits)
    most_bytes: int = 1 << 22
    poll_seconds: float = 2.0
    versions: int = 1
    grace: int = 10
    allow_hosts: tuple[str, ...] = ()


def options(
    folder: Path, *, batch_size: int, batch_milliseconds: float, queue: int, deadline: float, max_bytes: int, **others: Any
) -> Options:
    """From what stands on a command line; of all bodies together as much is held as sixteen of the largest have."""
    limits = Limits(
        rows=batch_size, wait=batch_milliseconds / 1000, queue=queue, queue_bytes=max(Limits.queue_bytes, 16 * max_bytes),
        deadline=deadline,
    )  # fmt: skip
    return Options(folder, limits=limits, most_bytes=max_bytes, **others)


def bind(host: str, port: int) -> socket.socket:
    """A socket that holds the port, and does not listen yet.

    Raises:
        UserError: the port is in use, or there is no such host.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host {host}: {error}", "give a name or an address of this machine") from None
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise UserError(
            f"cannot serve on {host} port {port}: {error.strerror}", "end what serves there, or choose another port with --port"
        ) from None
    return bound


def hosts(options: Options, bound: str) -> tuple[str, ...]:
    """The names that a server answers to; none where it answers to every name, as it is open to a network and was not told its names."""
    if options.allow_hosts or ipaddress.ip_address(bound.partition("%")[0]).is_loopback:
        return tuple({*LOOPBACK, options.host.lower(), bound, *(name.lower() for name in options.allow_hosts)})
    return ()


def serve(options: Options, bound: socket.socket) -> None:
    """Serves until SIGTERM or Ctrl-C; then what is under way is answered, for `options.grace` seconds at most."""
    import tensorflow as tf

    from nlp_tasks.serving import saved_model

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    tf.get_logger().setLevel(logging.ERROR)  # it would rather have models loaded in another way
    gc.collect()
    gc.freeze()  # what was imported is never garbage: without it, collecting after a change of versions is quick
    metrics = Metrics()
    batcher = Batcher(
        options.limits, machine.parts(), lambda signature, requests, rows: metrics.batch(signature.model, signature.name, rows)
    )
    metrics.watch(batcher)
    models = Models(options.folder, saved_model.load, keep=options.versions, told=metrics.version)
    address, port = bound.getsockname()[:2]
    names = hosts(options, address)
    app = build(
        models,
        batcher,
        metrics,
        most_bytes=options.most_bytes,
        poll_seconds=options.poll_seconds,
        hosts=names,
    )
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # uvicorn has its own handler while it serves, and raises the signal again behind it
    _Server(config(app, options.grace), f"http://{f'[{address}]' if ':' in address else address}:{port}/").run(sockets=[bound])


def config(app: Any, grace: int) -> uvicorn.Config:
    """How the application is served."""
    return uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=grace, ws="none", http=_Protocol,
    )  # fmt: skip


class _Protocol(HttpToolsProtocol):
    """Bounds what comes before there is a request, and what is left behind it: heads that are too long or do not end, and answers that
    nobody takes."""

    _clock: asyncio.TimerHandle | None = None
    """Runs while a head is awaited."""
    _head = 0
    """Bytes of it, without those that came with its first one."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head += len(data)
        super().data_received(data)
        if self._clock and self._head > MOST_HEAD and not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
            self.transport.close()

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._stop_clock()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        if left := self.transport.get_write_buffer_size():
            self.loop.call_later(KEEP_ALIVE, self._abort_if_stuck, left)
        super().on_response_complete()

    def _await_head(self) -> None:
        self._stop_clock()
        self._head, self._clock = 0, self.loop.call_later(KEEP_ALIVE, self.transport.close)

    def _stop_clock(self) -> None:
        if self._clock:
            self._clock.cancel()
        self._clock = None

    def _abort_if_stuck(self, left: int) -> None:
        """Where so many bytes of an answer were left, and none has been taken since."""
        if self.transport.get_write_buffer_size() >= left:
            self.transport.abort()


class _Server(uvicorn.Server):
    """Tells when it serves."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:  # another server that began when we did listens first
            await self.lifespan.shutdown()
            hint = "end what serves there, or choose another port with --port"
            raise UserError(f"cannot serve on {self._url}: {error.strerror}", hint) from None
        if self.started:
            _log.info("serving on %s", self._url)
