"""New flows as a firewall gets them: one UDP datagram each, through the node's forwarding path.

An injector as the load would hold the kernel's one lock for such messages, for which the receiver in the same kernel
waits; packets take no such lock.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from hacore.errors import PlatformError
from hacore.lab import namespaces
from hacore.linux import conntrack
from hacore.linux.ruleset import run_nft
from hacore.states.layout import Rows, empty_rows

SOURCES = 60_000  # of 10.66.0.0/16
FIRST_PORT, PORT = 1024, 4000
DESTINATION = bytes((198, 51, 100, 9))
SINK, NETWORK, NOBODY = "sink", "198.51.100.0/24", "02:00:00:00:be:02"
NUD_PERMANENT = 0x80
FRAME_BYTES = 48
TIMEOUTS = ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream")
"""Seconds: with the kernel's own the first flows of a long load would be gone before its last ones come."""

CONFIRMED, LIFETIME = 8, 86_400
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
AT_ONCE = 1024  # UIO_MAXIOV

MESSAGE = np.dtype(
    [("name", "u8"), ("name_length", "u8"), ("vectors", "u8"), ("vector_count", "u8"), ("control", "u8"),
     ("control_length", "u8"), ("flags", "u8"), ("sent", "u8")]
)  # fmt: skip
"""struct mmsghdr of a machine with 64 bits."""

# Conntrack works where rules ask for it; the nodes' own traffic is left out of their tables.
RULESET = """
table inet bench {
    chain before { type filter hook prerouting priority raw; iifname != "lan" notrack; }
    chain own { type filter hook output priority raw; notrack; }
    chain forward { type filter hook forward priority filter; ct state invalid drop; }
}
"""


def prepare(namespace: Path) -> bytes:
    """A node forwards such datagrams to where nobody is, and tracks them; the MAC address that it takes them at.

    PlatformError where the kernel refuses it.
    """
    from pyroute2 import IPRoute  # type: ignore[import-untyped]
    from pyroute2.netlink.exceptions import NetlinkError  # type: ignore[import-untyped]

    with namespaces.inside(namespace):
        for name in TIMEOUTS:
            conntrack.set_sysctl(name, LIFETIME)
        try:
            with IPRoute() as route:
                route.link("add", ifname=SINK, kind="veth", peer={"ifname": f"{SINK}-end"})
                for name in (f"{SINK}-end", SINK):
                    index = route.link_lookup(ifname=name)[0]
                    route.link("set", index=index, state="up")
                route.route("add", dst=NETWORK, oif=index)
                route.neigh("add", dst=str(IPv4Address(DESTINATION)), lladdr=NOBODY, ifindex=index, state=NUD_PERMANENT)
                (lan,) = route.link("get", ifname="lan")
        except NetlinkError as error:
            raise PlatformError(f"the kernel refused what new flows are sent to: {error}") from error
        run_nft(["-f", "-"], RULESET)
    return bytes.fromhex(str(lan.get("address")).replace(":", ""))


def _places(count: int, first: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The last two octets of the source address, and the source port."""
    index = np.arange(first, first + count)
    host = index % SOURCES
    return 1 + host // 250, 1 + host % 250, FIRST_PORT + index // SOURCES


def rows_of(count: int, first: int = 0) -> Rows:
    """What the kernel makes of `frames_of` of the same numbers."""
    rows = empty_rows(count)
    third, fourth, port = _places(count, first)
    rows["family"], rows["protocol"] = socket.AF_INET, socket.IPPROTO_UDP
    rows["source"][:, :2] = 10, 66
    rows["source"][:, 2], rows["source"][:, 3] = third, fourth
    rows["destination"][:, :4] = tuple(DESTINATION)
    rows["source_port"], rows["destination_port"] = port, PORT
    rows["reply_source"], rows["reply_destination"] = rows["destination"], rows["source"]
    rows["reply_source_port"], rows["reply_destination_port"] = PORT, port
    rows["status"], rows["timeout"] = CONFIRMED, LIFETIME
    return rows


def frames_of(count: int, destination_mac: bytes, first: int = 0) -> npt.NDArray[np.uint8]:
    """(count, FRAME_BYTES): Ethernet frames of one UDP datagram each, every one of another flow."""
    third, fourth, port = _places(count, first)
    head = destination_mac + bytes.fromhex("02000000be01") + b"\x08\x00"
    head += struct.pack("!BBHHHBBH", 0x45, 0, FRAME_BYTES - 14, 0, 0, 64, socket.IPPROTO_UDP, 0) + bytes((10, 66, 0, 0))
    head += DESTINATION
    frames = np.zeros((count, FRAME_BYTES), np.uint8)
    frames[:, : len(head)] = np.frombuffer(head, np.uint8)
    frames[:, 28], frames[:, 29] = third, fourth
    words = frames[:, 14:34].reshape(count, 10, 2).astype(np.uint32)
    total = (words[:, :, 0] << 8 | words[:, :, 1]).sum(axis=1)
    total = (total & 0xFFFF) + (total >> 16)
    check = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    frames[:, 24], frames[:, 25] = check >> 8, check & 0xFF
    frames[:, 34], frames[:, 35] = port >> 8, port & 0xFF
    frames[:, 36:40] = tuple(struct.pack("!HH", PORT, FRAME_BYTES - 34))  # no UDP checksum
    return frames


class Wire:
    """Sends frames, many in a call, from the interface "lan" of this thread's network namespace."""

    def __init__(self, frames: npt.NDArray[np.uint8]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._frames = np.ascontiguousarray(frames)
        numbers = np.arange(len(frames), dtype=np.uint64)
        self._vectors = np.zeros((len(frames), 2), np.uint64)
        self._vectors[:, 0] = self._frames.ctypes.data + FRAME_BYTES * numbers
        self._vectors[:, 1] = FRAME_BYTES
        self._messages = np.zeros(len(frames), MESSAGE)
        self._messages["vectors"] = self._vectors.ctypes.data + 16 * numbers
        self._messages["vector_count"] = 1
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.bind(("lan", 0))
        self._socket.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, start: int, end: int) -> None:
        """Those from number `start` to before `end`. OSError where the kernel takes none."""
        while start < end:
            at = ctypes.c_void_p(self._messages.ctypes.data + MESSAGE.itemsize * start)
            sent = self._libc.sendmmsg(self._socket.fileno(), at, min(end - start, AT_ONCE), 0)
            if sent < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            start += sent
