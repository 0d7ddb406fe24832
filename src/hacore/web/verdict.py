"""The one sentence at the top of every page: how the pair is, from what is known at this moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from hacore.web.watch import NodeView
from hacore.web.wording import clock, listed

Level = Literal["good", "notice", "bad"]


class Finding(NamedTuple):
    """One thing that is to be known, and how bad it is."""

    level: Level
    text: str


class Verdict(NamedTuple):
    """The worst of the findings, and all of them, the worst first."""

    level: Level
    word: str
    findings: list[Finding]


WORDS: dict[Level, str] = {"good": "Healthy", "notice": "Attention", "bad": "Trouble"}
_ORDER: dict[Level, int] = {"bad": 0, "notice": 1, "good": 2}


def verdict(nodes: Sequence[NodeView], now: float) -> Verdict:
    """At the unix time `now`."""
    found = [*_nodes(nodes, now), *_vips(nodes), *_versions(nodes)]
    found.sort(key=lambda one: _ORDER[one.level])
    level = found[0].level if found else "good"
    if roles := _roles(nodes):
        found.append(Finding("good", roles))
    return Verdict(level, WORDS[level], found)


def _nodes(nodes: Sequence[NodeView], now: float) -> Iterator[Finding]:
    if len(nodes) < 2:
        yield Finding("notice", "the settings name no peer with `control`: this page sees this node alone")
    for node in nodes:
        if not node.is_known():
            since = f"no word since {clock(node.at, now)}" if node.at else "no word yet"
            yield Finding("bad", f"{node.name}: {since} ({node.reason})")
            continue
        assert node.snapshot is not None
        status = node.snapshot.node
        if node.doubt:
            yield Finding("bad", f"{node.name}: {node.doubt}")
        if status.maintenance:
            yield Finding("notice", f"{node.name} is in maintenance: it takes no address")
        if not status.carp_enabled:
            yield Finding("notice", f"{node.name}: CARP is disabled, it holds no address")
        if status.demotion.total:
            reasons = listed(sorted(status.demotion.reasons))
            yield Finding("notice", f"{node.name} is demoted by {status.demotion.total}: {reasons}")
        for link in status.links:
            if not link.up:
                yield Finding("bad", f"{node.name}: {link.name} {'has no link' if link.present else 'is missing'}")
        for check in status.checks:
            if check.state == "down":
                yield Finding("bad", f"{node.name}: the check {check.name} fails")
        for name, worker in status.workers.items():
            if worker.state not in ("running", "off") and name != "election":
                yield Finding("bad", f"{node.name}: the {name} worker is {worker.state}")
        if node.skew:
            yield Finding("notice", f"the clock of {node.name} is {abs(node.skew):.0f} s {_way(node.skew)} this node's")


def _way(skew: float) -> str:
    return "ahead of" if skew > 0 else "behind"


def _vips(nodes: Sequence[NodeView]) -> Iterator[Finding]:
    unknown = [node.name for node in nodes if not node.is_known() or node.doubt]
    for vip in names(nodes):
        masters = [node.name for node in nodes if node.state_of(vip) == "MASTER"]
        if len(masters) > 1:
            yield Finding("bad", f"{vip} has {len(masters)} MASTERs: {listed(masters)}")
        elif not masters and unknown:
            yield Finding("bad", f"{vip}: no MASTER is known")
        elif not masters:
            yield Finding("bad", f"{vip} has no MASTER")


def names(nodes: Sequence[NodeView]) -> list[str]:
    """The VIPs of all nodes, in the settings' order."""
    known = [vip.name for node in nodes if node.snapshot is not None for vip in node.snapshot.vips]
    return list(dict.fromkeys(known))


def _versions(nodes: Sequence[NodeView]) -> Iterator[Finding]:
    versions = {node.name: node.snapshot.node.version for node in nodes if node.snapshot is not None}
    if len(set(versions.values())) > 1:
        said = listed([f"{name} runs {version}" for name, version in versions.items()])
        yield Finding("notice", f"the versions of hacore differ: {said}")


def _roles(nodes: Sequence[NodeView]) -> str:
    by_node = {node.name: [vip for vip in names(nodes) if node.state_of(vip) == "MASTER"] for node in nodes}
    held = [f"{name} is MASTER of {listed(vips)}" for name, vips in by_node.items() if vips]
    idle = [node.name for node in nodes if not by_node[node.name] and node.is_known() and not node.doubt]
    standing = f"{listed(idle)} {'stands' if len(idle) == 1 else 'stand'} by" if idle else ""
    return "; ".join(filter(None, [*held, standing]))
