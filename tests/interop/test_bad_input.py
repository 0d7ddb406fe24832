"""Whatever arrives on the wire ends in one counter, and changes nothing on a MASTER or a BACKUP."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from scapy.contrib.carp import CARP
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from tests.linux.frames import GROUPS, ethernet, ipv4, ipv6
from tests.namespaces import Host
from tests.oracle.carp import build, with_checksum
from tests.running_node import RunningNode, Segment

ADDRESSES = ["10.1.0.1", "2001:db8:1::1"]
NIC = "02:00:00:00:00:0d"
FAMILIES = pytest.mark.parametrize("family", [4, 6])
AT_ONCE = 200  # frames sent before they are waited for: what fits the receivers' buffers for certain


class Ground(NamedTuple):
    """A MASTER and a BACKUP, and a host that sends to them."""

    master: RunningNode
    backup: RunningNode
    wire: socket.socket

    def inject(self, frames: list[bytes]) -> dict[RunningNode, dict[str, int]]:
        """Sends these and waits until each was counted on both nodes; what each node's counters grew by."""
        before = {node: counted(node) for node in self.nodes}
        for start in range(0, len(frames), AT_ONCE):
            batch = frames[start : start + AT_ONCE]
            for frame in batch:
                self.wire.send(frame)
            wanted = start + len(batch)
            for node in self.nodes:
                node.until(lambda node=node, wanted=wanted: rejected(counted(node), before[node]) >= wanted)  # type: ignore[misc]
        return {node: growth(counted(node), before[node]) for node in self.nodes}

    @property
    def nodes(self) -> tuple[RunningNode, RunningNode]:
        return self.master, self.backup

    def states(self) -> list[tuple[str, float]]:
        return [(node.vip()["state"], round(node.vip()["since"], 1)) for node in self.nodes]


def counted(node: RunningNode) -> dict[str, int]:
    """All counters of a node, with those of its virtual router."""
    status = node.status()
    return {name: value + status["vips"][0]["counters"][name] for name, value in status["node"]["counters"].items()}


def growth(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """By counter of what is wrong with a packet, those that grew."""
    grown = {name: after[name] - before[name] for name in after if name.startswith(("bad", "hdrops"))}
    return {name: count for name, count in grown.items() if count}


def rejected(after: dict[str, int], before: dict[str, int]) -> int:
    return sum(growth(after, before).values())


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Iterator[Ground]:
    tool("nft")
    with Segment(tmp_path_factory.mktemp("bad-input")) as segment:
        master, backup = segment.pair()
        with wire_of(segment.host("wire", 13)) as wire:
            yield Ground(master, backup, wire)


def wire_of(host: Host) -> socket.socket:
    with host.entered():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        wire.bind(("lan", 0))
        return wire


@pytest.fixture(autouse=True)
def undisturbed(ground: Ground) -> Iterator[None]:
    """No test here may move a state."""
    before = ground.states()
    assert [state for state, _ in before] == ["MASTER", "BACKUP"]
    yield
    assert ground.states() == before
    assert [
        event["kind"] for event in ground.master.events() if event["kind"] in ("worker", "fault", "other master")
    ] == []


def framed(family: int, payload: bytes, **options: Any) -> bytes:
    """On its way to the group, as an advert of a third node."""
    mac, group = GROUPS[family]
    packet = ipv4("10.1.0.13", group, 112, payload, **options) if family == 4 else ipv6("fe80::13", group, 112, payload)
    return ethernet(mac, NIC, packet)


def better(password: bytes = b"secret", vhid: int = 1, addresses: list[str] = ADDRESSES) -> bytes:
    """An advert that would take the VIP over, if it were good."""
    return build(password, vhid, addresses, 0, 1, 77)


def corrupt(payload: bytes, offset: int, value: int) -> bytes:
    return payload[:offset] + bytes([value]) + payload[offset + 1 :]


WRONG: dict[str, tuple[bytes, str]] = {
    "another password": (better(b"other"), "badauth"),
    "another address list": (better(addresses=["10.1.0.1"]), "badauth"),
    "an edited counter": (with_checksum(corrupt(better(), 15, 99)), "badauth"),
    "a wrong checksum": (corrupt(better(), 6, better()[6] ^ 1), "badsum"),
    "an edited advskew alone": (corrupt(better(), 2, 0), "badsum"),
    "an unknown vhid": (better(vhid=9), "badvhid"),
    "version 3": (with_checksum(corrupt(better(), 0, 0x31)), "badver"),
    "a VRRP advert": (with_checksum(corrupt(better(), 0, 0x31)), "badver"),
    "35 bytes": (better()[:35], "badlen"),
    "2 bytes": (better()[:2], "badlen"),
}


@FAMILIES
@pytest.mark.parametrize("name", WRONG)
def test_an_advert_with(ground: Ground, name: str, family: int) -> None:
    payload, counter = WRONG[name]
    for grown in ground.inject([framed(family, payload)] * 3).values():
        assert grown == {counter: 3}


def test_an_advert_with_ttl_64(ground: Ground) -> None:
    for grown in ground.inject([framed(4, better(), ttl=64)]).values():
        assert grown == {"badttl": 1}


def test_an_advert_with_hop_limit_64(ground: Ground) -> None:
    frame = framed(6, better())
    for grown in ground.inject([corrupt(frame, 14 + 7, 64)]).values():
        assert grown == {"badttl": 1}


def test_an_advert_with_a_wrong_header_checksum(ground: Ground) -> None:
    frame = framed(4, better())
    for grown in ground.inject([corrupt(frame, 14 + 10, frame[24] ^ 1)]).values():
        assert grown == {"hdrops": 1}


def test_an_advert_of_scapys_with_its_own_digest(ground: Ground) -> None:
    """Its HMAC is another one; its fields and its checksum are right."""
    advert = CARP(version=2, type=1, vhid=1, advskew=1, authlen=7, demotion=0, advbase=0, counter1=0, counter2=7)
    packet = IP(src="10.1.0.13", dst="224.0.0.18", ttl=255, proto=112) / advert
    for grown in ground.inject([bytes(Ether(src=NIC, dst=GROUPS[4][0]) / packet)]).values():
        assert grown == {"badauth": 1}


def test_fragments_of_a_good_advert(ground: Ground) -> None:
    payload = better()
    pieces = [
        IP(src="10.1.0.13", dst="224.0.0.18", ttl=255, proto=112, flags="MF") / payload[:24],
        IP(src="10.1.0.13", dst="224.0.0.18", ttl=255, proto=112, frag=3) / payload[24:],
        IP(src="10.1.0.13", dst="224.0.0.18", ttl=255, proto=112, flags="MF") / payload,
    ]
    frames = [bytes(Ether(src=NIC, dst=GROUPS[4][0]) / piece) for piece in pieces]
    for grown in ground.inject(frames).values():
        assert grown == {"hdrops": 3}


@FAMILIES
def test_random_bytes_of_the_protocol(ground: Ground, family: int) -> None:
    chance = random.Random(family)
    frames = []
    for _ in range(3000):
        payload = bytearray(chance.randbytes(chance.choice([0, 1, 8, 35, 36, 37, 68, 200])))
        if len(payload) >= 36 and chance.random() < 0.7:
            payload[0], payload[1] = 0x21, 1
            payload = bytearray(with_checksum(bytes(payload[:36]))) + payload[36:]
        frames.append(framed(family, bytes(payload)))
    for grown in ground.inject(frames).values():
        assert sum(grown.values()) == 3000
        assert set(grown) == {"badlen", "badsum", "badauth"}


def test_random_packets_that_the_socket_takes(ground: Ground) -> None:
    """Bytes of no shape at all behind an Ethernet type of IP, with the protocol's number where it belongs."""
    chance = random.Random(1)
    frames = []
    for _ in range(3000):
        family = chance.choice([4, 6])
        body = bytearray(chance.randbytes(chance.randrange(46, 200)))
        body[9 if family == 4 else 6] = 112
        mac = bytes.fromhex(GROUPS[family][0].replace(":", ""))
        frames.append(
            mac + bytes.fromhex(NIC.replace(":", "")) + (b"\x08\0" if family == 4 else b"\x86\xdd") + bytes(body)
        )
    for grown in ground.inject(frames).values():
        assert sum(grown.values()) == 3000
        assert grown["hdrops"] > 2900


def test_random_frames(ground: Ground) -> None:
    """What is no CARP by its header never reaches the node."""
    chance = random.Random(2)
    broadcast = b"\xff" * 6 + bytes.fromhex(NIC.replace(":", ""))
    for _ in range(3000):
        ground.wire.send(broadcast + chance.randbytes(chance.randrange(2, 200)))
    ground.inject([framed(4, better(b"other"))])
