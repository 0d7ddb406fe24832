"""A node's connection table filled with idle connections, which the other node is to have before anything breaks."""

from __future__ import annotations

import time

import numpy as np

from hacore.errors import HacoreError
from hacore.lab import namespaces
from hacore.lab.laboratory import Lab
from hacore.lab.nodes import Node
from hacore.linux import conntrack
from hacore.states.layout import Rows, empty_rows

AT_ONCE = 16_384
PATIENCE = 60.0
TCP, ESTABLISHED = 6, 3
SEEN_ASSURED_CONFIRMED = 2 | 4 | 8
LIFETIME = 86_400


def idle_connections(count: int, first: int = 0) -> Rows:
    """Established TCP connections between the networks 100.64.0.0/10 and 198.18.0.0/15, numbered from `first`."""
    rows = empty_rows(count)
    number = np.arange(first, first + count)
    rows["family"], rows["protocol"], rows["protocol_state"] = 2, TCP, ESTABLISHED
    rows["source"][:, 0], rows["source"][:, 1] = 100, 64 + number // 65_536 % 64
    rows["source"][:, 2], rows["source"][:, 3] = number // 256 % 256, number % 256
    rows["destination"][:, :2] = 198, 18
    rows["destination"][:, 2], rows["destination"][:, 3] = number // 7 % 256, number // 3 % 256
    rows["source_port"], rows["destination_port"] = 1024 + number // 4_194_304, 443
    for reply, original in (("source", "destination"), ("destination", "source")):
        rows[f"reply_{reply}"], rows[f"reply_{reply}_port"] = rows[original], rows[f"{original}_port"]
    rows["status"], rows["timeout"] = SEEN_ASSURED_CONFIRMED, LIFETIME
    return rows


def fill(lab: Lab, node: Node, count: int) -> None:
    """Give `node` so many idle connections, and wait until the other node has them, where the nodes replicate.

    Raises:
        HacoreError: the kernel is not to have so many (`net.netfilter.nf_conntrack_max`), or they do not arrive.
    """
    with namespaces.inside(node.namespace), conntrack.Injector() as injector:
        limit = conntrack.limit()
        if limit < count * 5 // 4:
            raise HacoreError(f"the kernel takes {limit} connections: set net.netfilter.nf_conntrack_max higher")
        missing = count if conntrack.count() < count else 0  # they outlive the plays of a run
        for first in range(0, missing, AT_ONCE):
            injector.inject(idle_connections(min(AT_ONCE, count - first), first))
    deadline = time.monotonic() + PATIENCE
    while lab.record.states and lab.other(node).replicated_count() < count:
        if time.monotonic() > deadline:
            raise HacoreError(f"{lab.other(node).name} has {lab.other(node).replicated_count()} of {count} connections")
        time.sleep(0.05)
