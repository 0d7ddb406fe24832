"""Frames that the tests of the adapters send: adverts whose digest nobody looks at, datagrams, ARP and NS."""

from __future__ import annotations

import socket
import struct

GROUPS = {4: ("01:00:5e:00:00:12", "224.0.0.18"), 6: ("33:33:00:00:00:12", "ff02::12")}


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def internet_checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, destination: str, protocol: int, payload: bytes, ttl: int = 255) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0xE0, 20 + len(payload), 0, 0x4000, ttl, protocol, 0)
    head += socket.inet_aton(source) + socket.inet_aton(destination)
    return head[:10] + struct.pack("!H", internet_checksum(head)) + head[12:] + payload


def ipv6(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    return struct.pack("!IHBB", 6 << 28 | 0xE0 << 20, len(payload), protocol, 255) + addresses + payload


def ethernet(destination: str, source: str, packet: bytes) -> bytes:
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    return mac_bytes(destination) + mac_bytes(source) + struct.pack("!H", kind) + packet


def carp_payload(vhid: int) -> bytes:
    return bytes((0x21, vhid, 0, 7, 0, 1)) + bytes(30)


def advert(source_mac: str, vhid: int, family: int = 4) -> bytes:
    mac, group = GROUPS[family]
    build, source = (ipv4, "10.1.0.11") if family == 4 else (ipv6, "fe80::11")
    return ethernet(mac, source_mac, build(source, group, 112, carp_payload(vhid)))


def udp_frame(destination_mac: str, source_mac: str, source: str, destination: str, mark: bytes) -> bytes:
    udp = struct.pack("!HHHH", 4000, 4001, 8 + len(mark), 0) + mark
    return ethernet(destination_mac, source_mac, ipv4(source, destination, 17, udp, ttl=64))


def arp_request(source_mac: str, source: str, target: str) -> bytes:
    addresses = mac_bytes(source_mac) + socket.inet_aton(source) + bytes(6) + socket.inet_aton(target)
    return (
        mac_bytes("ff:ff:ff:ff:ff:ff")
        + mac_bytes(source_mac)
        + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
        + addresses
    )


def neighbour_solicitation(source_mac: str, source: str, target: str) -> bytes:
    """To the solicited-node group of `target`, with the source link-layer address option (RFC 4861 section 4.3)."""
    packed = socket.inet_pton(socket.AF_INET6, target)
    group = socket.inet_ntop(socket.AF_INET6, bytes.fromhex("ff0200000000000000000001ff") + packed[13:])
    body = struct.pack("!BBHI", 135, 0, 0, 0) + packed + b"\x01\x01" + mac_bytes(source_mac)
    pseudo = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, group)
    checksum = internet_checksum(pseudo + struct.pack("!II", len(body), 58) + body)
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    mac = "33:33:ff:" + ":".join(f"{byte:02x}" for byte in packed[13:])
    return ethernet(mac, source_mac, ipv6(source, group, 58, body))
