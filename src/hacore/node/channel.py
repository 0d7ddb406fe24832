"""Framed messages over a stream socket that never blocks: what the election worker and the supervisor talk through."""

from __future__ import annotations

import socket
from typing import Any, Generic, TypeVar

import msgspec

from hacore.errors import LocalProtocolError

LENGTH_BYTES = 4
MAX_MESSAGE_BYTES = 16 << 20  # a report of 4,000 VIPs; more is a bug of the other side
MAX_PENDING_BYTES = 4 << 20  # bounds what a stopped reader can make the writer keep
READ_BYTES = 1 << 16

T = TypeVar("T")


class Channel(Generic[T]):
    """One end. `receive` gives messages of the type it was made for; `send` takes any message struct."""

    def __init__(self, end: socket.socket, incoming: Any) -> None:
        end.setblocking(False)
        self._socket = end
        self._decoder = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._received = bytearray()
        self._pending = bytearray()
        self.dropped = 0  # messages that found the queue full
        self.closed = False

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether something waits for the socket."""
        return bool(self._pending)

    def send(self, message: msgspec.Struct) -> bool:
        """Queue and send what the socket takes now; False where the queue was full and the message was dropped."""
        body = self._encoder.encode(message)
        if len(self._pending) + len(body) > MAX_PENDING_BYTES:
            self.dropped += 1
            return False
        self._pending += len(body).to_bytes(LENGTH_BYTES, "little")
        self._pending += body
        self.flush()
        return True

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        while self._pending and not self.closed:
            try:
                count = self._socket.send(self._pending)
            except BlockingIOError:
                return
            except OSError:
                self.closed = True
                return
            del self._pending[:count]

    def receive(self) -> list[T]:
        """Every whole message that has arrived; `closed` is True once the other side is gone."""
        while not self.closed:
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
            self._received += data
        messages: list[T] = []
        while len(self._received) >= LENGTH_BYTES:
            length = int.from_bytes(self._received[:LENGTH_BYTES], "little")
            if length > MAX_MESSAGE_BYTES:
                raise LocalProtocolError(f"a message of {length} bytes on the worker's channel")
            if len(self._received) < LENGTH_BYTES + length:
                break
            body = bytes(self._received[LENGTH_BYTES : LENGTH_BYTES + length])
            del self._received[: LENGTH_BYTES + length]
            messages.append(self._decoder.decode(body))
        return messages

    def close(self) -> None:
        """Close what is open; the kernel keeps what it has."""
        self.closed = True
        self._socket.close()
