"""The body of gigabytes that a push sends, taken past the HTTP server.

While it comes the connection belongs to a protocol whose buffers are filled in place: the event loop only decrypts,
and whole pieces go to the thread that writes them. aiohttp has the connection before and after.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from types import TracebackType
from typing import Self

from aiohttp import web

PIECE_BYTES = 1 << 20
PIECES = 3  # one is filled, one waits, one is written
#: So much is to be there before the loop is woken, as long as more than that is to come and it comes fast.
GATHER_BYTES = 128 << 10
#: What is there is passed on after so many seconds, even where it fills no piece.
PATIENCE = 1.0


class Contents(asyncio.BufferedProtocol):
    """`async with` it while the body of `request`, `total_bytes` long, is read by `next`."""

    def __init__(self, request: web.BaseRequest, total_bytes: int) -> None:
        self._request = request
        self._left = total_bytes
        self._free = [memoryview(bytearray(min(PIECE_BYTES, total_bytes))) for _ in range(PIECES if total_bytes else 0)]
        self._whole: deque[memoryview] = deque()
        self._current: memoryview | None = None
        self._filled = 0
        self._paused = False
        self._gathering = False
        self._news = asyncio.Event()
        self._lost: BaseException | None = None
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the connection is gone")
        self._transport = transport
        self._connection: socket.socket = transport.get_extra_info("socket")

    async def __aenter__(self) -> Self:
        content = self._request.content
        while self._left and (data := content.read_nowait()):
            self._feed(data)
        if self._left:
            self._transport.set_protocol(self)
            self._transport.resume_reading()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._gather(False)
        if self._lost is not None:
            return
        self._transport.set_protocol(self._request.protocol)
        if self._paused:
            self._transport.resume_reading()
        if kind is None:
            self._request.content.feed_eof()
            self._request.protocol.close()  # after the answer: its parser does not know how far the body came

    def _feed(self, data: bytes) -> None:
        view = memoryview(data)[: self._left]
        while len(view):
            buffer = self.get_buffer(-1)
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            self.buffer_updated(count)

    # What asyncio calls

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - as the base class has it
        """Where what comes next is to go."""
        if self._current is None:
            self._current = self._free.pop() if self._free else memoryview(bytearray(PIECE_BYTES))
            self._filled = 0
        return self._current[self._filled : self._filled + max(1, self._left)]

    def buffer_updated(self, nbytes: int) -> None:
        """So much is there."""
        assert self._current is not None
        if not self._left:
            self._transport.abort()  # more than was announced
            return
        self._filled += nbytes
        self._left -= nbytes
        if self._filled == len(self._current) or not self._left:
            self._pass_on()
        if self._left <= 2 * GATHER_BYTES:
            self._gather(False)
        if not self._left or (not self._free and self._current is None):
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The sender is gone, or this node ends."""
        self._lost = exc or ConnectionResetError("the connection ended in the middle of the contents")
        self._request.protocol.connection_lost(exc)
        self._news.set()

    def pause_writing(self) -> None:
        """For the answer."""
        self._request.protocol.pause_writing()

    def resume_writing(self) -> None:
        """For the answer."""
        self._request.protocol.resume_writing()

    # For the handler

    async def next(self, timeout: float) -> memoryview | None:
        """The next piece, None after the last. Give it back once it is written.

        Raises TimeoutError where nothing came for so many seconds, ConnectionError where nothing can come any more.
        """
        waited = 0.0
        while not self._whole:
            if self._lost is not None:
                raise ConnectionResetError(str(self._lost)) from self._lost
            if not self._left:
                return None
            before = self._left
            self._news.clear()
            try:
                async with asyncio.timeout(min(timeout, PATIENCE)):
                    await self._news.wait()
            except TimeoutError:
                self._gather(False)
                waited = waited + PATIENCE if self._left == before else 0.0
                if self._filled and self._current is not None:
                    self._pass_on()
                elif waited >= timeout:
                    raise
            else:
                self._gather(self._left > 2 * GATHER_BYTES)
        return self._whole.popleft()

    def give_back(self, piece: memoryview) -> None:
        """Its buffer can be filled again."""
        self._free.append(memoryview(piece.obj))
        if self._paused and self._left and self._lost is None:
            self._paused = False
            self._transport.resume_reading()

    def _pass_on(self) -> None:
        assert self._current is not None
        self._whole.append(self._current[: self._filled])
        self._current, self._filled = None, 0
        self._news.set()

    def _gather(self, many: bool) -> None:
        """Fewer and larger reads; every byte at once where the sender is slow, or near the end."""
        if many == self._gathering or self._lost is not None:
            return
        self._gathering = many
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, GATHER_BYTES if many else 1)
