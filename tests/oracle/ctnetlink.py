"""Conntrack messages in plain Python, written as the kernel's net/netfilter/nf_conntrack_netlink.c writes and reads
them: the definition that `hacore._fast.ctnetlink` is held against.
"""

from __future__ import annotations

import struct
from typing import Any

NESTED = 0x8000
AF_INET, AF_INET6 = 2, 10
PORTS, ICMP, ICMPV6 = {6, 17, 33, 47, 132, 136}, 1, 58

# (type, where it stands in the row) of what is one number
SCALARS = ((3, "status"), (7, "timeout"), (8, "mark"))


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def nest(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def number(kind: int, value: int, size: int = 4) -> bytes:
    return attribute(kind, int(value).to_bytes(size, "big"))


def tuple_of(kind: int, row: Any, prefix: str, protocol: int, zone: int = 0) -> bytes:
    """A CTA_TUPLE_* nest out of the fields `prefix`source, `prefix`destination and their ports."""
    size, first = (4, 1) if row["family"] == AF_INET else (16, 3)
    addresses = [
        attribute(first + index, row[prefix + end].tobytes()[:size])
        for index, end in enumerate(("source", "destination"))
    ]
    ports = [number(1, protocol, 1)]
    source_port, destination_port = int(row[prefix + "source_port"]), int(row[prefix + "destination_port"])
    if protocol in PORTS:
        ports += [number(2, source_port, 2), number(3, destination_port, 2)]
    elif protocol in (ICMP, ICMPV6):
        place = 4 if protocol == ICMP else 7
        kind_and_code = (number(place + 1, destination_port >> 8, 1), number(place + 2, destination_port & 255, 1))
        ports += [number(place, source_port, 2), *kind_and_code]
    return nest(kind, nest(1, *addresses), nest(2, *ports), *([number(3, zone, 2)] if zone else []))


def attributes_of(row: Any) -> list[bytes]:
    """What the kernel dumps of an entry, an item an attribute."""
    protocol, zone, reply_zone = int(row["protocol"]), int(row["zone"]), int(row["reply_zone"])
    both = zone if zone == reply_zone else 0
    found = [
        tuple_of(1, row, "", protocol, 0 if both else zone),
        tuple_of(2, row, "reply_", protocol, 0 if both else reply_zone),
    ]
    if both:
        found.append(number(18, both, 2))
    found += [number(kind, row[name]) for kind, name in SCALARS]
    if protocol == 6:
        state = [
            number(1, row["protocol_state"], 1),
            number(2, row["tcp_scale_original"], 1),
            number(3, row["tcp_scale_reply"], 1),
        ]
        state += [
            attribute(4 + index, bytes([row[f"tcp_flags_{name}"], 0]))
            for index, name in enumerate(("original", "reply"))
        ]
        found.append(nest(4, nest(1, *state)))
    elif protocol == 132:
        tags = (number(2 + index, row[f"sctp_tag_{name}"]) for index, name in enumerate(("original", "reply")))
        found.append(nest(4, nest(3, number(1, row["protocol_state"], 1), *tags)))
    elif protocol == 33:
        state = [number(1, row["protocol_state"] & 0x7F, 1), number(2, row["protocol_state"] >> 7, 1), number(3, 7, 8)]
        found.append(nest(4, nest(2, *state)))
    if row["helper"]:
        found.append(nest(5, attribute(1, bytes(row["helper"]) + b"\0")))
    if row["master_protocol"]:
        found.append(tuple_of(14, row, "master_", int(row["master_protocol"])))
    for kind, name in ((15, "original"), (16, "reply")):
        fields = [int(row[f"adjust_{part}_{name}"]) & 0xFFFFFFFF for part in ("position", "before", "after")]
        if row["status"] & 0x40:
            found.append(nest(kind, *(number(index, value) for index, value in enumerate(fields, 1))))
    if row["labels"].any():
        found.append(attribute(22, row["labels"].tobytes()))
    proxy = [int(row[f"synproxy_{part}"]) for part in ("isn", "its", "tsoff")]
    if any(proxy):
        found.append(nest(24, *(number(index, value) for index, value in enumerate(proxy, 1))))
    return found


def message(
    kind: int, flags: int, family: int, attributes: bytes, *, sequence: int = 0, portid: int = 0, subsystem: int = 1
) -> bytes:
    """A whole message of the subsystem."""
    body = struct.pack("=BBH", family, 0, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), subsystem << 8 | kind, flags, sequence, portid) + body


def taken_apart(attributes: bytes) -> dict[int, Any]:
    """A nest as a dictionary by type: nested ones again as dictionaries."""
    found: dict[int, Any] = {}
    while attributes:
        length, kind = struct.unpack_from("=HH", attributes)
        payload = attributes[4:length]
        found[kind & 0x3FFF] = taken_apart(payload) if kind & NESTED else payload
        attributes = attributes[(length + 3) & ~3 :]
    return found


def messages(octets: bytes) -> list[bytes]:
    """The messages of a buffer."""
    found = []
    while octets:
        (length,) = struct.unpack_from("=I", octets)
        found.append(octets[:length])
        octets = octets[(length + 3) & ~3 :]
    return found
