"""TCP windows of connections that went on at another node.

What a connection acknowledged there was not seen here, so that this kernel takes its packets for invalid when the
addresses come back ("ACKed data not seen yet", tcp_in_window in net/netfilter/nf_conntrack_proto_tcp.c). The injector
makes copies lenient; entries that were born here are strict. When a VIP is lost, this kernel is told to be lenient with
all connections, until each replicated one is so by itself, which is seen to while this node is MASTER of nothing: then
no traffic changes an entry while it is written. A worker that is started anew goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hacore._fast import ctnetlink
from hacore._fast.table import Table
from hacore.errors import HacoreError
from hacore.linux import conntrack, sysctl
from hacore.node.loop import Loop, Timer
from hacore.node.states_injection import InjectionQueue
from hacore.states.gather import NO_ROWS, pick
from hacore.states.layout import TCP_FLAGS, Rows

DUMP_ROWS = 8192
DUMP_DATAGRAMS = 4  # of 32 KiB: read, parsed and compared in about 2 ms
PAUSE = 0.002  # seconds, while something else is on its way into the kernel, which this would delay
RETRY = 5.0

BE_LIBERAL = "netfilter/nf_conntrack_tcp_be_liberal"
TCP = 6
FLAG_BE_LIBERAL = 0x08  # IP_CT_TCP_FLAG_BE_LIBERAL


class Windows:
    """Of the replicated connections in `table`; `on_work` is called when something was put into `queue`. What the
    kernel's setting was is kept in `changes`.
    """

    def __init__(
        self,
        loop: Loop,
        table: Table,
        queue: InjectionQueue,
        changes: sysctl.Changes,
        on_work: Callable[[], None],
        on_problem: Callable[[str], None],
    ) -> None:
        self.relaxed = 0
        """Entries ever that were strict."""
        self._loop, self._table, self._queue = loop, table, queue
        self._changes = changes
        self._on_work, self._on_problem = on_work, on_problem
        self._due = self.is_lenient
        self._batches: Iterator[conntrack.Batch] | None = None
        self._next: Timer | None = None

    @property
    def is_lenient(self) -> bool:
        """The kernel was told to be so with all connections, for the time being."""
        return BE_LIBERAL in self._changes

    def lose(self) -> None:
        """A VIP went to another node, with its connections."""
        try:
            self._changes.raise_to(BE_LIBERAL, 1)
        except (HacoreError, OSError) as error:
            self._on_problem(f"connections that come back soon may hang: {error}")
        else:
            if not self.is_lenient:
                return  # as the administrator has it
        self._due = True
        self._batches = None

    def rest(self) -> None:
        """This node is MASTER of nothing, and its table has all connections: entries may be written."""
        if self._due:
            self._plan(0.0)

    def pause(self) -> None:
        """It is MASTER again; what is left to do is begun anew when it is not."""
        self._batches = None
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def close(self) -> None:
        """The kernel gets its setting back."""
        self.pause()
        self._due = False
        self._restore()

    def _plan(self, pause: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_at(self._loop.now() + pause, self._step)

    def _step(self, _now: float) -> None:
        self._next = None
        if not self._queue.is_empty:
            self._plan(PAUSE)
            return
        try:
            if self._batches is None:
                self._batches = conntrack.dump(rows=DUMP_ROWS, datagrams=DUMP_DATAGRAMS)
            batch = next(self._batches, None)
        except HacoreError as error:
            self._on_problem(str(error))
            self._batches = None
            self._plan(RETRY)
            return
        if batch is None:
            self._batches = None
            self._due = False
            self._queue.put(NO_ROWS, None, self._finish)
            self._on_work()
            return
        strict = self._strict(batch.rows)
        if len(strict):
            self.relaxed += len(strict)
            self._queue.put(strict, np.full(len(strict), ctnetlink.UPDATE, np.uint8))
            self._on_work()
        self._plan(0.0)

    def _strict(self, rows: Rows) -> Rows:
        """Copies of those that are strict and replicated, with the TCP states that the table has: what it knows is on
        its way into the kernel, at the latest.
        """
        lenient = rows[TCP_FLAGS[0]] & rows[TCP_FLAGS[1]] & FLAG_BE_LIBERAL
        found = pick(rows, (rows["protocol"] == TCP) & (lenient == 0))
        known, replicated = self._table.lookup(found)
        found["protocol_state"] = known["protocol_state"]
        return found if replicated.all() else pick(found, replicated)

    def _finish(self) -> None:
        if not self._due:
            self._restore()

    def _restore(self) -> None:
        for failure in self._changes.restore():
            self._on_problem(failure)
