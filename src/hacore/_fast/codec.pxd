# What codec.pyx takes from its C files, and what other kernels take from it.

from libc.stdint cimport int64_t, uint8_t, uint64_t

from hacore._fast.row cimport Row


cdef extern from *:
    """
    typedef const Row *RowPointer;
    """
    ctypedef const Row *RowPointer


cdef extern from "codec_order.h":
    pass


cdef extern from "row_possible.h" nogil:
    int rows_are_possible(const Row *rows, size_t count)


cdef extern from "codec_compare.h" nogil:
    enum:
        COLUMN_ROWS
        CHUNK_HEAD
        CHUNK_ROWS
        CHUNK_CHANGES
        CHUNK_BASE
        CHUNK_END
        CODEC_OK
        CODEC_MEMORY
        CODEC_TWICE
        CODEC_WRONG
        NAMED_BY_KEY
        NAMED_BY_NUMBER
    struct Writer:
        uint8_t *bytes
        size_t length
        int failed
    struct Reader:
        const uint8_t *bytes
        size_t length
        size_t at
        const char *rung
        const char *message
    struct Codec:
        Writer writer
    struct Changes_ "Changes":
        int naming
        size_t inserted
        size_t updated
        size_t deleted
        size_t deleted_keys
        const RowPointer *inserted_rows
        const RowPointer *before
        const RowPointer *after
        const uint64_t *updated_numbers
        const uint64_t *deleted_numbers
        const RowPointer *deleted_by_key
    struct ChangeCounts:
        int naming
        size_t inserted
        size_t updated
        size_t deleted
        size_t deleted_keys
    struct ChangeSpace:
        Row *inserted_rows
        uint64_t *updated_numbers
        uint64_t *deleted_numbers
        uint8_t *updated_keys
        uint8_t *deleted_keys
        Row *values
        uint64_t *masks
        uint64_t check
    struct Difference:
        int64_t *inserted
        int64_t *before
        int64_t *after
        int64_t *deleted
        size_t inserted_count
        size_t updated_count
        size_t deleted_count
    Codec *codec_new()
    void codec_free(Codec *codec)
    struct Order:
        RowPointer *rows
    int order_open(Order *order, const Row *rows, size_t count)
    void order_close(Order *order)
    int order_copy(RowPointer *pointers, const Row *rows, size_t count)
    int all_ascend(const RowPointer *order, size_t count)
    void begin_chunk(Writer *writer, int kind)
    void end_chunk(Writer *writer, size_t start)
    int64_t c_chunk_length "chunk_length"(Reader *reader)
    int open_chunk(Reader *reader, Reader *body)
    int close_chunk(Reader *body)
    void write_bytes(Writer *writer, const void *bytes, size_t size)
    void write_varint(Writer *writer, uint64_t value)
    const uint8_t *read_bytes(Reader *reader, size_t size)
    uint64_t read_varint(Reader *reader, uint64_t limit)
    int read_fails(Reader *reader, const char *rung, const char *message)
    int write_rows(Writer *writer, const RowPointer *order, size_t count, Codec *codec)
    int read_rows(Reader *reader, Row *rows, size_t count, Codec *codec)
    int write_changes(Writer *writer, const Changes_ *changes, Codec *codec)
    int read_change_counts(Reader *reader, ChangeCounts *counts)
    int read_changes(Reader *reader, const ChangeCounts *counts, ChangeSpace *space, Codec *codec)
    int arrange_changes(
        Changes_ *changes, const Row *before, const Row *after, const int64_t *order, const void *deleted_keys
    )
    int patch_checked(Row *rows, const Row *values, const uint64_t *masks, size_t count, uint64_t check)
    void digest_of(const Row *rows, size_t count, uint8_t *digest)
    void compare_rows(const Row *old, size_t old_count, const Row *new, size_t new_count, Difference *found)


cdef bytes encode_prepared(const Changes_ *changes)
cdef int order_rows(const Row *rows, size_t count, RowPointer *ordered) noexcept nogil


cdef class Changes:
    cdef readonly object inserted, updated_names, updated_keys, deleted_names, deleted_keys
    cdef object values, masks
    cdef uint64_t check
    cdef bint strict

    cdef int patch(self, Row *rows, size_t count) except -1
