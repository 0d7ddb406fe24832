"""Rows of peers that another entry of this kernel stands in the way of, while this node is MASTER of something."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hacore._fast import ctnetlink
from hacore.errors import HacoreError
from hacore.linux import conntrack
from hacore.node.states_injection import InjectionQueue
from hacore.states.contention import displacing
from hacore.states.gather import join, pick
from hacore.states.layout import KEY_BYTES, Rows
from hacore.states.masters import masters_first
from hacore.states.replication import Replication

REPLY_BYTES = 38  # the reply tuple and its zone, which follow the key


class Conflicts:
    """Takes the rows that `queue` could not put in, and puts those in that displace what they met; the others are
    counted as "yielded" in `queue.counts`.
    """

    def __init__(
        self,
        replication: Replication,
        queue: InjectionQueue,
        clock: Callable[[], float],
        on_problem: Callable[[str], None],
    ) -> None:
        self._replication, self._queue, self._clock = replication, queue, clock
        self._on_problem = on_problem
        queue.on_yielded = self.settle

    def settle(self, rows: Rows) -> None:
        """Rows as they were to be put in; the table may have others by now."""
        replication = self._replication
        rows, known = replication.table.lookup(rows)
        rows = pick(rows, known)
        try:
            holders = join([conntrack.fetch(rows, by_reply=True), conntrack.fetch(rows)])
        except HacoreError as error:
            self._on_problem(str(error))
            self._queue.counts["yielded"] += len(rows)
            return
        by_tuple = {each: index for index in range(len(holders)) for each in _tuples(holders[index])}
        places = np.array([_holder(row, holders, by_tuple) for row in rows], dtype=np.int64)
        goes_in = places < 0
        met = ~goes_in
        if met.any():
            beside = pick(holders, places[met])
            goes_in[met] = displacing(
                replication.table, replication.ownership, replication.spared, pick(rows, met), beside
            )
            replication.origin.displaced(pick(beside, goes_in[met]), self._clock())
        self._queue.counts["yielded"] += len(rows) - int(np.count_nonzero(goes_in))
        chosen = pick(rows, goes_in)
        order = masters_first(chosen)
        if order is not None:
            chosen = pick(chosen, order)
        if len(chosen):
            self._queue.put(chosen, np.full(len(chosen), ctnetlink.INSERT, np.uint8))


def _tuples(row: Rows) -> tuple[bytes, bytes]:
    """Family, protocol, zone, addresses and ports of both directions."""
    octets = row.tobytes()
    reply = octets[KEY_BYTES : KEY_BYTES + REPLY_BYTES]
    return octets[:KEY_BYTES], octets[:2] + reply[-2:] + reply[:-2]


def _holder(row: Rows, holders: Rows, by_tuple: dict[bytes, int]) -> int:
    """Which of `holders` is another connection with a tuple of this one's; -1: none."""
    key, reply = _tuples(row)
    for wanted in (reply, key):
        place = by_tuple.get(wanted)
        if place is not None and _tuples(holders[place])[0] != key:
            return place
    return -1
