"""The replica's end of a connection: frames in order, into the table, answers."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Final

from hacore._fast.codec import row_count
from hacore.errors import WireError
from hacore.states import frames, greeting
from hacore.states.events import Repaired, Synced, SyncStarted
from hacore.states.frames import NO_PARTITIONS, Ack, Differences, Kind, SyncBegin, Want
from hacore.states.greeting import Welcome
from hacore.states.ownership import Node
from hacore.states.session import Session, SessionStatus

if TYPE_CHECKING:
    from hacore.states.replica import Following
    from hacore.states.replication import Replication

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0


class _Done:
    """What is acknowledged when this and everything before it is in the kernel."""

    __slots__ = ("at", "is_done", "number", "parts", "position", "rows", "session")

    def __init__(self, session: ReceiverSession, position: int, number: int, parts: int, at: float) -> None:
        self.session = session
        self.position = position
        self.number = number
        self.parts = parts
        self.at = at
        self.rows = 0
        self.is_done = False

    def done(self, now: float) -> None:
        self.is_done = True
        self.session.settle(now)


class ReceiverSession(Session):
    """Made by `Replication.accept`."""

    role = "replica"

    def __init__(self, owner: Replication, expected: str, now: float) -> None:
        super().__init__(owner, expected, now)
        self._following: Following | None = None
        self._undone: deque[_Done] = deque()
        self._acked = Ack(0, 0, 0)
        self._ack_sent = Ack(0, 0, 0)
        self._ack_sent_at = -math.inf
        self._ack_due: float | None = None
        self._how = "hello"
        self._sync_started = now
        self._sync: SyncBegin | None = None
        self._number = 0  # of the last sync
        self._parts = 0
        self._gap = False  # a change is missing that the running sync will not bring
        self._target: int | None = None  # of a resumption
        self._rows = 0
        self._rows_in_kernel = 0
        self._last_end: _Done | None = None
        self._repaired = 0  # partitions of the repair of which that is the end
        self._waiting = False  # digests were asked for, or differences told
        self._pause = FIRST_PAUSE
        self._asked_at = -math.inf
        self._want_at: float | None = None
        self._want_bulk = False
        self._handlers = {
            Kind.CHANGES: self._changes, Kind.CLEAR: self._clear, Kind.TAKEOVER: self._takeover,
            Kind.EXPECTATIONS: self._expectations, Kind.ROLE: self._role, Kind.RESUME: self._resume, Kind.JUMP:
            self._jump, Kind.DIGESTS: self._digests, Kind.SYNC_BEGIN: self._sync_begin, Kind.SYNC_ROWS: self._sync_rows,
            Kind.SYNC_END: self._sync_end,
        }  # fmt: skip

    def _greeting(self) -> Kind:
        return Kind.HELLO

    def _greet(self, body: bytes, now: float) -> None:
        hello = greeting.read_hello(body)
        node = self._accept(hello, now)
        following = self._following = self._owner.replica.following(node)
        rows = self._owner.replica.rows_of(node)
        welcome = Welcome(self._owner.hello(), following.instance, following.position, rows, following.complete)
        self._out.append(greeting.welcome_frame(welcome))

    def _handle(self, kind: Kind, body: bytes, now: float) -> None:
        following = self._following
        position = following.position if following else 0
        try:
            super()._handle(kind, body, now)
        except WireError:
            if following is not None:
                following.position = position  # a frame that is refused was not applied
            raise

    @property
    def _from(self) -> tuple[Node, Following]:
        assert self.node is not None
        assert self._following is not None
        return self.node, self._following

    # The log

    def _receipt(self) -> _Done:
        _, following = self._from
        receipt = _Done(self, following.position, self._number, self._parts, self._heard_at)
        self._undone.append(receipt)
        return receipt

    def settle(self, now: float) -> None:
        """Work came into the kernel: what can be acknowledged now."""
        undone = self._undone
        while undone and undone[0].is_done:
            first = undone.popleft()
            self._acked = Ack(first.position, first.number, first.parts)
            self._rows_in_kernel = max(self._rows_in_kernel, first.rows)
            if first is self._last_end:
                self._last_end = None
                if self._repaired:
                    repaired = Repaired(
                        at=now, peer=self.peer, role=self.role, partitions=self._repaired, rows=self._rows
                    )
                    self._owner.journal.append(repaired)
                    self._repaired = 0
                self._in_sync(now)
        if self._target is not None and self._acked.position >= self._target and not self.ended:
            self._target = None
            self._in_sync(now)

    def _in_sync(self, now: float) -> None:
        node, following = self._from
        if self.ended or not following.complete:
            return
        if not self.synced:
            self.synced, self.since = True, now
            duration, rows = now - self._sync_started, self._rows if self._how != "resume" else 0
            synced = Synced(at=now, peer=self.peer, role=self.role, how=self._how, rows=rows, duration=duration)
            self._owner.journal.append(synced)
        self._owner.replica_synced(node, now)

    def _next(self, body: bytes, *, announces: bool = False) -> frames.Positioned:
        node, following = self._from
        positioned = frames.read_positioned(body)
        if self._how == "hello":
            raise WireError("order", "changes come before it is said where the stream goes on")
        if positioned.position != following.position + 1:
            raise WireError(
                "position", f"change {positioned.position} comes after {following.position}, twice or out of order"
            )
        if positioned.epoch > node.epoch and not announces:
            raise WireError("epoch", f"a change of epoch {positioned.epoch}, {node.name} said it has {node.epoch}")
        following.position = positioned.position
        return positioned

    def _changes(self, body: bytes, now: float) -> None:
        _, epoch, chunk = self._next(body)
        node, following = self._from
        whole = self._owner.replica.changes(node, epoch, chunk, now, self._receipt())
        if not whole and following.complete:
            self._miss(now)

    def _miss(self, now: float) -> None:
        """This node does not have what the origin believes it has: asks for digests, not too often."""
        _, following = self._from
        following.complete = False
        self._ask(now)

    def _ask(self, now: float) -> None:
        if not self._waiting and self._want_at is None:
            quiet = now - self._asked_at
            self._pause = FIRST_PAUSE if quiet >= LONGEST_PAUSE else min(2 * self._pause, LONGEST_PAUSE)
            self._want_at = max(now, self._asked_at + self._pause)
            self._send_want(now)

    def _send_want(self, now: float) -> None:
        if self._want_at is not None and now >= self._want_at:
            self._want_at, self._waiting, self._asked_at = None, True, now
            self._out.append(frames.want_frame(Want.DIGESTS))

    def _clear(self, body: bytes, now: float) -> None:
        self._next(body)
        self._owner.replica.clear(self._from[0], now, self._receipt())

    def _role(self, body: bytes, now: float) -> None:
        _, epoch, what = self._next(body, announces=True)
        master, known = frames.read_role(what)
        receipt = self._receipt()
        self._owner.heard_role(self._from[0], master, epoch, known, now)
        receipt.done(now)

    def _takeover(self, body: bytes, now: float) -> None:
        _, epoch, what = self._next(body)
        name, instance = frames.read_takeover(what)
        receipt = self._receipt()
        self._owner.replica.take_over(self._from[0], epoch, name, instance)
        receipt.done(now)

    def _expectations(self, body: bytes, now: float) -> None:
        _, _, what = self._next(body)
        self._owner.replica.expectations(self._from[0], what, now, self._receipt())

    # Where the stream goes on, digests

    def _resume(self, body: bytes, now: float) -> None:
        _, following = self._from
        position, target = frames.read_resume(body)
        if self._how != "hello" or position != following.position:
            raise WireError("position", f"the stream is to go on after {position}, this node has {following.position}")
        self._start("resume", now)
        self._target = target
        self._receipt().done(now)

    def _jump(self, body: bytes, now: float) -> None:
        node, following = self._from
        following.position, epoch, master, known = frames.read_jump(body)
        following.complete = False
        self._gap, self._target = self._sync is not None, None
        if self._sync is None:
            self._start("repair", now)
        self._owner.heard_role(node, master, epoch, known, now)
        self._receipt().done(now)

    def _start(self, how: str, now: float) -> None:
        self._how, self._sync_started, self.since, self.synced = how, now, now, False
        self._owner.journal.append(
            SyncStarted(at=now, peer=self.peer, role=self.role, how=how, reason="the origin says so")
        )

    def _digests(self, body: bytes, now: float) -> None:
        node, following = self._from
        position, secret, digests = frames.read_digests(body, self._owner.table.partitions)
        if position != following.position:
            raise WireError("position", f"digests of position {position}, this node has {following.position}")
        self._owner.heard_secret(self, secret)
        if self._sync is not None:
            raise WireError("order", "digests come within a bulk update")
        self._waiting = True
        if secret != self._owner.secret:
            self._out.append(frames.differences_frame(Differences(False, self._owner.secret, NO_PARTITIONS)))
            return
        differing = self._owner.replica.differences(node, digests)
        self._out.append(frames.differences_frame(Differences(True, secret, differing)))
        if len(differing):
            following.complete = False
        else:
            self._waiting = False
            following.complete = True
            self._last_end = self._receipt()
            self._last_end.done(now)

    # Syncs

    def _sync_begin(self, body: bytes, now: float) -> None:
        node, following = self._from
        begin = frames.read_sync_begin(body)
        if begin.position != following.position:
            raise WireError("position", f"a bulk update at {begin.position}, this node has {following.position}")
        if len(begin.partitions) and int(begin.partitions[-1]) >= self._owner.table.partitions:
            raise WireError("partition", f"there is no partition {begin.partitions[-1]}")
        if begin.number <= self._number:
            raise WireError("chunk", f"bulk update {begin.number} comes after {self._number}")
        self._sync, self._number, self._parts, self._rows, self._rows_in_kernel = begin, begin.number, 0, 0, 0
        self._gap = False
        self._waiting = True
        self._owner.replica.begin_sync(node)
        self._start("repair" if len(begin.partitions) else "bulk", now)

    def _running(self, number: int, chunk: int) -> SyncBegin:
        if self._sync is None or self._sync.number != number or chunk != self._parts:
            expected = f"chunk {self._parts} of {self._sync.number}" if self._sync else "none"
            raise WireError("chunk", f"chunk {chunk} of bulk update {number} comes, expected was {expected}")
        self._parts += 1
        return self._sync

    def _sync_rows(self, body: bytes, now: float) -> None:
        number, chunk, epoch, rows = frames.read_sync_rows(body)
        node, _ = self._from
        bulk = not len(self._running(number, chunk).partitions)
        if epoch > node.epoch:
            raise WireError("epoch", f"rows of epoch {epoch}, {node.name} said it has {node.epoch}")
        receipt = self._receipt()
        self._rows += row_count(rows)
        receipt.rows = self._rows
        self._owner.replica.sync_rows(node, epoch, rows, now, receipt, bulk=bulk)

    def _sync_end(self, body: bytes, now: float) -> None:
        number, chunks, rows = frames.read_sync_end(body)
        node, following = self._from
        begin = self._running(number, chunks)
        if rows != self._rows:
            raise WireError("rows", f"the bulk update had {self._rows} rows and says {rows}")
        following.complete = not self._gap
        self._waiting = False
        receipt = self._last_end = self._receipt()
        receipt.rows = self._rows
        self._sync = None
        if len(begin.partitions) and begin.secret != self._owner.secret:
            following.complete = False  # these partitions are others here by now
            receipt.done(now)
            self._ask(now)
            return
        self._repaired = len(begin.partitions)
        self._owner.replica.end_sync(node, begin.partitions, now, receipt)

    def request_bulk(self, now: float) -> None:
        """Asks the origin for a bulk update."""
        if self.node is not None and not self.ended:
            self._asked_at = now
            self._out.append(frames.want_frame(Want.BULK))

    # The verbs, and what is shown

    @property
    def has_room(self) -> bool:
        """Whether another frame may be handled."""
        return super().has_room and self._owner.replica.pending_rows < self._owner.settings.pending_rows

    @property
    def has_something(self) -> bool:
        """Whether `data_to_send` may have something to give."""
        return bool(self._out) or self._acked != self._ack_sent

    def _fill(self, now: float, limit: int) -> None:  # noqa: ARG002 (an answer has no size to speak of)
        """An acknowledgement costs both sides a packet: while only changes come, one stands for several."""
        acked, sent = self._acked, self._ack_sent
        if acked == sent:
            return
        interval = self._owner.settings.ack_interval
        if now - self._ack_sent_at < interval and self.synced and acked[1:] == sent[1:]:
            if self._ack_due is None:
                self._ack_due = now + 2 * interval
            return
        self._ack_sent, self._ack_sent_at, self._ack_due = acked, now, None
        self._out.append(frames.ack_frame(acked))

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called next, if ever."""
        deadline = super().next_deadline()
        if deadline is None:
            return None
        if self._want_at is not None and self._want_at < deadline:
            deadline = self._want_at
        if self._ack_due is not None and self._ack_due < deadline:
            deadline = self._ack_due
        return deadline

    def handle_deadline(self, now: float) -> None:
        """Timers that are due by `now`."""
        super().handle_deadline(now)
        if self._ack_due is not None and now >= self._ack_due:
            self._ack_due, self._ack_sent_at = None, -math.inf  # goes with the next bytes
        if not self.ended:
            self._send_want(now)

    def status(self, now: float) -> SessionStatus:
        """To be shown."""
        state = "ended" if self.ended else "synced" if self.synced else self._how
        following = self._following
        return SessionStatus(
            peer=self.peer, role=self.role, state=state, since=self.since,
            position=following.position if following else 0, acknowledged=self._acked.position,
            lag_states=sum(1 for each in self._undone if not each.is_done),
            lag=now - self._undone[0].at if self._undone else 0.0,
            bytes_sent=self.bytes_sent, bytes_received=self.bytes_received, bulk_rows=self._rows_in_kernel,
            bulk_total=self._sync.rows if self._sync else self._rows,
            rows=self._owner.replica.rows_of(self.node) if self.node else 0,
        )  # fmt: skip
