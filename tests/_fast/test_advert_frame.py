"""Frames: built against the plain definition and scapy's layers, taken apart again, and any bytes at all."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from hacore._fast.advert import Frame, advert_frame, gratuitous_arp_frame, parse_frame, unsolicited_na_frame
from hacore.errors import WireError
from tests.oracle import carp as oracle

BYTE = st.integers(0, 255)
MAC = st.binary(min_size=6, max_size=6)
IPV4 = st.binary(min_size=4, max_size=4)
IPV6 = st.binary(min_size=16, max_size=16)
PAIR = st.one_of(st.tuples(IPV4, IPV4), st.tuples(IPV6, IPV6))
PAYLOAD = st.binary(max_size=100)

VIRTUAL_MAC = bytes.fromhex("00005e000101")
GROUP_MAC = bytes.fromhex("01005e000012")
SOURCE, GROUP = bytes([10, 66, 0, 1]), bytes([224, 0, 0, 18])
SOURCE6, GROUP6 = bytes.fromhex("fe80" + "00" * 13 + "01"), bytes.fromhex("ff02" + "00" * 13 + "12")


def taken_apart(frame: bytes) -> oracle.Parts | str:
    try:
        found = parse_frame(frame)
    except WireError as error:
        return error.rung if 0 <= error.offset <= len(frame) else f"offset {error.offset} of {len(frame)}"
    assert found.vhid == (found.payload[1] if len(found.payload) > 1 else -1)
    macs, addresses = (found.destination_mac, found.source_mac), (found.source, found.destination)
    return oracle.Parts(found.family, found.vlan, *macs, *addresses, found.ttl, found.payload)


@given(MAC, MAC, PAIR, PAYLOAD, BYTE, BYTE, st.integers(0, 0xFFFF))
def test_a_frame_is_what_the_definition_says_and_comes_apart_again(
    source_mac: bytes,
    destination_mac: bytes,
    pair: tuple[bytes, bytes],
    payload: bytes,
    tos: int,
    ttl: int,
    identification: int,
) -> None:
    frame = advert_frame(source_mac, destination_mac, *pair, payload, tos=tos, ttl=ttl, identification=identification)
    assert frame == oracle.advert_frame(source_mac, destination_mac, *pair, payload, tos, ttl, identification)
    family = 4 if len(pair[0]) == 4 else 6
    assert taken_apart(frame) == oracle.Parts(family, -1, destination_mac, source_mac, *pair, ttl, payload)


def test_scapy_reads_the_same() -> None:
    frame = Ether(advert_frame(VIRTUAL_MAC, GROUP_MAC, SOURCE, GROUP, bytes(36), identification=0x1234))
    packet = frame[IP]
    assert (frame.src, frame.dst, frame.type) == ("00:00:5e:00:01:01", "01:00:5e:00:00:12", 0x0800)
    assert (packet.src, packet.dst, packet.ttl, packet.proto, packet.tos) == ("10.66.0.1", "224.0.0.18", 255, 112, 0xE0)
    assert (packet.len, packet.id, str(packet.flags), packet.ihl) == (56, 0x1234, "DF", 5)
    again = packet.copy()
    del again.chksum
    assert IP(bytes(again)).chksum == packet.chksum

    frame = Ether(advert_frame(VIRTUAL_MAC, GROUP_MAC, SOURCE6, GROUP6, bytes(36)))
    packet6 = frame[IPv6]
    assert (frame.type, packet6.src, packet6.dst) == (0x86DD, "fe80::1", "ff02::12")
    assert (packet6.hlim, packet6.nh, packet6.tc, packet6.fl, packet6.plen) == (255, 112, 0xE0, 0, 36)


@given(MAC, IPV4)
def test_gratuitous_arp(mac: bytes, address: bytes) -> None:
    assert gratuitous_arp_frame(mac, address) == oracle.gratuitous_arp_frame(mac, address)


def test_scapy_reads_the_gratuitous_arp() -> None:
    frame = Ether(gratuitous_arp_frame(VIRTUAL_MAC, SOURCE))
    arp = frame[ARP]
    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", "00:00:5e:00:01:01")
    assert (arp.op, arp.hwsrc, arp.hwdst) == (1, "00:00:5e:00:01:01", "00:00:00:00:00:00")
    assert (arp.psrc, arp.pdst) == ("10.66.0.1", "10.66.0.1")


@given(MAC, IPV6, st.booleans())
def test_unsolicited_neighbour_advertisement(mac: bytes, address: bytes, router: bool) -> None:
    assert unsolicited_na_frame(mac, address, router=router) == oracle.unsolicited_na_frame(mac, address, router)


@pytest.mark.parametrize("router", [False, True])
def test_scapy_reads_the_neighbour_advertisement(router: bool) -> None:
    frame = Ether(unsolicited_na_frame(VIRTUAL_MAC, SOURCE6, router=router))
    packet, na = frame[IPv6], frame[ICMPv6ND_NA]
    assert (frame.dst, packet.src, packet.dst, packet.hlim) == ("33:33:00:00:00:01", "fe80::1", "ff02::1", 255)
    assert (na.R, na.S, na.O, na.tgt) == (router, 0, 1, "fe80::1")
    assert frame[ICMPv6NDOptDstLLAddr].lladdr == "00:00:5e:00:01:01"
    again = packet.copy()
    del again[ICMPv6ND_NA].cksum
    assert IPv6(bytes(again))[ICMPv6ND_NA].cksum == na.cksum


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_frame_or_in_a_rung(frame: bytes) -> None:
    assert taken_apart(frame) == oracle.parse_frame(frame)


# Nearly right: a good frame with a VLAN tag or options or not, changed, its checksum perhaps put right, cut, padded.
@given(st.data())
def test_nearly_right_frames_end_as_in_the_definition(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from([4, 6]))
    tag = data.draw(st.sampled_from([b"", b"\x81\x00\x20\x07", b"\x81\x00\x00\x00"]))
    options = data.draw(st.binary(max_size=40).map(lambda raw: raw[: len(raw) // 4 * 4])) if family == 4 else b""
    payload = data.draw(st.binary(max_size=60))
    frame = bytearray(frame_with(family, tag, options, payload))
    at = 14 + len(tag)
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.one_of(st.integers(0, len(frame) - 1), st.integers(at, at + 9)))
        frame[place] = data.draw(st.one_of(BYTE, st.sampled_from([0x00, 0x20, 0x45, 0x46, 0x60, 44, 112])))
    if family == 4 and data.draw(st.booleans()):
        mend_ipv4_checksum(frame, at)
    cut = data.draw(st.one_of(st.just(len(frame)), st.integers(0, len(frame))))
    final = bytes(frame[:cut]) + data.draw(st.binary(max_size=20))
    assert taken_apart(final) == oracle.parse_frame(final)


def frame_with(family: int, tag: bytes = b"", options: bytes = b"", payload: bytes = b"\x21\x01") -> bytes:
    pair = (SOURCE, GROUP) if family == 4 else (SOURCE6, GROUP6)
    plain = advert_frame(VIRTUAL_MAC, GROUP_MAC, *pair, payload)
    if not options:
        return plain[:12] + tag + plain[12:]
    header = bytearray(plain[:34] + options + payload)
    header[14] = 0x45 + len(options) // 4
    header[16:18] = struct.pack("!H", 20 + len(options) + len(payload))
    mend_ipv4_checksum(header, 14)
    return bytes(header[:12] + tag + header[12:])


def mend_ipv4_checksum(frame: bytearray, at: int) -> None:
    header = 4 * (frame[at] & 15)
    if header >= 20 and len(frame) >= at + header:
        frame[at + 10 : at + 12] = bytes(2)
        frame[at + 10 : at + 12] = struct.pack("!H", oracle.internet_checksum(bytes(frame[at : at + header])))


def changed(frame: bytes, changes: dict[int, int], *, mend: bool = True) -> bytes:
    edited = bytearray(frame)
    for place, value in changes.items():
        edited[place] = value
    if mend and edited[12:14] == b"\x08\x00":
        mend_ipv4_checksum(edited, 14)
    return bytes(edited)


V4, V6 = frame_with(4, payload=b"\x21\x01" + bytes(34)), frame_with(6, payload=b"\x21\x01" + bytes(34))


@pytest.mark.parametrize(
    ("frame", "rung", "offset"),
    [
        (b"", "frame", 0),
        (V4[:13], "frame", 0),
        (V4[:12] + b"\x81\x00\x00", "frame", 0),
        (V4[:12] + b"\x08\x06" + V4[14:], "protocol", 12),
        (V4[:12] + b"\x81\x00\x00\x07\x81\x00\x00\x08\x08\x00" + V4[14:], "protocol", 16),
        (V4[:33], "header", 14),
        (V4[:14], "header", 14),
        (changed(V4, {14: 0x55}), "header", 14),
        (changed(V4, {14: 0x44}), "header", 14),
        (changed(V4, {14: 0x4F}, mend=False)[:60], "header", 14),
        (changed(V4, {24: V4[24] ^ 1}, mend=False), "header", 24),
        (changed(V4, {17: 19}), "header", 16),
        (V4[:-1], "header", 16),
        (changed(V4, {17: 57}), "header", 16),
        (changed(V4, {23: 17}), "protocol", 23),
        (changed(V4, {20: 0x20}), "fragment", 20),
        (changed(V4, {21: 0x01}), "fragment", 20),
        (V6[:53], "header", 14),
        (changed(V6, {14: 0x40}), "header", 14),
        (V6[:-1], "header", 18),
        (changed(V6, {19: 37}), "header", 18),
        (changed(V6, {20: 17}), "protocol", 20),
        (changed(V6, {20: 0}), "protocol", 20),
        (changed(V6, {20: 44}), "fragment", 20),
    ],
)
def test_each_rung_says_where_it_failed(frame: bytes, rung: str, offset: int) -> None:
    with pytest.raises(WireError, match=f"at byte {offset}: expected ") as caught:
        parse_frame(frame)
    assert (caught.value.rung, caught.value.offset) == (rung, offset)


def test_padding_is_left_off() -> None:
    short = frame_with(4, payload=b"\x21\x09")
    found = parse_frame(short + bytes(60 - len(short)))
    assert (found.payload, found.vhid) == (b"\x21\x09", 9)
    assert parse_frame(V6 + bytes(8)).payload == V6[54:]


def test_options_are_stepped_over() -> None:
    found = parse_frame(frame_with(4, options=b"\x94\x04\x00\x00", payload=b"\x21\x09"))
    assert (found.payload, found.vhid, found.source) == (b"\x21\x09", 9, SOURCE)


@pytest.mark.parametrize("family", [4, 6])
def test_a_vlan_tag_is_stepped_over_and_told(family: int) -> None:
    tagged = frame_with(family, tag=b"\x81\x00\xe0\x07")
    assert Ether(tagged)[Dot1Q].vlan == 7
    found = parse_frame(tagged)
    assert (found.vlan, found.family, found.payload) == (7, family, b"\x21\x01")
    assert parse_frame(frame_with(family)).vlan == -1


@pytest.mark.parametrize("payload", [b"", b"\x21"])
@pytest.mark.parametrize("family", [4, 6])
def test_a_payload_without_a_vhid(family: int, payload: bytes) -> None:
    found = parse_frame(frame_with(family, payload=payload))
    assert (found.payload, found.vhid) == (payload, -1)


def test_every_kind_of_buffer_is_taken() -> None:
    for frame in (bytearray(V4), memoryview(V4), memoryview(b"x" + V4)[1:]):
        assert parse_frame(frame).payload == V4[34:]
    with pytest.raises(TypeError):
        parse_frame("text")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Frame()


def test_a_frame_outlives_its_buffer() -> None:
    buffer = bytearray(V4)
    found = parse_frame(buffer)
    buffer[:] = bytes(len(buffer))
    assert (found.source, found.source_mac, found.payload) == (SOURCE, VIRTUAL_MAC, V4[34:])
    assert repr(found) == (
        "<Frame family=4 source_mac=00:00:5e:00:01:01 source=0a420001 destination=e0000012 ttl=255 vhid=1 "
        "payload=36 bytes>"
    )


def test_parts_of_the_wrong_size_are_refused() -> None:
    macs, pair = (VIRTUAL_MAC, GROUP_MAC), (SOURCE, GROUP)
    with pytest.raises(ValueError, match="source_mac must be 6 bytes, got 5"):
        advert_frame(b"12345", GROUP_MAC, *pair, b"")
    with pytest.raises(ValueError, match="destination_mac must be 6 bytes, got 0"):
        advert_frame(VIRTUAL_MAC, b"", *pair, b"")
    with pytest.raises(ValueError, match="source must be 16 bytes, got 3"):
        advert_frame(*macs, b"123", GROUP6, b"")
    with pytest.raises(ValueError, match="destination must be 4 bytes, got 16"):
        advert_frame(*macs, SOURCE, GROUP6, b"")
    with pytest.raises(ValueError, match="tos is 256"):
        advert_frame(*macs, *pair, b"", tos=256)
    with pytest.raises(ValueError, match="ttl is -1"):
        advert_frame(*macs, *pair, b"", ttl=-1)
    with pytest.raises(ValueError, match="identification is 65536"):
        advert_frame(*macs, *pair, b"", identification=0x10000)
    with pytest.raises(ValueError, match="payload has 65516 bytes"):
        advert_frame(*macs, *pair, bytes(65516))
    with pytest.raises(ValueError, match="address must be 4 bytes, got 16"):
        gratuitous_arp_frame(VIRTUAL_MAC, SOURCE6)
    with pytest.raises(ValueError, match="address must be 16 bytes, got 4"):
        unsolicited_na_frame(VIRTUAL_MAC, SOURCE, router=False)
    with pytest.raises(ValueError, match="mac must be 6 bytes"):
        gratuitous_arp_frame(b"", SOURCE)


def test_the_longest_payload_fits() -> None:
    for family in (4, 6):
        payload = bytes(65515)
        assert parse_frame(frame_with(family, payload=payload)).payload == payload
