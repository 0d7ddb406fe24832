"""Frames with the kernel's time stamps: a memory-mapped packet ring (TPACKET_V2) on one interface, emptied in whole
batches.

Nobody has to run while frames arrive: the kernel writes each into the ring with the moment it passed, and `drain`
reads what is there as one numpy array. A filter in the kernel lets only the probe's datagrams and CARP advertisements
in. Source: Linux Documentation/networking/packet_mmap.rst, include/uapi/linux/if_packet.h.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
import time
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from hacore.errors import PlatformError
from hacore.lab import namespaces, probe

_ETH_P_ALL: Final = 3
_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_PACKET_STATISTICS: Final = 6
_PACKET_VERSION: Final = 10
_PACKET_IGNORE_OUTGOING: Final = 23
_TPACKET_V2: Final = 1
_SO_ATTACH_FILTER: Final = 26
_STATUS_USER: Final = 1
_OUTGOING: Final = 4

_FRAME_BYTES: Final = 256
_BLOCK_BYTES: Final = 1 << 16
_SNAP_BYTES: Final = 128
_ETHERNET_AT: Final = 66

PROBE: Final = 0
ADVERT: Final = 1

PACKETS = np.dtype(
    [
        ("time", "f8"),
        ("kind", "u1"),
        ("outgoing", "?"),
        ("family", "u1"),
        ("number", "i8"),
        ("vhid", "u1"),
        ("advbase", "u1"),
        ("advskew", "u1"),
    ]
)
"""One frame: monotonic seconds.

A probe datagram with its number, or an advert with the three bytes that say who it is from. family: 4 or 6.
"""


def _instruction(code: int, jump_true: int, jump_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, jump_true, jump_false, value)


def _filter() -> bytes:
    """The classic BPF program: IPv4 or IPv6, then CARP (protocol 112) or UDP to the probe's port.

    No IPv4 options, no extension headers.
    """
    load_half, load_byte, equal, give = 0x28, 0x30, 0x15, 0x06
    program = [
        (load_half, 0, 0, 12),
        (equal, 0, 5, 0x0800),
        (load_byte, 0, 0, 23),
        (equal, 9, 0, 112),
        (equal, 0, 9, 17),
        (load_half, 0, 0, 36),
        (equal, 6, 7, probe.PORT),
        (equal, 0, 6, 0x86DD),
        (load_byte, 0, 0, 20),
        (equal, 3, 0, 112),
        (equal, 0, 3, 17),
        (load_half, 0, 0, 56),
        (equal, 0, 1, probe.PORT),
        (give, 0, 0, _SNAP_BYTES),
        (give, 0, 0, 0),
    ]
    return b"".join(_instruction(*step) for step in program)


def monotonic_of_realtime() -> float:
    """What to add to CLOCK_REALTIME for CLOCK_MONOTONIC, in seconds, from the tightest of several readings."""
    best, offset = float("inf"), 0.0
    for _ in range(5):
        before = time.monotonic_ns()
        real = time.time_ns()
        after = time.monotonic_ns()
        if after - before < best:
            best, offset = after - before, ((before + after) / 2 - real) / 1e9
    return offset


class Ring:
    """The frames that pass one interface, from now until `close`.

    interface: name in the namespace at `path`; arriving: only frames that arrive there; frames: capacity between two
    drains.
    """

    def __init__(
        self, path: Path, interface: str, session: int, *, arriving: bool = False, frames: int = 16384
    ) -> None:
        self.session = session
        self.interface = interface
        per_block = _BLOCK_BYTES // _FRAME_BYTES
        blocks = -(-frames // per_block)
        self._count = blocks * per_block
        self._head = 0
        with namespaces.inside(path):
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._attach_filter()
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, int(arriving))
            self._socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
            request = struct.pack("IIII", _BLOCK_BYTES, blocks, _FRAME_BYTES, self._count)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, request)
            self._map = mmap.mmap(self._socket.fileno(), blocks * _BLOCK_BYTES, mmap.MAP_SHARED)
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            raise PlatformError(f"cannot watch the interface {interface} in {path.name}: {error}") from error
        self._frames = np.frombuffer(self._map, dtype=np.uint8).reshape(self._count, _FRAME_BYTES)
        self._status = self._frames[:, :4].view(np.uint32)[:, 0]
        self._offset = monotonic_of_realtime()

    def _attach_filter(self) -> None:
        program = ctypes.create_string_buffer(_filter())
        descriptor = struct.pack("HP", (len(program) - 1) // 8, ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, descriptor)

    def drain(self) -> npt.NDArray[np.void]:
        """The frames since the last call, oldest first, as an array of `PACKETS`.

        The ring is free for new ones afterwards.
        """
        parts = [self._frames[:0]]
        while True:
            status = self._status[self._head :]
            ready = (status & _STATUS_USER) != 0
            filled = len(ready) if ready.all() else int(np.argmin(ready))
            parts.append(self._frames[self._head : self._head + filled].copy())
            status[:filled] = 0
            self._head += filled
            if self._head < self._count:
                break
            self._head = 0
        taken = np.concatenate(parts)
        return self._read(taken)

    def _read(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.void]:
        def word(at: int, kind: str) -> npt.NDArray[np.int64]:
            width = np.dtype(kind).itemsize
            return np.ascontiguousarray(frames[:, at : at + width]).view(kind)[:, 0].astype(np.int64)

        rows = np.zeros(len(frames), dtype=PACKETS)
        if not len(frames):
            return rows
        rows["time"] = word(16, "=u4") + word(20, "=u4") / 1e9 + self._offset
        rows["outgoing"] = frames[:, 42] == _OUTGOING
        six = word(_ETHERNET_AT + 12, ">u2") == 0x86DD
        rows["family"] = np.where(six, 6, 4)
        protocol = np.where(six, frames[:, _ETHERNET_AT + 20], frames[:, _ETHERNET_AT + 23])
        rows["kind"] = np.where(protocol == 112, ADVERT, PROBE)
        carp = np.where(
            six[:, None],
            frames[:, _ETHERNET_AT + 54 : _ETHERNET_AT + 60],
            frames[:, _ETHERNET_AT + 34 : _ETHERNET_AT + 40],
        )
        rows["vhid"], rows["advskew"], rows["advbase"] = carp[:, 1], carp[:, 2], carp[:, 5]
        own = np.zeros(len(frames), dtype=bool)
        for family, at in ((six, _ETHERNET_AT + 62), (~six, _ETHERNET_AT + 42)):
            rows["number"] = np.where(family, word(at + 8, ">i8"), rows["number"])
            own |= family & (word(at, ">u4") == probe.MAGIC) & (word(at + 4, ">u4") == self.session)
        keep: npt.NDArray[np.bool_] = (rows["kind"] == ADVERT) | own
        return rows[keep]

    def lost(self) -> int:
        """Frames that found the ring full since the last call."""
        _, dropped = struct.unpack("II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(dropped)

    def close(self) -> None:
        """Stop watching and give the memory back."""
        self._socket.close()
        del self._frames, self._status
        self._map.close()
