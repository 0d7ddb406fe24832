"""One TLS connection on a `Loop`: connects or is taken, shakes hands, then carries bytes both ways. Nothing waits.

A connection that does not open in time, fails or is closed by the other side says so once, with the reason in words.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable

from hacore.node.loop import READ, WRITE, Loop, Timer
from hacore.node.states_tls import explain

OPEN_TIMEOUT = 5.0  # seconds from the first packet to the end of the handshake
RECORD_BYTES = 16384  # of TLS
READ_BYTES = 1 << 18  # taken in one turn, so that one peer does not keep the others waiting
WRITE_BYTES = 1 << 20  # given in one turn, where nothing else is said
CHUNK_BYTES = 1 << 16  # handed to TLS at once
EXPIRY_INTERVAL = 60.0  # seconds at most between two looks at the clock: it may be set
SOCKET_BUFFER_BYTES = 4 << 20


class Connection:
    """Bytes to and from one peer.

    `on_open(connection)` once the handshake is done; `on_data(data)` with bytes as they come; `on_room()` whenever
    everything that was given to `send` is on its way, to give it more; `on_close(connection, reason)` once, at the end.
    It gives the network about `turn_bytes` in one turn. The socket is the connection's from the start, unless making it
    raises OSError.
    """

    def __init__(
        self, loop: Loop, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool,
        on_open: Callable[[Connection], None], on_close: Callable[[Connection, str], None],
    ) -> None:  # fmt: skip
        self.on_data: Callable[[bytes], None] = lambda _data: None
        self.on_room: Callable[[], None] = lambda: None
        self.is_open = False
        self.closed = False
        self.sent_bytes = self.received_bytes = 0
        self.opened = 0.0
        self.turn_bytes = WRITE_BYTES
        self._loop = loop
        self._on_open, self._on_close = on_open, on_close
        self._context, self._server_side = context, server_side
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._current = memoryview(b"")
        self._reading = True
        self._unfinished = False
        self._again: Timer | None = None
        self._expires = 0.0
        self._expiry: Timer | None = None
        self._buffer = bytearray(READ_BYTES)
        self._raw = sock
        self._tls: ssl.SSLSocket | None = None
        self._fd = sock.fileno()
        self._events = READ if server_side else WRITE
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop.register(self._fd, self._ready, self._events)
        self._timeout = loop.call_at(loop.now() + OPEN_TIMEOUT, lambda _now: self.close("no answer in time"))

    @classmethod
    def dial(
        cls, loop: Loop, family: int, address: tuple[str, int], context: ssl.SSLContext, *,
        on_open: Callable[[Connection], None], on_close: Callable[[Connection, str], None],
    ) -> Connection:  # fmt: skip
        """Starts to connect. Raises OSError where the kernel refuses at once."""
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
            code = sock.connect_ex(address)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            return cls(loop, sock, context, server_side=False, on_open=on_open, on_close=on_close)
        except OSError:
            sock.close()
            raise

    # What it is asked

    @property
    def tls(self) -> ssl.SSLSocket:
        """The TLS socket, once open: for the peer's certificate and the protocol agreed on."""
        assert self._tls is not None
        return self._tls

    @property
    def pending_bytes(self) -> int:
        """Given to `send` and not yet taken by the kernel."""
        return self._queued_bytes + len(self._current)

    def send(self, data: bytes) -> None:
        """Queue; `flush` hands it on (not needed in `on_room`)."""
        if data and not self.closed:
            self._queue.append(data)
            self._queued_bytes += len(data)

    def ask_again(self) -> None:
        """In `on_room`: there is nothing to give yet; call it in the next turn."""
        self._unfinished = True

    def flush(self) -> None:
        """Send what the kernel takes now, after asking `on_room` for more where nothing waits."""
        if self.is_open:
            try:
                self._write()
            except OSError as error:
                self.close(explain(error))
            if self.is_open:
                self._watch()

    def read_on(self, wanted: bool) -> None:
        """Whether bytes are taken from the network: False lets TCP hold the peer back."""
        if wanted != self._reading:
            self._reading = wanted
            if self.is_open and not self.closed:
                self._watch()
                if wanted:
                    self._read_soon()  # what TLS holds already makes no descriptor ready

    def close(self, reason: str) -> None:
        """End it, without waiting for what is queued."""
        if self.closed:
            return
        self.closed, self.is_open = True, False
        self._timeout.cancel()
        for timer in (self._again, self._expiry):
            if timer is not None:
                timer.cancel()
        self._loop.unregister(self._fd)
        (self._tls or self._raw).close()
        self._queue.clear()
        self._current = memoryview(b"")
        self._queued_bytes = 0
        self._on_close(self, reason)

    # The loop

    def _ready(self, events: int, _now: float) -> None:
        try:
            if self._tls is None:
                self._connected()
            if not self.is_open:
                self._shake_hands()
            else:
                if events & ~WRITE and self._reading:
                    self._read()
                if events & WRITE and not self.closed:
                    self._write()
            if self.is_open:
                self._watch()
        except OSError as error:
            self.close(explain(error))

    def _connected(self) -> None:
        """It was made, or something came over one that was taken, which may have been reset by then."""
        code = self._raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._loop.unregister(self._fd)  # where the next call fails, it has closed the descriptor
        self._tls = self._context.wrap_socket(
            self._raw, server_side=self._server_side, do_handshake_on_connect=False, suppress_ragged_eofs=False
        )
        self._loop.register(self._fd, self._ready, self._events)

    def _shake_hands(self) -> None:
        assert self._tls is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._set_events(READ)
            return
        except ssl.SSLWantWriteError:
            self._set_events(WRITE)
            return
        self._timeout.cancel()
        self.is_open = True
        self.opened = self._loop.now()
        self._expires = ssl.cert_time_to_seconds(self._tls.getpeercert()["notAfter"])  # type: ignore[index,arg-type]
        self._check_expiry(self.opened)
        self._on_open(self)
        if self.is_open:
            self._write()
            self._read_soon()

    def _check_expiry(self, now: float) -> None:
        """The connection ends with the peer's certificate: TLS looks at the dates only when it begins."""
        remaining = self._expires - time.time()
        if remaining < 0:
            self.close("the peer's certificate has expired")
        else:
            self._expiry = self._loop.call_at(now + min(remaining + 0.001, EXPIRY_INTERVAL), self._check_expiry)

    def _read_soon(self) -> None:
        if self._again is None or not self._again.pending:
            self._again = self._loop.call_soon(lambda now: self._ready(READ, now) if not self.closed else None)

    def _read(self) -> None:
        assert self._tls is not None
        view = memoryview(self._buffer)
        filled = 0
        ended = ""
        while filled <= READ_BYTES - RECORD_BYTES:
            try:
                count = self._tls.recv_into(view[filled:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except ssl.SSLEOFError:
                ended = "the peer closed the connection"
                break
            except OSError as error:
                ended = explain(error)
                break
            if not count:
                ended = "the peer closed the connection"
                break
            filled += count
            if count < RECORD_BYTES and not self._tls.pending():
                break  # the last record of what was sent at once; the descriptor tells of more
        else:
            self._read_soon()
        self.received_bytes += filled
        if filled:
            self.on_data(bytes(view[:filled]))
        if ended:
            self.close(ended)

    def _write(self) -> None:
        assert self._tls is not None
        limit = self.sent_bytes + self.turn_bytes
        self._unfinished = False
        while not self.closed:
            if self.sent_bytes >= limit:
                self._unfinished = True
                return
            if not self._current:
                if not self._queue:
                    self.on_room()
                    if not self._queue or self.closed:
                        return
                self._current = memoryview(self._next_chunk())
            try:
                # The same bytes again where TLS could not take them all: it has begun a record with them.
                count = self._tls.send(self._current)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            self.sent_bytes += count
            self._current = self._current[count:]

    def _next_chunk(self) -> bytes:
        taken = [self._queue.popleft()]
        size = len(taken[0])
        while self._queue and size + len(self._queue[0]) <= CHUNK_BYTES:
            taken.append(self._queue.popleft())
            size += len(taken[-1])
        self._queued_bytes -= size
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _watch(self) -> None:
        self._set_events((READ if self._reading else 0) | (WRITE if self.pending_bytes or self._unfinished else 0))

    def _set_events(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._loop.modify(self._fd, events)
