"""Two nodes, two kernels: what one tracks while it is MASTER, the other has."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hacore.linux import conntrack
from tests.node.states_pair import Pair, eventually, made
from tools.ct_flows import flow, ftp_session, mixed_flows
from tools.ct_packets import ICMP, TCP, UDP

SRC_NAT = 0x10


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with made(tmp_path) as pair:
        yield pair


def test_connections_reach_the_peers_kernel_and_their_end_too(pair: Pair) -> None:
    pair.one.gateway.talk(mixed_flows(300))
    eventually(lambda: pair.alike() and len(pair.two.keys()) >= 290)
    nat = pair.two.rows()["status"] & SRC_NAT != 0
    assert nat.sum() > 200
    with pair.one.host.entered():
        conntrack.flush()
    eventually(lambda: not len(pair.two.keys()))


def test_a_promoted_node_goes_on_with_connections_behind_nat(pair: Pair) -> None:
    flows = [flow(TCP, f"10.0.0.{2 + index}", "198.51.100.1", 40_000 + index, 443) for index in range(50)]
    seen = pair.one.gateway.talk(flows)
    assert len(seen) == 50
    eventually(pair.alike)
    pair.one.kill()
    eventually(lambda: pair.two.carp == "MASTER")
    assert pair.two.demotion == {}
    from tools.ct_flows import CLIENT_SEQUENCE, SERVER_SEQUENCE, line

    for way, outer in seen.items():
        line(pair.two.gateway, way, "inside", CLIENT_SEQUENCE + 7, SERVER_SEQUENCE + 7, b"more\n")
        line(pair.two.gateway, outer.turned(), "outside", SERVER_SEQUENCE + 7, CLIENT_SEQUENCE + 12, b"fine\n")
    outside = pair.two.gateway.expect("outside", 50)
    inside = pair.two.gateway.expect("inside", 50)
    assert {came.way for came in outside} == set(seen.values())
    assert {came.way for came in inside} == {way.turned() for way in seen}


def test_what_is_deleted_on_the_node_that_follows_returns(tmp_path: Path) -> None:
    with made(tmp_path, reconcile_interval=1.0) as pair:
        pair.one.gateway.talk(mixed_flows(300))
        eventually(lambda: pair.alike() and len(pair.two.keys()) >= 290)
        pair.two.host.run("conntrack", "-D", "-p", "udp")
        eventually(lambda: pair.two.states()["kernel"]["missing"] >= 40 and pair.alike())
        with pair.two.host.entered():
            conntrack.flush()
        eventually(lambda: pair.two.states()["kernel"]["missing"] >= 200 and pair.alike())
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
        import time

        from tools import ct_packets

        until = time.monotonic() + 12
        while time.monotonic() < until:
            pair.one.gateway.send("inside", way, ct_packets.segment(way))
            pair.one.gateway.send("outside", outer.turned(), ct_packets.segment(outer.turned()))
            time.sleep(0.2)
            assert pair.two.keys() == pair.one.keys() != set()


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


def test_streams_are_not_tracked(pair: Pair) -> None:
    for node in pair.nodes:
        assert not [row for row in node.rows() if 8116 in (row["source_port"], row["destination_port"])]
        assert node.host.sysctl("netfilter/nf_conntrack_events") == "1"
    assert pair.one.states()["kernel"]["listening"]
    assert not pair.two.states()["kernel"]["listening"]
