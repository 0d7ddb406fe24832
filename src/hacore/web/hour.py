"""The figures of one node in the last hour, in memory: a slot every five seconds, the worst of what was said in it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from hacore.node.snapshot import Snapshot

SLOT = 5.0
SPAN = 3600.0


class Slot(NamedTuple):
    """Of five seconds that begin at `at` (unix): rows of the table, changes a second, lag in seconds."""

    at: float
    rows: int
    rate: float
    lag: float


class Hour:
    """Takes each snapshot; a node that says nothing leaves a gap."""

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque(maxlen=int(SPAN / SLOT))
        self._changes: tuple[float, int] | None = None
        self.rate = 0.0

    def take(self, snapshot: Snapshot, now: float) -> None:
        """What was said at the unix time `now`."""
        states = snapshot.states
        if states is None:
            self._changes, self.rate = None, 0.0
            return
        changes = sum(peer.sending.position + peer.receiving.position for peer in states.peers)
        if self._changes is None or changes < self._changes[1]:
            self._changes, self.rate = (states.generated, changes), 0.0
        elif states.generated - self._changes[0] >= 0.5:
            self.rate = (changes - self._changes[1]) / (states.generated - self._changes[0])
            self._changes = (states.generated, changes)
        lag = max((max(peer.sending.lag, peer.receiving.lag) for peer in states.peers), default=0.0)
        slot = Slot(now // SLOT * SLOT, states.table.rows, self.rate, lag)
        if self._slots and self._slots[-1].at == slot.at:
            last = self._slots[-1]
            self._slots[-1] = Slot(slot.at, slot.rows, max(last.rate, slot.rate), max(last.lag, slot.lag))
        else:
            self._slots.append(slot)

    def slots(self, now: float) -> list[Slot]:
        """Those of the hour before `now`."""
        return [slot for slot in self._slots if slot.at >= now - SPAN]
