# What table.pyx takes from its C file, and the table for other kernels.

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from hacore._fast.row cimport Row


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
        uint8_t owner
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
    void table_put(Table_ *table, const Row *rows, size_t count, const PutOptions *options, uint8_t *outcome,
                   Row *before)
    void table_delete(Table_ *table, const uint8_t *keys, size_t stride, size_t count, uint8_t *outcome, Row *before)
    void table_find(const Table_ *table, const uint8_t *keys, size_t stride, size_t count, int64_t *positions)
    int table_assign(Table_ *table, const int64_t *positions, size_t count, uint8_t owner, uint32_t epoch)
    int64_t table_hand_over(Table_ *table, uint8_t from_owner, uint8_t owner, uint32_t epoch, uint8_t generation)
    uint32_t table_select(const Table_ *table, const Filter *filter, uint32_t cursor, size_t limit, uint32_t *positions,
                          size_t *found)
    void table_gather(const Table_ *table, const uint32_t *positions, size_t count, int age, uint32_t now, Row *rows)
    int table_deleted(const Table_ *table, uint32_t since, int owner, uint8_t *keys, size_t *found)
    void table_names(const Table_ *table, const int64_t *positions, size_t count, uint64_t *names, uint8_t *alone)
    void table_resolve(const Table_ *table, const uint64_t *names, size_t count, int owner, int64_t *positions)
    int table_rekey(Table_ *table, SipKey seed, SipKey digest_key)
    size_t table_memory(const Table_ *table)


cdef class Table:
    cdef Table_ table
    cdef bint open
    cdef bint busy

    cdef int _enter(self) except -1
    cdef object _put(self, object rows, int mode, object owner, object epoch, object generation, object now,
                     object slack, object keep_owner, object before)
    cdef object _gather(self, const uint32_t[::1] positions, object now)
    cdef tuple _select(self, Filter *wanted, uint32_t cursor, size_t limit, object now)
    # For other kernels, which have entered the table.
    cdef void find_rows(self, const uint8_t *keys, size_t stride, size_t count, int64_t *positions) noexcept nogil
    cdef void put_rows(self, const Row *rows, size_t count, const PutOptions *options, uint8_t *outcome,
                       Row *before) noexcept nogil
    cdef void delete_rows(self, const uint8_t *keys, size_t stride, size_t count, uint8_t *outcome,
                          Row *before) noexcept nogil
    cdef void name_rows(self, const int64_t *positions, size_t count, uint64_t *names, uint8_t *alone) noexcept nogil
    cdef void resolve_rows(self, const uint64_t *names, size_t count, int owner, int64_t *positions) noexcept nogil
