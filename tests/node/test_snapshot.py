"""The snapshot of a node: what `status --json` promises, and readers and nodes of different versions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hacore.carp.counters import Counters
from hacore.node.snapshot import Demotion, Master, NodeStatus, PeerHeard, Snapshot, VipStatus, Worker

CARPSTATS = [
    "ipackets",
    "ipackets6",
    "badif",
    "badttl",
    "hdrops",
    "badsum",
    "badver",
    "badlen",
    "badauth",
    "badvhid",
    "badaddrs",
    "opackets",
    "opackets6",
    "onomem",
    "ostates",
    "preempt",
]
VIP = VipStatus(
    name="lan",
    interface="eth1",
    vhid=1,
    state="BACKUP",
    since=1000.25,
    reason="initialization complete",
    advbase=0,
    advskew=2,
    effective_advskew=240,
    addresses=["192.0.2.1/24"],
    counters=Counters(ipackets=7),
    master=Master(source="192.0.2.2", advbase=0, advskew=1, heard=1001.0),
)
NODE = NodeStatus(
    name="fw1",
    version="0.1.0",
    pid=42,
    started=999.0,
    generated=1001.5,
    demotion=Demotion(total=240, reasons={"maintenance": 240}),
    maintenance=True,
    peers=[PeerHeard(interface="eth1", source="192.0.2.2", vhids=[1], heard=1001.0)],
    workers={"election": Worker(state="running", pid=43)},
)


def plain(snapshot: Snapshot) -> Any:
    return msgspec.json.decode(msgspec.json.encode(snapshot))


def test_what_every_vip_and_the_node_hold() -> None:
    whole = plain(Snapshot(node=NODE, vips=[VIP]))
    promised = "name interface vhid state since reason advbase advskew effective_advskew addresses counters"
    assert set(promised.split()) <= set(whole["vips"][0])
    assert list(whole["vips"][0]["counters"]) == CARPSTATS
    promised = "name version demotion maintenance peers realtime warnings workers"
    assert set(promised.split()) <= set(whole["node"])
    assert whole["node"]["demotion"] == {"total": 240, "reasons": {"maintenance": 240}}
    assert whole["node"]["peers"][0]["vhids"] == [1]


def test_round_trip() -> None:
    snapshot = Snapshot(node=NODE, vips=[VIP])
    assert msgspec.convert(plain(snapshot), Snapshot) == snapshot
    assert msgspec.json.decode(msgspec.json.encode(snapshot), type=Snapshot) == snapshot


def test_a_newer_node_may_say_more() -> None:
    whole = plain(Snapshot(node=NODE, vips=[VIP]))
    whole["node"]["later"] = 1
    whole["vips"][0]["later"] = {"a": 1}
    whole["vips"][0]["counters"]["later"] = 1
    assert msgspec.convert(whole, Snapshot) == Snapshot(node=NODE, vips=[VIP])


def test_an_unknown_state_is_refused() -> None:
    whole = plain(Snapshot(node=NODE, vips=[VIP]))
    whole["vips"][0]["state"] = "Master"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(whole, Snapshot)
