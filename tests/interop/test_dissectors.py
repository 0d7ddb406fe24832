"""tshark and tcpdump read every field of a running node's adverts as the plain-Python definition does."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

import pytest
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from tests.namespaces import Sniffer
from tests.oracle import carp as oracle
from tests.running_node import RunningNode, Segment

ADDRESSES = ["10.1.0.1", "2001:db8:1::1"]
FIELDS = (
    "ip.ttl", "ipv6.hlim", "ip.src", "ipv6.src", "ip.dst", "ipv6.dst", "eth.src",
    "carp.version", "carp.type", "carp.vhid", "carp.advskew", "carp.authlen", "carp.demotion", "carp.adver_int",
    "carp.checksum", "carp.checksum.status", "carp.counter", "carp.hmac",
)  # fmt: skip
CHECKSUM_GOOD = "1"  # of tshark's PROTO_CHECKSUM_E


class Capture(NamedTuple):
    """Adverts in the order of the wire, as the definition reads them, and the file that holds them."""

    file: Path
    adverts: list[oracle.Parts]


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Capture:
    """A MASTER in its usual way, then demoted, then bowing out to its successor."""
    tool("nft")
    directory = tmp_path_factory.mktemp("dissectors")
    with Segment(directory) as segment:
        sniffer = Sniffer(segment.host("wire", 13), "lan")
        first, second = segment.pair()
        sent(first, 10)
        first.ask("demotion", action="add", name="test", value=7)
        sent(first, 10)
        first.ask("maintenance", enter=True)
        second.until_state("MASTER")
        sent(second, 4)
        frames = [frame for frame in sniffer.frames() if isinstance(oracle.parse_frame(frame), oracle.Parts)]
        sniffer.close()
    wrpcap(str(directory / "adverts.pcap"), [Ether(frame) for frame in frames])
    adverts = [parts for parts in map(oracle.parse_frame, frames) if isinstance(parts, oracle.Parts)]
    return Capture(directory / "adverts.pcap", adverts)


def sent(node: RunningNode, count: int) -> None:
    """Until so many more adverts went out in each family."""
    before = node.counters()
    for name in ("opackets", "opackets6"):
        node.until(lambda name=name: node.counters()[name] >= before[name] + count)  # type: ignore[misc]


def test_the_capture_shows_what_a_node_can_say(capture: Capture) -> None:
    for family in (4, 6):
        payloads = [parts.payload for parts in capture.adverts if parts.family == family]
        said = {(payload[2], payload[4], payload[5]) for payload in payloads}
        assert said >= {(20, 0, 0), (27, 7, 0), (255, 247, 255), (40, 0, 0)}, "advskew, demotion, advbase"
        assert {len(payload) for payload in payloads} == {36}
        assert {oracle.judge(b"secret", 1, ADDRESSES, payload) for payload in payloads} == {"valid"}


def test_counters_never_come_twice(capture: Capture) -> None:
    counters = [struct.unpack_from("!Q", parts.payload, 8)[0] for parts in capture.adverts]
    assert len(set(counters)) == len(counters)


def test_tshark_agrees_on_every_field(capture: Capture, tool: Callable[[str], str]) -> None:
    chosen = [argument for field in FIELDS for argument in ("-e", field)]
    command = [tool("tshark"), "-r", str(capture.file), "-d", "ip.proto==112,carp", "-o", "ip.check_checksum:TRUE"]
    done = subprocess.run(
        [*command, "-T", "fields", "-e", "ip.checksum.status", *chosen], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(capture.adverts)
    for line, parts in zip(lines, capture.adverts, strict=True):
        ip_checksum, *found = line.split("\t")
        assert ip_checksum == (CHECKSUM_GOOD if parts.family == 4 else "")
        assert dict(zip(FIELDS, found, strict=True)) == by_tshark(parts)


def by_tshark(parts: oracle.Parts) -> dict[str, str]:
    """What tshark is to print."""
    payload, four = parts.payload, parts.family == 4
    checksum, counter = struct.unpack_from("!HQ", payload, 6)
    source, destination = str(ip_address(parts.source)), str(ip_address(parts.destination))
    values: dict[str, object] = {
        "ip.ttl": 255 if four else "",
        "ipv6.hlim": "" if four else 255,
        "ip.src": source if four else "",
        "ipv6.src": "" if four else source,
        "ip.dst": destination if four else "",
        "ipv6.dst": "" if four else destination,
        "eth.src": "00:00:5e:00:01:01",
        "carp.version": 2,
        "carp.type": 1,
        "carp.vhid": 1,
        "carp.advskew": payload[2],
        "carp.authlen": 7,
        "carp.demotion": payload[4],
        "carp.adver_int": payload[5],
        "carp.checksum": f"0x{checksum:04x}",
        "carp.checksum.status": CHECKSUM_GOOD,
        "carp.counter": counter,
        "carp.hmac": payload[16:36].hex(),
    }
    return {name: str(value) for name, value in values.items()}


def test_tcpdump_agrees_on_every_field(capture: Capture, tool: Callable[[str], str]) -> None:
    command = [tool("tcpdump"), "-r", str(capture.file), "-n", "-vvv", "-T", "carp"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "bad" not in text
    assert "[|carp]" not in text
    pattern = r"(\S+) > (\S+): CARPv2-advertise 36: vhid=(\d+) advbase=(\d+) advskew=(\d+) authlen=(\d+) counter=(\d+)"
    found = re.findall(pattern, text)
    assert found == [by_tcpdump(parts) for parts in capture.adverts]
    assert len(re.findall(r"ttl 255|hlim 255", text)) == len(capture.adverts)


def by_tcpdump(parts: oracle.Parts) -> tuple[str, ...]:
    payload = parts.payload
    (counter,) = struct.unpack_from("!Q", payload, 8)
    source, destination = str(ip_address(parts.source)), str(ip_address(parts.destination))
    return (source, destination, *map(str, (payload[1], payload[5], payload[2], payload[3], counter)))
