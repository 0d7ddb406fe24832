"""A request with a body of gigabytes, sent from a thread over a connection of its own.

The same HTTP as all others, but neither the body nor its encryption pass through the event loop, which would cost as
much as both.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from hacore.control.client import PeerClient

T = TypeVar("T")


class Upload:
    """One upload. `run` blocks; `sent` (bytes of the body) and `abort` are for other threads."""

    def __init__(self, client: PeerClient, method: str, path: str, total_bytes: int) -> None:
        self._client, self._method, self._path, self._total_bytes = client, method, path, total_bytes
        self._connection: http.client.HTTPSConnection | None = None
        self._aborted = False
        self.sent = 0

    def run(self, pieces: Iterable[bytes | memoryview], response: type[T], *, connect: float, silence: float) -> T:
        """Send `pieces`, together `total_bytes` long; the answer as the struct `response`.

        `connect` and `silence` in seconds: until the connection is there, and between two parts of anything.
        Raises ApiError, and what `pieces` raises.
        """
        client = self._client
        place = client.place
        connection = http.client.HTTPSConnection(place.host, place.port, timeout=connect, context=client.context())
        self._connection = connection
        try:
            try:
                connection.connect()
                self._tune(connection.sock, silence)
                connection.putrequest(self._method, f"/v1{self._path}", skip_accept_encoding=True)
                for name, value in client.headers().items():
                    connection.putheader(name, value)
                connection.putheader("Content-Type", "application/octet-stream")
                connection.putheader("Content-Length", str(self._total_bytes))
                connection.endheaders()
            except (OSError, http.client.HTTPException) as error:
                raise client.explain(_plain(error)) from error
            for piece in pieces:
                if (refusal := self._send(connection, piece)) is not None:
                    return client.answer(*refusal, response)
            return client.answer(*self._answer(connection), response)
        finally:
            self._connection = None
            connection.close()

    def _tune(self, connection: socket.socket, silence: float) -> None:
        if self._aborted:
            raise ConnectionAbortedError("given up")
        connection.settimeout(silence)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _send(self, connection: http.client.HTTPSConnection, piece: bytes | memoryview) -> tuple[int, bytes] | None:
        """None, or why the peer does not want more."""
        try:
            connection.sock.sendall(piece)
        except OSError as error:
            with suppress(OSError, http.client.HTTPException):  # it may have said so before it closed the connection
                answer = connection.getresponse()
                return answer.status, answer.read()
            raise self._client.explain(error) from error
        self.sent += len(piece)
        return None

    def _answer(self, connection: http.client.HTTPSConnection) -> tuple[int, bytes]:
        try:
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._client.explain(_plain(error)) from error

    def abort(self) -> None:
        """Whoever runs it meets an error soon."""
        self._aborted = True
        connection = self._connection
        if connection is not None and isinstance(connection.sock, ssl.SSLSocket):
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)


def _plain(error: OSError | http.client.HTTPException) -> OSError:
    if isinstance(error, OSError):
        return error
    return ConnectionResetError(f"the connection was closed before there was an answer ({type(error).__name__})")
