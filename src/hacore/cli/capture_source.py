"""Where frames come from: a capture file, through scapy's reader, or an interface, as they pass."""

from __future__ import annotations

import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hacore.errors import HacoreError, PlatformError, PrivilegeError, WireError

if TYPE_CHECKING:
    from hacore.linux.packet import AdvertSocket


class Captured(NamedTuple):
    """One frame with its Ethernet header, and when it passed (unix seconds)."""

    time: float
    frame: bytes


class MissingLibrary(HacoreError):
    """A package that this command alone needs is not installed."""

    exit_code = 69


# linux/net/sockios.h, if_packet.h and socket.h.
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_FRAME_BYTES = 2048

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"


def _raw_ip(packet: bytes) -> bytes:
    return bytes(12) + (_IPV6 if packet[:1] >= b"\x60" else _IPV4) + packet


def _cooked(packet: bytes) -> bytes:
    return bytes(6) + packet[6:12] + packet[14:16] + packet[16:]


def _cooked2(packet: bytes) -> bytes:
    return bytes(6) + packet[12:18] + packet[0:2] + packet[20:]


#: Link types (tcpdump.org/linktypes.html) that can be given an Ethernet header: those of `tcpdump -i any`, and bare IP.
_AS_ETHERNET: dict[int, Callable[[bytes], bytes]] = {
    1: bytes,
    113: _cooked,
    276: _cooked2,
    101: _raw_ip,
    228: _raw_ip,
    229: _raw_ip,
}


def from_file(path: Path) -> Iterator[Captured]:
    """Every frame of a pcap or pcapng file, in its order.

    Raises WireError where it is no such file or of a link type without IP, and PrivilegeError where it cannot be read.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        kind = PrivilegeError if isinstance(error, PermissionError) else PlatformError
        raise kind(f"{path} cannot be read: {error.strerror}") from None
    with stream:
        yield from _read(stream, path)


def _read(stream: Any, path: Path) -> Iterator[Captured]:
    logging.getLogger("scapy").setLevel(logging.ERROR)
    try:
        from scapy.error import Scapy_Exception
        from scapy.utils import RawPcapReader
    except ImportError:
        raise MissingLibrary("reading a capture needs scapy: pip install 'hacore[capture]'") from None
    try:
        reader: Any = RawPcapReader(stream)
    except (Scapy_Exception, EOFError, struct.error):
        raise WireError("file", f"{path} is not a capture: it begins neither as pcap nor as pcapng does", 0) from None
    try:
        for packet, about in reader:
            linktype = getattr(about, "linktype", None) or getattr(reader, "linktype", 1)
            if linktype not in _AS_ETHERNET:
                raise WireError("linktype", f"{path}: frames of link type {linktype} carry no IP that is known here")
            if len(packet) < getattr(about, "caplen", 0):
                click.echo(f"Warning: {path} ends within a packet", err=True)
                return
            yield Captured(_time(reader, about), _AS_ETHERNET[linktype](packet))
    except (Scapy_Exception, EOFError, struct.error) as error:
        raise WireError("file", f"{path} is damaged: {str(error) or 'it ends within a packet'}") from None


def _time(reader: Any, about: Any) -> float:
    if hasattr(about, "sec"):
        return float(about.sec + about.usec / (1e9 if getattr(reader, "nano", False) else 1e6))
    if about.tshigh is None:  # pcapng's simple packets have no time
        return 0.0
    return float(((about.tshigh << 32) + about.tslow) / about.tsresol)


def from_interface(name: str, duration: float | None) -> Iterator[Captured | None]:
    """Listens on an interface: adverts as they pass, this node's own included; None where none passed for a while.

    Ends after `duration` seconds. Raises PrivilegeError without CAP_NET_RAW, and PlatformError where the interface is
    absent or goes away.
    """
    from hacore.linux.packet import AdvertSocket

    try:
        advert_socket = AdvertSocket(name, socket.if_nametoindex(name))
    except PermissionError:
        raise PrivilegeError("listening on an interface needs CAP_NET_RAW: run this as root (sudo)") from None
    except OSError as error:
        there = ", ".join(sorted(known for _, known in socket.if_nameindex()))
        raise PlatformError(f"cannot listen on {name}: {error.strerror or error}; there are: {there}") from None
    return _listen(advert_socket, name, duration)


def _listen(advert_socket: AdvertSocket, name: str, duration: float | None) -> Iterator[Captured | None]:
    end = None if duration is None else time.monotonic() + duration
    with closing(advert_socket), socket.socket(fileno=os.dup(advert_socket.fileno())) as tap:
        # The election ignores what it sends itself; whoever looks wants to see it.
        tap.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 0)
        tap.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        while end is None or time.monotonic() < end:
            tap.settimeout(0.25 if end is None else min(0.25, max(0.001, end - time.monotonic())))
            try:
                frame, ancillary, _, _ = tap.recvmsg(_FRAME_BYTES, socket.CMSG_SPACE(_TIMESPEC.size))
            except TimeoutError:
                yield None
                continue
            except OSError as error:
                raise PlatformError(f"{name} can no longer be listened on: {error.strerror}") from None
            yield Captured(_stamp(ancillary), frame)


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return float(seconds + nanoseconds / 1e9)
    return time.time()
