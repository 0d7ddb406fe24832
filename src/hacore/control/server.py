"""The two listeners of the node API, with one stack behind them.

Peers come by TCP and TLS, the local command line by a Unix socket that is root's alone. Connections are accepted here
and not by asyncio's server, because that one swallows why a handshake failed, which is to be told.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hacore.control import tls
from hacore.control.answering import as_json, handler_of, refuse_unknown
from hacore.control.problems import ApiError
from hacore.control.registry import Route, collect
from hacore.errors import PlatformError
from hacore.node.bus import SocketPath
from hacore.node.settings_values import Endpoint

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

SOCKET = "control.sock"
PEER_ROOT = "/v1"
LOCAL_ROOT = "/local/v1"

HANDSHAKE_TIMEOUT = 5.0
#: From one address; a peer needs a handful.
CONNECTIONS_PER_ADDRESS = 16
#: Altogether: bounds the memory that strangers can force.
CONNECTIONS = 64
#: After accept(2) failed for want of descriptors.
ACCEPT_PAUSE = 0.2
SHUTDOWN_TIMEOUT = 2.0
#: How long, and for how much that comes in, a connection stays so that the other side can read why it was refused.
LINGER_TIMEOUT = 1.0
LINGER_BYTES = 64 << 10
#: What one connection may cost before it asked for anything.
HTTP_LIMITS: Mapping[str, Any] = {
    "access_log": None, "keepalive_timeout": 30.0, "max_line_size": 4096, "max_field_size": 8192, "lingering_time": 1.0,
}  # fmt: skip


class PeerProtocol(web.RequestHandler):
    """One connection of a peer: tells when it ends, and answers what is not HTTP as everything else."""

    __slots__ = ("on_lost", "source", "worker")

    worker: ControlWorker
    source: str
    on_lost: Callable[[], None]

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport is gone."""
        super().connection_lost(exc)
        self.on_lost()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - as the base class has it
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """What the parser refused, before any route could."""
        if status >= 500:
            if exc is not None:
                self.worker.fault("HTTP", exc)
            return as_json(status, ApiError(status, "internal", "a fault of this node").body())
        error = ApiError(status, "bad-request", "this is no well-formed HTTP request")
        self.worker.refusals.note(self.source, error.code, f"{error.message} ({type(exc).__name__})")
        response = as_json(status, error.body())
        response.force_close()
        return response


class Server:
    """`collect`, `start_local`, then `listen` as often as the place or the certificates change."""

    def __init__(self, worker: ControlWorker) -> None:
        self._worker = worker
        self.peer_routes: list[Route] = []
        self.local_routes: list[Route] = []
        self._runners: list[web.AppRunner] = []
        self._peer_runner: web.AppRunner | None = None
        self._local: asyncio.AbstractServer | None = None
        self._place: Endpoint | None = None
        self._listener: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._open: Counter[str] = Counter()

    def collect(self) -> None:
        """Find the routes; makes the parts behind them."""
        self.peer_routes = collect(self._worker, "routes_")
        self.local_routes = collect(self._worker, "local_routes_")

    async def _runner(self, root: str, routes: list[Route]) -> web.AppRunner:
        app = web.Application(middlewares=[refuse_unknown(self._worker, local=root == LOCAL_ROOT)])
        for route in routes:
            app.router.add_route(route.method, root + route.path, handler_of(self._worker, route, root == LOCAL_ROOT))
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT, **HTTP_LIMITS)
        await runner.setup()
        self._runners.append(runner)
        return runner

    @property
    def listens(self) -> bool:
        """Whether peers can connect."""
        return self._listener is not None

    # The local command line

    async def start_local(self) -> None:
        """Raises PlatformError."""
        runner = await self._runner(LOCAL_ROOT, self.local_routes)
        directory = self._worker.settings.node.runtime_dir
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with SocketPath(directory, SOCKET) as path:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                umask = os.umask(0o177)
                try:
                    listener.bind(path)
                finally:
                    os.umask(umask)
        except OSError as error:
            listener.close()
            raise PlatformError(f"cannot listen on {directory}/{SOCKET}: {error.strerror}") from None
        assert runner.server is not None
        self._local = await asyncio.get_running_loop().create_unix_server(runner.server, sock=listener)

    # The peers

    async def listen(self, place: Endpoint, context: ssl.SSLContext | None) -> None:
        """New connections go by this context; without one nobody is listened to.

        A place that cannot be had is tried again until it can: an address may come later than the node.
        """
        if self._peer_runner is None:
            self._peer_runner = await self._runner(PEER_ROOT, self.peer_routes)
        self._context = context
        if place == self._place and context is not None and self._accepting is not None:
            return
        await self._stop_listening()
        if context is not None:
            self._place = place
            self._accepting = asyncio.get_running_loop().create_task(self._accept(place))
            self._accepting.add_done_callback(self._accepting_ended)

    def _accepting_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._worker.fault("accepting connections", error)

    async def _stop_listening(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            with suppress(asyncio.CancelledError):
                await self._accepting
            self._accepting = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _accept(self, place: Endpoint) -> None:
        loop = asyncio.get_running_loop()
        self._listener = listener = await self._bind(place)
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except OSError:
                await asyncio.sleep(ACCEPT_PAUSE)
                continue
            source = str(address[0])
            if self._open[source] >= CONNECTIONS_PER_ADDRESS or self._open.total() >= CONNECTIONS:
                connection.close()
                self._worker.refusals.note(source, "too-many", "too many connections at once")
                continue
            self._open[source] += 1
            task = loop.create_task(self._serve(connection, source))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _bind(self, place: Endpoint) -> socket.socket:
        loop = asyncio.get_running_loop()
        while True:
            try:
                family, _, _, _, address = (
                    await loop.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
                )[0]
                listener = socket.socket(family, socket.SOCK_STREAM)
                try:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.setblocking(False)
                    listener.bind(address)
                    listener.listen(CONNECTIONS)
                except OSError:
                    listener.close()
                    raise
            except OSError as error:
                self._worker.warnings["listen"] = f"[control] cannot listen on {place}: {error.strerror or error}"
                await asyncio.sleep(1.0)
                continue
            self._worker.warnings.pop("listen", None)
            return listener

    async def _serve(self, connection: socket.socket, source: str) -> None:
        """The handshake; from then on the connection is aiohttp's."""
        assert self._peer_runner is not None
        assert self._peer_runner.server is not None
        loop = asyncio.get_running_loop()
        protocol = PeerProtocol(self._peer_runner.server, loop=loop, **HTTP_LIMITS)
        protocol.worker, protocol.source, protocol.on_lost = self._worker, source, lambda: self._closed(source)
        connected = False
        spare = connection.dup()  # asyncio closes its own before the reason can be sent
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
            connected = True
        except OSError as error:
            code, reason = tls.refusal(error)
            if code != "connection-lost":
                self._worker.refusals.note(source, code, f"TLS: {reason}")
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(LINGER_TIMEOUT):
                    await _say_last(spare, tls.alert_of(error))
        finally:
            spare.close()
            if not connected:
                connection.close()
                self._closed(source)

    def _closed(self, source: str) -> None:
        self._open[source] -= 1
        if self._open[source] <= 0:
            del self._open[source]

    async def stop(self) -> None:
        """No new connections; what is being answered has two seconds."""
        await self._stop_listening()
        if self._local is not None:
            self._local.close()
        for runner in self._runners:
            await runner.cleanup()
        for task in list(self._handshakes):
            task.cancel()


async def _say_last(connection: socket.socket, data: bytes) -> None:
    """Send it so that it is read: data that came in and was not taken would make the kernel reset the connection."""
    if not data:
        return
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, data)
    connection.shutdown(socket.SHUT_WR)
    received = 0
    while received < LINGER_BYTES and (more := len(await loop.sock_recv(connection, 4096))):
        received += more
