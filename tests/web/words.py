"""Nodes and what they say, made up."""

from __future__ import annotations

import time
from typing import Any

from hacore.carp.counters import Counters
from hacore.control.live import LiveWord
from hacore.node.event import Event
from hacore.node.snapshot import Demotion, NodeStatus, Snapshot, VipStatus, Worker
from hacore.node.states_snapshot import PeerStates, StatesStatus, StreamStatus, TableStates
from hacore.web.watch import NodeView


def snapshot(name: str = "fw1", state: Any = "MASTER", *, age: float = 0.0, **node: Any) -> Snapshot:
    """One VIP, `lan`, and an election that reported `age` seconds ago."""
    now = time.time()
    values: dict[str, Any] = {
        "name": name, "version": "1.0", "pid": 1, "started": now - 60, "generated": now, "reported": now - age,
        "demotion": Demotion(), "workers": {"election": Worker(state="running")},
    }  # fmt: skip
    vip = VipStatus(
        name="lan", interface="lan", vhid=1, state=state, since=now - 5, reason="initialization complete", advbase=1,
        advskew=0, effective_advskew=0, addresses=["10.1.0.1/16"], counters=Counters(),
    )  # fmt: skip
    return Snapshot(node=NodeStatus(**values | node), vips=[vip])


def states(rows: int, position: int, at: float, lag: float = 0.0) -> StatesStatus:
    peer = PeerStates(name="fw2", sending=StreamStatus(phase="stream", position=position, lag=lag))
    return StatesStatus(node="fw1", generated=at, started=0.0, peers=[peer], table=TableStates(rows=rows))


def view(name: str = "fw1", state: Any = "MASTER", **values: Any) -> NodeView:
    """A node that said something just now."""
    made = NodeView(name, here=name == "fw1")
    made.take(LiveWord(at=time.time(), snapshot=snapshot(name, state, **values)))
    return made


def event(seq: int, at: float, text: str = "something", kind: str = "start") -> Event:
    return Event(seq=seq, boot="", time=at, node="fw1", kind=kind, text=text)
