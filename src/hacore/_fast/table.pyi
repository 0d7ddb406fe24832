"""The state table: a seeded hash index over dense fixed-width rows.

Every operation takes a batch and releases the GIL; two threads in one table at a time is a `LocalProtocolError`. A batch returns one
outcome a row: `SAME`, `NEW`, `CHANGED`, `REFRESHED`, `DELETED`, `ABSENT`, `EXISTS`, `FULL`.

Beside each row the table keeps what only this node knows (`META_DTYPE`): owner and epoch, the version of the last change, the stamp at
which its timeout was true, the generation in which it was last seen, its digest partition. None of it travels with the row.
"""

from typing import Final, final

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
Keys = npt.NDArray[np.void]
Outcomes = npt.NDArray[np.uint8]

SAME: Final[int]
"""The row was there already; nothing but its generation and epoch was touched."""
NEW: Final[int]
"""Inserted."""
CHANGED: Final[int]
"""Overwritten: the content beyond the timeout differed, or the owner did."""
REFRESHED: Final[int]
"""Only the timeout was overwritten."""
DELETED: Final[int]
ABSENT: Final[int]
"""There is no such key: nothing was updated or deleted."""
EXISTS: Final[int]
"""`insert` met a key that is there: left as it was."""
FULL: Final[int]
"""The row did not fit; `Table.not_fitted` counts these."""

MAX_STATES: Final[int]
"""A table's `max_states` is below this."""

META_DTYPE: Final[np.dtype[np.void]]
"""hash u4, changed u4 (version), epoch u4, stamp u4 (seconds, the caller's clock), partition u2, owner u1, generation u1."""

@final
class Table:
    """At most `max_states` rows, found by key.

    Args:
        seed: 16 secret bytes of this node alone; keys come from attackers, so their hash must not be foreseeable.
        digest_key: 16 secret bytes that the nodes which compare digests share.
        max_states: rows that fit; further ones are refused and counted. Memory is taken as rows come: about 235 bytes each.
        partitions: of the keys, for digests (1 to 65,536).
        tombstones: how many of the last deleted keys `dirty` remembers (48 bytes each).

    Raises:
        ValueError: an argument is out of its range.
        MemoryError: the address space cannot be reserved.
    """

    def __new__(
        cls, seed: bytes, digest_key: bytes, *, max_states: int, partitions: int = 1024, tombstones: int = 65_536
    ) -> Table: ...
    def __len__(self) -> int: ...
    @property
    def max_states(self) -> int: ...
    @property
    def partitions(self) -> int: ...
    @property
    def version(self) -> int:
        """Goes up by one with each batch that may change something; wraps at 32 bits."""

    @property
    def not_fitted(self) -> int:
        """Rows ever refused because the table was full."""

    @property
    def memory_bytes(self) -> int:
        """What rows, metadata, index, digests and tombstones take."""

    def insert(
        self, rows: Rows, *, owner: int = 0, epoch: int = 0, generation: int = 0, now: int = 0, before: Rows | None = None
    ) -> Outcomes:
        """NEW, EXISTS or FULL for each row. The rest as for `put`."""

    def update(
        self,
        rows: Rows,
        *,
        owner: int = 0,
        epoch: int = 0,
        generation: int = 0,
        now: int = 0,
        slack: int = 0,
        keep_owner: bool = False,
        before: Rows | None = None,
    ) -> Outcomes:
        """CHANGED, REFRESHED, SAME or ABSENT for each row. The rest as for `put`."""

    def put(
        self,
        rows: Rows,
        *,
        owner: int = 0,
        epoch: int = 0,
        generation: int = 0,
        now: int = 0,
        slack: int = 0,
        keep_owner: bool = False,
        before: Rows | None = None,
    ) -> Outcomes:
        """Inserts or updates: NEW, CHANGED, REFRESHED, SAME or FULL for each row, later rows of the batch after earlier ones.

        Args:
            rows: (n,) of ROW_DTYPE, contiguous.
            owner: index of the node that owns the rows (0 to 255).
            epoch: of that owner.
            generation: 0 to 255; every row that is found or inserted is marked with it, see `stale`.
            now: the caller's clock in whole seconds; a stored timeout is taken to have run down since it was stored.
            slack: a timeout that differs by at most this from what is left of the stored one is no change (seconds).
            keep_owner: rows that are there keep owner and epoch; new ones get those given.
            before: (n,) of ROW_DTYPE, filled with the rows that were there before, zeros where there was none.
        """

    def delete(self, keys: Keys | Rows, *, before: Rows | None = None) -> Outcomes:
        """DELETED or ABSENT for each key; `before` as for `put`. Positions of other rows change."""

    def find(self, keys: Keys | Rows) -> npt.NDArray[np.int64]:
        """The position of each key in `rows()` and `metadata()`, -1 where absent; true until the next insert or delete."""

    def lookup(self, keys: Keys | Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
        """Copies of the rows, zeros where absent, and which were found."""

    def assign(self, keys: Keys | Rows, *, owner: int, epoch: int) -> int:
        """Hands rows to another owner; returns how many were there. Rows that change hands count as changed."""

    def scan(
        self, cursor: int | None = None, limit: int = 65_536, *, owner: int | None = None, now: int | None = None
    ) -> tuple[Rows, int]:
        """Copies of up to `limit` rows and the cursor to go on with; cursor 0 is the end.

        The scan runs from the last position down, so it may be spread over any changes: every row that is there from its start to its
        end comes at least once (a delete moves rows down only). Rows inserted meanwhile need not come. With `now`, timeouts are what
        is left of them.
        """

    def select(self, partitions: npt.ArrayLike, *, owner: int | None = None, now: int | None = None) -> Rows:
        """Copies of the rows in the partitions with these indices."""

    def stale(self, generation: int, *, owner: int | None = None) -> Rows:
        """Copies of the rows last seen in another generation: what a sweep after a reconcile would delete."""

    def dirty(
        self, since: int, *, owner: int | None = None, now: int | None = None
    ) -> tuple[Rows, Keys, bool]:
        """What changed after version `since`: rows as they are now, keys deleted (to be applied before the rows), complete.

        Any number of readers may each have their own version. When the log of deleted keys does not reach back to `since`, the third
        value is False and only digests can tell what else went.
        """

    def digests(self, owner: int = 0) -> npt.NDArray[np.uint64]:
        """(partitions, 2): for each partition the sum modulo 2**128 of the keyed hashes of the owner's rows, timeouts left out.

        Kept up to date with every change. Two tables with one digest key and equal rows of an owner have equal digests, in whatever
        order the rows came.
        """

    def names(self, keys: Keys | Rows) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]:
        """Short names of rows, and whether each is the name of no other row of that owner (False where the key is absent).

        A name is made of seed, digest key and key: nodes that share both secrets have the same, of 32 bits and those of
        the partition. It names a row to a peer that has it in a fraction of the key's bytes.
        """

    def resolve(self, names: npt.NDArray[np.uint64], *, owner: int | None = None) -> npt.NDArray[np.int64]:
        """The position of the only row of each name (of that owner), -1 where there is none or more than one."""

    def rekey(self, seed: bytes, digest_key: bytes) -> None:
        """Other secrets: index, names, partitions and digests are made anew, in one go (150 ms for a million rows)."""

    def rows(self) -> Rows:
        """The live rows themselves, read-only, no copy; valid until the next change."""

    def metadata(self) -> npt.NDArray[np.void]:
        """The metadata of the live rows (META_DTYPE), read-only, no copy; valid until the next change."""

    def hashes(self, keys: Keys) -> npt.NDArray[np.uint32]:
        """The seeded hashes of keys: which of them collide."""
