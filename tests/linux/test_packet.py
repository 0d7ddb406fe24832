"""Packet and raw sockets on a real wire."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hacore.linux import devices, packet
from hacore.linux.packet import AdvertSocket, UnicastSocket
from tests.linux.conftest import Keep, Lan
from tests.linux.frames import advert, carp_payload, ethernet, ipv4, ipv6, mac_bytes, udp_frame
from tests.namespaces import Host, Network, Sniffer, require, wait_until

VIRTUAL = "00:00:5e:00:01:01"


Opener = Callable[[Host], AdvertSocket]


def refused() -> pytest.RaisesExc[OSError]:
    """The caller looks at the errno."""
    return pytest.raises(OSError)  # noqa: PT011 - the callers look at the errno


@pytest.fixture
def advert_socket(keep: Keep) -> Opener:
    def open_one(host: Host) -> AdvertSocket:
        with host.entered():
            return keep(AdvertSocket("lan", socket.if_nametoindex("lan")))

    return open_one


def arriving(receiver: AdvertSocket, count: int = 1) -> list[bytes]:
    found: list[bytes] = []

    def enough() -> bool:
        found.extend(receiver.receive(16))
        return len(found) >= count

    wait_until(enough)
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_whole_frames_travel(lan: Lan, advert_socket: Opener, family: int) -> None:
    sender, receiver = advert_socket(lan.fw), advert_socket(lan.peer)
    frame = advert(VIRTUAL, 1, family)
    sender.send(frame)
    assert arriving(receiver) == [frame]
    assert receiver.receive(16) == []
    assert sender.receive(16) == []  # its own frame is not among those received


def test_only_adverts_meant_for_here_pass_the_filter(lan: Lan, advert_socket: Opener, keep: Keep) -> None:
    receiver = advert_socket(lan.peer)
    with lan.peer.entered():
        everything = keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        everything.bind(("lan", 3))
        index = socket.if_nametoindex("lan")
        everything.setsockopt(263, 1, struct.pack("=iHH8s", index, 1, 0, b""))  # promiscuous
    own, source = lan.peer.mac("lan"), lan.fw.mac("lan")
    tag = struct.pack("!HH", 0x8100, 5)
    priority_tag = struct.pack("!HH", 0x8100, 7 << 13)
    good = [
        advert(VIRTUAL, 7),
        ethernet(own, source, ipv4("10.1.0.11", "10.1.0.12", 112, carp_payload(2))),
        ethernet(own, source, ipv6("2001:db8:1::11", "2001:db8:1::12", 112, carp_payload(2))),
        advert(VIRTUAL, 8)[:12] + priority_tag + advert(VIRTUAL, 8)[12:],
    ]
    bad = [
        ethernet("02:00:00:00:00:99", source, ipv4("10.1.0.11", "10.1.0.99", 112, carp_payload(3))),
        udp_frame(own, source, "10.1.0.11", "10.1.0.12", b"x"),
        advert(VIRTUAL, 9)[:12] + tag + advert(VIRTUAL, 9)[12:],
        mac_bytes(own) + mac_bytes(source) + b"\x08\x00",
    ]
    with lan.fw.entered():
        sender = keep(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        sender.bind(("lan", 0))
    for frame in [*bad, *good]:
        sender.send(frame)
    found = arriving(receiver, len(good))
    time.sleep(0.05)
    found += receiver.receive(16)
    untagged = [frame.replace(priority_tag, b"") for frame in good]
    assert found == untagged


@pytest.mark.parametrize("family", [4, 6])
def test_adverts_arrive_beside_a_macvlan_with_the_same_mac(lan: Lan, advert_socket: Opener, family: int) -> None:
    lan.peer.ip(f"link add link lan name same address {VIRTUAL} type macvlan mode private")
    lan.peer.ip("link set same up")
    sender, receiver = advert_socket(lan.fw), advert_socket(lan.peer)
    for _ in range(10):
        sender.send(advert(VIRTUAL, 1, family))
    assert len(arriving(receiver, 10)) == 10


@pytest.mark.parametrize("family", [4, 6])
def test_adverts_cross_a_bridge_that_snoops_with_a_querier(
    network: Network, advert_socket: Opener, keep: Keep, family: int
) -> None:
    times = "mcast_query_interval 100 mcast_startup_query_interval 100 mcast_query_response_interval 50"
    switch = network.switch("sw", f"{times} mcast_snooping 1 mcast_querier 1")
    switch.ip("addr add 10.1.0.254/16 dev br0")
    fw, peer = network.host("fw"), network.host("peer")
    for host, number in ((fw, 11), (peer, 12)):
        network.cable(host, "lan", switch)
        host.ip(f"addr add 10.1.0.{number}/16 dev lan")
    wait_until(lambda: "tentative" not in switch.ip("-6 addr show dev br0"))
    outsider = network.host("outsider")
    network.cable(outsider, "lan", switch)
    bystander, reports = keep(Sniffer(outsider, "lan")), keep(Sniffer(switch, "port2"))
    sender, receiver = advert_socket(fw), advert_socket(peer)
    assert receiver.membership_errors == {}
    frame = advert(VIRTUAL, 1, family)

    def only_members_hear() -> bool:
        bystander.frames()
        sender.send(frame)
        time.sleep(0.05)
        # Bridges never snoop 224.0.0.x; physical switches may, and go by the report.
        return frame in receiver.receive(64) and (family == 4 or frame not in bystander.frames())

    # The bridge keeps groups to their members only once its querier has been at work for some seconds.
    wait_until(only_members_hear, timeout=30.0, pause=0.2)
    for _ in range(10):
        sender.send(frame)
    assert arriving(receiver, 10) == [frame] * 10
    group = socket.inet_pton(*((socket.AF_INET, "224.0.0.18") if family == 4 else (socket.AF_INET6, "ff02::12")))
    igmp_or_mld = [one for one in reports.frames() if (one[23] == 2 if family == 4 else one[20:21] == b"\0")]
    assert any(group in one[34:] for one in igmp_or_mld)


def test_an_interface_that_goes_down_and_comes_back(lan: Lan, advert_socket: Opener) -> None:
    sender, receiver = advert_socket(lan.fw), advert_socket(lan.peer)
    sender.send(advert(VIRTUAL, 1))
    wait_until(lambda: receiver.receive(16))
    sender.send(advert(VIRTUAL, 2))
    time.sleep(0.05)
    lan.peer.ip("link set lan down")
    with refused() as down:
        receiver.send(advert(VIRTUAL, 1))
    assert down.value.errno == errno.ENETDOWN
    with refused() as down:
        [receiver.receive(16) for _ in range(3)]
    assert down.value.errno == errno.ENETDOWN
    lan.peer.ip("link set lan up")
    receiver.receive(16)

    def heard() -> list[bytes]:
        sender.send(advert(VIRTUAL, 3))
        return receiver.receive(16)

    wait_until(heard)
    receiver.send(advert(VIRTUAL, 1))


def test_an_interface_that_is_deleted_and_returns(lan: Lan, advert_socket: Opener) -> None:
    receiver = advert_socket(lan.peer)
    lan.peer.ip("link del lan")
    with refused() as gone:
        receiver.send(advert(VIRTUAL, 1))
    assert gone.value.errno in (errno.ENXIO, errno.ENETDOWN, errno.ENODEV)
    receiver.close()
    with lan.peer.entered(), refused() as missing:
        AdvertSocket("lan", 2)
    assert missing.value.errno == errno.ENODEV
    lan.network.cable(lan.peer, "lan", lan.switch)
    again, sender = advert_socket(lan.peer), advert_socket(lan.fw)

    def heard() -> list[bytes]:
        sender.send(advert(VIRTUAL, 3))
        return again.receive(16)

    wait_until(heard)


def test_a_name_with_another_index_is_refused(lan: Lan) -> None:
    with lan.fw.entered(), refused() as wrong:
        AdvertSocket("lan", socket.if_nametoindex("lan") + 1)
    assert wrong.value.errno == errno.ENODEV


def test_what_the_kernel_drops_is_counted(lan: Lan, advert_socket: Opener, keep: Keep) -> None:
    with lan.peer.entered():
        receiver = keep(AdvertSocket("lan", socket.if_nametoindex("lan"), buffer_size=4096))
    sender = advert_socket(lan.fw)
    for _ in range(200):
        sender.send(advert(VIRTUAL, 1))
    received = 0
    wait_until(lambda: receiver.dropped() > 0)
    while frames := receiver.receive(64):
        received += len(frames)
    assert received + receiver.dropped() == 200
    assert receiver.dropped() == receiver.dropped()


@pytest.mark.parametrize(
    ("family", "here", "there"), [(4, "10.1.0.11", "10.1.0.12"), (6, "2001:db8:1::11", "2001:db8:1::12")]
)
def test_unicast_as_carp_wants_it(
    lan: Lan, advert_socket: Opener, keep: Keep, family: int, here: str, there: str
) -> None:
    with lan.fw.entered():
        sender = keep(UnicastSocket("lan", 1, there))
    with lan.peer.entered():
        answering = keep(UnicastSocket("lan", 1, here))  # without it the kernel says: protocol unreachable
    receiver = advert_socket(lan.peer)
    errors = keep(Sniffer(lan.fw, "lan"))
    payload = carp_payload(1)
    sender.send(payload)
    (frame,) = arriving(receiver)
    assert frame[:12] == mac_bytes(lan.peer.mac("lan")) + mac_bytes(lan.fw.mac("lan"))
    head = frame[14:34] if family == 4 else frame[14:54]
    assert frame[14 + len(head) :] == payload
    if family == 4:
        assert (head[1], head[6] >> 5, head[8], head[9]) == (0xE0, 2, 255, 112)
        assert head[12:] == socket.inet_aton(here) + socket.inet_aton(there)
    else:
        assert (head[0], head[1] >> 4) == (0x6E, 0)  # the rest of the second byte is the flow label
        assert head[6:8] == bytes((112, 255))
    for _ in range(5):
        sender.send(payload)
    time.sleep(0.1)
    assert not [frame for frame in errors.frames() if frame[12:14] == b"\x08\x00" and frame[23] == 1]
    assert not [
        frame for frame in errors.frames() if frame[12:14] == b"\x86\xdd" and frame[20] == 58 and frame[54] < 128
    ]
    with socket.socket(fileno=os.dup(answering.fileno())) as same, pytest.raises(BlockingIOError):
        same.recv(2048)


def test_no_advert_is_ever_tracked(lan: Lan, advert_socket: Opener, keep: Keep, tmp_path: Path) -> None:
    require("conntrack")
    with lan.fw.entered():
        devices.prepare([devices.DesiredVip("lan", "lan", 1, True, ("10.1.0.1/16",), 1.0)], tmp_path)
    lan.fw.run(
        "nft",
        "-f",
        "-",
        text="table inet f {\nchain o {\ntype filter hook output priority 0;\nct state new counter\n}\n}\n",
    )
    with lan.fw.entered():
        unicast = [keep(UnicastSocket("lan", 1, peer)) for peer in ("10.1.0.12", "2001:db8:1::12")]
    multicast = advert_socket(lan.fw)
    lan.fw.run("ping", "-c1", "-W2", "10.1.0.12")
    for one in unicast:
        one.send(bytes(36))
    multicast.send(advert(VIRTUAL, 1))
    multicast.send(advert(VIRTUAL, 1, 6))
    time.sleep(0.1)
    tracked = lan.fw.run("conntrack", "-L") + lan.fw.run("conntrack", "-L", "-f", "ipv6")
    assert "icmp" in tracked  # tracking is at work
    assert "112" not in [word for line in tracked.splitlines() for word in line.split()[:2]]


def test_errors_of_unicast_are_told(lan: Lan, keep: Keep) -> None:
    with lan.fw.entered():
        sender = keep(UnicastSocket("lan", 1, "10.1.0.12"))
    sender.send(bytes(36))
    lan.fw.ip("link del lan")
    with refused() as gone:
        sender.send(bytes(36))
    assert gone.value.errno in (errno.ENODEV, errno.ENXIO, errno.ENETUNREACH)


def test_priorities_differ_by_vhid() -> None:
    assert len({packet.unicast_priority(vhid) for vhid in range(1, 256)}) == 255
    assert {packet.unicast_priority(vhid) & 0xF for vhid in range(1, 256)} == {7}
