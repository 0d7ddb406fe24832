"""Peers that are cut off from each other while connections come and go, and flows that outlive their timeouts: in the
end both kernels have the same.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hacore.states.layout import keys_of
from tests.node.states_churn import Path as Wire
from tests.node.states_churn import churning
from tests.node.states_pair import Node, Pair, eventually, made
from tools.ct_flows import flow, mixed_flows
from tools.ct_packets import UDP, segment

SOON = 5.0  # seconds after a reconnection

TIMEOUTS = {  # a minute's worth of these is an hour's of the kernel's own
    "udp_timeout": "1",
    "udp_timeout_stream": "2",
    "icmp_timeout": "1",
    "generic_timeout": "3",
    "tcp_timeout_syn_sent": "2",
    "tcp_timeout_time_wait": "2",
    "tcp_timeout_close": "1",
    "tcp_timeout_fin_wait": "2",
}


def bulk_updates(pair: Pair) -> int:
    return sum("bulk update from fw1 begins" in text for text in pair.two.history())


def alike(pair: Pair) -> bool:
    """Both kernels, row by row, as the command sees them."""
    return bool(pair.one.hacore("states", "diff").returncode == 0)


def held(node: Node) -> set[bytes]:
    """What its kernel has but for connections between the nodes."""
    rows = node.rows()
    keys = keys_of(rows[(rows["source"][:, :3] != (10, 9, 0)).any(axis=1)])
    return {key.tobytes() for key in keys}


def await_alike(pair: Pair) -> None:
    """Both kernels come to have the same entries."""
    deadline = time.monotonic() + SOON
    while missing := held(pair.one) ^ held(pair.two):
        assert time.monotonic() < deadline, f"{len(missing)} entries are in one kernel only"
        time.sleep(0.02)


@pytest.mark.parametrize("duration", [6.0, pytest.param(10.0, marks=pytest.mark.soak)])
def test_a_peer_that_was_cut_off_gets_what_it_missed(tmp_path: Path, duration: float) -> None:
    with made(tmp_path) as pair:
        before = bulk_updates(pair)
        with churning(pair.one.host):
            time.sleep(1.0)
            pair.one.host.ip("link set sync down")
            time.sleep(duration)
            eventually(lambda: pair.one.states()["peers"][0]["sending"]["phase"] == "down")
            pair.one.host.ip("link set sync up")
            eventually(lambda: pair.one.states()["peers"][0]["sending"]["phase"] != "down")
        await_alike(pair)
        assert alike(pair)
        assert bulk_updates(pair) == before
        assert pair.one.status()["node"]["workers"]["states"]["restarts"] == 0


@pytest.mark.parametrize("cuts", [5, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.timeout(900)
def test_a_stream_that_is_cut_at_random_places(tmp_path: Path, cuts: int) -> None:
    with made(tmp_path, start=False) as pair:
        pair.one.configure(peer_port=9116)
        wire = Wire(pair.two.host, ("10.9.0.2", 9116), ("10.9.0.2", 8116), seed=cuts)
        try:
            pair.start()
            before = bulk_updates(pair)
            with churning(pair.one.host):
                wire.cutting = True
                deadline = time.monotonic() + 10 + 8 * cuts
                while wire.cuts < cuts:
                    assert time.monotonic() < deadline, f"{wire.cuts} cuts"
                    time.sleep(0.05)
                wire.cutting = False
            eventually(pair.two.follows)
            await_alike(pair)
            assert alike(pair)
            assert bulk_updates(pair) == before
            assert pair.two.states()["kernel"]["errors"] == {}
        finally:
            wire.close()


@pytest.mark.parametrize("duration", [5.0, pytest.param(60.0, marks=pytest.mark.soak)])
def test_after_much_traffic_the_kernels_hold_the_same(tmp_path: Path, duration: float) -> None:
    """Connections of every kind are begun, go on, end and expire, in packets, with timeouts of seconds."""
    with made(tmp_path, reconcile_interval=1.0) as pair:
        for node in pair.nodes:
            for name, value in TIMEOUTS.items():
                node.host.sysctl(f"netfilter/nf_conntrack_{name}", value)
        flows = list(mixed_flows(20_000))
        until = time.monotonic() + duration
        kinds = ("established", "closing", "begun", "reset", "answered")
        turn = 0
        while time.monotonic() < until:
            start = turn * 256 % len(flows)
            pair.one.gateway.talk(flows[start : start + 256], last=kinds[turn % len(kinds)])
            turn += 1
        told = pair.one.hacore("states", "diff", "--settle", "5")
        assert told.returncode == 0, told.stdout[-3000:]
        assert len(pair.one.keys()) > 100
        for node in pair.nodes:
            assert node.status()["node"]["workers"]["states"]["restarts"] == 0


def test_a_flow_ten_timeouts_old_survives_its_master(tmp_path: Path) -> None:
    """It goes on without an event, in both directions, and is still translated to the same port afterwards."""
    timeout = 2
    with made(tmp_path, reconcile_interval=0.5) as pair:
        for node in pair.nodes:
            for name in ("udp_timeout", "udp_timeout_stream"):
                node.host.sysctl(f"netfilter/nf_conntrack_{name}", str(timeout))
        way = flow(UDP, "10.0.0.2", "198.51.100.1", 40_000, 4500)
        outer = pair.one.gateway.talk([way])[way]
        eventually(pair.alike)
        until = time.monotonic() + 10 * timeout
        while time.monotonic() < until:
            pair.one.gateway.send("inside", way, segment(way))
            pair.one.gateway.send("outside", outer.turned(), segment(outer.turned()))
            time.sleep(0.1)
        pair.one.kill()
        eventually(lambda: pair.two.carp == "MASTER")
        pair.two.gateway.send("outside", outer.turned(), segment(outer.turned()))
        assert [seen.way for seen in pair.two.gateway.expect("inside", 1)] == [way.turned()]
        pair.two.gateway.send("inside", way, segment(way))
        assert [seen.way for seen in pair.two.gateway.expect("outside", 1)] == [outer]
