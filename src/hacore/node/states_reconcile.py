"""Comparisons of the worker's table with the kernel's: what events did not tell, lost ones above all, and timeouts.

One runs at a time, a batch a turn of the loop; the next one waits at least twice as long as the last one took. A dump
makes the kernel walk all its buckets, however few entries they hold, in stretches that nothing interrupts: 10 ms for an
almost empty table of 262,144. A small table is therefore asked for row by row, and dumped only when something may be in
the kernel that is not in the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from hacore._fast.row import KEY_BYTES
from hacore.errors import HacoreError
from hacore.linux import conntrack
from hacore.node.loop import Loop, Timer
from hacore.node.states_expectations import ExpectationLooks
from hacore.node.states_filter import Filter
from hacore.states.gather import NO_ROWS, join, keys, pick
from hacore.states.layout import Keys, Rows
from hacore.states.masters import masters_first
from hacore.states.replication import Replication

DUMP_ROWS = 8192
DUMP_DATAGRAMS = 4  # of 32 KiB: read, parsed and compared in about 2 ms
ASKED_ROWS = 256  # row by row: about 2 ms
BUCKETS_A_ROW = 100  # a table with more buckets than so many a row is small
DUMP_EVERY = 20  # of the comparisons of a small table, one is a dump
SPACING = 2.0  # times the duration of a comparison
# What a comparison finds goes the way of all changes: what happens meanwhile waits for no more than so many rows, as
# long as a peer acknowledges them within that time (seconds).
AHEAD_ROWS, AHEAD_WAIT, AHEAD_PAUSE = 4096, 0.1, 0.003
DUMP_LATER = 1.0  # seconds after a takeover, in which the kernel has more urgent things to do than to walk its buckets
RETRY = 1.0  # seconds after a dump that failed, at least


class Reconciler:
    """Compares while `active`, every `interval` seconds and when asked to."""

    def __init__(
        self,
        loop: Loop,
        replication: Replication,
        wanted: Callable[[], Filter],
        interval: float,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        on_problem: Callable[[str], None],
    ) -> None:
        self.active = False
        self.count = 0
        self.ended = self.duration = 0.0  # of the last one: unix time, seconds
        self._loop, self._replication, self._wanted = loop, replication, wanted
        self._interval, self._clock = interval, clock
        self._on_change, self._on_problem = on_change, on_problem
        self._batches: Iterator[Rows] | None = None
        self._began = self._stepped = self._finished = 0.0
        self._buckets = 0
        self._again = False
        self._since_dump = 0
        self._dump_due = True  # nothing is known yet
        self._dump_from = 0.0
        self._dumping = False
        self._told: list[Keys] = []
        self._next: Timer | None = None
        self.expectations = ExpectationLooks(
            loop, replication.origin.expectations, wanted, interval, clock, on_change, on_problem
        )

    def start(self, *, known: bool) -> None:
        """This node is MASTER of something, and hears of what happens from now on: what was born before is told by one
        dump only. `known`: its table has all that its peers had, so that the dump may wait a moment.
        """
        self.active = True
        self._dump_due = True
        self._dump_from = self._loop.now() + DUMP_LATER if known else 0.0
        self.soon()

    def stop(self) -> None:
        """It no longer is."""
        self.active = False
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._end(complete=False)
        self.expectations.stop()

    def soon(self, *, lost: bool = False) -> None:
        """Compare as soon as the spacing allows; `lost`: events were lost, so only a dump can tell."""
        if lost:
            self._dump_due, self._dump_from = True, 0.0
        if not self.active:
            return
        if self._batches is not None:
            self._again = True  # what was lost may concern rows that the running one has passed
            return
        at = max(self._loop.now(), self._finished + SPACING * self.duration)
        if self._next is None or self._next.when > at:
            self._plan(at)

    def look_at(self, rows: Rows) -> None:
        """Take over how these entries are in the kernel now."""
        found = conntrack.fetch(rows)
        if len(found):
            self.told(found)
            self._replication.origin.reconcile(found, self._clock())

    def told(self, rows: Rows) -> None:
        """The table has heard of these entries. The kernel writes a datagram of a dump when the one before is read, so
        that what comes next of a running dump begins with what is older.
        """
        if self._dumping:
            self._told.append(keys(rows))

    def _plan(self, at: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_at(at, self._begin)

    def _begin(self, now: float) -> None:
        self._next = None
        self._again = False
        self._began = now
        self._since_dump += 1
        table = self._replication.table
        self._buckets = conntrack.sysctl("nf_conntrack_buckets")
        small = len(table) * BUCKETS_A_ROW < self._buckets
        due = self._since_dump >= DUMP_EVERY or (self._dump_due and now >= self._dump_from)
        self._dumping = due or not small
        if self._dumping:
            self._dump_due = False
            self._batches = self._dumped(self._wanted())
        else:
            self._batches = self._asked()
        self._replication.origin.begin_reconcile(self._clock())
        self._stepped = now
        self._next = self._loop.call_soon(self._step)

    def _dumped(self, wanted: Filter) -> Iterator[Rows]:
        """The kernel dumps in no order. New connections that others expected are asked for again at the end, those
        others first: a peer's kernel takes them in the order in which they are told.
        """
        late: list[Rows] = []
        for batch in conntrack.dump(rows=DUMP_ROWS, datagrams=DUMP_DATAGRAMS):
            chosen = wanted.wanted(batch.rows)
            if self._replication.log.wanted:
                new_expected = chosen & (batch.rows["master_protocol"] != 0)
                new_expected[new_expected] = self._replication.table.find(pick(batch.rows, new_expected)) < 0
                if new_expected.any():
                    late.append(pick(batch.rows, new_expected))
                    chosen &= ~new_expected
            yield batch.rows if chosen.all() else batch.rows[chosen]
        rows = join([NO_ROWS, *late])
        order = masters_first(rows)
        if order is not None:
            rows = pick(rows, order)
        for start in range(0, len(rows), ASKED_ROWS):
            yield conntrack.fetch(rows[start : start + ASKED_ROWS])

    def _asked(self) -> Iterator[Rows]:
        for held in (self._replication.table, self._replication.spared):
            cursor: int | None = None
            while cursor != 0:
                rows, cursor = held.scan(cursor, ASKED_ROWS)
                yield conntrack.fetch(rows)

    def _step(self, now: float) -> None:
        self._next = None
        if self._batches is None:
            return
        if self._replication.lag > AHEAD_ROWS and now < self._stepped + AHEAD_WAIT:
            self._next = self._loop.call_at(now + AHEAD_PAUSE, self._step)
            return
        self._stepped = now
        try:
            rows = next(self._batches, None)
        except HacoreError as error:
            self._on_problem(str(error))
            self._end(complete=False)
            now = self._loop.now()
            self._plan(now + min(max(SPACING * (now - self._began), RETRY), self._interval))
            return
        told, self._told = self._told, []
        if rows is None:
            resized = conntrack.sysctl("nf_conntrack_buckets") != self._buckets  # the dump may have skipped entries
            self._end(complete=not resized)
            if resized:
                self._plan(self._loop.now())
            return
        if told and len(rows):
            rows = pick(rows, ~_among(rows, join(told)))
        if len(rows):
            self._replication.origin.reconcile(rows, self._clock())
            self._on_change()
        self._next = self._loop.call_soon(self._step)

    def _end(self, *, complete: bool) -> None:
        if self._batches is None:
            return
        self._batches = None
        self._told = []
        if self._dumping:
            self._dumping = False
            if complete:
                self._since_dump = 0
            else:
                self._dump_due = True
        self._replication.origin.end_reconcile(self._clock(), complete=complete)
        if not complete:
            return
        self._finished = self._loop.now()
        self.duration = self._finished - self._began
        self.ended = time.time()
        self.count += 1
        self.expectations.look()  # after the rows, which are their masters
        self._on_change()
        if self._again:
            self.soon()
        elif self.active:
            pause = max(self._dump_from - self._finished, 0.0) if self._dump_due else self._interval
            self._plan(self._finished + max(pause, SPACING * self.duration))


def _among(rows: Rows, told: Keys) -> npt.NDArray[np.bool_]:
    """Which of `rows` have one of these keys. As numpy's strings, which end in zeros or not, keys of one length are
    equal only where all their bytes are.
    """
    plain = np.dtype(("S", KEY_BYTES))
    return np.isin(keys(rows).view(plain), told.view(plain))
