"""The lease gate against the real kernel: who takes leases, who renews them, what passes."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hacore.linux import devices, gate, rtnl, ruleset
from hacore.linux.packet import AdvertSocket, UnicastSocket
from tests.linux.conftest import Keep, Lan
from tests.linux.frames import advert, udp_frame
from tests.namespaces import Host, Sniffer, wait_until

VIRTUAL = "00:00:5e:00:01:01"


def desired(name: str = "lan", vhid: int = 1, dead_time: float = 0.2, **options: object) -> devices.DesiredVip:
    addresses = (f"10.1.0.{vhid}/16", f"2001:db8:1::{vhid}/64")
    return devices.DesiredVip(name, "lan", vhid, True, addresses, dead_time, **options)  # type: ignore[arg-type]


def hold(fw: Host, vip: devices.PreparedVip) -> None:
    """The addresses for good, so that only the gate decides. Without an address the device's rp_filter drops IPv4."""
    with fw.entered():
        route = rtnl.RouteSocket()
        messages = [rtnl.new_address_message(vip.ifindex, one.address, one.prefix_length) for one in vip.addresses]
        assert route.request(messages) == [0] * len(messages)
        route.close()


def prepare(
    fw: Host, tmp_path: Path, *vips: devices.DesiredVip, mode: gate.Mode | None = None
) -> list[devices.PreparedVip]:
    with fw.entered():
        outcome = devices.prepare(vips or (desired(),), tmp_path, mode)
    made = []
    for vip in outcome.vips.values():
        assert isinstance(vip, devices.PreparedVip), vip
        hold(fw, vip)
        made.append(vip)
    return made


def leased(fw: Host, vip: devices.PreparedVip) -> bool:
    return "elements" in fw.run("nft", "list", "set", "netdev", "hacore", gate.set_name(vip.ifindex))


class Router:
    """fw between the client's LAN and a second segment; `passes()`: whether a frame to the virtual MAC is forwarded."""

    def __init__(self, lan: Lan) -> None:
        self.lan = lan
        self.server = lan.network.host("server")
        lan.network.cable(lan.fw, "wan", self.server, "wan")
        lan.fw.ip("addr add 10.2.0.11/16 dev wan")
        lan.fw.ip(f"neigh add 10.2.0.100 lladdr {self.server.mac('wan')} dev wan")
        lan.fw.sysctl("ipv4/ip_forward", "1")
        self.sniffer = Sniffer(self.server, "wan")
        self.source = lan.client.mac("lan")
        self.count = 0
        with lan.client.entered():
            self.client = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.client.bind(("lan", 0))

    def passes(self) -> bool:
        self.count += 1
        mark = b"probe %d." % self.count
        self.client.send(udp_frame(VIRTUAL, self.source, "10.1.0.100", "10.2.0.100", mark))
        deadline = time.monotonic() + 0.05
        while time.monotonic() < deadline:
            if any(mark in frame for frame in self.sniffer.frames()):
                return True
            time.sleep(0.002)
        return False

    def close(self) -> None:
        self.client.close()
        self.sniffer.close()


@pytest.fixture
def router(lan: Lan) -> Iterator[Router]:
    made = Router(lan)
    yield made
    made.close()


@pytest.mark.parametrize("family", [4, 6])
def test_frames_pass_while_adverts_renew_and_not_after(
    lan: Lan, keep: Keep, router: Router, tmp_path: Path, family: int
) -> None:
    (vip,) = prepare(lan.fw, tmp_path)
    assert not router.passes()
    with lan.fw.entered():
        adverts = keep(AdvertSocket("lan", vip.parent_ifindex))
    for _ in range(10):
        adverts.send(advert(VIRTUAL, 1, family))
        assert router.passes()
        time.sleep(0.05)
    time.sleep(0.3)
    assert not router.passes()
    adverts.send(advert(VIRTUAL, 1, family))
    assert router.passes()


def test_an_advert_renews_only_its_own_lease(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    first, second = prepare(lan.fw, tmp_path, desired(dead_time=5.0), desired("other", 2, dead_time=5.0))
    with lan.fw.entered():
        adverts = keep(AdvertSocket("lan", first.parent_ifindex))
    adverts.send(advert("00:00:5e:00:01:02", 2))
    assert not leased(lan.fw, first)
    assert leased(lan.fw, second)
    adverts.send(advert(lan.fw.mac("lan"), 1))  # from the NIC's own MAC: anybody may have sent it through this host
    assert not leased(lan.fw, first)


@pytest.mark.parametrize(("family", "peer"), [(4, "10.1.0.12"), (6, "2001:db8:1::12")])
def test_unicast_adverts_renew(lan: Lan, keep: Keep, router: Router, tmp_path: Path, family: int, peer: str) -> None:
    (vip,) = prepare(lan.fw, tmp_path)
    with lan.fw.entered():
        unicast = keep(UnicastSocket("lan", 1, peer))
        other = keep(UnicastSocket("lan", 2, peer))
    other.send(bytes(36))
    assert not leased(lan.fw, vip)
    # The first may wait for the neighbour's MAC; the lease is taken when it leaves.
    unicast.send(bytes(36))
    wait_until(lambda: leased(lan.fw, vip))
    unicast.send(bytes(36))
    assert router.passes()
    time.sleep(0.4)
    assert not router.passes()


def test_forwarded_carp_packets_renew_nothing(lan: Lan, keep: Keep, router: Router, tmp_path: Path) -> None:
    (vip,) = prepare(lan.fw, tmp_path, desired(dead_time=5.0))
    with router.server.entered():
        sender = keep(socket.socket(socket.AF_INET, socket.SOCK_RAW, 112))
    router.server.ip("addr add 10.2.0.100/16 dev wan")
    router.server.ip("route add 10.1.0.0/16 via 10.2.0.11")
    seen = keep(Sniffer(lan.client, "lan"))
    sender.sendto(b"\x21\x01" + bytes(34), ("10.1.0.100", 0))
    wait_until(lambda: any(frame[23:24] == b"\x70" for frame in seen.frames()))
    assert not leased(lan.fw, vip)


@pytest.mark.parametrize("way", ["frame", "netlink"])
def test_lease_and_release_count_at_once(lan: Lan, keep: Keep, router: Router, tmp_path: Path, way: str) -> None:
    (vip,) = prepare(lan.fw, tmp_path, desired(dead_time=0.5))
    with lan.fw.entered():
        frames, messages = keep(gate.LeaseSocket()), keep(gate.NftSocket())
    for _ in range(3):
        if way == "frame":
            assert frames.lease(vip.device) == 0
        else:
            assert messages.request([gate.lease_message(vip.ifindex, 0.5)]) == [0]
        assert router.passes()
        if way == "frame":
            assert frames.release(vip.device) == 0
        else:
            assert messages.request([gate.release_message(vip.ifindex)]) == [0]
        assert not router.passes()
    assert messages.request([gate.lease_message(vip.ifindex, 0.5)]) == [0]
    assert frames.release(vip.device) == 0
    assert not router.passes()
    assert frames.lease(vip.device) == 0
    time.sleep(0.8)
    assert not router.passes()


def test_release_of_what_is_not_leased_is_no_error(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    first, second = prepare(lan.fw, tmp_path, desired(dead_time=5.0), desired("other", 2, dead_time=5.0))
    with lan.fw.entered():
        messages, frames = keep(gate.NftSocket()), keep(gate.LeaseSocket())
    assert messages.request([gate.lease_message(second.ifindex, 5.0)]) == [0]
    assert messages.request([gate.release_message(first.ifindex), gate.release_message(second.ifindex)]) == [0, 0]
    assert not leased(lan.fw, second)
    assert frames.release(first.device) == 0


def test_a_missing_gate_is_told(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    (vip,) = prepare(lan.fw, tmp_path)
    with lan.fw.entered():
        messages, frames = keep(gate.NftSocket()), keep(gate.LeaseSocket())
    lan.fw.run("nft", "flush", "ruleset")
    assert frames.lease(vip.device) == errno.ENOENT
    assert frames.check(vip.device) == errno.ENOENT
    assert frames.lease("nowhere") == errno.ENODEV
    assert messages.request([gate.lease_message(vip.ifindex, 5.0)]) != [0]
    # Made anew while this node is MASTER, the gate is open from the first moment.
    (vip,) = prepare(lan.fw, tmp_path, desired(dead_time=5.0, held=True))
    assert frames.check(vip.device) == 0
    assert leased(lan.fw, vip)
    assert frames.release(vip.device) == 0
    assert frames.check(vip.device) == 0
    assert not leased(lan.fw, vip)


def test_static_mode_knows_leases_without_end(lan: Lan, keep: Keep, router: Router, tmp_path: Path) -> None:
    (vip,) = prepare(lan.fw, tmp_path, mode="static")
    assert vip.gate == "static"
    assert "egress" not in lan.fw.run("nft", "list", "table", "netdev", "hacore")
    with lan.fw.entered():
        messages = keep(gate.NftSocket())
    assert not router.passes()
    assert messages.request([gate.lease_message(vip.ifindex, None)]) == [0]
    assert router.passes()
    time.sleep(0.5)
    assert router.passes()
    assert messages.request([gate.release_message(vip.ifindex)]) == [0]
    assert not router.passes()


def test_changing_the_rules_keeps_leases_and_drops_what_is_unwanted(lan: Lan, keep: Keep, tmp_path: Path) -> None:
    first, second = prepare(lan.fw, tmp_path, desired(dead_time=9.0), desired("other", 2))
    with lan.fw.entered():
        frames = keep(gate.LeaseSocket())
    assert frames.lease(first.device) == 0
    (same,) = prepare(lan.fw, tmp_path, desired(dead_time=8.0, held=True))
    assert same == first
    assert leased(lan.fw, same)
    table = lan.fw.run("nft", "list", "table", "netdev", "hacore")
    assert "timeout 8s" in table
    assert f"_{second.ifindex} " not in table
    prepare(lan.fw, tmp_path)
    assert not leased(lan.fw, same)


def test_an_expired_address_stops_ipv4_too(lan: Lan, keep: Keep, router: Router, tmp_path: Path) -> None:
    """The second line behind the gate: rp_filter drops what comes in on a device without an address."""
    (vip,) = prepare(lan.fw, tmp_path, mode="none")
    assert router.passes()
    with lan.fw.entered():
        route = rtnl.RouteSocket()
        assert route.request([rtnl.delete_address_message(vip.ifindex, "10.1.0.1", 32)]) == [0]
        route.close()
    assert not router.passes()


def test_the_egress_hook_is_found_and_nothing_is_left(lan: Lan) -> None:
    with lan.fw.entered():
        assert ruleset.supports_egress()
        assert ruleset.run_nft(["list", "tables"]) == ""


def test_lease_timeout_has_a_floor() -> None:
    assert gate.lease_timeout(0.0117) == 0.1
    assert gate.lease_timeout(3.390625) == 3.391
