"""The kernel's entries of rows that the peers own: what it lost, or had no room for, is put into it again.

Nobody tells a node that follows what its kernel drops: it does not listen, and the owner of a row looks at its own
kernel only. So the rows of the table are looked up there now and then, a batch at a time, in moments in which nothing
is on its way, so that table and kernel are to be the same. That takes no event and no walk through all buckets.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from hacore._fast import ctnetlink
from hacore.errors import HacoreError
from hacore.linux import conntrack
from hacore.node.loop import Loop, Timer
from hacore.node.states_injection import InjectionQueue
from hacore.states.gather import NO_ROWS, join, keys, pick
from hacore.states.layout import Keys, Rows
from hacore.states.masters import masters_first, masters_of
from hacore.states.ownership import SELF, Node
from hacore.states.replica import rebound
from hacore.states.replication import Replication

ASKED_ROWS = 256  # in one batch: about 1 ms
PAUSE, SHARE = 0.02, 10  # between batches: seconds at least, and so many times what one took
SPACING = 500  # times the work of a comparison until the next one: 0.2 % of a core
SPACING_SHORT = 20  # where the kernel has fewer entries than the table has rows, and the last comparison helped
MISSED_SHARE = 100  # one entry of so many may be missing before that is worth a comparison at once
IN_FLIGHT = 0.01  # seconds until the next look for a moment in which nothing is on its way
REFUSED_ROWS = 65_536  # remembered, at 40 bytes; with more of them, all are compared once there is room
FITTED_ROWS = 2048  # put again at once: what a promotion may have to wait for is about 10 ms
LONGEST_CHAIN = 16  # of connections that one another expected; those of H.323 have three
FIRST_RETRY, LONGEST_RETRY = 0.1, 2.0  # seconds between looks for room

TCP, SCTP = 6, 132
SEEN_REPLY_ASSURED = 0x2 | 0x4

Mask = npt.NDArray[np.bool_]


class Upkeep:
    """Compares every `interval` seconds where that costs little, and more rarely where the table is large. `on_work` is
    called when something was put into `queue`.

    Attributes:
        count: comparisons ever; `ended` (unix time) and `duration` (seconds) are those of the last one.
        missing: rows ever that the kernel did not have.
        differing: rows ever that it had otherwise, as far as that is to be seen while no traffic passes.
    """

    def __init__(
        self,
        loop: Loop,
        replication: Replication,
        queue: InjectionQueue,
        interval: float,
        clock: Callable[[], float],
        on_work: Callable[[], None],
        on_problem: Callable[[str], None],
    ) -> None:
        self.count = 0
        self.ended = self.duration = 0.0
        self.missing = self.differing = 0
        self._loop, self._replication, self._queue = loop, replication, queue
        self._interval, self._clock = interval, clock
        self._on_work, self._on_problem = on_work, on_problem
        self._batches: Iterator[Rows] | None = None
        self._began = self._finished = self._work = 0.0
        self._shortage = 0  # by how many entries the kernel had less than there are rows, after the last one
        self._next: Timer | None = None
        self._refused: deque[Keys] = deque()
        self._refused_rows = 0
        self._too_many = False
        self._refused_again = False
        self._retry_pause = FIRST_RETRY
        self._retry_at: Timer | None = None
        queue.on_full = self._remember

    def start(self) -> None:
        """From now on."""
        self._plan(self._interval)

    def close(self) -> None:
        """Nothing more is put into the queue."""
        self._batches = None
        self._queue.on_full = None
        for timer in (self._next, self._retry_at):
            if timer is not None:
                timer.cancel()
        self._next = self._retry_at = None

    @property
    def unfitted(self) -> int:
        """Rows that wait for room in the kernel, as far as they are remembered."""
        return self._refused_rows

    def _plan(self, pause: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_at(self._loop.now() + pause, self._look if self._batches is None else self._step)

    # What is compared

    def _is_kept(self, node: Node) -> bool:
        """Whether its rows are to be in this kernel. Those of a node that is gone are, until a MASTER inherits them:
        then its own kernel says which of them have ended.
        """
        ownership = self._replication.ownership
        return node.index != SELF and node.has_rows and (node.connected or not ownership.master)

    def _kept(self) -> list[Node]:
        return [node for node in self._replication.ownership.nodes if self._is_kept(node)]

    def _rows(self) -> Iterator[Rows]:
        table = self._replication.table
        for node in self._kept():
            cursor: int | None = None
            while cursor != 0 and self._is_kept(node):
                rows, cursor = table.scan(cursor, ASKED_ROWS, owner=node.index, now=int(self._clock()))
                yield rows

    @property
    def _is_quiet(self) -> bool:
        return self._queue.is_empty and not self._replication.replica.pending_rows

    # A comparison

    def _look(self, now: float) -> None:
        """Is it time for one?"""
        try:
            due = now >= self._finished + SPACING * self._work or self._is_short(now)
        except HacoreError as error:
            self._on_problem(str(error))
            due = False
        if due and self._kept():
            self._begin(now)
        else:
            self._plan(self._interval)

    def _is_short(self, now: float) -> bool:
        """The kernel has noticeably fewer entries than after the last comparison, for so many rows."""
        if now < self._finished + SPACING_SHORT * self._work:
            return False
        rows = len(self._replication.table)
        return rows - conntrack.count() > max(self._shortage, 0) + rows // MISSED_SHARE

    def _begin(self, now: float) -> None:
        self._batches = self._rows()
        self._began, self._work = now, 0.0
        self._too_many = False
        self._plan(0.0)

    def _step(self, _now: float) -> None:
        if self._batches is None:
            return
        if not self._is_quiet:
            self._plan(IN_FLIGHT)
            return
        began = time.thread_time()
        try:
            rows = next(self._batches, None)
            if rows is None:
                self._shortage = len(self._replication.table) - conntrack.count()
            elif len(rows):
                self._compare(rows)
        except HacoreError as error:
            self._on_problem(str(error))
            self._end(complete=False)
            return
        spent = time.thread_time() - began
        self._work += spent
        if rows is None or self._too_many:
            self._end(complete=not self._too_many)
        else:
            self._plan(max(PAUSE, SHARE * spent))

    def _end(self, *, complete: bool) -> None:
        self._batches = None
        self._finished = self._loop.now()
        if complete:
            self.duration = self._finished - self._began
            self.ended = time.time()
            self.count += 1
        self._plan(self._interval)

    def _compare(self, rows: Rows) -> None:
        """These rows, as they are in the table, with the kernel's entries."""
        table = self._replication.table
        found = conntrack.fetch(rows)
        places, entries = table.find(rows), table.find(found)
        lost = ~np.isin(places, entries) & (rows["timeout"] > 0)  # whose time has passed, its owner tells soon
        missing = pick(rows, lost)
        missing = join([self._lost_masters(missing), missing])
        differing = NO_ROWS
        if not self._replication.ownership.master and len(found):
            order = np.argsort(places)
            beside = order[np.searchsorted(places, entries, sorter=order).clip(max=len(rows) - 1)]
            expected = pick(rows, beside)
            differing = pick(expected, (places[beside] == entries) & _differ(expected, found))
        self.missing += len(missing)
        self.differing += len(differing)
        if len(missing) and (room := _room()) < len(missing):
            self._remember(missing[room:])
            missing = missing[:room]
            self._too_many = True  # the rest is looked at when there is room
        self._put(join([missing, differing]))

    def _lost_masters(self, rows: Rows) -> Rows:
        """The connections that expected these, those that expected them, and so on, as far as the kernel has lost them,
        too: without them it takes these as connections that nobody expected.
        """
        table = self._replication.table
        lost: list[Rows] = [NO_ROWS]
        known = table.find(rows)
        for _ in range(LONGEST_CHAIN):
            rows = pick(rows, rows["master_protocol"] != 0)
            if not len(rows):
                break
            places = np.setdiff1d(table.find(masters_of(rows)), [*known.tolist(), -1])
            known = np.concatenate([known, places])
            rows = self._kept_rows(places)
            rows = pick(rows, ~np.isin(table.find(rows), table.find(conntrack.fetch(rows))))
            lost.append(rows)
        return join(lost)

    def _put(self, rows: Rows) -> None:
        if len(rows):
            order = masters_first(rows)
            rows = rows if order is None else pick(rows, order)
            yields = ctnetlink.YIELD if self._replication.ownership.master else 0
            self._queue.put(rows, np.full(len(rows), ctnetlink.INSERT | yields, np.uint8))
            self._on_work()

    # What the kernel had no room for

    def _remember(self, rows: Rows) -> None:
        self._refused_again = True
        if self._refused_rows + len(rows) > REFUSED_ROWS:
            self._too_many = True
        else:
            self._refused.append(keys(rows))
            self._refused_rows += len(rows)
        if self._retry_at is None:
            self._retry_at = self._loop.call_at(self._loop.now() + self._retry_pause, self._retry)

    def _retry(self, now: float) -> None:
        self._retry_at = None
        try:
            room = _room()
        except HacoreError as error:
            self._on_problem(str(error))
            room = 0
        rows = self._remembered(min(room, FITTED_ROWS)) if room and not self._queue.is_busy else NO_ROWS
        again, self._refused_again = self._refused_again, False
        if not room or again:
            self._retry_pause = min(2 * self._retry_pause, LONGEST_RETRY)
        else:
            self._retry_pause = FIRST_RETRY
        rested = self._batches is None and now >= self._finished + SPACING_SHORT * self._work
        if self._too_many and not self._refused and rested and room > len(self._replication.table) // MISSED_SHARE:
            self._begin(now)
        if self._refused or self._too_many:
            self._retry_at = self._loop.call_at(now + self._retry_pause, self._retry)
        self._put(rows)

    def _remembered(self, limit: int) -> Rows:
        """Up to `limit` of the rows that were refused, as they are by now; those that are gone are left out."""
        taken: list[Keys] = []
        while self._refused and limit > 0:
            first = self._refused.popleft()
            if len(first) > limit:
                self._refused.appendleft(first[limit:])
                first = first[:limit]
            taken.append(first)
            limit -= len(first)
            self._refused_rows -= len(first)
        if not taken:
            return NO_ROWS
        table = self._replication.table
        places = table.find(np.unique(join(taken).view("V40")).view(taken[0].dtype))
        return self._kept_rows(places[places >= 0])

    def _kept_rows(self, places: npt.NDArray[np.int64]) -> Rows:
        """Those of the table's rows at `places` that are to be in this kernel and whose time has not passed, as they
        are by now.
        """
        table = self._replication.table
        kept = [node.index for node in self._kept()]
        places = places[np.isin(table.metadata()["owner"][places], kept)]
        rows = pick(table.rows(), places)
        passed = int(self._clock()) - table.metadata()["stamp"][places].astype(np.int64)
        left = np.maximum(rows["timeout"].astype(np.int64) - passed, 0)
        rows["timeout"] = left
        return pick(rows, left > 0)


def _room() -> int:
    """How many more entries the kernel takes."""
    return max(conntrack.limit() - conntrack.count(), 0)


def _differ(expected: Rows, entries: Rows) -> Mask:
    """Which entries, beside their rows, would not do. What a kernel may lack for good is not looked at: helpers,
    labels, the connection that expected this one.
    """
    has_state = np.isin(expected["protocol"], (TCP, SCTP))
    differ: Mask = rebound(expected, entries)
    differ |= has_state & (expected["protocol_state"] != entries["protocol_state"])
    differ |= expected["mark"] != entries["mark"]
    differ |= (expected["status"] ^ entries["status"]) & SEEN_REPLY_ASSURED != 0
    return differ
