"""Entries that their owner has let go of and that stay in this MASTER's kernel.

Copies live longer than their originals, so that a comparison with the kernel finds an entry here whose original has
expired. That says nothing about traffic: were such an entry claimed for being there, two MASTERs would hand it to each
other for ever. What tells of traffic that sends no event is that the entry's time has been put off.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from hacore._fast.table import FULL, Table
from hacore.states.gather import pick
from hacore.states.layout import Rows

Mask = npt.NDArray[np.bool_]

LET_GO, SEEN = 0, 1
"""In place of an epoch: how long the entry lives in this kernel is not known, or was seen in a comparison."""

ROUNDING: Final = 1
"""Seconds: the kernel tells whole ones, and so do the tables."""


class Spared:
    """At most `max_states` of them, by key.

    Args:
        seed, digest_key: as for `Table`.
        slack: seconds by which the end of an entry that nobody has touched may seem to move.
    """

    def __init__(self, seed: bytes, digest_key: bytes, *, max_states: int, slack: int) -> None:
        self._table = Table(seed, digest_key, max_states=max_states, partitions=1)
        self._slack = slack
        self._generation = 1

    def __len__(self) -> int:
        return len(self._table)

    def keep(self, rows: Rows, now: float) -> Mask:
        """The owner has let go of these rows; which of them there is room for."""
        outcomes = self._table.put(rows, epoch=LET_GO, generation=self._generation, now=int(now))
        kept: Mask = outcomes != FULL
        return kept

    def forget(self, rows: Rows) -> None:
        """Traffic has changed these entries here, or they have ended."""
        if len(self._table):
            self._table.delete(rows)

    def holds(self, rows: Rows) -> Mask:
        """Which of these are among them."""
        held: Mask = self._table.find(rows) >= 0
        return held

    def scan(self, cursor: int | None, limit: int) -> tuple[Rows, int]:
        """Some of the rows, as `Table.scan`."""
        return self._table.scan(cursor, limit)

    # A comparison with the kernel

    def begin(self) -> None:
        """One starts."""
        self._generation = self._generation % 255 + 1

    def idle(self, rows: Rows, now: float) -> Mask:
        """Which of these entries are only here because they were spared: not those whose time was put off since they
        were seen first.
        """
        if not len(self._table) or not len(rows):
            return np.zeros(len(rows), dtype=np.bool_)
        positions = self._table.find(rows)
        idle: Mask = positions >= 0
        if not idle.any():
            return idle
        metadata = self._table.metadata()[positions]
        left = self._table.rows()["timeout"][positions].astype(np.int64) + metadata["stamp"] - int(now)
        known = idle & (metadata["epoch"] == SEEN)
        busy = known & (rows["timeout"] > left + self._slack + ROUNDING)
        idle &= ~busy
        if busy.any():
            self._table.delete(pick(rows, busy))
        seen = pick(rows, idle)
        earlier = np.minimum(np.maximum(left, 0), rows["timeout"])
        seen["timeout"] = np.where(known, earlier, rows["timeout"])[idle]
        self._table.put(seen, epoch=SEEN, generation=self._generation, now=int(now))
        return idle

    def end(self) -> None:
        """It was complete: what it has not seen is gone, or belongs to somebody again."""
        if len(self._table):
            gone = self._table.stale(self._generation)
            if len(gone):
                self._table.delete(gone)
