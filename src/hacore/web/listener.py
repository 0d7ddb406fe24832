"""The page's HTTPS listener. What it cannot have, an address or a certificate, is a warning, and tried again."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from hacore.control.connection import HTTP_LIMITS, PeerProtocol, watched
from hacore.errors import PlatformError
from hacore.node.settings_values import Endpoint
from hacore.web.answering import answering, handler_of

if TYPE_CHECKING:
    from hacore.web.registry import Route
    from hacore.web.site import Site

HANDSHAKE_TIMEOUT = 5.0
#: Altogether: bounds the memory that strangers can force.
CONNECTIONS = 1024
BACKLOG = 128
RETRY_INTERVAL = 1.0
SHUTDOWN_TIMEOUT = 1.0


class PageProtocol(PeerProtocol):
    """One connection of a browser. Browsers open connections that they never use: no refusal, they are just closed."""

    __slots__ = ("_listener",)

    def __init__(self, server: web.Server, listener: Listener) -> None:
        super().__init__(server, listener.site.worker, "", listener.lost)
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        self._listener.open += 1
        address = transport.get_extra_info("peername")
        self.source = str(address[0]) if address else ""
        super().connection_made(transport)
        if self._listener.open > CONNECTIONS:
            self.force_close()

    def _too_slow(self) -> None:
        self._waiting = None
        self.force_close()


class Listener:
    """`start`, then `serve` as often as the place or the certificate changes."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.open = 0
        self._runner: web.AppRunner | None = None
        self._server: asyncio.AbstractServer | None = None
        self._trying: asyncio.Task[None] | None = None
        self._place: Endpoint | None = None
        self._context: ssl.SSLContext | None = None

    @property
    def listens(self) -> bool:
        """Whether browsers can connect."""
        return self._server is not None

    def lost(self) -> None:
        """A connection ended."""
        self.open -= 1

    async def start(self, routes: list[Route]) -> None:
        """Make the HTTP server."""
        app = web.Application()
        for route in routes:
            app.router.add_route(route.method, route.path, handler_of(self.site, route))
        self._runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT, **HTTP_LIMITS)
        await self._runner.setup()
        assert self._runner.server is not None
        self._runner.server.request_handler = watched(answering(self.site, self._runner.server.request_handler))

    def serve(self, place: Endpoint, certificate: Path, key: Path) -> None:
        """From now on there and with this certificate; connections that are open stay."""
        if self._trying is not None:
            self._trying.cancel()
        self._trying = self.site.worker.spawn(self._serve(place, certificate, key), "the page's listener")

    async def _serve(self, place: Endpoint, certificate: Path, key: Path) -> None:
        warnings = self.site.worker.warnings
        while True:
            try:
                await self._listen(place, certificate, key)
                warnings.pop("web", None)
                return
            except PlatformError as error:
                warnings["web"] = f"[web] {error}"
            except OSError as error:
                warnings["web"] = f"[web] cannot listen on {place}: {error.strerror or error}"
            await asyncio.sleep(RETRY_INTERVAL)

    async def _listen(self, place: Endpoint, certificate: Path, key: Path) -> None:
        assert self._runner is not None
        runner = self._runner
        if self._server is not None and place == self._place and self._context is not None:
            _load(self._context, certificate, key)  # new handshakes show it
            return
        context = _context(certificate, key)
        loop = asyncio.get_running_loop()
        await self._close()
        assert runner.server is not None
        server = runner.server
        self._server = await loop.create_server(
            lambda: PageProtocol(server, self), place.host, place.port, ssl=context, reuse_address=True,
            backlog=BACKLOG, ssl_handshake_timeout=HANDSHAKE_TIMEOUT, ssl_shutdown_timeout=1.0,
            family=socket.AF_UNSPEC,
        )  # fmt: skip
        self._place, self._context = place, context

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def stop(self) -> None:
        """No new connections; what is being answered has a second."""
        if self._trying is not None:
            self._trying.cancel()
            with suppress(asyncio.CancelledError):
                await self._trying
        await self._close()
        if self._runner is not None:
            await self._runner.cleanup()


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    _load(context, certificate, key)
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    if not certificate.exists():
        raise PlatformError(f"there is no certificate {certificate}: pair the nodes, or give certificate and key")
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise PlatformError(f"{certificate} and {key}: {error.reason or error}") from None
    except OSError as error:
        raise PlatformError(f"{certificate} and {key}: {error.strerror or error}") from None
