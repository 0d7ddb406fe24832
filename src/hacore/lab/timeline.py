"""The course of a phase as a few lines: who took and gave up addresses, whose adverts and whose datagrams came first
and last.
"""

from __future__ import annotations

from collections.abc import Iterable

from hacore.lab import capture, figures, topology
from hacore.lab.nodes import Node
from hacore.lab.observers import AddressChange, Observations

_TOGETHER = 0.005
_SILENT = 0.05
_SILENT_INTERVALS = 3
_BOW_OUT = 255


def of(seen: Observations, start: float, end: float) -> list[tuple[float, str]]:
    """What happened from `start` to `end`, as (seconds since `start`, words), in order."""
    lines = _addresses(seen.changes, start, end) + _adverts(seen, start, end)
    for node in topology.NODES:
        stretches = figures.spans(figures.sent_by(seen, node, capture.PROBE), _SILENT)
        lines += _edges(stretches, start, end, f"first datagram through {node}", f"last datagram through {node}")
    return sorted((round(moment - start, 6), words) for moment, words in lines)


def told(nodes: Iterable[Node], start: float, end: float) -> list[tuple[float, str]]:
    """The events in the histories of `nodes` from `start` to `end`, as (seconds since `start`, words), in order."""
    offset = capture.monotonic_of_realtime()
    lines = [(event.time + offset - start, f"{event.node}: {event.text}") for node in nodes for event in node.history()]
    inside = [(round(moment, 6), words) for moment, words in lines if 0 <= moment < end - start]
    return sorted(inside, key=lambda line: line[0])


def _edges(stretches: figures.Times, start: float, end: float, first: str, last: str) -> list[tuple[float, str]]:
    lines = [(float(begin), first) for begin, _ in stretches if start <= begin < end]
    return lines + [(float(finish), last) for _, finish in stretches if start <= finish < end - _SILENT]


def _addresses(changes: list[AddressChange], start: float, end: float) -> list[tuple[float, str]]:
    groups: list[list[AddressChange]] = []
    open_groups: dict[tuple[str, bool], list[AddressChange]] = {}
    for change in changes:
        if not start <= change.time < end:
            continue
        group = open_groups.get((change.node, change.held))
        if group is None or change.time - group[-1].time > _TOGETHER:
            group = open_groups[change.node, change.held] = []
            groups.append(group)
        group.append(change)
    return [(group[0].time, _words(group)) for group in groups]


def _words(group: list[AddressChange]) -> str:
    count = len({change.address for change in group})
    what = (
        "all addresses"
        if count == len(topology.vip_addresses())
        else ", ".join(sorted({change.address for change in group}))
    )
    return f"{group[0].node} {'holds' if group[0].held else 'no longer holds'} {what}"


def _adverts(seen: Observations, start: float, end: float) -> list[tuple[float, str]]:
    lines = []
    for (node, side), rows in seen.ports.items():
        adverts = rows[(rows["kind"] == capture.ADVERT) & (rows["time"] < end)]
        before: tuple[int, int] | None = None
        last = start
        for row in adverts:
            carried = (int(row["advbase"]), int(row["advskew"]))
            if before and row["time"] - last > _SILENT_INTERVALS * (before[0] + before[1] / 256):
                before = None
            last = row["time"]
            if carried != before and row["time"] >= start:
                said = (
                    "bows out"
                    if carried == (_BOW_OUT, _BOW_OUT)
                    else f"advertises advbase {carried[0]} advskew {carried[1]}"
                )
                lines.append((float(row["time"]), f"{node} {said} on {side}"))
            before = carried
    return lines
