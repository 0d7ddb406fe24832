"""The two listeners of the node API, with one stack behind them.

Peers come by TCP and TLS, the local command line by a Unix socket that is root's alone. Connections are accepted here
and not by asyncio's server, because that one swallows why a handshake failed, which is to be told.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

from aiohttp import web

from hacore.control import tls
from hacore.control.answering import answering, handler_of
from hacore.control.connection import HTTP_LIMITS, PeerProtocol, watched
from hacore.control.registry import Route, collect
from hacore.errors import PlatformError
from hacore.node.bus import SocketPath
from hacore.node.places import Place, Places
from hacore.node.settings_values import Endpoint

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

SOCKET = "control.sock"
PEER_ROOT = "/v1"
LOCAL_ROOT = "/local/v1"

HANDSHAKE_TIMEOUT = 5.0
#: Connections that are there and not accepted yet; a flood of strangers is not to keep a peer out by filling this.
BACKLOG = 1024
#: Data that is not acknowledged for so long: the other side is gone.
DEAD_PEER_MS = 30_000
#: After accept(2) failed for want of descriptors.
ACCEPT_PAUSE = 0.2
SHUTDOWN_TIMEOUT = 2.0
#: Between two looks at what the names of peers stand for.
NAME_INTERVAL = 60.0
#: How long, and for how much that comes in, a connection stays so that the other side can read why it was refused.
LINGER_TIMEOUT = 1.0
LINGER_BYTES = 64 << 10


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
        self._places = Places()
        self._looking_up: asyncio.Task[None] | None = None

    def collect(self) -> None:
        """Find the routes; makes the parts behind them."""
        self.peer_routes = collect(self._worker, "routes_")
        self.local_routes = collect(self._worker, "local_routes_")

    async def _runner(self, root: str, routes: list[Route]) -> web.AppRunner:
        app = web.Application()
        for route in routes:
            app.router.add_route(route.method, root + route.path, handler_of(self._worker, route, root == LOCAL_ROOT))
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT, **HTTP_LIMITS)
        await runner.setup()
        assert runner.server is not None
        handler = answering(self._worker, runner.server.request_handler, local=root == LOCAL_ROOT)
        runner.server.request_handler = handler if root == LOCAL_ROOT else watched(handler)
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
        self._know_peers()
        if place == self._place and context is not None and self._accepting is not None:
            return
        await self._stop_listening()
        if context is not None:
            self._place = place
            self._accepting = asyncio.get_running_loop().create_task(self._accept(place))
            self._accepting.add_done_callback(self._accepting_ended)

    def _know_peers(self) -> None:
        """Whose addresses have places of their own."""
        places = [place for peer in self._worker.settings.peers for place in (peer.control, peer.states) if place]
        names = self._places.know(place.host for place in places)
        if self._looking_up is not None:
            self._looking_up.cancel()
            self._looking_up = None
        if names:
            self._looking_up = asyncio.get_running_loop().create_task(self._look_up(names))

    async def _look_up(self, names: list[str]) -> None:
        """Keeps what the names of peers stand for, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            for name in names:
                with suppress(OSError, UnicodeError):
                    self._places.stands_for(name, [str(one[4][0]) for one in await loop.getaddrinfo(name, None)])
            await asyncio.sleep(NAME_INTERVAL)

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
            coming = _Coming(self, connection, source)
            coming.place = self._places.take(source, coming.drop)
            if coming.place is None:
                connection.close()
                self._worker.refusals.note(source, "too-many", "too many connections at once")
                continue
            task = coming.task = loop.create_task(self._serve(coming))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)
            task.add_done_callback(coming.handshake_ended)
            await asyncio.sleep(0)  # sock_accept does not wait while there are more, and the handshakes have their turn

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
                    listener.listen(BACKLOG)
                except OSError:
                    listener.close()
                    raise
            except OSError as error:
                self._worker.warnings["listen"] = f"[control] cannot listen on {place}: {error.strerror or error}"
                await asyncio.sleep(1.0)
                continue
            self._worker.warnings.pop("listen", None)
            return listener

    async def _serve(self, coming: _Coming) -> None:
        """The handshake; from then on the connection is aiohttp's."""
        assert self._peer_runner is not None
        assert self._peer_runner.server is not None
        loop = asyncio.get_running_loop()
        connection, source = coming.connection, coming.source
        protocol = PeerProtocol(self._peer_runner.server, self._worker, source, coming.leave)
        spare = connection.dup()  # asyncio closes its own before the reason can be sent
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )
            self._connected(coming, transport)
        except OSError as error:
            code, reason = tls.refusal(error)
            if code != "connection-lost":
                self._worker.refusals.note(source, code, f"TLS: {reason}")
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(LINGER_TIMEOUT):
                    await _say_last(spare, tls.alert_of(error))
        finally:
            spare.close()

    def _connected(self, coming: _Coming, transport: asyncio.Transport) -> None:
        coming.transport = transport
        shown = transport.get_extra_info("ssl_object")
        certificate = shown.getpeercert(True) if shown is not None else None
        peer = self._worker.identify(certificate) if certificate else ""
        if peer and coming.place is not None:
            self._places.shown(coming.place, peer)

    def leave(self, place: Place) -> None:
        """A connection is over."""
        self._places.leave(place)

    def dropped(self, source: str) -> None:
        """A connection made way for another."""
        self._worker.refusals.note(source, "too-many", "made way: too many connections, and it did not say who it is")

    def drop(self, certificates: Collection[bytes]) -> int:
        """Closes the connections over which one of these (DER) was shown, whatever is being answered on them; returns
        how many there were.
        """
        if self._peer_runner is None or self._peer_runner.server is None:
            return 0
        dropped = 0
        for protocol in list(self._peer_runner.server.connections):
            transport = protocol.transport
            connection = transport.get_extra_info("ssl_object") if transport is not None else None
            if transport is not None and connection is not None and connection.getpeercert(True) in certificates:
                transport.abort()
                dropped += 1
        return dropped

    async def stop(self) -> None:
        """No new connections; what is being answered has two seconds."""
        await self._stop_listening()
        if self._local is not None:
            self._local.close()
        for runner in self._runners:
            await runner.cleanup()
        for task in list(self._handshakes):
            task.cancel()
        if self._looking_up is not None:
            self._looking_up.cancel()


class _Coming:
    """A connection from its acceptance on, as its place knows it."""

    def __init__(self, server: Server, connection: socket.socket, source: str) -> None:
        self._server, self.connection, self.source = server, connection, source
        self.place: Place | None = None
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None

    def handshake_ended(self, _task: asyncio.Task[None]) -> None:
        """Also one that had not begun."""
        if self.transport is None:
            self.connection.close()
            self.leave()

    def leave(self) -> None:
        """It is over."""
        if self.place is not None:
            self._server.leave(self.place)

    def drop(self) -> None:
        """Another one gets its place."""
        if self.transport is not None:
            self.transport.abort()
        elif self.task is not None:
            self.task.cancel()
        self._server.dropped(self.source)


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
