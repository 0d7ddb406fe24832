"""Adverts of others, byte for byte: captures of ucarp, frames it was fed, digests computed by the rules of the BSDs."""

from __future__ import annotations

import json
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from scapy.contrib.carp import CARP

from hacore._fast.advert import parse_frame
from hacore.carp import Advertisement, AdvertKey, Verdict
from hacore.errors import WireError
from tests.oracle import carp as oracle

FOLDER = Path(__file__).parent.parent / "vectors"
VECTORS: list[dict[str, Any]] = json.loads((FOLDER / "carp.json").read_text(encoding="utf-8"))["vectors"]
FRAMES = [vector for vector in VECTORS if "frame_hex" in vector]
SOUND = [vector for vector in VECTORS if vector.get("md_valid", True) and vector.get("checksum_valid", True)]
UNSOUND = [vector for vector in VECTORS if vector not in SOUND]
USUAL = [vector for vector in SOUND if vector.get("authlen", 7) == 7]


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["id"]) for vector in vectors]


def key_of(vector: dict[str, Any]) -> AdvertKey:
    lladdr = vector.get("lladdr")
    return AdvertKey(
        vector["password"].encode(),
        vector["vhid"],
        vector["ipv4"] + vector["ipv6"],
        openbsd_lladdr=bytes.fromhex(lladdr) if lladdr else None,
    )


def is_openbsd_form(vector: dict[str, Any]) -> bool:
    """Whether only OpenBSD sends this digest: without link-locals that there are, or with a MAC set by hand."""
    link_locals = [address for address in vector["ipv6"] if address.startswith("fe80")]
    return vector.get("mode") == "NOV6LL" and bool(link_locals or vector["lladdr"])


def records(capture: Path) -> list[bytes]:
    """The frames of a classic pcap file."""
    raw = capture.read_bytes()
    assert struct.unpack_from("<I", raw) == (0xA1B2C3D4,)
    frames, at = [], 24
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at + 8)
        frames.append(raw[at + 16 : at + 16 + length])
        at += 16 + length
    return frames


def test_there_are_vectors_of_each_kind() -> None:
    assert len([vector for vector in VECTORS if vector["source"].startswith("captured from Debian ucarp")]) == 10
    assert len([vector for vector in VECTORS if vector["id"].startswith("ucarp-probe")]) == 22
    assert len([vector for vector in VECTORS if vector["id"].startswith("computed")]) == 10
    assert len(UNSOUND) == 2


@pytest.mark.parametrize("name", ["ucarp-t1.pcap", "ucarp-t2.pcap", "ucarp-t3.pcap"])
def test_every_captured_advert_verifies_and_is_made_again(name: str) -> None:
    listed = [vector for vector in FRAMES if vector["pcap"] == name]
    captured = [frame for frame in records(FOLDER / name) if frame[12:14] != b"\x08\x06"]  # ucarp's gratuitous ARP
    assert captured[: len(listed)] == [bytes.fromhex(vector["frame_hex"]) for vector in listed]
    key = key_of(listed[0])
    for frame in captured:
        payload = parse_frame(frame).payload
        found = key.verify(payload)
        assert key.build(found.advbase, found.advskew, found.counter) == payload


@pytest.mark.parametrize("vector", named(FRAMES))
def test_frames_come_apart(vector: dict[str, Any]) -> None:
    frame = parse_frame(bytes.fromhex(vector["frame_hex"]))
    assert (frame.family, frame.ttl, frame.vhid, frame.vlan) == (4, vector.get("ttl", 255), vector["vhid"], -1)
    assert (frame.source, frame.destination) == (
        ip_address(vector["src_ip"]).packed,
        ip_address(vector["dst_ip"]).packed,
    )
    assert frame.payload.hex() == vector["carp_hex"]
    if "src_mac" in vector:
        assert frame.source_mac.hex(":") == vector["src_mac"]


@pytest.mark.parametrize("vector", named(SOUND))
def test_sound_adverts_verify(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["carp_hex"])
    found = key_of(vector).verify(payload)
    assert (found.version, found.type, found.vhid, found.advbase, found.advskew) == (
        2, 1, vector["vhid"], vector["advbase"], vector["advskew"]
    )  # fmt: skip
    assert (found.demotion, found.authlen) == (vector["demote"], vector.get("authlen", 7))
    assert (found.counter, found.digest.hex()) == (int(vector["counter_hex"], 16), vector["expected_md"])
    assert found.form == ("openbsd" if is_openbsd_form(vector) else "freebsd")
    assert key_of(vector).verify_many(payload, 1).tolist() == [Verdict.VALID]


@pytest.mark.parametrize("vector", named(UNSOUND))
def test_unsound_adverts_fail_where_they_are_unsound(vector: dict[str, Any]) -> None:
    payload = bytes.fromhex(vector["carp_hex"])
    rung = "authentication" if vector["checksum_valid"] else "checksum"
    with pytest.raises(WireError) as caught:
        key_of(vector).verify(payload)
    assert caught.value.rung == rung
    assert key_of(vector).verify_many(payload, 1).tolist() == [Verdict[rung.upper()]]


@pytest.mark.parametrize("vector", named([vector for vector in USUAL if not is_openbsd_form(vector)]))
def test_build_makes_the_same_bytes(vector: dict[str, Any]) -> None:
    built = key_of(vector).build(vector["advbase"], vector["advskew"], int(vector["counter_hex"], 16), vector["demote"])
    assert built.hex() == vector["carp_hex"]


@pytest.mark.parametrize("vector", named(USUAL))
def test_the_definition_makes_the_same_bytes(vector: dict[str, Any]) -> None:
    built = oracle.build(
        vector["password"].encode(),
        vector["vhid"],
        vector["ipv4"] + vector["ipv6"],
        vector["advbase"],
        vector["advskew"],
        int(vector["counter_hex"], 16),
        vector["demote"],
        openbsd=vector.get("mode") == "NOV6LL",
        lladdr=bytes.fromhex(vector.get("lladdr") or ""),
    )
    assert built.hex() == vector["carp_hex"]


@pytest.mark.parametrize("vector", named(VECTORS))
def test_scapy_reads_the_same_fields(vector: dict[str, Any]) -> None:
    raw = bytes.fromhex(vector["carp_hex"])
    found, layer = Advertisement.from_payload(raw), CARP(raw)
    for name in ("version", "type", "vhid", "advskew", "authlen", "demotion", "advbase"):
        assert getattr(found, name) == getattr(layer, name)
    assert found.checksum == layer.chksum
    assert found.counter == layer.counter1 << 32 | layer.counter2
    assert found.digest == struct.pack("!5I", layer.hmac1, layer.hmac2, layer.hmac3, layer.hmac4, layer.hmac5)
