"""The origin: what the kernel's own table says, into the table and the log.

Events are brought down to what they come to for each key in a batch, put into the table at once, and what has changed
is encoded once. A row is sent as its difference against what every replica has, unless one of them is not known to
have it: while a bulk update or a comparison of digests runs, rows are sent whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hacore._fast.codec import encode_changes
from hacore._fast.ctnetlink import EVENT_DESTROY, HAS_ALL, HAS_STATE, HAS_TIMEOUT, complete
from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE
from hacore._fast.row import ROW_DTYPE
from hacore._fast.stream import MAX_EVENTS, observe
from hacore._fast.table import CHANGED, DELETED, FULL, NEW, REFRESHED, SAME, Table
from hacore.states.events import AnyEvent, NotFitted, QueueDropped
from hacore.states.expectation_origin import ExpectationOrigin
from hacore.states.frames import Kind, takeover_body
from hacore.states.gather import NO_KEYS, NO_ROWS, join, keys, pick, place
from hacore.states.layout import TCP_FLAGS, TCP_FLAGS_SHARED, Rows
from hacore.states.log import Log
from hacore.states.ownership import SELF, Node, Ownership
from hacore.states.spared import Spared

FRAME_ROWS: Final = 8192
"""Changes of each kind in one frame: 1.7 MB when nothing can be saved."""
CLEARED_ROWS: Final = 256
"""That are gone at once, and were all: one frame says so."""
NOT_FITTED_INTERVAL: Final = 60.0

OFFLOAD: Final = 1 << 14
"""IPS_OFFLOAD (linux/netfilter/nf_conntrack_common.h)."""

Mask = npt.NDArray[np.bool_]
Names = npt.NDArray[np.int64]
"""Of rows, -1 for one without."""


class Origin:
    """Kernel events and dumps come here in batches. Echoes of this node's own injecting and what the settings ignore
    are left out before.

    Counters (`int`, ever): `observed` events, `claimed` rows taken over from another owner, `contested` rows that
    traffic changed here and another node keeps, `sightings` destroy events of rows of connected peers, left alone.
    """

    def __init__(
        self,
        table: Table,
        ownership: Ownership,
        log: Log,
        journal: list[AnyEvent],
        spared: Spared,
        *,
        slack: int,
        named: Callable[[], bool],
    ) -> None:
        self.observed = 0
        self.claimed = 0
        self.contested = 0
        self.sightings = 0
        self.knows_kernel = False
        """The table has had all that is in the kernel, once at least since the start: a comparison came to its end, or
        this node was in sync with a MASTER. See `Replication.may_speak`.
        """
        self.reconciled_at = -np.inf
        """When the last comparison with the kernel's table began."""
        self.whole_for: set[object] = set()
        """Who is not known to have all rows: while anybody is in here, rows are sent whole."""
        self._table = table
        self._ownership = ownership
        self._log = log
        self._journal = journal
        self._spared = spared
        self._slack = slack
        self._named = named
        self._generation = 1
        self._away: dict[int, int] = {}
        """Nodes that nobody spoke for when the last comparison began: index, and `Node.lost_epoch` at the time."""
        self.expectations = ExpectationOrigin(table, ownership, log, slack=slack)
        self._not_fitted_at = -np.inf
        self._not_fitted = 0

    # Events

    def observe(self, rows: Rows, events: Rows, now: float) -> int:
        """Events as `EventSocket.receive` gives them: (n,) rows and EVENT_DTYPE beside them, in order; how many
        changes came of them.

        A key may come any number of times. `rows` is overwritten (completed). Returns changes put into the log.
        """
        count = len(rows)
        if not count:
            return 0
        self.observed += count
        _share(rows)
        self._spared.forget(rows)
        ownership, log = self._ownership, self._log
        if ownership.others_own:
            alive = events["kind"] != EVENT_DESTROY
            allowed = self._allowed(self._table.find(rows), alive, now)
            if not allowed.all():
                rows, events = pick(rows, allowed), events[allowed]
        differences = self._sends_differences
        named = differences and self._named()
        ever = 0
        for start in range(0, len(rows), MAX_EVENTS):
            part = slice(start, start + MAX_EVENTS)
            chunk, changes, refused = observe(
                self._table, rows[part], events[part], epoch=ownership.epoch, generation=self._generation, now=int(now),
                named=named, differences=differences, encode=log.wanted,
            )  # fmt: skip
            ever += changes
            if chunk:
                log.append(Kind.CHANGES, ownership.epoch, changes, now, chunk)
            elif changes:
                log.skip(changes)
            if refused:
                self.not_fitted(refused, now)
        if ever:
            ownership.me.has_rows = True
        return ever

    def _allowed(self, positions: npt.NDArray[np.int64], alive: Mask, now: float) -> Mask:
        """Which events may change the table: those of rows of other owners only as the rules of ownership have it."""
        ownership = self._ownership
        found = positions >= 0
        allowed: Mask = np.ones(len(positions), dtype=np.bool_)
        if not found.any():
            return allowed
        metadata = self._table.metadata()
        owners = np.where(found, metadata["owner"][positions], SELF)
        foreign = owners != SELF
        if not foreign.any():
            return allowed
        connected = np.zeros(256, dtype=np.bool_)
        for node in ownership.nodes:
            connected[node.index] = node.connected
        spoken_for = foreign & connected[owners]
        sighted = spoken_for & ~alive
        self.sightings += int(np.count_nonzero(sighted))
        if not ownership.master:
            own: Mask = ~foreign
            return own
        touched = foreign & alive
        epochs = metadata["epoch"][positions]
        lost = touched & ~ownership.wins(SELF, ownership.epoch, owners, epochs)
        if lost.any() and ownership.may_contest(now):
            ownership.raise_epoch("traffic on rows of another node with a higher epoch", now)
            lost[:] = False
        self.contested += int(np.count_nonzero(lost))
        self.claimed += int(np.count_nonzero(touched & ~lost))
        allowed &= ~(sighted | lost)
        return allowed

    def displaced(self, rows: Rows, now: float) -> None:
        """Entries that had to make way for a peer's: rows of this node among them are no more."""
        positions = self._table.find(rows)
        own = positions >= 0
        own[own] = self._table.metadata()["owner"][positions[own]] == SELF
        self._delete(pick(rows, own), now)

    def _delete(self, gone: Rows, now: float) -> int:
        """Rows that are in the table are taken out of it."""
        if not len(gone):
            return 0
        names = self._names(gone, None) if self._sends_differences else None
        gone, names = self._take_out(gone, names)
        return self._send_gone(NO_ROWS, NO_ROWS, NO_ROWS, None, gone, names, now)

    def _take_out(self, gone: Rows, names: Names | None) -> tuple[Rows, Names | None]:
        """Deletes rows from the table; those that were there."""
        if len(gone):
            deleted = self._table.delete(gone) == DELETED
            if not deleted.all():
                gone, names = pick(gone, deleted), None if names is None else names[deleted]
        return gone, names

    # What has changed, into the log

    @property
    def _sends_differences(self) -> bool:
        return not self.whole_for

    def _names(self, rows: Rows, positions: npt.NDArray[np.int64] | None) -> Names | None:
        """Names of the rows that the table has, as numbers, -1 for one without; None: names are of no use now. Before
        any change.
        """
        if not self._named() or not len(rows) or (positions is not None and not (positions >= 0).any()):
            return None
        names, unique = self._table.names(rows)
        return np.where(unique, names.astype(np.int64), -1)

    def _send(
        self,
        rows: Rows,
        before: Rows,
        outcomes: npt.NDArray[np.uint8],
        foreign: Mask | None,
        names: Names | None,
        gone: Rows,
        gone_names: Names | None,
        now: float,
    ) -> int:
        """What `put` made of rows, and what was deleted, as a change for the log; how many changes it is."""
        first = outcomes[0] if len(outcomes) else SAME
        if foreign is None and (outcomes == first).all():
            # The usual batch is of one kind: nothing has to be picked.
            if first == NEW:
                return self._send_gone(rows, NO_ROWS, NO_ROWS, None, gone, gone_names, now)
            if first == SAME:
                return self._send_gone(NO_ROWS, NO_ROWS, NO_ROWS, None, gone, gone_names, now) if len(gone) else 0
            if first != FULL and self._sends_differences and (names is None or (names >= 0).all()):
                return self._send_gone(NO_ROWS, before, rows, names, gone, gone_names, now)
        whole = outcomes == NEW
        differing = (outcomes == CHANGED) | (outcomes == REFRESHED)
        refused = int(np.count_nonzero(outcomes == FULL))
        if refused:
            self.not_fitted(refused, now)
        if foreign is not None:
            whole |= differing & foreign
            differing &= ~foreign
        if not self._sends_differences:
            whole |= differing
            differing[:] = False
        elif names is not None:
            nameless = differing & (names < 0)
            whole |= nameless
            differing &= ~nameless
        inserted = pick(rows, whole)
        if not differing.any():
            return self._send_gone(inserted, NO_ROWS, NO_ROWS, None, gone, gone_names, now)
        updated_names = names[differing] if names is not None else None
        return self._send_gone(
            inserted, pick(before, differing), pick(rows, differing), updated_names, gone, gone_names, now
        )

    def _send_gone(
        self,
        inserted: Rows,
        before: Rows,
        after: Rows,
        names: Names | None,
        gone: Rows,
        gone_names: Names | None,
        now: float,
    ) -> int:
        """Tells deleted rows by name where they have one."""
        after_names = names.astype(np.uint64) if names is not None else None
        if gone_names is None:
            return self._append(inserted, before, after, after_names, gone, None, now)
        named = gone_names >= 0
        if named.all():
            return self._append(inserted, before, after, after_names, NO_ROWS, gone_names.astype(np.uint64), now)
        deleted_names = gone_names[named].astype(np.uint64)
        return self._append(inserted, before, after, after_names, pick(gone, ~named), deleted_names, now)

    def _append(
        self,
        inserted: Rows,
        before: Rows,
        after: Rows,
        names: npt.NDArray[np.uint64] | None,
        deleted: Rows,
        deleted_names: npt.NDArray[np.uint64] | None,
        now: float,
    ) -> int:
        """Frames of at most FRAME_ROWS changes of each kind."""
        gone = 0 if deleted_names is None else len(deleted_names)
        count = len(inserted) + len(after) + len(deleted) + gone
        if not self._log.wanted:
            if count:
                self._log.skip(count)
            return count
        for start in range(0, max(len(inserted), len(after), len(deleted), gone), FRAME_ROWS):
            part = slice(start, start + FRAME_ROWS)
            deleted_keys = keys(deleted[part]) if len(deleted) > start else NO_KEYS
            after_names: Any = names[part] if names is not None else None
            gone_names: Any = deleted_names[part] if deleted_names is not None else None
            chunk = encode_changes(
                inserted[part],
                before[part],
                after[part],
                deleted_keys,
                updated_names=after_names,
                deleted_names=gone_names,
            )
            rows = len(inserted[part]) + len(after[part]) + len(deleted_keys)
            rows += len(gone_names) if gone_names is not None else 0
            self._log.append(Kind.CHANGES, self._ownership.epoch, rows, now, chunk)
        return count

    def not_fitted(self, count: int, now: float) -> None:
        """Rows were refused by a full table."""
        self._not_fitted += count
        if now - self._not_fitted_at >= NOT_FITTED_INTERVAL:
            self._journal.append(NotFitted(at=now, count=self._not_fitted))
            self._not_fitted, self._not_fitted_at = 0, now

    # Dumps

    def begin_reconcile(self, now: float) -> None:
        """A dump of the kernel's table starts: before it is asked for."""
        self.reconciled_at = now
        self._generation = self._generation % 255 + 1
        self._spared.begin()
        self._away = {node.index: node.lost_epoch for node in self._ownership.nodes if not node.connected}

    def reconcile(self, rows: Rows, now: float) -> int:
        """A batch of the dump, without those of its entries that an event was taken of since the kernel wrote them. Not
        traffic: no row changes hands but those that a MASTER inherits from a node that is gone, and spared entries
        (`Spared`) that are in use. `rows` is overwritten. Returns changes."""
        table, ownership = self._table, self._ownership
        if not len(rows):
            return 0
        _share(rows)
        positions = table.find(rows)
        self._complete(rows, positions)
        if len(self._spared):
            kept = positions >= 0
            kept[~kept] = ~self._spared.idle(pick(rows, ~kept), now)
            if not kept.all():
                rows, positions = pick(rows, kept), positions[kept]
                if not len(rows):
                    return 0
        foreign = None
        if ownership.others_own and len(table):
            owners = np.where(positions >= 0, table.metadata()["owner"][positions], SELF)
            foreign = owners != SELF
            if foreign.any():
                inherited = np.zeros(256, dtype=np.bool_)
                for node in ownership.nodes:
                    inherited[node.index] = ownership.master and not node.connected
                taken = foreign & inherited[owners]
                left = foreign & ~taken
                self._take_over(pick(rows, taken))
                if left.any():
                    kept = ~left
                    rows, positions, foreign = pick(rows, kept), positions[kept], taken[kept]
                else:
                    foreign = taken
        names = self._names(rows, positions) if self._sends_differences else None
        ownership.me.has_rows = True
        before = np.empty(len(rows), dtype=ROW_DTYPE)
        outcomes = table.put(
            rows, owner=SELF, epoch=ownership.epoch, generation=self._generation, now=int(now), slack=self._slack,
            keep_owner=True, before=before,
        )  # fmt: skip
        if foreign is not None and foreign.any():
            outcomes = np.where(foreign & (outcomes == SAME), CHANGED, outcomes).astype(np.uint8)
        touched = (outcomes == CHANGED) | (outcomes == REFRESHED)
        if touched.any():
            table.assign(pick(rows, touched), owner=SELF, epoch=ownership.epoch)
        return self._send(rows, before, outcomes, foreign, names, NO_ROWS, None, now)

    def _complete(self, rows: Rows, positions: npt.NDArray[np.int64]) -> None:
        """A flow in a flow table is dumped without its protocol's state and its timeout: they are what they were."""
        untold = (positions >= 0) & ((rows["status"] & OFFLOAD) != 0)
        if untold.any():
            some = pick(rows, untold)
            told = np.zeros(len(some), dtype=EVENT_DTYPE)
            told["present"] = HAS_ALL & ~(HAS_STATE | HAS_TIMEOUT)
            complete(some, pick(self._table.rows(), positions[untold]), told)
            place(rows, untold, some)

    def _take_over(self, rows: Rows) -> None:
        """Rows of nodes that are gone become this node's before they are put."""
        if len(rows):
            self.claimed += len(rows)
            self._table.assign(rows, owner=SELF, epoch=self._ownership.epoch)

    def end_reconcile(self, now: float, *, complete: bool = True) -> int:
        """The dump's end: rows that were not seen are deleted, if it was `complete`; how many. Those of a node that was
        there at any time since the beginning are not judged: they may have been passed by as its own.
        """
        if not complete:
            return 0
        self.knows_kernel = True
        self._spared.end()
        table, ownership = self._table, self._ownership
        stale = [table.stale(self._generation, owner=SELF)]
        if ownership.master:
            stale += [
                table.stale(self._generation, owner=node.index)
                for node in ownership.nodes
                if node.index != SELF and node.has_rows and self._is_away(node)
            ]
        own, inherited = stale[0], join(stale[1:]) if len(stale) > 1 else NO_ROWS
        if len(inherited):
            table.delete(inherited)
            self._send_gone(NO_ROWS, NO_ROWS, NO_ROWS, None, inherited, None, now)
        if len(own) >= CLEARED_ROWS and len(own) == np.count_nonzero(table.metadata()["owner"] == SELF):
            self.clear(now)
        elif len(own):
            self._delete(own, now)
        return len(own) + len(inherited)

    def _is_away(self, node: Node) -> bool:
        """Nobody has spoken for it since the comparison began."""
        return not node.connected and self._away.get(node.index) == node.lost_epoch

    # Whole owners

    def take_over(self, node: Node, now: float) -> int:
        """This MASTER goes on as the owner of all rows of another node (life); the replicas are told in one frame.
        How many.
        """
        ownership = self._ownership
        if node.epoch >= ownership.epoch:
            ownership.raise_epoch(f"taking over the rows of {node.name}", now)
        # As seen in this generation: a dump that is under way may have passed them by as another's.
        count = self._table.hand_over(node.index, to=SELF, epoch=ownership.epoch, generation=self._generation)
        node.has_rows = False
        if count:
            self.claimed += count
            self._log.append(Kind.TAKEOVER, ownership.epoch, 1, now, takeover_body(node.name, node.instance))
        ownership.forget(node)
        return count

    def restamp(self, since: int, now: float) -> int:
        """Rows touched since this node had epoch `since` get its present one, here and at the replicas. How many."""
        table = self._table
        if not len(table):
            return 0
        metadata = table.metadata()
        chosen = np.flatnonzero((metadata["owner"] == SELF) & (metadata["epoch"] >= since))
        for start in range(0, len(chosen), FRAME_ROWS):
            rows = pick(table.rows(), chosen[start : start + FRAME_ROWS])
            rows["timeout"] = self.left(rows, chosen[start : start + FRAME_ROWS], now)
            table.assign(rows, owner=SELF, epoch=self._ownership.epoch)
            self._append(rows, NO_ROWS, NO_ROWS, None, NO_ROWS, None, now)
        return len(chosen)

    def left(self, rows: Rows, positions: npt.NDArray[np.intp], now: float) -> npt.NDArray[np.uint32]:
        """What is left of the timeouts of rows at these positions."""
        passed = int(now) - self._table.metadata()["stamp"][positions].astype(np.int64)
        left: npt.NDArray[np.uint32] = np.maximum(rows["timeout"].astype(np.int64) - passed, 0).astype(np.uint32)
        return left

    def clear(self, now: float) -> None:
        """This node owns nothing any more; the replicas drop its rows: the kernel's table was flushed, and the events
        were too many.
        """
        cursor: int | None = None
        count = 0
        while cursor != 0:
            rows, cursor = self._table.scan(cursor, 65_536, owner=SELF)
            self._table.delete(rows)
            count += len(rows)
        self._log.append(Kind.CLEAR, self._ownership.epoch, count, now)
        self.expectations.send_all(now)  # of connections that are not replicated

    def drop_queue(self, reason: str, now: float) -> None:
        """After a hang: nothing that waits in the log is sent any more; digests tell what the peers miss."""
        self._log.drop()
        self._journal.append(QueueDropped(at=now, reason=reason))


def _share(rows: Rows) -> None:
    """Leaves out what is true in this kernel only; else all connections of a node would differ after a takeover."""
    for flags in TCP_FLAGS:
        rows[flags] &= TCP_FLAGS_SHARED
