"""What the page says that maintenance and the like will do, before it is done."""

from __future__ import annotations

import time

from msgspec.structs import replace

from hacore.control.live import LiveWord
from hacore.node.snapshot import Demotion, Snapshot
from hacore.web.foresight import Deed, effects, goes
from hacore.web.watch import NodeView
from tests.web.full_snapshot import full_snapshot


def node(name: str, states: dict[str, str], *, advskew: int = 0, reasons: dict[str, int] | None = None) -> NodeView:
    """One that said this just now; `advskew` without its demotion."""
    base = full_snapshot(time.time())
    demotion = Demotion(total=sum((reasons or {}).values()), reasons=reasons or {})
    vips = [
        replace(vip, state=states[vip.name], advskew=advskew, effective_advskew=min(240, advskew + demotion.total))
        for vip in base.vips
    ]
    view = NodeView(name, here=name == "fw1")
    view.take(
        LiveWord(at=time.time(), snapshot=Snapshot(node=replace(base.node, name=name, demotion=demotion), vips=vips))
    )
    return view


def said(deed: Deed, *nodes: NodeView) -> dict[str, tuple[str, str]]:
    return {one.vip: (one.kind, one.text) for one in effects(deed, nodes)}


MINE = {"lan": "MASTER", "wan": "BACKUP"}
THEIRS = {"lan": "BACKUP", "wan": "MASTER"}


def test_maintenance_hands_over_what_somebody_takes() -> None:
    found = said("maintenance-enter", node("fw1", MINE), node("fw2", THEIRS, advskew=40))
    assert found["lan"] == ("moves", "moves to fw2, which stands by")
    assert found["wan"][0] == "stays"


def test_nobody_to_hand_over_to() -> None:
    alone = NodeView("fw2", here=False)
    found = said("maintenance-enter", node("fw1", MINE), alone)
    assert found["lan"] == (
        "stays",
        "stays MASTER here: no other node is known to stand by for it (fw2: nothing is known)",
    )
    kind, text = said("carp-disable", node("fw1", MINE), alone)["lan"]
    assert kind == "ends"
    assert "nobody may answer for 192.0.2.1/24, 2001:db8::1/64" in text


def test_the_one_that_is_worth_most_takes_it() -> None:
    found = said(
        "carp-disable",
        node("fw1", MINE),
        node("fw2", THEIRS, advskew=100),
        node("fw3", MINE | {"lan": "BACKUP"}, advskew=50),
    )
    assert found["lan"] == ("moves", "is given up at once; fw3 stands by for it")


def test_leaving_maintenance_takes_back_what_it_is_worth() -> None:
    here = node("fw1", {"lan": "BACKUP", "wan": "BACKUP"}, advskew=20, reasons={"maintenance": 240})
    there = {"lan": "MASTER", "wan": "MASTER"}
    assert said("maintenance-leave", here, node("fw2", there, advskew=40))["lan"] == (
        "moves",
        "comes back from fw2: 20 is less than its 40",
    )
    assert said("maintenance-leave", here, node("fw2", there, advskew=10))["lan"][0] == "stays"
    assert here.snapshot is not None
    here.snapshot.node.preempt = False
    assert "preempt is off" in said("maintenance-leave", here, node("fw2", there, advskew=40))["lan"][1]


def test_a_reset_lets_go_only_of_what_it_can() -> None:
    reasons = {"slow disk": 100, "check upstream": 50, "maintenance": 240, "send errors": 240, "link down": 240}
    here = node("fw1", {"lan": "BACKUP", "wan": "BACKUP"}, advskew=20, reasons=reasons)
    assert here.snapshot is not None
    assert goes(here.snapshot.node) == {"slow disk": 100, "send errors": 240}
    other = node("fw2", {"lan": "MASTER", "wan": "MASTER"}, advskew=40)
    assert said("demotion-reset", here, other)["lan"] == ("stays", "stays on fw2: 240 is not less than its 40")
    only = node("fw1", {"lan": "BACKUP", "wan": "BACKUP"}, advskew=20, reasons={"slow disk": 100})
    assert said("demotion-reset", only, other)["lan"][0] == "moves"


def test_nothing_is_foreseen_for_a_node_that_says_nothing() -> None:
    assert said("maintenance-enter", NodeView("fw1", here=True), node("fw2", THEIRS)) == {}
