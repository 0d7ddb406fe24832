"""Follows the addresses of several network namespaces and prints each change as one line, with the moment it was
heard.

A process of its own, prompt like the probe, so that what it says does not wait for the process that reads it. Lines:
`SECONDS LABEL + ADDRESS` or `SECONDS LABEL - ADDRESS`, with CLOCK_MONOTONIC; addresses present at the start come
first, then `ready`. An address that is only renewed is printed once. Sources: rtnetlink(7),
include/uapi/linux/if_addr.h.
"""

from __future__ import annotations

import ipaddress
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hacore.lab import namespaces, probe
from hacore.linux import libc

_GROUPS = 0x10 | 0x100
_DONE = 3
_NEWADDR = 20
_DELADDR = 21
_GETADDR = 22
_REQUEST_DUMP = 0x1 | 0x300
_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_IFA_ADDRESS = 1
_IFA_LOCAL = 2


def messages(batch: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and body of each netlink message in what one recv returned."""
    at = 0
    while at + _HEADER.size <= len(batch):
        length, kind = _HEADER.unpack_from(batch, at)[:2]
        if length < _HEADER.size:
            return
        yield kind, batch[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def address_of(body: bytes) -> str | None:
    """The address that an RTM_NEWADDR or RTM_DELADDR speaks of; None where it is neither IPv4 nor IPv6."""
    family = body[0]
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found: dict[int, bytes] = {}
    at = _ADDRESS.size
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind] = body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    raw = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    return str(ipaddress.ip_address(raw)) if raw else None


def _open(path: Path) -> socket.socket:
    with namespaces.inside(path):
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    opened.bind((0, _GROUPS))
    body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    opened.send(_HEADER.pack(_HEADER.size + len(body), _GETADDR, _REQUEST_DUMP, 1, 0) + body)
    return opened


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def watch(namespaces_by_label: dict[str, Path]) -> None:
    """Print changes until killed."""
    lines = {_open(path): label for label, path in namespaces_by_label.items()}
    by_descriptor = {line.fileno(): line for line in lines}
    held: dict[str, set[str]] = {label: set() for label in namespaces_by_label}
    dumps = len(lines)
    poll = select.poll()
    for line in lines:
        poll.register(line, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            line = by_descriptor[descriptor]
            label = lines[line]
            batch = line.recv(1 << 16)
            now = time.monotonic()
            for kind, body in messages(batch):
                if kind == _DONE:
                    dumps -= 1
                    if dumps == 0:
                        _say("ready")
                    continue
                address = address_of(body) if kind in (_NEWADDR, _DELADDR) else None
                if address is None or (kind == _NEWADDR) == (address in held[label]):
                    continue
                (held[label].add if kind == _NEWADDR else held[label].discard)(address)
                _say(f"{now:.6f} {label} {'+' if kind == _NEWADDR else '-'} {address}")


def main(arguments: Sequence[str]) -> None:
    """Arguments: LABEL=PATH of each namespace."""
    libc.signal_at_parent_death(signal.SIGKILL)
    probe.become_prompt()
    pairs = (argument.split("=", 1) for argument in arguments)
    watch({label: Path(path) for label, path in pairs})


if __name__ == "__main__":
    main(sys.argv[1:])
