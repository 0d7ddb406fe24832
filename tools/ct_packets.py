"""Packets that a connection tracker believes: Ethernet frames of TCP, UDP, UDP-Lite, ICMP, ICMPv6, SCTP, GRE and
anything else, checksums done, for IPv4 and IPv6. For generators of real states; addresses are bytes of 4 or 16.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

ICMP, TCP, UDP, DCCP, GRE, ESP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 33, 47, 50, 58, 132, 136
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
SCTP_DATA, SCTP_INIT, SCTP_INIT_ACK, SCTP_COOKIE_ECHO, SCTP_COOKIE_ACK = 0, 1, 2, 10, 11


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


CRC32C: Final = _crc32c_table()


def crc32c(octets: bytes) -> int:
    """RFC 9260, appendix A."""
    value = 0xFFFFFFFF
    for octet in octets:
        value = value >> 8 ^ CRC32C[(value ^ octet) & 0xFF]
    return value ^ 0xFFFFFFFF


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(octets) % 2:
        octets += b"\0"
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Tuple(NamedTuple):
    """What a packet goes by. Ports as in a row: ICMP has its id as source port and type * 256 + code as destination
    port."""

    protocol: int
    source: bytes
    destination: bytes
    source_port: int = 0
    destination_port: int = 0

    def turned(self) -> Tuple:
        """That of the answer."""
        if self.protocol in (ICMP, ICMPV6):
            kind = {8: 0, 0: 8, 128: 129, 129: 128}[self.destination_port >> 8]
            return Tuple(self.protocol, self.destination, self.source, self.source_port, kind << 8)
        return Tuple(self.protocol, self.destination, self.source, self.destination_port, self.source_port)


def _pseudo(way: Tuple, length: int) -> bytes:
    # The tracker judges UDP-Lite by UDP's pseudo header (udplite_error in nf_conntrack_proto_udp.c).
    protocol = UDP if way.protocol == UDPLITE else way.protocol
    if len(way.source) == 4:
        return way.source + way.destination + struct.pack("!BBH", 0, protocol, length)
    return way.source + way.destination + struct.pack("!IHBB", length, 0, 0, protocol)


def _filled(way: Tuple, segment: bytes, place: int, pseudo: bool = True) -> bytes:
    value = checksum((_pseudo(way, len(segment)) if pseudo else b"") + segment) or 0xFFFF
    return segment[:place] + struct.pack("!H", value) + segment[place + 2 :]


def tcp(way: Tuple, flags: int, sequence: int, acknowledged: int = 0, payload: bytes = b"", scale: int = 7) -> bytes:
    """A TCP segment; with SYN it offers MSS, SACK and a window scale."""
    options = struct.pack("!BBHBBBBB", 2, 4, 1460, 4, 2, 3, 3, scale) + b"\1\1\1" if flags & SYN else b""
    header = struct.pack(
        "!HHIIBBHHH",
        way.source_port,
        way.destination_port,
        sequence,
        acknowledged,
        (20 + len(options)) // 4 << 4,
        flags,
        65535,
        0,
        0,
    )
    return _filled(way, header + options + payload, 16)


def udp(way: Tuple, payload: bytes = b"hacore") -> bytes:
    """A UDP datagram, or a UDP-Lite one whose checksum covers it all."""
    length = 0 if way.protocol == UDPLITE else 8 + len(payload)
    header = struct.pack("!HHHH", way.source_port, way.destination_port, length, 0)
    return _filled(way, header + payload, 6)


def icmp(way: Tuple, payload: bytes = b"hacore") -> bytes:
    """An ICMP or ICMPv6 query or its answer."""
    header = struct.pack("!HHHH", way.destination_port, 0, way.source_port, 1)
    return _filled(way, header + payload, 2, pseudo=way.protocol == ICMPV6)


def sctp(way: Tuple, tag: int, chunk: int, value: bytes) -> bytes:
    """An SCTP packet of one chunk."""
    body = struct.pack("!BBH", chunk, 0, 4 + len(value)) + value
    packet = struct.pack("!HHII", way.source_port, way.destination_port, tag, 0) + body + b"\0" * (-len(body) % 4)
    return packet[:8] + struct.pack("<I", crc32c(packet)) + packet[12:]


def sctp_init(way: Tuple, tag: int, own_tag: int, *, answer: bool) -> bytes:
    """INIT (tag 0) or INIT ACK, which announce the sender's own tag."""
    value = struct.pack("!IIHHI", own_tag, 65536, 1, 1, 1)
    return sctp(way, tag, SCTP_INIT_ACK if answer else SCTP_INIT, value)


def gre(way: Tuple, payload: bytes = b"hacore") -> bytes:
    """GRE of version 0, without key; of version 1 (PPTP) with the destination port as call id, where there is one."""
    if way.destination_port:
        return struct.pack("!BBHHHI", 0x30, 0x01, 0x880B, len(payload), way.destination_port, 1) + payload
    return struct.pack("!HH", 0, 0x0800) + payload


def segment(way: Tuple, payload: bytes = b"hacore") -> bytes:
    """What a packet of a protocol without a handshake carries."""
    if way.protocol in (UDP, UDPLITE):
        return udp(way, payload)
    if way.protocol in (ICMP, ICMPV6):
        return icmp(way, payload)
    if way.protocol == GRE:
        return gre(way, payload)
    return b"\0\0\0\1" + payload


def frame(way: Tuple, carried: bytes, from_mac: bytes, to_mac: bytes) -> bytes:
    """The whole Ethernet frame."""
    if len(way.source) == 4:
        header = (
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(carried), 1, 0, 64, way.protocol, 0)
            + way.source
            + way.destination
        )
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        return to_mac + from_mac + b"\x08\x00" + header + carried
    header = struct.pack("!IHBB", 6 << 28, len(carried), way.protocol, 64) + way.source + way.destination
    return to_mac + from_mac + b"\x86\xdd" + header + carried


class Seen(NamedTuple):
    """A frame that was read: its tuple and what the IP packet carries."""

    way: Tuple
    carried: bytes


def read(octets: bytes) -> Seen | None:
    """Takes a frame apart that `frame` could have made; None where it is something else."""
    if octets[12:14] == b"\x08\x00":
        end, protocol = struct.unpack_from("!H", octets, 16)[0], octets[23]
        source, destination, carried = octets[26:30], octets[30:34], octets[34 : 14 + end]
    elif octets[12:14] == b"\x86\xdd":
        end, protocol = struct.unpack_from("!H", octets, 18)[0], octets[20]
        source, destination, carried = octets[22:38], octets[38:54], octets[54 : 54 + end]
    else:
        return None
    first = second = 0
    if protocol in (TCP, UDP, UDPLITE, SCTP, DCCP):
        first, second = struct.unpack_from("!HH", carried)
    elif protocol in (ICMP, ICMPV6):
        second, _, first = struct.unpack_from("!HHH", carried)
    return Seen(Tuple(protocol, source, destination, first, second), carried)
