"""The socket on which the peers call. What anybody who can reach it may force, before a certificate was shown, is
bounded by places; whatever happens to one connection ends that one.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Iterable

from hacore.errors import PlatformError
from hacore.node.loop import READ, Loop
from hacore.node.places import Place, Places
from hacore.node.states_connection import Connection
from hacore.node.states_credentials import Credentials

BACKLOG = 1024  # a flood of strangers is not to keep a peer out by filling this
ACCEPT_PAUSE = 0.2  # seconds after accept(2) failed for want of descriptors or memory
TELL_INTERVAL = 1.0  # seconds: the history is not to be filled by strangers
IP_FREEBIND, IPV6_FREEBIND = 15, 78  # an address may be listened on before it is there


class Listener:
    """Takes connections; `on_open(connection)` once a certificate was shown, to judge it, `on_close(connection,
    reason)` at the end of each, and `on_problem(text)` for what ends before one was shown.
    """

    def __init__(
        self, loop: Loop, credentials: Credentials, on_open: Callable[[Connection], None],
        on_close: Callable[[Connection, str], None], on_problem: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.refused = 0
        """Connections ever that did not get as far as a stream."""
        self._loop, self._credentials = loop, credentials
        self._on_open, self._on_close, self._on_problem = on_open, on_close, on_problem
        self._places = Places()
        self._taken: dict[Connection, Place] = {}
        self._socket: socket.socket | None = None
        self._is_open = False
        self._last_refusal, self._told_at = "", -math.inf

    def know(self, hosts: Iterable[str]) -> None:
        """The hosts of the peers in the settings, whose places nobody else takes."""
        self._places.know(hosts)

    def stands_for(self, host: str, address: str) -> None:
        """What a peer's host that is a name was found to be."""
        self._places.stands_for(host, [address])

    def listen(self, host: str, port: int) -> None:
        """Take connections, once it is open. Raises PlatformError."""
        try:
            family, address = numeric(host, port) or socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0::4]
            sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            raise PlatformError(f"states.listen = {host}:{port}: {error.strerror or error}") from error
        self._socket = sock
        self._loop.register(sock.fileno(), self._accept, READ if self._is_open else 0)

    def set_open(self, is_open: bool) -> None:
        """Whether connections are taken. Those that come before wait where the kernel keeps them."""
        self._is_open = is_open
        self._watch(self._loop.now())

    @property
    def taken(self) -> list[Connection]:
        """Those that stand, the oldest first."""
        return list(self._taken)

    def trusted(self, connection: Connection, peer: str) -> None:
        """The certificate that was shown there is that of a peer."""
        self._places.shown(self._taken[connection], peer)

    def _accept(self, _events: int, now: float) -> None:
        assert self._socket is not None
        try:
            sock, address = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError as error:
            self.refuse(f"it cannot be taken: {error.strerror or error}")
            self._loop.modify(self._socket.fileno(), 0)
            self._loop.call_at(now + ACCEPT_PAUSE, self._watch)
            return
        try:
            self._take(sock, str(address[0]))
        except OSError as error:
            sock.close()
            self.refuse(error.strerror or str(error))

    def _watch(self, _now: float) -> None:
        if self._socket is not None:
            self._loop.modify(self._socket.fileno(), READ if self._is_open else 0)

    def _take(self, sock: socket.socket, address: str) -> None:
        contexts = self._credentials.contexts
        if contexts is None:  # the worker has told why
            sock.close()
            self.refused += 1
            return
        place = self._places.take(address, lambda: connection.close("made way: it did not show who it is"))
        if place is None:
            sock.close()
            self.refuse(f"too many at once from {address}")
            return
        try:
            connection = Connection(
                self._loop, sock, contexts.server, server_side=True, on_open=self._on_open, on_close=self._closed
            )
        except OSError:
            self._places.leave(place)
            raise
        self._taken[connection] = place

    def _closed(self, connection: Connection, reason: str) -> None:
        self._places.leave(self._taken.pop(connection))
        self._on_close(connection, reason)

    def refuse(self, reason: str) -> None:
        """One was not taken, or not any further; told where it is not for the same reason as the one told last."""
        self.refused += 1
        now = self._loop.now()
        if reason != self._last_refusal and now - self._told_at >= TELL_INTERVAL:
            self._last_refusal, self._told_at = reason, now
            self._on_problem(f"refused a connection: {reason}")

    def close(self, reason: str) -> None:
        """No more, and the end of those that stand."""
        if self._socket is not None:
            self._loop.unregister(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for connection in self.taken:
            connection.close(reason)


def numeric(host: str, port: int) -> tuple[int, tuple[str, int]] | None:
    """Family and address of a host that is no name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return family, (host, port)
    return None
