"""What `hacore._fast.advert` computes, in plain Python: hmac, struct and ipaddress, one line of thought at a time.

Rules: FreeBSD sys/netinet/ip_carp.c (header, checksum, digest, ladder), OpenBSD's file of the same name (its digest),
RFC 791 and RFC 8200 (headers), RFC 826 (ARP), RFC 4861 section 4.4 (neighbour advertisements).
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import NamedTuple

Address = str | IPv4Address | IPv6Address

CARP = 112


def internet_checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is_link_local(address: IPv4Address | IPv6Address) -> bool:
    return address.version == 6 and address.is_link_local


def without_scope(address: IPv4Address | IPv6Address) -> bytes:
    """Network order; where the kernels embed an interface's index in bytes 2 and 3, those are zero."""
    packed = address.packed
    scoped_multicast = address.version == 6 and address.is_multicast and packed[1] & 15 in (1, 2)
    return packed[:2] + bytes(2) + packed[4:] if is_link_local(address) or scoped_multicast else packed


def digest_message(
    vhid: int, addresses: Iterable[Address], counter: int, *, openbsd: bool = False, lladdr: bytes = b""
) -> bytes:
    """What the HMAC is computed over, in FreeBSD's form or in OpenBSD's (no link-locals, perhaps a MAC set by hand)."""
    given = [ip_interface(str(address)).ip for address in addresses]
    kept = {without_scope(address) for address in given if not (openbsd and is_link_local(address))}
    kept -= {bytes(4), b"\xff" * 4, bytes(16), b"\xff" * 16}
    ordered = sorted(kept, key=lambda packed: (len(packed), packed))
    return b"\2\1" + (lladdr if openbsd else b"") + bytes([vhid]) + b"".join(ordered) + struct.pack("!Q", counter)


def digest(password: bytes, message: bytes) -> bytes:
    return hmac.digest(password.ljust(20, b"\0"), message, "sha1")


def build(
    password: bytes,
    vhid: int,
    addresses: Iterable[Address],
    advbase: int,
    advskew: int,
    counter: int,
    demotion: int = 0,
    *,
    openbsd: bool = False,
    lladdr: bytes = b"",
) -> bytes:
    """The 36 bytes of an advert."""
    authenticator = digest(password, digest_message(vhid, addresses, counter, openbsd=openbsd, lladdr=lladdr))
    fields = struct.pack("!6BHQ", 0x21, vhid, advskew, 7, demotion, advbase, 0, counter) + authenticator
    return fields[:6] + struct.pack("!H", internet_checksum(fields)) + fields[8:]


def with_checksum(advert: bytes) -> bytes:
    """The advert with the checksum field put right."""
    return advert[:6] + struct.pack("!H", internet_checksum(advert[:6] + bytes(2) + advert[8:36])) + advert[8:]


def judge(password: bytes, vhid: int, addresses: Iterable[Address], payload: bytes) -> str:
    """ "valid", or the first rung of the ladder that the payload fails."""
    if len(payload) < 36:
        return "short"
    if internet_checksum(payload[:36]) != 0:
        return "checksum"
    if payload[1] != vhid:
        return "vhid"
    if payload[0] >> 4 != 2:
        return "version"
    (counter,) = struct.unpack_from("!Q", payload, 8)
    addresses = list(addresses)
    both = [digest_message(vhid, addresses, counter, openbsd=openbsd) for openbsd in (False, True)]
    return "valid" if payload[16:36] in [digest(password, message) for message in both] else "authentication"


class Parts(NamedTuple):
    """What parse_frame finds in a frame."""

    family: int
    vlan: int
    destination_mac: bytes
    source_mac: bytes
    source: bytes
    destination: bytes
    ttl: int
    payload: bytes


def parse_frame(frame: bytes) -> Parts | str:
    """The parts, or the rung that fails."""
    if len(frame) < 14:
        return "frame"
    macs, ethertype, packet, vlan = frame[:12], frame[12:14], frame[14:], -1
    if ethertype == b"\x81\x00":
        if len(frame) < 18:
            return "frame"
        vlan, ethertype, packet = int.from_bytes(packet[:2]) & 0xFFF, packet[2:4], packet[4:]
    if ethertype == b"\x08\x00":
        found = parse_ipv4(packet)
    elif ethertype == b"\x86\xdd":
        found = parse_ipv6(packet)
    else:
        return "protocol"
    return found if isinstance(found, str) else Parts(found[0], vlan, macs[:6], macs[6:], *found[1:])


Packet = tuple[int, bytes, bytes, int, bytes]


def parse_ipv4(packet: bytes) -> Packet | str:
    if len(packet) < 20:
        return "header"
    first, _tos, total, _identification, fragment, ttl, protocol, _checksum, source, destination = struct.unpack_from(
        "!2B3H2BH4s4s", packet
    )
    header = 4 * (first & 15)
    if first >> 4 != 4 or not 20 <= header <= len(packet) or internet_checksum(packet[:header]) != 0:
        return "header"
    if not header <= total <= len(packet):
        return "header"
    if protocol != CARP:
        return "protocol"
    if fragment & 0x3FFF:
        return "fragment"
    return 4, source, destination, ttl, packet[header:total]


def parse_ipv6(packet: bytes) -> Packet | str:
    if len(packet) < 40:
        return "header"
    first, payload_bytes, following, ttl, source, destination = struct.unpack_from("!IHBB16s16s", packet)
    if first >> 28 != 6 or payload_bytes > len(packet) - 40:
        return "header"
    if following != CARP:
        return "fragment" if following == 44 else "protocol"
    return 6, source, destination, ttl, packet[40 : 40 + payload_bytes]


def advert_frame(
    source_mac: bytes,
    destination_mac: bytes,
    source: bytes,
    destination: bytes,
    payload: bytes,
    tos: int,
    ttl: int,
    identification: int,
) -> bytes:
    if len(source) == 16:
        header = struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), CARP, ttl) + source + destination
        return destination_mac + source_mac + b"\x86\xdd" + header + payload
    header = struct.pack("!2B3H2BH", 0x45, tos, 20 + len(payload), identification, 0x4000, ttl, CARP, 0)
    header += source + destination
    header = header[:10] + struct.pack("!H", internet_checksum(header)) + header[12:]
    return destination_mac + source_mac + b"\x08\x00" + header + payload


def gratuitous_arp_frame(mac: bytes, address: bytes) -> bytes:
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, address, bytes(6), address)
    return b"\xff" * 6 + mac + b"\x08\x06" + arp


def unsolicited_na_frame(mac: bytes, address: bytes, router: bool) -> bytes:
    everyone = IPv6Address("ff02::1").packed
    body = struct.pack("!BBHI16sBB6s", 136, 0, 0, 0x20000000 | router << 31, address, 2, 1, mac)
    pseudo = address + everyone + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", internet_checksum(pseudo + body)) + body[4:]
    header = struct.pack("!IHBB", 6 << 28, len(body), 58, 255) + address + everyone
    return b"\x33\x33\0\0\0\1" + mac + b"\x86\xdd" + header + body
