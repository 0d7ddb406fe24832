"""What happens in the kernel's connection table while this node is MASTER of something."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hacore._fast.ctnetlink import EVENT_DESTROY, Received
from hacore.linux import conntrack, rtnl
from hacore.node.loop import READ, Loop, Timer
from hacore.node.states_filter import Filter
from hacore.node.states_reconcile import Reconciler
from hacore.states.masters import masters_of
from hacore.states.replication import Replication

EVENT_ROWS = 4096  # taken in one turn
EVENT_DATAGRAMS = EVENT_ROWS // 4
GATHERING, GATHERING_MANY, MANY = 0.005, 0.01, 100
"""Seconds. The first event after a rest goes out at once; those that come within so long of it go into one frame, which
costs as much as 100 rows; the longer one after a frame of MANY. While events come, nobody waits for the descriptor: the
timer looks.
"""


class KernelFollower:
    """Feeds the origin; `on_change` is called after anything that may have put something into its log."""

    def __init__(
        self,
        loop: Loop,
        replication: Replication,
        wanted: Filter,
        own_portid: int,
        virtual_addresses: list[str],
        interval: float,
        clock: Callable[[], float],
        on_change: Callable[[], None],
        on_problem: Callable[[str], None],
        *,
        buffer_bytes: int,
    ) -> None:
        self.listening = False
        self.events = self.echoes = self.ignored = self.lost = 0
        self.reconciler = Reconciler(loop, replication, self.filter_now, interval, clock, on_change, on_problem)
        self._loop, self._origin, self._wanted, self._own_portid = loop, replication.origin, wanted, own_portid
        self._virtual_addresses = frozenset(virtual_addresses)
        self._clock, self._on_change = clock, on_change
        self._buffer_bytes = buffer_bytes
        self._socket: conntrack.EventSocket | None = None
        self._resume: Timer | None = None

    @property
    def malformed(self) -> int:
        """Events that could not be read."""
        return sum(self._socket.malformed.values()) if self._socket is not None else 0

    @property
    def buffer_bytes(self) -> int:
        """Of the event socket."""
        return self._socket.buffer_bytes if self._socket is not None else 0

    def start(self, *, known: bool) -> None:
        """This node is MASTER of something: listen, and compare; `known` as for `Reconciler.start`."""
        if self.listening:
            return
        self.listening = True
        self.filter_now()
        if self._socket is None:
            self._socket = conntrack.EventSocket(
                buffer_bytes=self._buffer_bytes, rows=EVENT_ROWS, datagrams=EVENT_DATAGRAMS
            )
        else:
            self._socket.listen()
        self._loop.register(self._socket.fileno(), self._readable)
        self.reconciler.start(known=known)

    def stop(self) -> None:
        """MASTER of nothing: the last events are taken, then nobody listens, which doubles the rate of injection."""
        if not self.listening or self._socket is None:
            return
        self._socket.mute()
        while (received := self._receive()).messages or received.more or received.overrun:
            pass  # what is left would be taken for new when this node is MASTER again
        self.listening = False
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        self._loop.unregister(self._socket.fileno())
        self.reconciler.stop()

    def filter_now(self) -> Filter:
        """The filter, with this node's addresses of this moment: nobody takes over connections of those."""
        present = {change.address for change in rtnl.dump_addresses()}
        self._wanted.set_own_addresses(sorted(present - self._virtual_addresses))
        return self._wanted

    def _readable(self, _events: int, now: float) -> None:
        """The first after a rest, or an error, which is told at any time."""
        assert self._socket is not None
        if self._resume is not None:
            self._resume.cancel()
        self._loop.modify(self._socket.fileno(), 0)
        self._look(now)

    def _look(self, now: float) -> None:
        self._resume = None
        if not self.listening or self._socket is None:
            return
        received = self._receive()
        if not self.listening:
            return
        if not received.messages and not received.more and not received.overrun:
            self._loop.modify(self._socket.fileno(), READ)
            return
        pause = GATHERING if received.messages < MANY else GATHERING_MANY
        if received.more or received.messages >= EVENT_DATAGRAMS:
            pause = 0.0
        self._resume = self._loop.call_at(now + pause, self._look)

    def _receive(self) -> Received:
        assert self._socket is not None
        sock = self._socket
        received = sock.receive()
        if received.overrun:
            self.lost += 1
            self.reconciler.soon(lost=True)
        now = self._clock()
        if received.rows:
            self._take_events(sock.rows[: received.rows], sock.events[: received.rows], now)
        if received.expectations:
            count = received.expectations
            self._take_expectations(sock.expectations[:count], sock.expectation_events[:count], now)
        if received.rows or received.expectations:
            self._on_change()
        return received

    def _take_events(self, rows: conntrack.Records, events: conntrack.Records, now: float) -> None:
        count = len(rows)
        kept, echoes = self._wanted.sift(rows, events, self._own_portid)
        self.events += count
        self.echoes += echoes
        self.ignored += count - kept - echoes
        if kept:
            self.reconciler.told(rows[:kept])
            self._origin.observe(rows[:kept], events[:kept], now)

    def _take_expectations(self, expectations: conntrack.Records, events: conntrack.Records, now: float) -> None:
        foreign = events["portid"] != self._own_portid
        if not foreign.any():
            return
        replicated = foreign & self._wanted.wanted(masters_of(expectations))
        expectations, events = expectations[replicated], events[replicated]
        born = expectations[events["kind"] != EVENT_DESTROY]
        if len(born):
            # That its helper has moved the sequence numbers of a connection is told by no event of its own.
            self.reconciler.look_at(np.unique(masters_of(born)))
            self.reconciler.expectations.told(born)
        self._origin.expectations.observe(expectations, events, now)
