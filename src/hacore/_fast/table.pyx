# cython: boundscheck=False, wraparound=False, embedsignature=False
"""The state table: a seeded hash index over dense fixed-width rows."""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hacore._fast.row cimport Key, Row

import numpy as np

from hacore._fast.row import KEY_DTYPE, ROW_DTYPE
from hacore.errors import LocalProtocolError


cdef extern from "table_store.h" nogil:
    enum:
        TABLE_OWNERS
        TABLE_MAX_STATES
        TABLE_ANY_OWNER
        TABLE_SAME
        TABLE_NEW
        TABLE_CHANGED
        TABLE_REFRESHED
        TABLE_DELETED
        TABLE_ABSENT
        TABLE_EXISTS
        TABLE_FULL
        TABLE_INSERT
        TABLE_UPDATE
    struct SipKey:
        uint64_t low
        uint64_t high
    struct Meta:
        uint32_t hash
    struct Table_ "Table":
        Row *rows
        Meta *meta
        void *digests[256]
        uint32_t count
        uint32_t max_states
        uint32_t partitions
        uint32_t version
        uint64_t not_fitted
        SipKey seed
    struct PutOptions:
        int mode
        int keep_owner
        uint8_t owner
        uint8_t generation
        uint32_t epoch
        uint32_t now
        uint32_t slack
    struct Filter:
        int owner
        const uint8_t *partitions
        int by_version
        uint32_t since
        int by_generation
        uint8_t generation
    uint64_t hash_key(SipKey seed, const void *key)
    int table_open(Table_ *table, SipKey seed, SipKey digest_key, uint32_t max_states, uint32_t partitions,
                   uint32_t tombstones)
    void table_close(Table_ *table)
    void table_put(Table_ *table, const Row *rows, size_t count, const PutOptions *options, uint8_t *outcome, Row *before)
    void table_delete(Table_ *table, const uint8_t *keys, size_t stride, size_t count, uint8_t *outcome, Row *before)
    void table_find(const Table_ *table, const uint8_t *keys, size_t stride, size_t count, int64_t *positions)
    int table_assign(Table_ *table, const int64_t *positions, size_t count, uint8_t owner, uint32_t epoch)
    uint32_t table_select(const Table_ *table, const Filter *filter, uint32_t cursor, size_t limit, uint32_t *positions,
                          size_t *found)
    void table_gather(const Table_ *table, const uint32_t *positions, size_t count, int age, uint32_t now, Row *rows)
    int table_deleted(const Table_ *table, uint32_t since, int owner, uint8_t *keys, size_t *found)
    void table_names(const Table_ *table, const int64_t *positions, size_t count, uint64_t *names, uint8_t *alone)
    void table_resolve(const Table_ *table, const uint64_t *names, size_t count, int owner, int64_t *positions)
    int table_rekey(Table_ *table, SipKey seed, SipKey digest_key)
    size_t table_memory(const Table_ *table)


SAME = TABLE_SAME
NEW = TABLE_NEW
CHANGED = TABLE_CHANGED
REFRESHED = TABLE_REFRESHED
DELETED = TABLE_DELETED
ABSENT = TABLE_ABSENT
EXISTS = TABLE_EXISTS
FULL = TABLE_FULL
MAX_STATES = TABLE_MAX_STATES

META_DTYPE = np.dtype([
    ("hash", "<u4"), ("changed", "<u4"), ("epoch", "<u4"), ("stamp", "<u4"), ("partition", "<u2"), ("owner", "u1"),
    ("generation", "u1"),
])
assert META_DTYPE.itemsize == sizeof(Meta) and ROW_DTYPE.itemsize == sizeof(Row)


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


cdef class _Keys:
    """Keys, or rows by their heads, as a pointer and the bytes from one to the next."""
    cdef const Key[::1] keys
    cdef const Row[::1] rows
    cdef const uint8_t *first
    cdef size_t stride
    cdef size_t count

    def __cinit__(self, keys):
        if keys.dtype == ROW_DTYPE:
            self.rows = keys
            self.count, self.stride = <size_t> self.rows.shape[0], sizeof(Row)
            self.first = <const uint8_t *> &self.rows[0] if self.count else NULL
        else:
            self.keys = keys
            self.count, self.stride = <size_t> self.keys.shape[0], sizeof(Key)
            self.first = <const uint8_t *> &self.keys[0] if self.count else NULL


cdef Row *_before(Row[::1] before, size_t count) except? NULL:
    """Where the rows that were there before are put, NULL for nowhere."""
    if before is None or (not count and not before.shape[0]):
        return NULL
    if <size_t> before.shape[0] != count:
        raise ValueError(f"before has to have {count} rows, got {before.shape[0]}")
    return &before[0]


cdef class _Area:
    """The table's memory as bytes, read-only, for numpy to look at; holds the table."""
    cdef Table table
    cdef char *start
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, 1, flags)


cdef class Table:
    cdef Table_ table
    cdef bint open
    cdef bint busy

    def __cinit__(self, bytes seed, bytes digest_key, *, max_states, partitions=1024, tombstones=65_536):
        cdef int failed
        if not 1 <= max_states < TABLE_MAX_STATES:
            raise ValueError(f"max_states is 1 to {TABLE_MAX_STATES - 1}, got {max_states}")
        if not 1 <= partitions <= 65_536:
            raise ValueError(f"partitions is 1 to 65536, got {partitions}")
        if not 0 <= tombstones <= TABLE_MAX_STATES:
            raise ValueError(f"tombstones is 0 to {TABLE_MAX_STATES}, got {tombstones}")
        failed = table_open(&self.table, _sip_key(seed, "seed"), _sip_key(digest_key, "digest_key"), max_states, partitions,
                            tombstones)
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
        return self.table.version

    @property
    def not_fitted(self):
        return self.table.not_fitted

    @property
    def memory_bytes(self):
        return table_memory(&self.table)

    def insert(self, const Row[::1] rows, *, owner=0, epoch=0, generation=0, now=0, Row[::1] before=None):
        return self._put(rows, TABLE_INSERT, owner, epoch, generation, now, 0, False, before)

    def update(self, const Row[::1] rows, *, owner=0, epoch=0, generation=0, now=0, slack=0, keep_owner=False,
               Row[::1] before=None):
        return self._put(rows, TABLE_UPDATE, owner, epoch, generation, now, slack, keep_owner, before)

    def put(self, const Row[::1] rows, *, owner=0, epoch=0, generation=0, now=0, slack=0, keep_owner=False,
            Row[::1] before=None):
        return self._put(rows, TABLE_INSERT | TABLE_UPDATE, owner, epoch, generation, now, slack, keep_owner, before)

    cdef object _put(self, const Row[::1] rows, int mode, object owner, object epoch, object generation, object now,
                     object slack, object keep_owner, Row[::1] before):
        cdef PutOptions options
        cdef size_t count = <size_t> rows.shape[0]
        cdef Row *old = _before(before, count)
        if owner is None:
            raise ValueError("a row has an owner")
        options.mode = mode
        options.keep_owner = bool(keep_owner)
        options.owner = <uint8_t> _owner(owner)
        options.generation = generation
        options.epoch = epoch
        options.now = now
        options.slack = slack
        outcomes = np.empty(count, dtype=np.uint8)
        if not count:
            return outcomes
        cdef uint8_t[::1] outcome = outcomes
        self._enter()
        try:
            with nogil:
                table_put(&self.table, &rows[0], count, &options, &outcome[0], old)
        finally:
            self.busy = False
        return outcomes

    def delete(self, keys, *, Row[::1] before=None):
        cdef _Keys named = _Keys(keys)
        cdef Row *old = _before(before, named.count)
        outcomes = np.empty(named.count, dtype=np.uint8)
        if not named.count:
            return outcomes
        cdef uint8_t[::1] outcome = outcomes
        self._enter()
        try:
            with nogil:
                table_delete(&self.table, named.first, named.stride, named.count, &outcome[0], old)
        finally:
            self.busy = False
        return outcomes

    def find(self, keys):
        cdef _Keys named = _Keys(keys)
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
        positions = self.find(keys)
        found = positions >= 0
        rows = np.zeros(len(positions), dtype=ROW_DTYPE)
        rows[found] = self._gather(positions[found].astype(np.uint32), None)
        return rows, found

    def assign(self, keys, *, owner, epoch):
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

    cdef object _gather(self, const uint32_t[::1] positions, object now):
        cdef size_t count = <size_t> positions.shape[0]
        cdef int age = now is not None
        cdef uint32_t at = now if age else 0
        rows = np.empty(count, dtype=ROW_DTYPE)
        if not count:
            return rows
        cdef Row[::1] row = rows
        self._enter()
        try:
            with nogil:
                table_gather(&self.table, &positions[0], count, age, at, &row[0])
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
        cdef Filter wanted = Filter(_owner(owner), NULL, 0, 0, 0, 0)
        if limit < 1:
            raise ValueError(f"limit is at least 1, got {limit}")
        return self._select(&wanted, self.table.count if cursor is None else cursor, limit, now)

    def select(self, partitions, *, owner=None, now=None):
        cdef Filter wanted = Filter(_owner(owner), NULL, 0, 0, 0, 0)
        flags = np.zeros(self.table.partitions, dtype=np.uint8)
        flags[np.asarray(partitions, dtype=np.intp)] = 1
        cdef const uint8_t[::1] flag = flags
        wanted.partitions = &flag[0]
        return self._select(&wanted, self.table.count, self.table.count, now)[0]

    def stale(self, generation, *, owner=None):
        cdef Filter wanted = Filter(_owner(owner), NULL, 0, 0, 1, generation)
        return self._select(&wanted, self.table.count, self.table.count, None)[0]

    def dirty(self, since, *, owner=None, now=None):
        cdef Filter wanted = Filter(_owner(owner), NULL, 1, since, 0, 0)
        cdef size_t found = 0
        cdef bint complete
        rows = self._select(&wanted, self.table.count, self.table.count, now)[0]
        table_deleted(&self.table, wanted.since, wanted.owner, NULL, &found)
        keys = np.empty(found, dtype=KEY_DTYPE)
        cdef Key[::1] key = keys
        complete = table_deleted(&self.table, wanted.since, wanted.owner, <uint8_t *> &key[0] if found else NULL, &found)
        return rows, keys, complete

    def digests(self, owner=0):
        cdef int of = _owner(int(owner))
        values = np.zeros((self.table.partitions, 2), dtype=np.uint64)
        cdef uint64_t[:, ::1] value = values
        if self.table.digests[of] != NULL:
            memcpy(&value[0, 0], self.table.digests[of], <size_t> self.table.partitions * 16)
        return values

    def names(self, keys):
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
        cdef _Area area = _Area()
        area.table = self
        area.start = <char *> self.table.rows
        area.size = <Py_ssize_t> (self.table.count * sizeof(Row))
        return np.frombuffer(area, dtype=ROW_DTYPE) if area.size else np.empty(0, dtype=ROW_DTYPE)

    def metadata(self):
        cdef _Area area = _Area()
        area.table = self
        area.start = <char *> self.table.meta
        area.size = <Py_ssize_t> (self.table.count * sizeof(Meta))
        return np.frombuffer(area, dtype=META_DTYPE) if area.size else np.empty(0, dtype=META_DTYPE)

    def hashes(self, const Key[::1] keys):
        cdef size_t count = <size_t> keys.shape[0]
        values = np.empty(count, dtype=np.uint32)
        cdef uint32_t[::1] value = values
        cdef size_t index
        for index in range(count):
            value[index] = <uint32_t> hash_key(self.table.seed, &keys[index])
        return values
