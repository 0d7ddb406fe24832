"""A running pair and its interfaces: links that go, devices that vanish, addresses that somebody removes, silence."""

from __future__ import annotations

import socket
import time

import pytest

from tests.linux.frames import arp_request, neighbour_solicitation
from tests.namespaces import Host, wait_until
from tests.running_node import PATIENCE, RunningNode, Segment, await_master, vip, wan

BOTH = ["10.1.0.1", "2001:db8:1::1"]
OUTGOING = 4  # PACKET_OUTGOING of linux/if_packet.h


@pytest.fixture
def dual(segment: Segment) -> tuple[RunningNode, RunningNode]:
    """A pair with a VIP on `lan` and one on `wan`, fw1 MASTER of both."""
    nodes = segment.node("fw1", 11), segment.node("fw2", 12)
    for node, number, advskew in zip(nodes, (11, 12), (20, 40), strict=True):
        segment.connect(node.host, number, "wan")
        node.configure(vip(advskew=advskew), wan(advskew=advskew))
    segment.start_in_turn(*nodes)
    await_master(*nodes, name="wan")
    return nodes


def test_an_interface_that_vanishes_and_returns(segment: Segment) -> None:
    first, second = segment.pair()
    since = first.last_event()
    first.host.ip("link del lan")
    first.until_state("INIT")
    assert first.vip()["reason"] == "hardware interface down"
    assert first.status()["node"]["demotion"]["reasons"] == {"link down": 240}
    second.until_state("MASTER")

    segment.connect(first.host, 11)
    await_master(first, second)
    first.until(lambda: first.held() == set(BOTH))
    assert [state for state, _ in first.transitions(after=since)] == ["INIT", "BACKUP", "MASTER"]
    assert first.status()["node"]["demotion"]["total"] == 0
    assert second.held() == set()


def test_a_backups_interface_that_vanishes_and_returns(segment: Segment) -> None:
    first, second = segment.pair()
    since = second.last_event()
    second.host.ip("link del lan")
    second.until_state("INIT")
    segment.connect(second.host, 12)
    second.until_state("BACKUP")
    heard = second.counters()["ipackets6"]
    second.until(lambda: second.counters()["ipackets6"] > heard + 3)
    assert [state for state, _ in second.transitions(after=since)] == ["INIT", "BACKUP"]
    first.kill()
    second.until_state("MASTER")


@pytest.mark.parametrize("preempt", [True, False])
def test_a_dead_link_moves_every_vip(segment: Segment, dual: tuple[RunningNode, RunningNode], preempt: bool) -> None:
    first, second = dual
    if not preempt:
        for node, advskew in zip(dual, (20, 40), strict=True):
            node.configure(vip(advskew=advskew), wan(advskew=advskew), preempt=False)
            node.ask("reload")
            node.until(lambda node=node: not node.status()["node"]["preempt"])  # type: ignore[misc]
    segment.unplug(first.host)
    for name in ("lan", "wan"):
        second.until_state("MASTER", name)
    first.until_state("INIT")
    first.until_state("BACKUP", "wan")
    assert first.vip("wan")["effective_advskew"] == 240
    assert first.held(["10.1.0.1", "10.2.0.1"]) == set()
    segment.plug(first.host)
    first.until(lambda: first.status()["node"]["demotion"]["total"] == 0)
    for name in ("lan", "wan"):
        await_master(*((first, second) if preempt else (second, first)), name=name)


@pytest.mark.parametrize("virtual_mac", [True, False])
def test_addresses_that_somebody_removes_are_put_back(segment: Segment, virtual_mac: bool) -> None:
    node = segment.node("fw1", 11)
    node.configure(vip(virtual_mac=virtual_mac))
    node.start()
    node.until_state("MASTER")
    since = node.last_event()
    device = node.vip()["device"]
    assert device == ("carp1.lan" if virtual_mac else "lan")
    for address, length in (("10.1.0.1", 32), ("2001:db8:1::1", 128)):
        node.host.ip(f"addr del {address}/{length} dev {device}")
        node.until_event("address removed", address, after=since)
        node.until(lambda: node.held() == set(BOTH))
    assert node.transitions(after=since) == []
    assert node.state() == "MASTER"


def test_what_the_host_itself_changes_is_no_event(segment: Segment) -> None:
    """Other addresses come and go on the interface; the VIP is renewed all the while."""
    node = segment.node("fw1", 11)
    node.configure(vip())
    node.start()
    node.until_state("MASTER")
    since = node.last_event()
    node.host.ip("addr add 10.1.7.7/16 dev lan")
    node.host.ip("addr del 10.1.7.7/16 dev lan")
    sent = node.counters()["opackets"]
    node.until(lambda: node.counters()["opackets"] > sent + 40)  # longer than an address lives
    assert node.events(after=since) == []
    assert node.held() == set(BOTH)


class Spoken:
    """The frames that a host sends on `lan` from the virtual MAC of vhid 1."""

    def __init__(self, host: Host) -> None:
        with host.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._socket.bind(("lan", 3))

    def frames(self) -> list[bytes]:
        found: list[bytes] = []
        while True:
            try:
                frame, place = self._socket.recvfrom(2048)
            except BlockingIOError:
                return found
            if place[2] == OUTGOING and frame[6:12] == bytes.fromhex("00005e000101"):
                found.append(frame)

    def close(self) -> None:
        self._socket.close()


def test_a_backups_device_is_silent(segment: Segment) -> None:
    """It answers neither ARP nor neighbour solicitations nor pings to the VIP, and says nothing of itself."""
    client = segment.host("client", 13)
    first, second = segment.node("fw1", 11), segment.node("fw2", 12)
    spoken = Spoken(second.host)
    with client.entered():
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        wire.bind(("lan", 0))
    try:
        first.configure(vip())
        second.configure(vip(advskew=40))
        segment.start_in_turn(first, second)
        assert "UP" in second.host.ip("-o link show carp1.lan")
        mac = client.mac("lan")
        for _ in range(20):
            wire.send(arp_request(mac, "10.1.0.13", "10.1.0.1"))
            wire.send(neighbour_solicitation(mac, "2001:db8:1::13", "2001:db8:1::1"))
            time.sleep(0.01)
        client.ip("neigh replace 10.1.0.1 lladdr 00:00:5e:00:01:01 dev lan")
        client.run("ping", "-c3", "-i0.1", "-W1", "10.1.0.1", check=False)
        second.host.run("ping", "-c1", "-W1", "-I", "carp1.lan", "10.1.0.13", check=False)
        second.host.run("ping", "-6", "-c1", "-W1", "ff02::1%carp1.lan", check=False)
        assert spoken.frames() == []
        assert second.state() == "BACKUP"

        first.kill()
        second.until_state("MASTER")
        wait_until(spoken.frames, PATIENCE)
        wait_until(lambda: "1 received" in client.run("ping", "-c1", "-W1", "10.1.0.1", check=False), PATIENCE)
    finally:
        spoken.close()
        wire.close()
