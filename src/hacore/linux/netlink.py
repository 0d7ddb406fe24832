"""Netlink framing and one request socket, for the few messages the election sends while it runs.

pyroute2 is not used here: it costs 33 MB in a process that promises to stay small, and milliseconds where a transition
has microseconds. What is built beforehand are bytes; at the time of a transition they are joined, numbered and sent
once. Source: netlink(7), include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
HEADER_LENGTH: Final = 16
NLA_F_NESTED: Final = 0x8000
_NLA_TYPE_MASK: Final = 0x3FFF

_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
# A reply is one datagram and the kernel never makes a dump datagram larger than 32 KiB unless the reader's buffer
# invites it.
RECEIVE_LIMIT: Final = 65536
# Bounds how long one send may keep the kernel busy and how large an skb it has to find.
_SEND_LIMIT: Final = 256 * 1024

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_SEQUENCE = struct.Struct("=I")
_ERROR = struct.Struct("=i")


def message(kind: int, flags: int, body: bytes) -> bytes:
    """One netlink message, not numbered yet. `body` is the family's header with its attributes."""
    return _HEADER.pack(HEADER_LENGTH + len(body), kind, flags, 0, 0) + body + bytes(-len(body) % 4)


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def messages_in(buffer: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """(type, flags, sequence, body) of each whole message; what is cut off or claims an impossible length ends the
    iteration.
    """
    offset = 0
    while offset + HEADER_LENGTH <= len(buffer):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(buffer, offset)
        if length < HEADER_LENGTH or length > len(buffer) - offset:
            return
        yield kind, flags, sequence, buffer[offset + HEADER_LENGTH : offset + length]
        offset += (length + 3) & ~3


def attributes_in(body: bytes, offset: int) -> dict[int, bytes]:
    """The attributes after the family's header of `offset` bytes, the last of each type; impossible lengths end it."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < 4 or length > len(body) - offset:
            break
        found[kind & _NLA_TYPE_MASK] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def raise_buffer(opened: socket.socket, size: int, *, sending: bool = False) -> int:
    """Asks for a socket buffer of `size` bytes, above the system's maximum where the privilege allows it; returns what
    was granted.
    """
    option, force = (socket.SO_SNDBUF, _SO_SNDBUFFORCE) if sending else (socket.SO_RCVBUF, SO_RCVBUFFORCE)
    try:
        opened.setsockopt(socket.SOL_SOCKET, force, size)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, option, size)
    # The kernel reports twice what it was asked for: its own bookkeeping is in it.
    return opened.getsockopt(socket.SOL_SOCKET, option) // 2


class RequestSocket:
    """A netlink socket for requests that are answered at once.

    The kernel works a request off inside the send call, so the answers are there when it returns: nothing is waited
    for. A message without NLM_F_ACK is answered only when it fails; a batch therefore carries the flag on its last
    message alone.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.bind((0, 0))
            raise_buffer(self._socket, 1 << 20)
            raise_buffer(self._socket, 2 * _SEND_LIMIT, sending=True)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        except BaseException:
            self._socket.close()
            raise
        self._sequence = int.from_bytes(os.urandom(3), "little")

    def fileno(self) -> int:
        """The descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()

    def _exchange(self, batch: bytearray, owners: Sequence[int], first: int, results: list[int]) -> None:
        """Sends `batch`, whose message number `first + i` belongs to `results[owners[i]]`, and reads until the last one
        is answered.
        """
        self._socket.send(batch)
        last = (first + len(owners) - 1) & 0xFFFFFFFF
        while True:
            try:
                data = self._socket.recv(RECEIVE_LIMIT, socket.MSG_DONTWAIT)
            except BlockingIOError:
                # Cannot happen while acknowledgements are sent within the call; better an error than to wait for ever.
                raise OSError(errno.EPROTO, "the kernel left a netlink request without an answer") from None
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    continue
                raise
            for kind, _, sequence, body in messages_in(data):
                index = (sequence - first) & 0xFFFFFFFF
                if kind != NLMSG_ERROR or len(body) < 4 or index >= len(owners):
                    continue
                failure = -_ERROR.unpack_from(body)[0]
                if failure and not results[owners[index]]:
                    results[owners[index]] = failure
                if sequence == last:
                    return

    def _number(self, batch: bytearray) -> tuple[int, int]:
        """Numbers the messages in `batch`, asks for an acknowledgement of the last; returns the first number and how
        many there are.
        """
        offset = last = count = 0
        first = self._sequence
        while offset < len(batch):
            _SEQUENCE.pack_into(batch, offset + 8, (first + count) & 0xFFFFFFFF)
            length = _SEQUENCE.unpack_from(batch, offset)[0]
            last, offset, count = offset, offset + ((length + 3) & ~3), count + 1
        batch[last + 6] |= NLM_F_ACK
        self._sequence = (first + count) & 0xFFFFFFFF
        return first, count


def split(messages: Sequence[bytes]) -> Iterator[range]:
    """Ranges of indices whose messages together stay under the limit of one send; nearly always one."""
    begin = size = 0
    for index, one in enumerate(messages):
        if size + len(one) > _SEND_LIMIT and index > begin:
            yield range(begin, index)
            begin, size = index, 0
        size += len(one)
    if begin < len(messages):
        yield range(begin, len(messages))


def set_sequence(batch: bytearray, offset: int, sequence: int) -> None:
    """Numbers the message that starts at `offset`."""
    _SEQUENCE.pack_into(batch, offset + 8, sequence & 0xFFFFFFFF)


def count_messages(data: bytes) -> int:
    """How many netlink messages stand one after another in `data`."""
    offset = count = 0
    while offset < len(data):
        offset += (int(_SEQUENCE.unpack_from(data, offset)[0]) + 3) & ~3
        count += 1
    return count
