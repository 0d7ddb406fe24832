"""Nodes that send their adverts to each other's own address: one MASTER, on one segment and across a router."""

from __future__ import annotations

from typing import Any

import pytest

from tests.interop.conftest import Watching
from tests.namespaces import Host, Sniffer
from tests.oracle.carp import Parts, parse_frame
from tests.running_node import RunningNode, Segment, await_master, vip

OWN_MACS = pytest.mark.parametrize("virtual_mac", [True, False])


def reached(host: Host, addresses: list[str]) -> bool:
    """Whether every address answers."""
    return all("1 received" in host.run("ping", "-c1", "-W1", address, check=False) for address in addresses)


def start_pair(nodes: tuple[RunningNode, RunningNode], *settings: dict[str, Any]) -> None:
    for node, more, advskew in zip(nodes, settings, (20, 40), strict=True):
        node.configure(vip(advskew=advskew, **more))
        node.launch()
    await_master(*nodes)


def assert_fails_over(nodes: tuple[RunningNode, RunningNode], client: Host, addresses: list[str]) -> None:
    first, second = nodes
    assert first.held(addresses) == set(addresses)
    assert second.held(addresses) == set()
    first.until(lambda: reached(client, addresses))
    first.kill()
    second.until_state("MASTER")
    assert second.vip()["reason"] == "master timed out"
    second.until(lambda: second.held(addresses) == set(addresses) and reached(client, addresses))
    first.start()
    await_master(first, second)
    assert second.held(addresses) == set()
    first.until(lambda: reached(client, addresses))


@OWN_MACS
def test_unicast_peers_in_both_families(segment: Segment, watching: Watching, virtual_mac: bool) -> None:
    client = segment.host("client", 13)
    bystander = watching(Sniffer(client, "lan"))
    nodes = segment.node("fw1", 11), segment.node("fw2", 12)
    peers: list[dict[str, Any]] = [
        {"peer": f"10.1.0.{number}", "peer6": f"2001:db8:1::{number}", "virtual_mac": virtual_mac}
        for number in (12, 11)
    ]
    start_pair(nodes, *peers)
    assert_fails_over(nodes, client, ["10.1.0.1", "2001:db8:1::1"])
    assert nodes[0].counters()["opackets6"] > 0
    assert nodes[1].counters()["ipackets6"] > 0
    assert [frame for frame in bystander.frames() if isinstance(parse_frame(frame), Parts)] == []


@pytest.mark.parametrize("address", ["10.1.0.1/16", "2001:db8:1::1/64"])
def test_unicast_in_one_family_alone(segment: Segment, address: str) -> None:
    nodes = segment.node("fw1", 11), segment.node("fw2", 12)
    key, peer = ("peer6", "2001:db8:1::{}") if ":" in address else ("peer", "10.1.0.{}")
    settings: list[dict[str, Any]] = [{key: peer.format(number), "addresses": [address]} for number in (12, 11)]
    start_pair(nodes, *settings)
    assert_fails_over(nodes, segment.host("client", 13), [address.split("/")[0]])


def test_multicast_without_a_virtual_mac(segment: Segment) -> None:
    client = segment.host("client", 13)
    nodes = segment.node("fw1", 11), segment.node("fw2", 12)
    start_pair(nodes, {"virtual_mac": False}, {"virtual_mac": False})
    assert "carp1.lan" not in nodes[0].host.ip("-o link")
    assert_fails_over(nodes, client, ["10.1.0.1", "2001:db8:1::1"])


def test_unicast_across_a_router(segment: Segment) -> None:
    """Each node on a segment of its own; what arrives has a TTL of 254."""
    first, second = segment.node("fw1", 11), segment.node("fw2", 12)
    router = segment.network.host("router")
    router.sysctl("ipv4/ip_forward", "1")
    for node, side in ((first, 21), (second, 22)):
        node.host.ip("link del lan")
        segment.network.cable(node.host, "lan", router, f"side{side}")
        router.ip(f"addr add 10.{side}.0.254/24 dev side{side}")
        node.host.ip(f"addr add 10.{side}.0.1/24 dev lan")
        node.host.ip(f"route add default via 10.{side}.0.254")
    nodes = first, second
    settings: list[dict[str, Any]] = [{"addresses": ["192.0.2.1/32"], "peer": f"10.{side}.0.1"} for side in (22, 21)]
    start_pair(nodes, *settings)
    assert first.held(["192.0.2.1"]) == {"192.0.2.1"}
    assert second.held(["192.0.2.1"]) == set()
    assert [peer["source"] for peer in second.status()["node"]["peers"]] == ["10.21.0.1"]
    assert second.counters()["badttl"] == 0
    first.kill()
    second.until_state("MASTER")
    first.start()
    await_master(first, second)
