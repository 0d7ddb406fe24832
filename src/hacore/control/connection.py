"""One connection of a peer as the HTTP server sees it, and what it may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from hacore.control.answering import as_json
from hacore.control.problems import ApiError

if TYPE_CHECKING:
    from hacore.control.worker import ControlWorker

#: From the end of the handshake, or from the first byte after an answer, until the head of a request is there.
HEAD_TIMEOUT = 10.0
#: What one connection may cost before it asked for anything.
HTTP_LIMITS: Mapping[str, Any] = {
    "access_log": None, "auto_decompress": False, "keepalive_timeout": 30.0, "lingering_time": 1.0,
    "read_bufsize": 256 << 10,
    "max_line_size": 4096, "max_field_size": 8192, "max_headers": 64,
}  # fmt: skip


class PeerProtocol(web.RequestHandler):
    """Tells when it ends, answers what is not HTTP as everything else, and does not wait for a head for ever."""

    __slots__ = ("_answering", "_waiting", "on_lost", "source", "worker")

    def __init__(self, server: web.Server, worker: ControlWorker, source: str, on_lost: Callable[[], None]) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **HTTP_LIMITS)
        self.worker, self.source, self.on_lost = worker, source, on_lost
        self._answering = False
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake is done."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Some of a request, or of its body."""
        super().data_received(data)
        if not self._answering:
            self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The transport is gone."""
        super().connection_lost(exc)
        self._no_longer_wait()
        self.on_lost()

    async def answer(
        self, request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The head is there: from now on whoever reads the body has limits of their own."""
        self._no_longer_wait()
        self._answering = True
        try:
            return await handler(request)
        finally:
            self._answering = False

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().call_later(HEAD_TIMEOUT, self._too_slow)

    def _no_longer_wait(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_slow(self) -> None:
        self._waiting = None
        error = ApiError(408, "timed-out", f"no request came within {HEAD_TIMEOUT:g} s")
        self.worker.refusals.note(self.source, error.code, error.message)
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002 - as the base class has it
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """What the parser refused, before any route could."""
        self._no_longer_wait()
        if status >= 500:
            if exc is not None:
                self.worker.fault("HTTP", exc)
            return as_json(status, ApiError(status, "internal", "a fault of this node").body())
        error = ApiError(status, "bad-request", f"this is no well-formed HTTP request{_reason(exc)}")
        self.worker.refusals.note(self.source, error.code, error.message)
        response = as_json(status, error.body())
        response.force_close()
        return response


def watched(handler: Callable[[Any], Awaitable[web.StreamResponse]]) -> Any:
    """`handler` for the connections of peers."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request.protocol, PeerProtocol)
        return await request.protocol.answer(request, handler)

    return answer


def _reason(error: BaseException | None) -> str:
    """What the parser did not like, in one printable line."""
    said = str(getattr(error, "message", "") or "").strip().splitlines()
    return f": {ascii(said[0][:200])[1:-1].rstrip(':')}" if said else ""
