# cython: boundscheck=False, wraparound=False, embedsignature=False
"""The state table: a seeded hash index over dense fixed-width rows.

Every operation takes a batch and releases the GIL; two threads in one table at a time is a `LocalProtocolError`. A
batch returns one outcome a row: `SAME`, `NEW`, `CHANGED`, `REFRESHED`, `DELETED`, `ABSENT`, `EXISTS`, `FULL`.

Beside each row the table keeps what only this node knows (`META_DTYPE`): owner and epoch, the version of the last
change, the stamp at which its timeout was true, the generation in which it was last seen, its digest partition. None of
it travels with the row.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hacore._fast.row cimport Key, Row, records_of

import numpy as np

from hacore._fast.row import KEY_DTYPE as _KEY_DTYPE, ROW_DTYPE as _ROW_DTYPE
from hacore.errors import LocalProtocolError



SAME = TABLE_SAME
"""The row was there already; nothing but its generation and epoch was touched."""
NEW = TABLE_NEW
"""Inserted."""
CHANGED = TABLE_CHANGED
"""Overwritten: the content beyond the timeout differed, or the owner did."""
REFRESHED = TABLE_REFRESHED
"""Only the timeout was overwritten."""
DELETED = TABLE_DELETED
ABSENT = TABLE_ABSENT
"""There is no such key: nothing was updated or deleted."""
EXISTS = TABLE_EXISTS
"""`insert` met a key that is there: left as it was."""
FULL = TABLE_FULL
"""The row did not fit; `Table.not_fitted` counts these."""
MAX_STATES = TABLE_MAX_STATES
"""A table's `max_states` is below this."""

_OUTCOME = np.dtype(np.uint8)
META_DTYPE = np.dtype([
    ("hash", "<u4"), ("changed", "<u4"), ("epoch", "<u4"), ("stamp", "<u4"), ("partition", "<u2"), ("owner", "u1"),
    ("generation", "u1"),
])
"""hash u4, changed u4 (version), epoch u4, stamp u4 (seconds, the caller's clock), partition u2, owner u1, generation
u1."""
assert META_DTYPE.itemsize == sizeof(Meta) and _ROW_DTYPE.itemsize == sizeof(Row)


cdef SipKey _sip_key(bytes secret, str name) except *:
    cdef SipKey key
    if len(secret) != 16:
        raise ValueError(f"{name} has to have 16 bytes, got {len(secret)}")
    memcpy(&key, <const char *> secret, 16)
    return key


cdef int _owner(object owner) except? -2:
    if owner is None:
        return TABLE_ANY_OWNER
    if not 0 <= owner < TABLE_OWNERS:
        raise ValueError(f"an owner is 0 to {TABLE_OWNERS - 1}, got {owner}")
    return owner


cdef struct Named:
    # Keys, or rows by their heads: where they are and the bytes from one to the next.
    const uint8_t *first
    size_t stride
    size_t count


cdef Named _named_by(object keys) except *:
    cdef Named named
    dtype = getattr(keys, "dtype", None)
    if dtype is _ROW_DTYPE or dtype == _ROW_DTYPE:
        named.stride = sizeof(Row)
        named.first = <const uint8_t *> records_of(keys, _ROW_DTYPE, &named.count, False)
    else:
        named.stride = sizeof(Key)
        named.first = <const uint8_t *> records_of(keys, _KEY_DTYPE, &named.count, False)
    return named


cdef Row *_before(object before, size_t count) except? NULL:
    """Where the rows that were there before are put, NULL for nowhere."""
    cdef size_t room
    cdef Row *first
    if before is None:
        return NULL
    first = <Row *> records_of(before, _ROW_DTYPE, &room, True)
    if room != count:
        raise ValueError(f"before has to have {count} rows, got {room}")
    return first if count else NULL


cdef object _outcomes(size_t count, uint8_t **first):
    """An array of one byte a row, and where it is."""
    cdef bytearray octets = bytearray(count)
    first[0] = <uint8_t *> PyByteArray_AS_STRING(octets)
    return np.frombuffer(octets, dtype=_OUTCOME)


cdef class _Area:
    """The table's memory as bytes, read-only, for numpy to look at; holds the table."""
    cdef Table table
    cdef char *start
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, 1, flags)


cdef class Table:
    """At most `max_states` rows, found by key.

    Args:
        seed: 16 secret bytes of this node alone; keys come from attackers, so their hash must not be foreseeable.
        digest_key: 16 secret bytes that the nodes which compare digests share.
        max_states: rows that fit; others are refused and counted. Memory is taken as rows come: about 240 bytes each.
        partitions: of the keys, for digests (1 to 65,536).
        tombstones: how many of the last deleted keys `dirty` remembers (48 bytes each).

    Raises:
        ValueError: an argument is out of its range.
        MemoryError: the address space cannot be reserved.
    """

    def __cinit__(self, bytes seed, bytes digest_key, *, max_states, partitions=1024, tombstones=65_536):
        cdef int failed
        if not 1 <= max_states < TABLE_MAX_STATES:
            raise ValueError(f"max_states is 1 to {TABLE_MAX_STATES - 1}, got {max_states}")
        if not 1 <= partitions <= 65_536:
            raise ValueError(f"partitions is 1 to 65536, got {partitions}")
        if not 0 <= tombstones <= TABLE_MAX_STATES:
            raise ValueError(f"tombstones is 0 to {TABLE_MAX_STATES}, got {tombstones}")
        failed = table_open(&self.table, _sip_key(seed, "seed"), _sip_key(digest_key, "digest_key"), max_states,
                            partitions, tombstones)
        if failed:
            raise MemoryError(f"no room for a table of {max_states} states")
        self.open = True

    def __dealloc__(self):
        if self.open:
            table_close(&self.table)

    cdef int _enter(self) except -1:
        if self.busy:
            raise LocalProtocolError("another thread is inside this table")
        self.busy = True
        return 0

    cdef void find_rows(self, const uint8_t *keys, size_t stride, size_t count, int64_t *positions) noexcept nogil:
        table_find(&self.table, keys, stride, count, positions)

    cdef void put_rows(self, const Row *rows, size_t count, const PutOptions *options, uint8_t *outcome,
                       Row *before) noexcept nogil:
        table_put(&self.table, rows, count, options, outcome, before)

    cdef void delete_rows(self, const uint8_t *keys, size_t stride, size_t count, uint8_t *outcome,
                          Row *before) noexcept nogil:
        table_delete(&self.table, keys, stride, count, outcome, before)

    cdef void name_rows(self, const int64_t *positions, size_t count, uint64_t *names, uint8_t *alone) noexcept nogil:
        table_names(&self.table, positions, count, names, alone)

    cdef void resolve_rows(self, const uint64_t *names, size_t count, int owner, int64_t *positions) noexcept nogil:
        table_resolve(&self.table, names, count, owner, positions)

    def __len__(self):
        return self.table.count

    @property
    def max_states(self):
        return self.table.max_states

    @property
    def partitions(self):
        return self.table.partitions

    @property
    def version(self):
        """Goes up by one with each batch that may change something; wraps at 32 bits."""
        return self.table.version

    @property
    def not_fitted(self):
        """Rows ever refused because the table was full."""
        return self.table.not_fitted

    @property
    def memory_bytes(self):
        """What rows, metadata, index, digests and tombstones take."""
        return table_memory(&self.table)

    def insert(self, rows, *, owner=0, epoch=0, generation=0, now=0, before=None):
        """NEW, EXISTS or FULL for each row. The rest as for `put`."""
        return self._put(rows, TABLE_INSERT, owner, epoch, generation, now, 0, False, before)

    def update(self, rows, *, owner=0, epoch=0, generation=0, now=0, slack=0, keep_owner=False,
               before=None):
        """CHANGED, REFRESHED, SAME or ABSENT for each row. The rest as for `put`."""
        return self._put(rows, TABLE_UPDATE, owner, epoch, generation, now, slack, keep_owner, before)

    def put(self, rows, *, owner=0, epoch=0, generation=0, now=0, slack=0, keep_owner=False,
            before=None):
        """Inserts or updates: NEW, CHANGED, REFRESHED, SAME or FULL for each row, later rows of the batch after earlier
        ones.

        Args:
            rows: (n,) of ROW_DTYPE, contiguous.
            owner: index of the node that owns the rows (0 to 255).
            epoch: of that owner.
            generation: 0 to 255; every row that is found or inserted is marked with it, see `stale`.
            now: the caller's clock in whole seconds; a stored timeout is taken to have run down since it was stored.
            slack: a timeout that differs by at most this from what is left of the stored one is no change (seconds),
                unless that has run out before.
            keep_owner: rows that are there keep owner and epoch; new ones get those given.
            before: (n,) of ROW_DTYPE, filled with the rows that were there before, zeros where there was none.
        """
        return self._put(rows, TABLE_INSERT | TABLE_UPDATE, owner, epoch, generation, now, slack, keep_owner, before)

    cdef object _put(self, object rows, int mode, object owner, object epoch, object generation, object now,
                     object slack, object keep_owner, object before):
        cdef PutOptions options
        cdef size_t count
        cdef const Row *row = <const Row *> records_of(rows, _ROW_DTYPE, &count, False)
        cdef Row *old = _before(before, count)
        cdef uint8_t *outcome
        if owner is None:
            raise ValueError("a row has an owner")
        options.mode = mode
        options.keep_owner = bool(keep_owner)
        options.owner = <uint8_t> _owner(owner)
        options.generation = generation
        options.epoch = epoch
        options.now = now
        options.slack = slack
        outcomes = _outcomes(count, &outcome)
        if not count:
            return outcomes
        self._enter()
        try:
            with nogil:
                table_put(&self.table, row, count, &options, outcome, old)
        finally:
            self.busy = False
        return outcomes

    def delete(self, keys, *, before=None):
        """DELETED or ABSENT for each key; `before` as for `put`. Positions of other rows change."""
        cdef Named named = _named_by(keys)
        cdef Row *old = _before(before, named.count)
        cdef uint8_t *outcome
        outcomes = _outcomes(named.count, &outcome)
        if not named.count:
            return outcomes
        self._enter()
        try:
            with nogil:
                table_delete(&self.table, named.first, named.stride, named.count, outcome, old)
        finally:
            self.busy = False
        return outcomes

    def find(self, keys):
        """The position of each key in `rows()` and `metadata()`, -1 where absent; true until the next insert or
        delete."""
        cdef Named named = _named_by(keys)
        positions = np.empty(named.count, dtype=np.int64)
        if not named.count:
            return positions
        cdef int64_t[::1] position = positions
        self._enter()
        try:
            with nogil:
                table_find(&self.table, named.first, named.stride, named.count, &position[0])
        finally:
            self.busy = False
        return positions

    def lookup(self, keys):
        """Copies of the rows, zeros where absent, and which were found."""
        cdef const int64_t[::1] position
        cdef size_t count, index
        cdef Row *row
        positions = self.find(keys)
        rows = np.zeros(len(positions), dtype=_ROW_DTYPE)
        row = <Row *> records_of(rows, _ROW_DTYPE, &count, True)
        position = positions
        for index in range(count):
            if position[index] >= 0:
                row[index] = self.table.rows[position[index]]
        return rows, positions >= 0

    def assign(self, keys, *, owner, epoch):
        """Hands rows to another owner; returns how many were there. Rows that change hands count as changed."""
        cdef int64_t[::1] position = self.find(keys)
        cdef size_t count = <size_t> position.shape[0]
        cdef uint8_t to = <uint8_t> _owner(int(owner))
        cdef uint32_t at = epoch
        cdef int failed
        if not count:
            return 0
        self._enter()
        try:
            with nogil:
                failed = table_assign(&self.table, &position[0], count, to, at)
        finally:
            self.busy = False
        if failed:
            raise MemoryError("no room for the digests of another owner")
        return int(np.count_nonzero(np.asarray(position) >= 0))

    def hand_over(self, owner, *, to, epoch, generation):
        """All rows of `owner` become those of the owner `to`, as last seen in `generation` (0 to 255), and count as
        changed; how many. Takes a look at each row, whoever owns it, and no hash."""
        cdef uint8_t former = <uint8_t> _owner(int(owner)), next_owner = <uint8_t> _owner(int(to)), seen = generation
        cdef uint32_t at = epoch
        cdef int64_t count
        self._enter()
        try:
            with nogil:
                count = table_hand_over(&self.table, former, next_owner, at, seen)
        finally:
            self.busy = False
        if count < 0:
            raise MemoryError("no room for the digests of another owner")
        return count

    cdef object _gather(self, const uint32_t[::1] positions, object now):
        cdef size_t count = <size_t> positions.shape[0]
        cdef int age = now is not None
        cdef uint32_t at = now if age else 0
        rows = np.empty(count, dtype=_ROW_DTYPE)
        if not count:
            return rows
        cdef size_t room
        cdef Row *row = <Row *> records_of(rows, _ROW_DTYPE, &room, True)
        self._enter()
        try:
            with nogil:
                table_gather(&self.table, &positions[0], count, age, at, row)
        finally:
            self.busy = False
        return rows

    cdef tuple _select(self, Filter *wanted, uint32_t cursor, size_t limit, object now):
        cdef size_t found = 0
        if limit > self.table.count:
            limit = self.table.count
        positions = np.empty(limit + 1, dtype=np.uint32)
        cdef uint32_t[::1] position = positions
        self._enter()
        try:
            with nogil:
                cursor = table_select(&self.table, wanted, cursor, limit, &position[0], &found)
        finally:
            self.busy = False
        return self._gather(positions[:<Py_ssize_t> found], now), cursor

    def scan(self, cursor=None, limit=65_536, *, owner=None, now=None):
        """Copies of up to `limit` rows and the cursor to go on with; cursor 0 is the end.

        The scan runs from the last position down, so it may be spread over any changes: every row that is there from
        its start to its end comes at least once (a delete moves rows down only). Rows inserted meanwhile need not come.
        With `now`, timeouts are what is left of them.
        """
        cdef Filter wanted = Filter(_owner(owner), NULL, 0, 0, 0, 0)
        if limit < 1:
            raise ValueError(f"limit is at least 1, got {limit}")
        return self._select(&wanted, self.table.count if cursor is None else cursor, limit, now)

    def select(self, partitions, *, owner=None, now=None):
        """Copies of the rows in the partitions with these indices."""
        cdef Filter wanted = Filter(_owner(owner), NULL, 0, 0, 0, 0)
        flags = np.zeros(self.table.partitions, dtype=np.uint8)
        flags[np.asarray(partitions, dtype=np.intp)] = 1
        cdef const uint8_t[::1] flag = flags
        wanted.partitions = &flag[0]
        return self._select(&wanted, self.table.count, self.table.count, now)[0]

    def stale(self, generation, *, owner=None):
        """Copies of the rows last seen in another generation: what a sweep after a reconcile would delete."""
        cdef Filter wanted = Filter(_owner(owner), NULL, 0, 0, 1, generation)
        return self._select(&wanted, self.table.count, self.table.count, None)[0]

    def dirty(self, since, *, owner=None, now=None):
        """What changed after version `since`: rows as they are now, keys deleted (to be applied before the rows),
        complete.

        Any number of readers may each have their own version. When the log of deleted keys does not reach back to
        `since`, the third value is False and only digests can tell what else went.
        """
        cdef Filter wanted = Filter(_owner(owner), NULL, 1, since, 0, 0)
        cdef size_t found = 0
        cdef bint complete
        rows = self._select(&wanted, self.table.count, self.table.count, now)[0]
        table_deleted(&self.table, wanted.since, wanted.owner, NULL, &found)
        keys = np.empty(found, dtype=_KEY_DTYPE)
        cdef Key[::1] key = keys
        complete = table_deleted(&self.table, wanted.since, wanted.owner, <uint8_t *> &key[0] if found else NULL,
                                 &found)
        return rows, keys, complete

    def digests(self, owner=0):
        """(partitions, 2): for each partition the sum modulo 2**128 of the keyed hashes of the owner's rows, timeouts
        left out.

        Kept up to date with every change. Two tables with one digest key and equal rows of an owner have equal digests,
        in whatever order the rows came.
        """
        cdef int of = _owner(int(owner))
        values = np.zeros((self.table.partitions, 2), dtype=np.uint64)
        cdef uint64_t[:, ::1] value = values
        if self.table.digests[of] != NULL:
            memcpy(&value[0, 0], self.table.digests[of], <size_t> self.table.partitions * 16)
        return values

    def names(self, keys):
        """Short names of rows, and whether each is the name of no other row of that owner (False where the key is
        absent).

        A name is made of seed, digest key and key: nodes that share both secrets have the same, of 32 bits and those of
        the partition. It names a row to a peer that has it in a fraction of the key's bytes.
        """
        cdef const int64_t[::1] position = self.find(keys)
        cdef size_t count = <size_t> position.shape[0]
        names, alone = np.empty(count, dtype=np.uint64), np.empty(count, dtype=np.bool_)
        cdef uint64_t[::1] name = names
        cdef uint8_t[::1] only = alone.view(np.uint8)
        if not count:
            return names, alone
        self._enter()
        try:
            with nogil:
                table_names(&self.table, &position[0], count, &name[0], &only[0])
        finally:
            self.busy = False
        return names, alone

    def resolve(self, const uint64_t[::1] names, *, owner=None):
        """The position of the only row of each name (of that owner), -1 where there is none or more than one."""
        cdef size_t count = <size_t> names.shape[0]
        cdef int whose = _owner(owner)
        positions = np.empty(count, dtype=np.int64)
        cdef int64_t[::1] position = positions
        if not count:
            return positions
        self._enter()
        try:
            with nogil:
                table_resolve(&self.table, &names[0], count, whose, &position[0])
        finally:
            self.busy = False
        return positions

    def rekey(self, bytes seed, bytes digest_key):
        """Other secrets: index, names, partitions and digests are made anew, in one go (150 ms for a million rows)."""
        cdef SipKey index = _sip_key(seed, "seed"), digests = _sip_key(digest_key, "digest_key")
        cdef int failed
        self._enter()
        try:
            with nogil:
                failed = table_rekey(&self.table, index, digests)
        finally:
            self.busy = False
        if failed:
            raise MemoryError("no room for another index")

    def rows(self):
        """The live rows themselves, read-only, no copy; valid until the next change."""
        cdef _Area area = _Area()
        area.table = self
        area.start = <char *> self.table.rows
        area.size = <Py_ssize_t> (self.table.count * sizeof(Row))
        return np.frombuffer(area, dtype=_ROW_DTYPE) if area.size else np.empty(0, dtype=_ROW_DTYPE)

    def metadata(self):
        """The metadata of the live rows (META_DTYPE), read-only, no copy; valid until the next change."""
        cdef _Area area = _Area()
        area.table = self
        area.start = <char *> self.table.meta
        area.size = <Py_ssize_t> (self.table.count * sizeof(Meta))
        return np.frombuffer(area, dtype=META_DTYPE) if area.size else np.empty(0, dtype=META_DTYPE)

    def hashes(self, keys):
        """The seeded hashes of keys, or of the keys of rows: which of them collide."""
        cdef Named named = _named_by(keys)
        values = np.empty(named.count, dtype=np.uint32)
        cdef uint32_t[::1] value = values
        cdef size_t index
        for index in range(named.count):
            value[index] = <uint32_t> hash_key(self.table.seed, <const Key *> (named.first + index * named.stride))
        return values
