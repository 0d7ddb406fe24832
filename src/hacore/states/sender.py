"""The origin's end of a connection: a cursor into the log, and a bulk update or a repair where the log does not reach.

What goes out, in this order: answers and pings; the log up to its end; a DIGESTS frame that was asked for; a chunk of
the running sync. The latter two only when the cursor stands at the log's end, so that they are of exactly the
position that the replica has, and only while `Replication.may_speak`: both tell what there is not, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from hacore._fast.codec import encode_chunk
from hacore.errors import WireError
from hacore.states import frames, greeting
from hacore.states.events import Repaired, Synced, SyncStarted
from hacore.states.frames import NO_PARTITIONS, Kind, Partitions, SyncBegin, SyncEnd, Want
from hacore.states.gather import join, keys, pick
from hacore.states.layout import Keys, Rows
from hacore.states.masters import generations, masters_of
from hacore.states.ownership import SELF
from hacore.states.session import Session, SessionStatus

if TYPE_CHECKING:
    from hacore.states.replication import Replication

Epochs = npt.NDArray[np.uint32]

BULK_SHARE: Final = 0.5
"""Of the partitions: when more differ, a bulk update is no more work."""


class SenderSession(Session):
    """Made by `Replication.dial`."""

    role = "origin"

    def __init__(self, owner: Replication, expected: str, now: float) -> None:
        super().__init__(owner, expected, now)
        self.acknowledged = 0
        self.bulk_rows = 0
        self.bulk_total = 0
        self._cursor = 0
        self._how = "hello"
        self._target = 0  # of a resumption: the position with which the replica has caught up
        self._digests_due = False
        self._digests_sent = False
        self._answers_ignored = 0
        self._digest_secret = b""
        self._compare_at = np.inf
        self._jumped = False  # and what is expected was not told since: digests do not say it
        self._number = 0  # of the sync
        self._syncing = False  # chunks are still to be made
        self._sync_started = now
        self._partitions = NO_PARTITIONS
        self._scan: int | None = None
        self._ready: list[tuple[int, Rows]] = []  # of one epoch each, as they were
        self._ready_at = 0  # position of the log when they were read
        self._deferred: list[tuple[Keys, Keys]] = []  # connections that others expected, and those: they come last
        self._last: list[Keys] = []  # the same in their order, the first to go at the end
        self._chunks = 0
        self._acknowledged_parts = 0
        self._rows_in: list[int] = []  # rows of the sync up to and with each chunk
        self._handlers = {Kind.ACK: self._acked, Kind.DIFFERENCES: self._differences, Kind.WANT: self._wanted}
        self._out.append(greeting.hello_frame(owner.hello()))

    def _greeting(self) -> Kind:
        return Kind.WELCOME

    def _greet(self, body: bytes, now: float) -> None:
        welcome = greeting.read_welcome(body)
        node = self._accept(welcome.hello, now)
        owner, log = self._owner, self._owner.log
        same = welcome.instance == owner.instance
        resumable = same and welcome.complete and log.holds(welcome.position) and owner.may_speak
        behind = log.last - welcome.position if resumable else 0
        if resumable and behind and not owner.ownership.master and welcome.hello.epoch > owner.ownership.epoch:
            owner.origin.drop_queue(f"{node.name} is of a newer epoch", now)
            resumable = False
        if resumable:
            self._cursor = self.acknowledged = node.acknowledged = welcome.position
            self._target = log.last
            self._out.append(frames.resume_frame(welcome.position, self._target))
            owner.announce(now)  # the hello may be older
            self._start("resume", f"{behind} frames behind", now)
        elif welcome.rows:
            self._jump()
            self.order_digests(now)
            self._start("repair", "another position" if same else "a new start", now)
        else:
            self.order_bulk("the replica has nothing", now)

    def _start(self, how: str, reason: str, now: float) -> None:
        self._how, self._sync_started, self.since, self.synced = how, now, now, False
        self._owner.journal.append(SyncStarted(at=now, peer=self.peer, role=self.role, how=how, reason=reason))
        self._check_resumed(now)

    # Orders

    def order_bulk(self, reason: str, now: float) -> None:
        """A bulk update from the start, whatever the replica has."""
        if self.node is None or self.ended:
            return
        self._owner.inherit(now)
        self._jump()
        self._forget_digests()
        self._begin(NO_PARTITIONS, now)
        self._start("bulk", reason, now)

    def order_digests(self, now: float) -> None:
        """A comparison of digests as soon as the cursor is at the log's end."""
        if self.node is not None and not self.ended and not self._digests_sent:
            self._digests_due, self._compare_at = True, now + self._owner.settings.digest_interval
            self._uncertain()

    def _forget_digests(self) -> None:
        """An answer that is still to come is of no use any more."""
        self._answers_ignored += self._digests_sent
        self._digests_due = self._digests_sent = False

    def _uncertain(self) -> None:
        self._owner.origin.whole_for.add(self)

    def _certain(self) -> None:
        if not (self._syncing or self._digests_due or self._digests_sent):
            self._owner.origin.whole_for.discard(self)

    def _jump(self) -> None:
        """The cursor goes to the log's end; the replica is told that it misses what lies between."""
        self._cursor, self._jumped = self._owner.log.last, True
        ownership = self._owner.ownership
        self._out.append(frames.jump_frame(self._cursor, ownership.epoch, ownership.master, ownership.known))

    def _begin(self, partitions: Partitions, now: float) -> None:
        table = self._owner.table
        self._uncertain()
        self._number += 1
        self._syncing, self._partitions = True, partitions
        self._scan, self._ready, self._deferred, self._last = None, [], [], []
        self._chunks = self._acknowledged_parts = self.bulk_rows = 0
        self._rows_in = []
        if len(partitions):
            rows = table.select(partitions, owner=SELF, now=int(now))
            epochs = self._epochs(rows)
            expected = rows["master_protocol"] != 0
            self._divide_in_order(pick(rows, expected), epochs[expected])  # the last that is made ready goes first
            self._divide(pick(rows, ~expected), epochs[~expected])
            self._scan = 0
            self.bulk_total = len(rows)
        else:
            owners = table.metadata()["owner"] if len(table) else np.zeros(0, dtype=np.uint8)
            self.bulk_total = int(np.count_nonzero(owners == SELF))
        begin = SyncBegin(self._number, self._cursor, self.bulk_total, self._owner.secret, partitions)
        self._out.append(frames.sync_begin_frame(begin))

    # The stream

    @property
    def has_something(self) -> bool:
        """Whether `data_to_send` may have something to give."""
        if self._out or self._cursor != self._owner.log.last:
            return True
        return (self._digests_due or self._syncing) and self._owner.may_speak

    def _fill(self, now: float, limit: int) -> None:
        if self.node is None:
            return
        log, out = self._owner.log, self._out
        room = limit - sum(map(len, out))
        while room > 0:
            if self._cursor < log.last:
                if not log.holds(self._cursor):
                    self._fall_behind(now)
                    continue
                found, self._cursor = log.read(self._cursor, room)
                out += found
                room -= sum(map(len, found))
            elif not self._owner.may_speak:
                break
            elif self._digests_due and not self._syncing:
                self._digests_due, self._digests_sent = False, True
                self._digest_secret = self._owner.secret
                digests = self._owner.table.digests(SELF)
                out.append(frames.digests_frame(self._cursor, self._owner.secret, digests))
                room -= len(out[-1])
            elif self._syncing and self._chunks - self._acknowledged_parts < self._owner.settings.bulk_window:
                data = self._next_part(now)
                out.append(data)
                room -= len(data)
            else:
                break

    def _fall_behind(self, now: float) -> None:
        """What this peer has not got yet has left the log: digests tell what it misses."""
        self._jump()
        self._forget_digests()  # an answer would be of rows before the gap
        self.order_digests(now)
        if not self._syncing:
            self._start("repair", "too far behind for the log", now)

    def _next_part(self, now: float) -> bytes:
        while self._ready or self._scan != 0 or self._deferred or self._last:
            if not self._ready:
                if self._scan != 0:
                    self._scan_on(now)
                elif self._deferred:
                    self._order_deferred()
                else:
                    self._look_up(self._last.pop(), now)
                continue
            epoch, rows = self._ready.pop()
            rows = rows if self._ready_at == self._owner.log.last else self._untold(epoch, rows)
            if not len(rows):
                continue
            data = frames.sync_rows_frame(self._number, self._chunks, epoch, encode_chunk(rows))
            self._chunks += 1
            self._rows_in.append((self._rows_in[-1] if self._rows_in else 0) + len(rows))
            return data
        self._syncing = False
        self._certain()
        self._tell_expectations(now)
        end = SyncEnd(self._number, self._chunks, self._rows_in[-1] if self._rows_in else 0)
        self._chunks += 1  # the end is a part, too
        return frames.sync_end_frame(end)

    def _tell_expectations(self, now: float) -> None:
        self._jumped = False
        self._owner.origin.expectations.send_all(now)

    def _scan_on(self, now: float) -> None:
        """The next rows of the scan, with their epochs: positions run down, as the scan does."""
        table = self._owner.table
        top = len(table) if self._scan is None else min(self._scan, len(table))
        rows, self._scan = table.scan(self._scan, self._owner.settings.bulk_rows, owner=SELF, now=int(now))
        if len(rows):
            metadata = table.metadata()[self._scan : top]
            epochs = metadata["epoch"][metadata["owner"] == SELF][::-1]
            expected = rows["master_protocol"] != 0
            if expected.any():
                late = pick(rows, expected)
                self._deferred.append((keys(late), keys(masters_of(late))))
                rows, epochs = pick(rows, ~expected), epochs[~expected]
            self._divide(rows, epochs)

    def _untold(self, epoch: int, rows: Rows) -> Rows:
        """Those that are as they were. The log has told the others since, whole, and this would undo it."""
        table = self._owner.table
        if not len(table):
            return rows[:0]
        positions = table.find(rows)
        known = pick(table.rows(), positions)
        known["timeout"] = rows["timeout"]
        octets = [each.view(np.uint8).reshape(len(rows), -1) for each in (known, rows)]
        metadata = table.metadata()[positions]
        same = (positions >= 0) & (metadata["owner"] == SELF) & (metadata["epoch"] == epoch)
        same &= (octets[0] == octets[1]).all(axis=1)
        return rows if same.all() else pick(rows, same)

    def _order_deferred(self) -> None:
        """Each after the one that expected it, which may be among them: so it is with the calls of H.323."""
        own, masters = (join(parts) for parts in zip(*self._deferred, strict=True))
        self._deferred = []
        own = pick(own, np.argsort(generations(own, masters), kind="stable"))
        most = self._owner.settings.bulk_rows
        self._last = [own[start : start + most] for start in range(0, len(own), most)][::-1]

    def _look_up(self, wanted: Keys, now: float) -> None:
        """Rows that the scan has put off, as they are by now."""
        table = self._owner.table
        positions = table.find(wanted)
        positions = positions[positions >= 0]
        if len(positions):
            positions = positions[table.metadata()["owner"][positions] == SELF]
        if len(positions):
            rows = pick(table.rows(), positions)
            rows["timeout"] = self._owner.origin.left(rows, positions, now)
            self._divide_in_order(rows, table.metadata()["epoch"][positions])

    def _epochs(self, rows: Rows) -> Epochs:
        if not len(rows):
            return np.zeros(0, dtype=np.uint32)
        epochs: Epochs = self._owner.table.metadata()["epoch"][self._owner.table.find(rows)]
        return epochs

    def _divide(self, rows: Rows, epochs: Epochs) -> None:
        """Chunks of one epoch each."""
        most = self._owner.settings.bulk_rows
        self._ready_at = self._owner.log.last
        if not len(rows):
            return
        if (epochs == epochs[0]).all():
            groups = [(int(epochs[0]), rows)]
        else:
            groups = [(int(epoch), pick(rows, epochs == epoch)) for epoch in np.unique(epochs)]
        for epoch, group in groups:
            self._ready += [(epoch, group[start : start + most]) for start in range(0, len(group), most)]

    def _divide_in_order(self, rows: Rows, epochs: Epochs) -> None:
        """The same of connections that others expected: those come in an earlier chunk, or in the same."""
        if not len(rows):
            return
        order = np.lexsort((epochs, generations(keys(rows), keys(masters_of(rows)))))
        rows, epochs = pick(rows, order), epochs[order]
        for run in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(epochs)) + 1)[::-1]:
            most = self._owner.settings.bulk_rows
            starts = range(int(run[0]), int(run[-1]) + 1, most)
            self._ready += [(int(epochs[at]), rows[at : min(at + most, int(run[-1]) + 1)]) for at in reversed(starts)]
        self._ready_at = self._owner.log.last

    # Answers

    def _acked(self, body: bytes, now: float) -> None:
        position, number, parts = frames.read_ack(body)
        if not self.acknowledged <= position <= self._cursor:
            raise WireError("position", f"position {position} is acknowledged, {self._cursor} was sent")
        assert self.node is not None
        self.acknowledged = self.node.acknowledged = position
        self._owner.trim()
        if number == self._number and parts > self._acknowledged_parts:
            if parts > self._chunks:
                raise WireError("chunk", f"{parts} chunks are acknowledged, {self._chunks} were sent")
            self._acknowledged_parts = parts
            if self._rows_in:
                self.bulk_rows = self._rows_in[min(parts, len(self._rows_in)) - 1]
            if not self._syncing and parts == self._chunks:
                if self._how == "repair":
                    count, rows = len(self._partitions), self.bulk_rows
                    repaired = Repaired(at=now, peer=self.peer, role=self.role, partitions=count, rows=rows)
                    self._owner.journal.append(repaired)
                self._in_sync(now)
        self._check_resumed(now)

    def _check_resumed(self, now: float) -> None:
        if self._how == "resume" and not self.synced and self.acknowledged >= self._target:
            self._in_sync(now)

    def _in_sync(self, now: float) -> None:
        if self._digests_due or self._digests_sent or self._syncing:
            return
        if not self.synced:
            self.synced, self.since = True, now
            duration = now - self._sync_started
            synced = Synced(
                at=now, peer=self.peer, role=self.role, how=self._how, rows=self.bulk_rows, duration=duration
            )
            self._owner.journal.append(synced)
        self._compare_at = now + self._owner.settings.digest_interval

    def _differences(self, body: bytes, now: float) -> None:
        differences = frames.read_differences(body)
        if self._answers_ignored:
            self._answers_ignored -= 1
            return
        if not self._digests_sent:
            raise WireError("order", "an answer to digests that were not sent")
        self._digests_sent = False
        partitions = differences.partitions
        if not differences.compared:
            self._owner.heard_secret(self, differences.secret)
            self.order_digests(now)
        elif self._digest_secret != self._owner.secret:
            self.order_digests(now)
        elif not len(partitions):
            if self._jumped:
                self._tell_expectations(now)
            self._certain()
            self._in_sync(now)
        elif int(partitions[-1]) >= self._owner.table.partitions:
            raise WireError("partition", f"there is no partition {partitions[-1]}")
        elif len(partitions) > BULK_SHARE * self._owner.table.partitions:
            self.order_bulk(f"{len(partitions)} partitions differ", now)
        else:
            self._begin(partitions, now)
            self._start("repair", f"{len(partitions)} partitions differ", now)

    def _wanted(self, body: bytes, now: float) -> None:
        if frames.read_want(body) is Want.BULK:
            self.order_bulk("the replica asked for it", now)
        else:
            self.order_digests(now)

    # Time, and what is shown

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called next, if ever."""
        deadline = super().next_deadline()
        if deadline is None:
            return None
        return min(deadline, self._compare_at) if self.synced else deadline

    def handle_deadline(self, now: float) -> None:
        """Timers that are due by `now`."""
        super().handle_deadline(now)
        if not self.ended and self.synced and now >= self._compare_at:
            self.order_digests(now)

    def status(self, now: float) -> SessionStatus:
        """To be shown."""
        log = self._owner.log
        lag_states, since = log.lag(self.acknowledged) if self.node else (0, None)
        state = "synced" if self.synced else "comparing" if self._digests_due or self._digests_sent else self._how
        table = self._owner.table
        rows = int(np.count_nonzero(table.metadata()["owner"] == SELF)) if len(table) else 0
        return SessionStatus(
            peer=self.peer, role=self.role, state="ended" if self.ended else state, since=self.since,
            position=self._cursor, acknowledged=self.acknowledged, lag_states=lag_states, lag=0.0 if since is None
            else now - since, bytes_sent=self.bytes_sent, bytes_received=self.bytes_received, bulk_rows=self.bulk_rows,
            bulk_total=self.bulk_total, rows=rows,
        )  # fmt: skip
