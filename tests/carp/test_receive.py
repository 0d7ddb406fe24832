"""Any bytes from the wire end in a counter or in the election."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hacore._fast.advert import AdvertKey, advert_frame
from hacore.carp.counters import Counters
from hacore.carp.election import MULTICAST_GROUP, MULTICAST_MAC, virtual_mac
from hacore.carp.terms import State
from tests.carp.simulation import Network, Node, settings

SOURCE = bytes([10, 0, 0, 99])
SOURCE6 = b"\xfe\x80" + bytes(13) + b"\x63"


def frame(
    *,
    password: bytes = b"secret",
    vhid: int = 1,
    advbase: int = 1,
    advskew: int = 0,
    ttl: int = 255,
    payload: bytes | None = None,
    family: int = 4,
    source: bytes | None = None,
    addresses: tuple[str, ...] = ("10.1.0.1",),
) -> bytes:
    if payload is None:
        payload = AdvertKey(password, vhid, addresses).build(advbase, advskew, 7)
    default = SOURCE if family == 4 else SOURCE6
    return advert_frame(
        virtual_mac(vhid), MULTICAST_MAC[family], source or default, MULTICAST_GROUP[family], payload, ttl=ttl
    )


def backup() -> Node:
    network = Network()
    node = network.add(settings(advskew=100))
    network.run(1.0)
    return node


def counted(node: Node) -> dict[str, int]:
    router = node.election.router("lan", 1)
    assert router is not None
    total = Counters()
    for counters in (router.counters, node.election.counters):
        for name in Counters.__struct_fields__:
            setattr(total, name, getattr(total, name) + getattr(counters, name))
    return {name: count for name, count in msgspec.structs.asdict(total).items() if count and name != "ostates"}


def check(data: bytes, **expected: int) -> None:
    node = backup()
    node.receive("lan", data)
    assert counted(node) == expected
    assert node.state() is State.BACKUP


def test_ladder() -> None:
    good = AdvertKey(b"secret", 1, ["10.1.0.1"]).build(1, 0, 7)
    check(frame(), ipackets=1)
    check(frame(password=b"other"), ipackets=1, badauth=1)
    check(frame(addresses=("10.1.0.1", "10.1.0.2")), ipackets=1, badauth=1)
    check(frame(vhid=9), ipackets=1, badvhid=1)
    check(frame(ttl=64), ipackets=1, badttl=1)
    check(frame(ttl=64, password=b"other"), ipackets=1, badttl=1)
    check(frame(payload=good[:20]), ipackets=1, badlen=1)
    check(frame(payload=good[:6] + b"\0\0" + good[8:]), ipackets=1, badsum=1)
    check(frame(family=6), ipackets6=1, badvhid=1)
    check(frame(source=bytes([10, 0, 0, 11])), ipackets=1, badaddrs=1)
    check(b"\xff" * 10, hdrops=1)


def test_trailing_bytes_are_accepted() -> None:
    good = AdvertKey(b"secret", 1, ["10.1.0.1"]).build(1, 0, 7)
    check(frame(payload=good + bytes(32)), ipackets=1)


def test_authentic_sender_is_remembered_and_bounded() -> None:
    node = backup()
    for number in range(1000):
        node.receive("lan", frame(source=bytes([10, 9, number // 256, number % 256])))
    assert len(node.election.peers) == 256
    node.receive("lan", frame(password=b"other", source=bytes([10, 8, 0, 1])))
    assert ("lan", bytes([10, 8, 0, 1])) not in node.election.peers


@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    node = backup()
    node.receive("lan", data)
    assert sum(counted(node).values()) >= 1
    assert node.state() is State.BACKUP


@given(st.data())
def test_mutated_adverts(data: st.DataObject) -> None:
    octets = bytearray(frame(advskew=0))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    node = backup()
    node.receive("lan", bytes(octets))
    assert sum(counted(node).values()) >= 1
