"""The probe and the observers against the kernel: what is lost, doubled and moved is counted exactly."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

import numpy as np
import pytest

from hacore.lab import capture, figures, namespaces, topology
from hacore.lab.laboratory import Lab
from hacore.lab.observers import Observations, Recording
from tests.lab.conftest import set_addresses


def until(recording: Recording, condition: Callable[[], bool]) -> None:
    """Take the recording in until `condition`; the test's own time limit ends it otherwise."""
    while not condition():
        time.sleep(0.01)
        recording.poll()


def more(recording: Recording, count: int) -> None:
    """Let `count` further replies come."""
    wanted = recording.counts["received"] + count
    until(recording, lambda: recording.counts["received"] >= wanted)


def whole(seen: Observations) -> figures.ProbeFigures:
    """Figures of all requests but those of the last tenth of a second, whose replies may be under way."""
    return figures.probe_figures(seen.client, 0.0, seen.end - 0.1)


def dropped(lab: Lab) -> int:
    """What the counters of the lab's drop rules say."""
    with namespaces.inside(lab.paths[topology.SWITCH]):
        listed = subprocess.run(["nft", "-j", "list", "table", "bridge", "lab"], check=True, capture_output=True)
    rules = [entry["rule"]["expr"] for entry in json.loads(listed.stdout)["nftables"] if "rule" in entry]
    return sum(part["counter"]["packets"] for expressions in rules for part in expressions if "counter" in part)


@pytest.mark.parametrize("family", [4, 6])
def test_nothing_is_lost_on_a_quiet_path(network: Lab, family: int) -> None:
    with Recording(network.paths, family=family) as recording:
        more(recording, 300)
        seen = recording.observations()
    found = whole(seen)
    assert found.sent >= 200
    assert (found.lost, found.doubled, found.reordered, seen.missed) == (0, 0, 0, 0)


def test_the_path_of_each_datagram_is_seen_at_the_ports(network: Lab) -> None:
    with Recording(network.paths) as recording:
        more(recording, 200)
        seen = recording.observations()
    requests, replies = seen.ports["fw1", "wan"], seen.ports["fw1", "lan"]
    asked = seen.client[seen.client["outgoing"]]
    common = np.intersect1d(requests["number"], replies["number"])
    assert len(common) >= 190
    assert set(common[common <= asked["number"].max()]) <= set(asked["number"])
    assert not len(seen.ports["fw2", "lan"])
    assert not len(seen.ports["fw2", "wan"])
    number = int(common[50])
    steps = [rows["time"][rows["number"] == number][0] for rows in (asked, requests, replies)]
    assert steps == sorted(steps)


def test_exactly_the_dropped_datagrams_are_lost(network: Lab) -> None:
    with Recording(network.paths) as recording:
        more(recording, 100)
        network.faults.drop([f"iifname wan-server udp dport {7007} numgen inc mod 10 == 3"])
        more(recording, 400)
        count = dropped(network)
        network.faults.drop_nothing()
        more(recording, 200)
        seen = recording.observations()
    assert count >= 40
    found = whole(seen)
    # Rules come and go while datagrams pass: what was dropped between counting and removing is lost as well.
    assert count <= found.lost <= count + (found.sent // 10)
    lost = np.setdiff1d(
        seen.client["number"][seen.client["outgoing"] & (seen.client["time"] < seen.end - 0.1)],
        seen.client["number"][~seen.client["outgoing"]],
    )
    assert set(np.diff(lost)) == {10}


def test_a_bounded_number_of_drops_is_counted_to_the_last(network: Lab) -> None:
    with Recording(network.paths) as recording:
        more(recording, 100)
        # A quota lets this many bytes match and none after: 44 bytes of IPv4 datagram each.
        network.faults.drop([f"iifname lan-client udp dport {7007} quota until 1100 bytes"])
        more(recording, 200)
        count = dropped(network)
        seen = recording.observations()
    assert count == 25
    found = whole(seen)
    assert found.lost == count
    assert found.gap > 0.02


def test_doubled_replies_are_counted(network: Lab) -> None:
    with Recording(network.paths) as recording:
        more(recording, 100)
        network.faults.ruleset(
            "table netdev double {\nchain ingress {\n"
            'type filter hook ingress device "wan-server" priority 0;\n'
            f'udp dport {7007} quota until 1100 bytes dup to "wan-fw1"\n}}\n}}\n'
        )
        more(recording, 200)
        seen = recording.observations()
    found = whole(seen)
    assert found.doubled == 25
    assert found.lost == 0


def test_a_stopped_path_is_one_gap(network: Lab) -> None:
    with Recording(network.paths) as recording:
        more(recording, 100)
        cut = network.faults.set_ports(["lan-fw1"], "down")
        time.sleep(0.2)
        mended = network.faults.set_ports(["lan-fw1"], "up")
        more(recording, 100)
        seen = recording.observations()
    found = whole(seen)
    assert found.gap >= mended - cut
    assert found.lost >= 100


def test_addresses_held_by_two_are_seen(network: Lab) -> None:
    every = set(topology.vip_addresses())
    with Recording(network.paths) as recording:
        assert recording.held == {"fw1": every, "fw2": set()}
        for side in topology.SIDES:
            set_addresses(network, "fw2", side, "add")
        until(recording, lambda: recording.held["fw2"] == every)
        both = time.monotonic()
        time.sleep(0.1)
        for side in topology.SIDES:
            set_addresses(network, "fw1", side, "del")
        until(recording, lambda: recording.held["fw1"] == set())
        seen = recording.observations()
    for address in every:
        one, two = (figures.held_spans(seen.changes, node, address, seen.end) for node in topology.NODES)
        assert len(one) == len(two) == 1
        assert two[0][0] <= both
        assert figures.overlap(one, two, 0.0, seen.end) >= 0.1


def test_forwarding_moves_with_the_neighbour_entry(network: Lab) -> None:
    """The client has to ask again who has the address; from then on its requests leave fw2's WAN port."""
    with Recording(network.paths) as recording:
        more(recording, 100)
        set_addresses(network, "fw1", "lan", "del")
        set_addresses(network, "fw2", "lan", "add")
        moved = time.monotonic()
        with namespaces.inside(network.paths["client"]):
            subprocess.run(["ip", "neigh", "flush", "dev", "lan"], check=True)
        more(recording, 100)
        seen = recording.observations()
    requests = {node: seen.ports[node, "wan"]["time"] for node in topology.NODES}
    assert requests["fw2"].min() > moved
    assert requests["fw1"].max() < requests["fw2"].max()


def test_a_partition_parts_the_nodes_alone(network: Lab) -> None:
    def reaches(role: str, address: str) -> bool:
        with namespaces.inside(network.paths[role]):
            done = subprocess.run(
                ["ping", "-c", "3", "-i", "0.2", "-W", "1", address], check=False, stdout=subprocess.DEVNULL
            )
        return done.returncode == 0

    network.faults.partition()
    assert [reaches("fw1", address) for address in ("10.1.0.12", "10.2.0.12", "10.9.0.2")] == [False, False, False]
    assert reaches("client", "10.1.0.11")
    assert reaches("client", "10.1.0.12")
    network.faults.drop_nothing()
    while not reaches("fw1", "10.9.0.2"):
        pass


def test_a_full_ring_is_told(network: Lab) -> None:
    with Recording(network.paths) as recording:
        ring = capture.Ring(network.paths[topology.CLIENT], "lan", recording.session, frames=256)
        try:
            more(recording, 400)
            assert 256 <= len(ring.drain()) < 400, "the probe goes on while it is read"
            assert ring.lost() > 0
            assert ring.lost() == 0
        finally:
            ring.close()
