"""What maintenance, CARP on and off, and a reset of the demotion will do to the VIPs, said before it is done.

From what the nodes said last; what is not known is said to be not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from hacore.carp import demotion as reasons
from hacore.node.snapshot import NodeStatus, VipStatus
from hacore.web.watch import NodeView

Deed = Literal["maintenance-enter", "maintenance-leave", "carp-disable", "carp-enable", "demotion-reset"]
#: The largest advskew that is carried.
MOST = 240
#: Reasons that end only when their cause ends.
STAYS = {reasons.LINK_DOWN, reasons.MAINTENANCE, reasons.BULK_UPDATE, reasons.NO_STATE_SYNC}


class Effect(NamedTuple):
    """What becomes of one VIP; `kind` "moves" (traffic goes elsewhere), "stays", or "ends" (nobody answers for it)."""

    vip: str
    kind: Literal["moves", "stays", "ends"]
    text: str


def effects(deed: Deed, nodes: Sequence[NodeView]) -> list[Effect]:
    """For each VIP of this node, which is the first of `nodes`; empty where it says nothing of itself."""
    here = nodes[0]
    if here.snapshot is None or not here.is_known() or here.doubt:
        return []
    if deed == "maintenance-enter":
        return [_handed_over(vip, nodes) for vip in here.snapshot.vips]
    if deed == "carp-disable":
        return [_given_up(vip, nodes) for vip in here.snapshot.vips]
    node = here.snapshot.node
    total = node.demotion.total - sum(_goes(deed, node).values())
    return [_taken(vip, total, nodes, preempt=node.preempt) for vip in here.snapshot.vips]


def goes(node: NodeStatus) -> dict[str, int]:
    """The reasons of a demotion that a reset lets go of."""
    return _goes("demotion-reset", node)


def _goes(deed: Deed, node: NodeStatus) -> dict[str, int]:
    if deed == "maintenance-leave":
        return {name: value for name, value in node.demotion.reasons.items() if name == reasons.MAINTENANCE}
    if deed == "demotion-reset":
        return {
            name: value
            for name, value in node.demotion.reasons.items()
            if name not in STAYS and not name.startswith("check ")
        }
    return {}


class _Successor(NamedTuple):
    name: str
    advskew: int


def _successor(vip: VipStatus, nodes: Sequence[NodeView]) -> _Successor | None:
    """Who would take it: the node that stands by with the lowest effective advskew."""
    standing = [
        _Successor(node.name, other.effective_advskew)
        for node in nodes[1:]
        if node.state_of(vip.name) == "BACKUP" and node.snapshot is not None
        for other in node.snapshot.vips
        if other.name == vip.name
    ]
    return min(standing, key=lambda one: one.advskew, default=None)


def _unknown(nodes: Sequence[NodeView]) -> str:
    silent = [node.name for node in nodes[1:] if not node.is_known() or node.doubt]
    return f" ({', '.join(silent)}: nothing is known)" if silent else ""


def _handed_over(vip: VipStatus, nodes: Sequence[NodeView]) -> Effect:
    if vip.state != "MASTER":
        return Effect(vip.name, "stays", f"is {vip.state} here, and takes nothing while in maintenance")
    successor = _successor(vip, nodes)
    if successor is None:
        return Effect(
            vip.name, "stays", f"stays MASTER here: no other node is known to stand by for it{_unknown(nodes)}"
        )
    return Effect(vip.name, "moves", f"moves to {successor.name}, which stands by")


def _given_up(vip: VipStatus, nodes: Sequence[NodeView]) -> Effect:
    if vip.state != "MASTER":
        return Effect(vip.name, "stays", f"is {vip.state} here; this node does not stand by for it any more")
    successor = _successor(vip, nodes)
    if successor is None:
        addresses = ", ".join(vip.addresses)
        return Effect(
            vip.name, "ends", f"is given up, and no other node is known to take it{_unknown(nodes)}: "
            f"nobody may answer for {addresses}",
        )  # fmt: skip
    return Effect(vip.name, "moves", f"is given up at once; {successor.name} stands by for it")


def _taken(vip: VipStatus, total: int, nodes: Sequence[NodeView], *, preempt: bool) -> Effect:
    if vip.state == "MASTER":
        return Effect(vip.name, "stays", "stays MASTER here")
    skew = min(MOST, max(0, vip.advskew + total))
    master = next((node for node in nodes[1:] if node.state_of(vip.name) == "MASTER"), None)
    if master is None or master.snapshot is None:
        return Effect(vip.name, "moves", f"is taken by this node, unless another one is MASTER{_unknown(nodes)}")
    other = next(one for one in master.snapshot.vips if one.name == vip.name)
    mine, theirs = (vip.advbase, skew), (other.advbase, other.effective_advskew)
    if not preempt:
        return Effect(vip.name, "stays", f"stays on {master.name}: preempt is off in the settings of this node")
    if mine < theirs:
        return Effect(
            vip.name, "moves", f"comes back from {master.name}: {skew} is less than its {other.effective_advskew}"
        )
    return Effect(vip.name, "stays", f"stays on {master.name}: {skew} is not less than its {other.effective_advskew}")
