"""The replica: rows that the peers own, into the table and, as work, for the kernel.

Whatever comes with an older epoch than a row has, or loses against the row's owner otherwise, is refused row by row.
An update that meets another row than it was made from is left out; the session then asks for digests, and the
partition is repaired.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from hacore._fast.codec import Changes, decode_changes, decode_chunk
from hacore._fast.row import KEY_BYTES, ROW_DTYPE
from hacore._fast.stream import apply
from hacore._fast.table import CHANGED, DELETED, FULL, NEW, REFRESHED, Table
from hacore.errors import WireError
from hacore.states.expectations import Expectations, Expected
from hacore.states.frames import Body, Digests, Partitions, read_expectations
from hacore.states.gather import NO_ROWS, join, pick
from hacore.states.layout import Keys, Rows
from hacore.states.masters import places_of_masters
from hacore.states.ownership import SELF, Node, Ownership
from hacore.states.spared import Spared

Mask = npt.NDArray[np.bool_]

NO_FLAGS: Final[Mask] = np.zeros(0, dtype=np.bool_)
_NOTHING: Final = NO_ROWS, NO_FLAGS, NO_FLAGS

REPLY_BYTES: Final = 38
"""The reply tuple and its zone, which follow the key."""

TCP: Final = 6
TCP_CLOSING: Final = (4, 5, 6, 7, 8)
"""TCP_CONNTRACK_FIN_WAIT to TCP_CONNTRACK_CLOSE (linux/netfilter/nf_conntrack_tcp.h): a row in these goes by itself
soon.
"""


class Receipt(Protocol):
    """What a session wants to hear of when its work is in the kernel."""

    def done(self, now: float) -> None:
        """It is."""


class Work(NamedTuple):
    """What one frame changes in the kernel. No key comes twice in one of these; the order between them matters.

    Attributes:
        rows: to be put into the kernel.
        new: for each of `rows`, whether it is to be inserted, not updated: the table did not have it, or had it with
            another reply tuple, so that the kernel has no such entry; or it comes in a bulk update, which takes nothing
            in the kernel for granted.
        cleared: for each of `rows`, whether it had labels that it has no more.
        deleted: rows to be taken out of the kernel, as they were.
        expectations, expectations_gone: likewise, for `inject_expectations`; zones are filled in.
        receipt: for `Replica.done`.
    """

    rows: Rows
    new: Mask
    cleared: Mask
    deleted: Rows
    expectations: Expectations | None = None
    expectations_gone: Expectations | None = None
    receipt: Receipt | None = None

    def __len__(self) -> int:
        return len(self.rows) + len(self.deleted)


class Following:
    """How far this node follows an origin; outlives the connections.

    Attributes:
        position: of `instance`'s log, applied to the table.
        complete: no change up to it is missing.
        generation: of the table's rows, goes up with each sync.
        expectations: that this origin has in the kernel here.
    """

    __slots__ = ("complete", "expectations", "generation", "instance", "position")

    def __init__(self) -> None:
        self.instance = bytes(16)
        self.position = 0
        self.complete = False
        self.generation = 0
        self.expectations = Expected()


class Replica:
    """Of all peers: one queue of work in the order in which the frames came."""

    def __init__(self, table: Table, ownership: Ownership, spared: Spared) -> None:
        self.refused = 0
        """Rows ever, with an older epoch or lost against another owner's."""
        self.mismatched = 0
        """Frames ever with updates that met other rows than they were made from."""
        self.handled = 0
        """Changes of rows ever, whatever became of them."""
        self._table = table
        self._ownership = ownership
        self._spared = spared
        self._queue: deque[Work] = deque()
        self._pending = 0
        self._following: dict[int, Following] = {}

    def following(self, node: Node) -> Following:
        """How far this node follows that one."""
        found = self._following.get(node.index)
        if found is None or found.instance != node.instance:
            former, found = found, Following()
            self._following[node.index] = found
            found.instance = node.instance
            if former is not None:
                found.generation, found.expectations = former.generation, former.expectations
        return found

    # Work

    @property
    def pending_rows(self) -> int:
        """Rows in the work that was not taken yet. With `ReplicationSettings.pending_rows` of them the sessions
        handle no more, and `wait`.
        """
        return self._pending

    def work(self, limit: int = 1 << 62) -> list[Work]:
        """Takes work for the kernel: whole frames, until there are `limit` rows."""
        taken: list[Work] = []
        while self._queue and limit > 0:
            work = self._queue.popleft()
            limit -= len(work)
            self._pending -= len(work)
            taken.append(work)
        return taken

    def done(self, work: Work, now: float) -> None:
        """It is in the kernel: the origin is told."""
        if work.receipt is not None:
            work.receipt.done(now)

    def _enqueue(self, work: Work) -> None:
        self._queue.append(work)
        self._pending += len(work)

    # Frames

    def changes(self, node: Node, epoch: int, chunk: Body, now: float, receipt: Receipt) -> bool:
        """Applies a chunk of changes; False when updates met other rows than they were made from.

        Raises:
            WireError: it is no chunk of changes, or a row in it is none that a kernel can have.
        """
        changes = decode_changes(chunk, strict=True)
        self.handled += len(changes)
        if self._ownership.only_owner(node.index):
            return self._apply(changes, node, epoch, now, receipt)
        whole = True
        known, known_found = self._updated(changes, node)
        doomed, doomed_deleted = self._doomed(changes, node)
        parts: list[Rows] = []
        if len(changes.inserted):
            parts.append(changes.inserted)
        if len(known):
            try:
                if not known_found:
                    raise WireError("base", "a row to be updated is not there")
                parts.append(changes.apply(known))
            except WireError as error:
                if error.rung != "base":
                    raise
                self.mismatched += 1
                whole = False
        rows, new, cleared = self._put(node, epoch, join(parts), False, now) if parts else _NOTHING
        deleted = self._delete(node, epoch, doomed, now) if len(doomed) else NO_ROWS
        if not doomed_deleted:
            whole = False
        if len(rows) or len(deleted):
            self._enqueue(Work(rows, new, cleared, deleted, receipt=receipt))
        else:
            receipt.done(now)
        return whole

    def _apply(self, changes: Changes, node: Node, epoch: int, now: float, receipt: Receipt) -> bool:
        """The same where all rows are those of `node`."""
        rows, new, cleared, deleted, matched, found, _refused = apply(
            self._table, changes, owner=node.index, epoch=epoch, generation=self.following(node).generation,
            now=int(now),
        )  # fmt: skip
        self.mismatched += not matched
        if len(rows):
            node.has_rows = True
        if len(deleted):
            deleted = self._spare(deleted, now)
        if len(rows) or len(deleted):
            self._enqueue(Work(rows, new, cleared, deleted, receipt=receipt))
        else:
            receipt.done(now)
        return matched and found

    def _updated(self, changes: Changes, node: Node) -> tuple[Rows, bool]:
        """The rows that are to be updated, as they are here, and whether all were found."""
        if len(changes.updated_names):
            positions = self._table.resolve(changes.updated_names, owner=node.index)
        elif len(changes.updated_keys):
            positions = self._table.find(changes.updated_keys)
        else:
            return NO_ROWS, True
        if (positions < 0).any():
            return np.zeros(len(positions), dtype=ROW_DTYPE), False
        return pick(self._table.rows(), positions), True

    def _doomed(self, changes: Changes, node: Node) -> tuple[Keys, bool]:
        """The rows (or only their keys) that are to be deleted, and whether every name was found."""
        if not len(changes.deleted_names):
            return changes.deleted_keys, True
        positions = self._table.resolve(changes.deleted_names, owner=node.index)
        found = positions >= 0
        whole = bool(found.all())
        rows = pick(self._table.rows(), positions if whole else positions[found]) if found.any() else NO_ROWS
        if len(changes.deleted_keys):
            by_key = np.zeros(len(changes.deleted_keys), dtype=ROW_DTYPE)
            by_key.view(np.uint8).reshape(len(by_key), -1)[:, :40] = changes.deleted_keys.view(np.uint8).reshape(
                len(by_key), 40
            )
            rows = join([rows, by_key])
        return rows, whole

    def _put(
        self, node: Node, epoch: int, rows: Rows, alone: bool, now: float, *, bulk: bool = False
    ) -> tuple[Rows, Mask, Mask]:
        """Rows that `node` owns into the table; `rows`, `new` and `cleared` of the work that comes of them."""
        table = self._table
        if not alone and len(table):
            positions = table.find(rows)
            found = positions >= 0
            metadata = table.metadata()
            owners = metadata["owner"][positions]
            wins = self._ownership.wins(node.index, epoch, owners, metadata["epoch"][positions]) | ~found
            if not wins.all():
                self.refused += len(rows) - int(np.count_nonzero(wins))
                rows = pick(rows, wins)
        if not len(rows):
            return _NOTHING
        before = np.empty(len(rows), dtype=ROW_DTYPE)
        outcomes = table.put(
            rows, owner=node.index, epoch=epoch, generation=self.following(node).generation, now=int(now), before=before
        )
        node.has_rows = True
        new = outcomes == NEW
        if new.all():
            return rows, new, np.zeros_like(new)
        cleared = (outcomes == CHANGED) & ~rows["labels"].any(axis=1)
        cleared[cleared] = before["labels"][cleared].any(axis=1)
        if bulk:
            new = wanted = outcomes != FULL
        else:
            new |= (outcomes == CHANGED) & rebound(before, rows)
            wanted = new | (outcomes == CHANGED) | (outcomes == REFRESHED)
        return (rows, new, cleared) if wanted.all() else (pick(rows, wanted), new[wanted], cleared[wanted])

    def _delete(self, node: Node, epoch: int, doomed: Keys | Rows, now: float) -> Rows:
        """Takes rows out of the table, those of `node`, and those that it has outlived; what the kernel is to lose."""
        table = self._table
        positions = table.find(doomed)
        mine = positions >= 0
        if len(table):
            metadata = table.metadata()[positions]
            left = self._ownership.left_to(node.index, epoch, metadata["owner"], metadata["epoch"])
            mine &= (metadata["owner"] == node.index) | left
        if not mine.all():
            doomed = pick(doomed, mine)
        if not len(doomed):
            return NO_ROWS
        before = np.empty(len(doomed), dtype=ROW_DTYPE)
        outcomes = table.delete(doomed, before=before)
        deleted = outcomes == DELETED
        return self._spare(before if deleted.all() else pick(before, deleted), now)

    def _spare(self, deleted: Rows, now: float) -> Rows:
        """What the kernel is to lose. A MASTER keeps what another one deletes but for TCP connections that have ended.

        A flow that has moved here and never sends an event (UDP, established TCP) expires on the node that it has
        left. Here it may be alive, which the next comparisons tell; if it is not, it goes by its own timeout.
        """
        if not self._ownership.master or not len(deleted):
            return deleted
        lost = (deleted["protocol"] == TCP) & np.isin(deleted["protocol_state"], TCP_CLOSING)
        lost[~lost] = ~self._spared.keep(pick(deleted, ~lost), now)
        return pick(deleted, lost)

    def clear(self, node: Node, now: float, receipt: Receipt) -> None:
        """`node` owns nothing any more."""
        parts: list[Rows] = [NO_ROWS]
        cursor: int | None = None
        while cursor != 0:
            rows, cursor = self._table.scan(cursor, 65_536, owner=node.index)
            self._table.delete(rows)
            parts.append(rows)
        node.has_rows = False
        deleted = self._spare(join(parts), now)
        gone = self._own(node, self.following(node).expectations.all(now))
        self.following(node).expectations.clear()
        if len(deleted) or len(gone):
            self._enqueue(Work(NO_ROWS, NO_FLAGS, NO_FLAGS, deleted, None, gone if len(gone) else None, receipt))
        else:
            receipt.done(now)

    def expectations(self, node: Node, body: Body, now: float, receipt: Receipt) -> None:
        """Expectations of `node`. The kernel does not tell their zone: it is that of the connection that expects."""
        whole, new, gone = read_expectations(body)
        self.handled += len(new) + len(gone)
        held = self.following(node).expectations
        if whole:
            new, gone = held.replace(new, now)
        else:
            held.observe(np.concatenate([gone, new]), np.arange(len(gone) + len(new)) >= len(gone), now)
        gone = self._own(node, gone)
        if len(new) or len(gone):
            self._enqueue(Work(NO_ROWS, NO_FLAGS, NO_FLAGS, NO_ROWS, self._zoned(new), self._zoned(gone), receipt))
        else:
            receipt.done(now)

    def _own(self, node: Node, gone: Expectations) -> Expectations:
        """Without those of connections that have moved to another MASTER, which tells of them by now."""
        telling = [
            each.index
            for each in self._ownership.nodes
            if each is not node and each.master and (each.index == SELF or each.connected)
        ]
        if not telling or not len(gone) or not len(self._table):
            return gone
        places = places_of_masters(self._table, gone)
        return gone[(places < 0) | ~np.isin(self._table.metadata()["owner"][places], telling)]

    def _zoned(self, expectations: Expectations) -> Expectations | None:
        if not len(expectations):
            return None
        found = expectations.copy()
        places = places_of_masters(self._table, found)
        known = places >= 0
        found["zone"][known] = self._table.rows()["zone"][places[known]]
        return found

    def take_over(self, node: Node, epoch: int, name: str, instance: bytes) -> int:
        """`node` goes on as the owner of the rows of that life of another one; how many it got."""
        former = self._ownership.life(name, instance)
        if former is None or former is node or former.epoch >= epoch or not len(self._table):
            return 0
        # As seen in this generation: a repair that is under way may have passed them by as another's.
        generation = self.following(node).generation
        count = self._table.hand_over(former.index, to=node.index, epoch=epoch, generation=generation)
        former.has_rows = False
        node.has_rows = node.has_rows or count > 0
        self._ownership.forget(former)
        return count

    # Syncs

    def begin_sync(self, node: Node) -> None:
        """What is put from now on has been seen in this sync."""
        following = self.following(node)
        following.generation = following.generation % 255 + 1
        following.complete = False

    def sync_rows(self, node: Node, epoch: int, chunk: Body, now: float, receipt: Receipt, *, bulk: bool) -> int:
        """A chunk of rows; how many it has. All of a `bulk` update go to the kernel, those that the table has as well:
        the kernel may have lost them.

        Raises:
            WireError: it is no chunk of rows, or one of them is none that a kernel can have.
        """
        rows = decode_chunk(chunk, strict=True)
        self.handled += len(rows)
        wanted, new, cleared = self._put(node, epoch, rows, self._ownership.only_owner(node.index), now, bulk=bulk)
        if len(wanted):
            self._enqueue(Work(wanted, new, cleared, NO_ROWS, receipt=receipt))
        else:
            receipt.done(now)
        return len(rows)

    def end_sync(self, node: Node, partitions: Partitions, now: float, receipt: Receipt) -> int:
        """Rows of `node` that did not come (in these partitions, or at all) are deleted; how many."""
        table = self._table
        generation = self.following(node).generation
        if len(partitions):
            rows = table.select(partitions, owner=node.index)
            if len(rows):
                seen = table.metadata()["generation"][table.find(rows)] == generation
                rows = pick(rows, ~seen)
        else:
            rows = table.stale(generation, owner=node.index)
        if len(rows):
            table.delete(rows)
            deleted = self._spare(rows, now)
            self._enqueue(Work(NO_ROWS, NO_FLAGS, NO_FLAGS, deleted, receipt=receipt))
        else:
            receipt.done(now)
        return len(rows)

    def differences(self, node: Node, digests: Digests) -> Partitions:
        """The partitions in which this node has other rows of `node`."""
        mine = self._table.digests(node.index)
        differing: Partitions = np.flatnonzero((mine != digests).any(axis=1)).astype(np.uint16)
        return differing

    def rows_of(self, node: Node) -> int:
        """How many rows `node` owns here."""
        return int(np.count_nonzero(self._table.metadata()["owner"] == node.index)) if len(self._table) else 0


def rebound(before: Rows, after: Rows) -> Mask:
    """Which rows are translated otherwise than before: the addresses and ports of a connection that has ended were
    used again.
    """
    reply = slice(KEY_BYTES, KEY_BYTES + REPLY_BYTES)
    octets = [rows.view(np.uint8).reshape(len(rows), -1)[:, reply] for rows in (before, after)]
    return np.asarray((octets[0] != octets[1]).any(axis=1))
