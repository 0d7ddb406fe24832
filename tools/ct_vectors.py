"""Captures real conntrack messages of every shape into one file: `python tools/ct_vectors.py
tests/vectors/ctnetlink.bin` (root).

A shape is the nest of attributes with their lengths, and the kind of message; of each shape the first message is kept.
Netlink messages carry their own lengths, so they simply stand one behind the other.
"""

from __future__ import annotations

import argparse
import secrets
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tools import ct_flows
from tools.ct_flows import flow, ip, mixed_flows
from tools.ct_packets import ESP, TCP, UDP

NESTED = 0x8000
GROUPS = (1, 2, 3, 4, 6)


def messages(octets: bytes) -> Iterator[bytes]:
    """The netlink messages of a datagram."""
    while len(octets) >= 16:
        (length,) = struct.unpack_from("=I", octets)
        yield octets[:length] + b"\0" * (-length % 4)
        octets = octets[(length + 3) & ~3 :]


def shape(octets: bytes) -> str:
    """The nest of types and lengths."""
    parts = []
    while len(octets) >= 4:
        length, kind = struct.unpack_from("=HH", octets)
        parts.append(f"{kind & 0x3FFF}:" + (f"({shape(octets[4:length])})" if kind & NESTED else str(length)))
        octets = octets[(length + 3) & ~3 :]
    return ",".join(parts)


def listening() -> socket.socket:
    """A socket of this namespace that hears every event."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    opened.bind((0, 0))
    opened.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
    for group in GROUPS:
        opened.setsockopt(270, 1, group)
    opened.setblocking(False)
    return opened


def drained(opened: socket.socket) -> Iterator[bytes]:
    """What waits at it."""
    while True:
        try:
            yield from messages(opened.recv(1 << 16))
        except BlockingIOError:
            return


def dumped(subsystem: int) -> Iterator[bytes]:
    """The table of this namespace."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as opened:
        opened.send(struct.pack("=IHHIIBBH", 20, subsystem << 8 | 1, 0x301, 1, 0, 0, 0, 0))
        while True:
            for message in messages(opened.recv(1 << 16)):
                yield message
                if struct.unpack_from("=H", message, 4)[0] == 3:
                    return


def play(gateway: ct_flows.Gateway) -> None:
    """Connections of every kind."""
    gateway.talk(mixed_flows(100))
    gateway.talk([flow(UDP, "198.51.100.7", "203.0.113.80", 5000, 53)], origin="outside")
    gateway.talk([flow(TCP, "10.77.0.2", "198.51.100.1", 5000, 8080)])
    gateway.talk([flow(TCP, "10.0.0.2", "198.18.77.1", 5000, 8443), flow(ESP, "10.66.0.9", "198.51.100.1")])
    for number, last in enumerate(("begun", "answered", "closing", "reset")):
        gateway.talk([flow(TCP, "10.0.0.5", "198.51.100.7", 6000 + number, 443)], last=last)
    _, data = ct_flows.ftp_session(gateway)
    gateway.talk([data], origin="outside")
    ct_flows.ftp_session(gateway, client="10.0.1.200", server="198.51.100.22", port=34_001)
    ct_flows.sip_session(gateway)


def main() -> None:
    """Plays, captures, writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    path = parser.parse_args().path
    name = f"ctv-{secrets.token_hex(3)}"
    kept: dict[tuple[int, int, str], bytes] = {}
    for namespace in (name, f"{name}-wire"):
        subprocess.run(["ip", "netns", "add", namespace], check=True)
        ip(namespace, "link", "set", "lo", "up")
    try:
        with ct_flows.inside(name), listening() as events, ct_flows.Gateway(name, f"{name}-wire") as gateway:
            play(gateway)
            found = [*drained(events), *dumped(1), *dumped(2)]
            subprocess.run(["ip", "netns", "exec", name, "conntrack", "-F"], check=True, capture_output=True)
            found += drained(events)
    finally:
        for namespace in (name, f"{name}-wire"):
            subprocess.run(["ip", "netns", "del", namespace], check=False)
    for message in found:
        _, kind, flags = struct.unpack_from("=IHH", message)
        kept.setdefault((kind, flags, shape(message[20:])), message)
    path.write_bytes(b"".join(message for _, message in sorted(kept.items())))
    print(f"{len(kept)} shapes of {len(found)} messages in {path}")


if __name__ == "__main__":
    main()
