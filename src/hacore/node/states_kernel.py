"""What happens in the kernel's connection table: events while this node is MASTER of something, and comparisons.

Lost events (ENOBUFS) lead to a comparison with a dump at once, while the events go on. One comparison runs at a time,
a batch a turn of the loop; the next one waits at least twice as long as the last one took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from hacore._fast.ctnetlink import Received
from hacore.errors import HacoreError
from hacore.linux import conntrack, rtnl
from hacore.node.loop import READ, Loop, Timer
from hacore.node.states_filter import Filter
from hacore.states.origin import Origin

EVENT_ROWS = 4096  # taken in one turn
PAUSE = 0.001  # events that come within it go into one frame
PAUSE_BELOW_ROWS = 512  # where more came at once there is no need to wait for company
DUMP_ROWS = 8192
DUMP_DATAGRAMS = 4  # of 32 KiB: read, parsed and compared in about 2 ms
SPACING = 2.0  # times the duration of a comparison


class KernelFollower:
    """Feeds `origin`; `on_change` is called after anything that may have put something into its log."""

    def __init__(
        self,
        loop: Loop,
        origin: Origin,
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
        self.events = self.echoes = self.ignored = self.lost = self.reconciles = 0
        self.reconciled = self.reconcile_duration = 0.0
        self._loop, self._origin, self._wanted, self._own_portid = loop, origin, wanted, own_portid
        self._virtual_addresses = frozenset(virtual_addresses)
        self._interval, self._clock = interval, clock
        self._on_change, self._on_problem = on_change, on_problem
        self._buffer_bytes = buffer_bytes
        self._socket: conntrack.EventSocket | None = None
        self._dump: Iterator[conntrack.Batch] | None = None
        self._began = self._ended = 0.0
        self._again = False
        self._next: Timer | None = None
        self._resume: Timer | None = None

    @property
    def malformed(self) -> int:
        """Events that could not be read."""
        return sum(self._socket.malformed.values()) if self._socket is not None else 0

    @property
    def buffer_bytes(self) -> int:
        """Of the event socket."""
        return self._socket.buffer_bytes if self._socket is not None else 0

    def start(self) -> None:
        """This node is MASTER of something: listen, and compare at once."""
        if self.listening:
            return
        self.listening = True
        self.filter_now()
        if self._socket is None:
            self._socket = conntrack.EventSocket(
                buffer_bytes=self._buffer_bytes, rows=EVENT_ROWS, datagrams=EVENT_ROWS // 4
            )
        else:
            self._socket.listen()
        self._loop.register(self._socket.fileno(), self._readable)
        self.reconcile_soon()

    def stop(self) -> None:
        """MASTER of nothing: the last events are taken, then nobody listens, which doubles the rate of injection."""
        if not self.listening or self._socket is None:
            return
        self._socket.mute()
        while self._receive().messages:
            pass
        self.listening = False
        for timer in (self._next, self._resume):
            if timer is not None:
                timer.cancel()
        self._next = self._resume = None
        self._loop.unregister(self._socket.fileno())
        self._end_dump(complete=False)

    # Events

    def _readable(self, _events: int, _now: float) -> None:
        assert self._socket is not None
        received = self._receive()
        if not self.listening:
            return
        if received.more:  # in the reader's hands, where no descriptor tells of them
            self._pause(0.0)
        elif received.messages < PAUSE_BELOW_ROWS:
            self._pause(PAUSE)

    def _pause(self, duration: float) -> None:
        assert self._socket is not None
        self._loop.modify(self._socket.fileno(), 0)
        self._resume = self._loop.call_at(self._loop.now() + duration, self._listen_on)

    def _listen_on(self, now: float) -> None:
        self._resume = None
        if self.listening and self._socket is not None:
            self._loop.modify(self._socket.fileno(), READ)
            self._readable(READ, now)

    def _receive(self) -> Received:
        assert self._socket is not None
        sock = self._socket
        received = sock.receive()
        if received.overrun:
            self.lost += 1
            self.reconcile_soon()
        now = self._clock()
        if received.rows:
            self._take_events(sock.rows[: received.rows], sock.events[: received.rows], now)
        if received.expectations:
            count = received.expectations
            expected, events = sock.expectations[:count], sock.expectation_events[:count]
            foreign = events["portid"] != self._own_portid
            if foreign.any():
                self._origin.observe_expectations(expected[foreign], events[foreign], now)
        if received.rows or received.expectations:
            self._on_change()
        return received

    def _take_events(self, rows: conntrack.Records, events: conntrack.Records, now: float) -> None:
        self.events += len(rows)
        foreign = events["portid"] != self._own_portid
        if not foreign.all():
            rows, events = rows[foreign], events[foreign]
            self.echoes += len(foreign) - len(rows)
        wanted = self._wanted.wanted(rows)
        if not wanted.all():
            rows, events = rows[wanted], events[wanted]
            self.ignored += len(wanted) - len(rows)
        if len(rows):
            self._origin.observe(rows, events, now)

    # Comparison with a dump

    def reconcile_soon(self) -> None:
        """Compare as soon as the spacing allows."""
        if not self.listening:
            return
        if self._dump is not None:
            self._again = True  # what was lost may concern rows that the running one has passed
            return
        now = self._loop.now()
        at = max(now, self._ended + SPACING * self.reconcile_duration)
        if self._next is None or self._next.when > at:
            self._plan(at)

    def _plan(self, at: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self._loop.call_at(at, self._begin_dump)

    def _begin_dump(self, now: float) -> None:
        self._next = None
        self._again = False
        self._began = now
        self.filter_now()
        self._origin.begin_reconcile(self._clock())
        self._dump = conntrack.dump(rows=DUMP_ROWS, datagrams=DUMP_DATAGRAMS)
        self._loop.call_soon(self._step)

    def _step(self, _now: float) -> None:
        if self._dump is None:
            return
        try:
            batch = next(self._dump, None)
        except HacoreError as error:
            self._on_problem(str(error))
            self._end_dump(complete=False)
            self._plan(self._loop.now() + self._interval)
            return
        if batch is None:
            self._end_dump(complete=True)
            return
        rows = batch.rows
        wanted = self._wanted.wanted(rows)
        if not wanted.all():
            rows = rows[wanted]
        if len(rows):
            self._origin.reconcile(rows, self._clock())
            self._on_change()
        self._loop.call_soon(self._step)

    def _end_dump(self, *, complete: bool) -> None:
        if self._dump is None:
            return
        self._dump = None
        self._origin.end_reconcile(self._clock(), complete=complete)
        if not complete:
            return
        self._ended = self._loop.now()
        self.reconcile_duration = self._ended - self._began
        self.reconciled = time.time()
        self.reconciles += 1
        self._on_change()
        if self._again:
            self.reconcile_soon()
        elif self.listening:
            self._plan(self._ended + max(self._interval, SPACING * self.reconcile_duration))

    def filter_now(self) -> Filter:
        """The filter, with this node's addresses of this moment: nobody takes over connections of those."""
        present = {change.address for change in rtnl.dump_addresses()}
        self._wanted.set_own_addresses(sorted(present - self._virtual_addresses))
        return self._wanted
