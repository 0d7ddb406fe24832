"""Two nodes, two kernels: what one tracks while it is MASTER, the other has."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hacore.linux import conntrack
from tests.node.states_pair import Node, Pair, eventually, made
from tools.ct_flows import flow, ftp_session, mixed_flows
from tools.ct_packets import ICMP, TCP, UDP

SRC_NAT = 0x10

SECOND_VIP = """
[[vip]]
name = "second"
interface = "lan"
vhid = 2
advbase = 0
advskew = {advskew}
password = "secret"
addresses = ["10.20.0.2/24"]
"""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with made(tmp_path) as pair:
        yield pair


def states_of(node: Node) -> list[str]:
    return [str(vip["state"]) for vip in node.status()["vips"]]


def test_connections_reach_the_peers_kernel_and_their_end_too(pair: Pair) -> None:
    pair.one.gateway.talk(mixed_flows(300))
    eventually(lambda: pair.alike() and len(pair.two.keys()) >= 290)
    nat = pair.two.rows()["status"] & SRC_NAT != 0
    assert nat.sum() > 200
    with pair.one.host.entered():
        conntrack.flush()
    eventually(lambda: not len(pair.two.keys()))


def test_a_bulk_update_that_is_ordered_is_followed_to_its_end(pair: Pair) -> None:
    pair.one.gateway.talk(mixed_flows(100))
    eventually(lambda: pair.alike() and len(pair.two.keys()) >= 90)

    def begun() -> list[int]:
        peer = pair.two.states()["peers"][0]
        return [peer[way]["bulk_updates"] for way in ("sending", "receiving")]

    before = begun()
    assert min(before) >= 1
    result = pair.two.hacore("states", "bulk")
    assert result.returncode == 0, result.stderr
    sent = re.search(r"from fw1: (\d+) states", result.stdout)
    assert sent
    assert int(sent[1]) >= 90
    assert begun() == [number + 1 for number in before]
    assert pair.alike()


def test_a_promoted_node_goes_on_with_connections_behind_nat(pair: Pair) -> None:
    flows = [flow(TCP, f"10.0.0.{2 + index}", "198.51.100.1", 40_000 + index, 443) for index in range(50)]
    seen = pair.one.gateway.talk(flows)
    assert len(seen) == 50
    eventually(pair.alike)
    pair.one.kill()
    eventually(lambda: pair.two.carp == "MASTER")
    assert pair.two.demotion == {}
    eventually(lambda: pair.two.states()["sharing"]["claimed"] >= 50)
    from tools.ct_flows import CLIENT_SEQUENCE, SERVER_SEQUENCE, line

    for way, outer in seen.items():
        line(pair.two.gateway, way, "inside", CLIENT_SEQUENCE + 7, SERVER_SEQUENCE + 7, b"more\n")
        line(pair.two.gateway, outer.turned(), "outside", SERVER_SEQUENCE + 7, CLIENT_SEQUENCE + 12, b"fine\n")
    outside = pair.two.gateway.expect("outside", 50)
    inside = pair.two.gateway.expect("inside", 50)
    assert {came.way for came in outside} == set(seen.values())
    assert {came.way for came in inside} == {way.turned() for way in seen}


def test_what_is_deleted_on_the_node_that_follows_returns(tmp_path: Path) -> None:
    with made(tmp_path, start=False) as pair:
        pair.one.configure(reconcile_interval=3600.0)  # the timeouts that its comparisons tell would bring entries back
        pair.two.configure(reconcile_interval=1.0)
        pair.start()
        pair.one.gateway.talk(mixed_flows(300))
        eventually(lambda: pair.alike() and len(pair.two.keys()) >= 290)
        udp = int((pair.two.rows()["protocol"] == UDP).sum())
        assert udp >= 40
        pair.two.host.run("conntrack", "-D", "-p", "udp")
        eventually(lambda: pair.two.states()["kernel"]["missing"] == udp and pair.alike())
        with pair.two.host.entered():
            conntrack.flush()
        eventually(lambda: pair.two.states()["kernel"]["missing"] >= udp + 290 and pair.alike())
        kernel = pair.two.states()["kernel"]
        assert (kernel["differing"], kernel["listening"]) == (0, False)


def test_a_bulk_update_repairs_the_kernel(pair: Pair) -> None:
    flows = [flow(TCP, f"10.0.0.{2 + index}", "198.51.100.1", 40_000 + index, 443) for index in range(50)]
    pair.one.gateway.talk(flows)
    eventually(pair.alike)
    with pair.two.host.entered():
        conntrack.flush()
    assert pair.one.hacore("states", "bulk").returncode == 0
    eventually(pair.alike)
    assert pair.two.states()["kernel"]["checks"] == 0, "what has repaired it"


def test_a_node_that_comes_back_gets_everything_before_it_takes_over(pair: Pair) -> None:
    pair.one.gateway.talk(mixed_flows(200))
    eventually(pair.alike)
    pair.one.kill()
    eventually(lambda: pair.two.carp == "MASTER")
    with pair.one.host.entered():
        conntrack.flush()
    pair.two.gateway.talk([flow(UDP, f"10.3.0.{2 + index}", "198.51.100.9", 5000, 53) for index in range(20)])
    kept = pair.two.keys()
    pair.one.start()
    eventually(lambda: pair.one.carp == "MASTER")
    missing = kept - pair.one.keys()
    assert not missing & pair.two.keys()
    texts = pair.one.history()
    assert any("bulk update from fw2 is in this kernel" in text for text in texts)
    reasons = [text for text in texts if "demoted by" in text or "promoted by" in text]
    assert any("bulk update" in text for text in reasons)


def test_the_states_worker_dies(pair: Pair) -> None:
    pair.one.gateway.talk(mixed_flows(100))
    eventually(pair.alike)
    os.kill(pair.one.worker(), signal.SIGKILL)
    eventually(lambda: pair.one.status()["node"]["workers"]["states"]["restarts"] == 1)
    assert pair.one.carp == "MASTER"
    assert pair.one.demotion == {}
    pair.follow()
    os.kill(pair.two.worker(), signal.SIGKILL)
    eventually(lambda: pair.two.demotion.keys() >= {"no state sync"})
    pair.follow()
    eventually(lambda: pair.two.demotion == {})
    assert pair.one.carp == "MASTER"
    assert not [text for text in pair.one.history() if "MASTER -> BACKUP" in text]
    pair.one.gateway.talk([flow(UDP, f"10.4.0.{2 + index}", "198.51.100.9", 5000, 53) for index in range(20)])
    eventually(pair.alike)


def test_lost_events_are_made_good(tmp_path: Path) -> None:
    with made(tmp_path, more="event_buffer_bytes = 4096") as pair:
        pair.one.gateway.talk(mixed_flows(2000))
        eventually(lambda: pair.one.states()["kernel"]["lost"] > 0)
        eventually(pair.alike)
        assert pair.one.status()["node"]["workers"]["states"]["restarts"] == 0


def test_a_lasting_flow_is_refreshed(tmp_path: Path) -> None:
    """A flow that goes on sends no event; its copy may not expire first."""
    with made(tmp_path, reconcile_interval=1.0) as pair:
        for node in pair.nodes:
            node.host.sysctl("netfilter/nf_conntrack_udp_timeout", "3")
            node.host.sysctl("netfilter/nf_conntrack_udp_timeout_stream", "4")
        way = flow(UDP, "10.0.0.2", "198.51.100.1", 40_000, 4500)
        outer = pair.one.gateway.talk([way])[way]
        eventually(pair.alike)
        from tools import ct_packets

        until = time.monotonic() + 12
        while time.monotonic() < until:
            pair.one.gateway.send("inside", way, ct_packets.segment(way))
            pair.one.gateway.send("outside", outer.turned(), ct_packets.segment(outer.turned()))
            time.sleep(0.2)
            assert pair.two.keys() == pair.one.keys() != set()


def test_flows_that_are_over_expire_where_both_nodes_are_master(tmp_path: Path) -> None:
    """Each has the other's as copies that live longer, and compares its kernel meanwhile."""
    with made(tmp_path, start=False) as pair:
        for node in pair.nodes:
            node.configure(reconcile_interval=1.0, more=SECOND_VIP.format(advskew=60 - 20 * node.number))
            for timeout in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
                node.host.sysctl(f"netfilter/{timeout}", "4")
            node.start()
        eventually(lambda: states_of(pair.one) == ["MASTER", "BACKUP"] and states_of(pair.two) == ["BACKUP", "MASTER"])
        pair.follow()
        for node in pair.nodes:
            node.gateway.talk([flow(UDP, f"10.0.0.{node.number}", "198.51.100.1", 40_000 + node.number, 4500)])
        eventually(lambda: pair.alike() and len(pair.one.keys()) == 2)
        eventually(lambda: not pair.one.keys() | pair.two.keys())
        eventually(lambda: not any(node.states()["table"]["rows"] for node in pair.nodes))


def test_the_stream_is_cut_and_goes_on(pair: Pair) -> None:
    pair.one.gateway.talk(mixed_flows(100))
    eventually(pair.alike)
    pair.one.host.ip("link set sync down")
    pair.one.gateway.talk([flow(UDP, f"10.5.0.{2 + index}", "198.51.100.9", 5000, 53) for index in range(20)])
    eventually(lambda: pair.two.demotion.keys() >= {"no state sync"})
    assert pair.one.demotion == {}
    pair.one.host.ip("link set sync up")
    eventually(pair.alike)
    eventually(lambda: pair.two.demotion == {})
    assert sum("bulk update from fw1 begins" in text for text in pair.two.history()) <= 1


def test_helpers_and_their_expectations(pair: Pair) -> None:
    control, _data = ftp_session(pair.one.gateway)
    assert control.protocol == TCP

    def arrived() -> bool:
        with pair.two.host.entered():
            expected = conntrack.dump_expectations()
            rows = conntrack.dump_rows()
        return len(expected) == 1 and b"ftp" in rows["helper"].tolist()

    eventually(arrived)


def test_what_is_ignored_stays_here(tmp_path: Path) -> None:
    more = 'ignore = [ { protocol = "icmp" }, { network = "198.51.100.7/32" } ]'
    with made(tmp_path, more=more) as pair:
        pair.one.gateway.talk([flow(ICMP, "10.0.0.2", "198.51.100.1", 77)])
        pair.one.gateway.talk([flow(UDP, "10.0.0.2", "198.51.100.7", 5000, 53)])
        pair.one.gateway.talk([flow(UDP, "10.0.0.2", "198.51.100.8", 5000, 53)])
        eventually(lambda: len(pair.two.keys()) == 1)
        assert len(pair.one.keys()) == 3
        assert np.array_equal(pair.two.rows()["destination"][0][:4], (198, 51, 100, 8))
        assert pair.one.hacore("states", "diff").returncode == 0


def test_what_the_kernel_counts_is_listed(pair: Pair) -> None:
    for name in ("acct", "timestamp"):
        pair.one.host.sysctl(f"netfilter/nf_conntrack_{name}", "1")
    before = time.time()
    pair.one.gateway.talk([flow(TCP, "10.0.0.2", "198.51.100.1", 40_000, 443)])
    eventually(lambda: len(pair.one.keys()) == 1 and pair.alike())
    listed = [
        json.loads(node.hacore("states", "list", "--protocol", "tcp", "--counters", "--json").stdout)
        for node in pair.nodes
    ]
    assert listed[0]["packets_original"] >= 3
    assert listed[0]["bytes_reply"] >= 80
    assert before - 1 <= listed[0]["start"] <= time.time()
    assert "packets_original" not in listed[1], "nothing of it has passed there"
    shown = pair.one.hacore("states", "list", "--protocol", "tcp", "--counters").stdout
    assert f" packets={listed[0]['packets_original']}/{listed[0]['packets_reply']} bytes=" in shown


def test_streams_are_not_tracked(pair: Pair) -> None:
    for node in pair.nodes:
        assert not [row for row in node.rows() if 8116 in (row["source_port"], row["destination_port"])]
        assert node.host.sysctl("netfilter/nf_conntrack_events") == "1"
    assert pair.one.states()["kernel"]["listening"]
    assert not pair.two.states()["kernel"]["listening"]
