# cython: boundscheck=False, wraparound=False, embedsignature=False
"""Snapshots and deltas of rows: self-contained chunks of columns."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from hacore._fast.row cimport Key, Row

import numpy as np

from hacore._fast.row import KEY_DTYPE, ROW_DTYPE
from hacore.errors import WireError


cdef extern from *:
    """
    typedef const Row *RowPointer;
    """
    ctypedef const Row *RowPointer


cdef extern from "codec_delta.h" nogil:
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
        RowPointer order[65536]
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
        RowPointer *inserted
        RowPointer *before
        RowPointer *after
        uint64_t *updated
        uint64_t *deleted
        size_t inserted_count
        size_t updated_count
        size_t deleted_count
    int codec_open(Codec *codec)
    void codec_close(Codec *codec)
    int order_rows(const Row *rows, size_t count, RowPointer *order)
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
    void patch_rows(Row *rows, const Row *values, const uint64_t *masks, size_t count)
    void digest_of(const Row *rows, size_t count, uint8_t *digest)
    uint64_t check_of(const RowPointer *rows, size_t count)
    int difference_open(Difference *difference, const RowPointer *before, size_t before_count, const RowPointer *after,
                        size_t after_count)
    void difference_close(Difference *difference)


MAX_CHUNK_ROWS = COLUMN_ROWS
SNAPSHOT_CHUNK_ROWS = 32_768
NAME_BITS = 56
cdef size_t BELIEVED_ROWS = 1 << 22  # memory is reserved for so many rows on the word of chunk headers alone
cdef size_t KEPT_ROWS = 4096  # a workspace that saw more rows than that is given back after use

_workspaces = []


cdef class _Workspace:
    cdef Codec *codec
    cdef size_t most

    def __cinit__(self):
        self.codec = <Codec *> malloc(sizeof(Codec))
        if self.codec == NULL or codec_open(self.codec):
            free(self.codec)
            self.codec = NULL
            raise MemoryError("no room to code a chunk")

    def __dealloc__(self):
        if self.codec != NULL:
            codec_close(self.codec)
            free(self.codec)


cdef _Workspace _take():
    return <_Workspace> (_workspaces.pop() if _workspaces else _Workspace())


cdef void _give(_Workspace workspace, size_t rows):
    if rows > workspace.most:
        workspace.most = rows
    if workspace.most <= KEPT_ROWS and len(_workspaces) < 2:
        _workspaces.append(workspace)


cdef class _Order:
    """Rows in key order, without moving them."""
    cdef RowPointer *rows
    cdef size_t count
    cdef object held

    def __cinit__(self, const Row[::1] rows):
        cdef int failed
        self.count = rows.shape[0]
        self.held = rows.base
        self.rows = <RowPointer *> malloc((self.count + 1) * sizeof(RowPointer))
        if self.rows == NULL:
            raise MemoryError("no room to sort rows")
        if self.count:
            with nogil:
                failed = order_rows(&rows[0], self.count, self.rows)
            if failed:
                raise MemoryError("no room to sort rows")

    def __dealloc__(self):
        free(self.rows)


cdef class _Output:
    cdef Writer writer

    def __dealloc__(self):
        free(self.writer.bytes)

    cdef bytes take(self, int status):
        if self.writer.failed or status == CODEC_MEMORY:
            raise MemoryError("no room for the coded bytes")
        if status == CODEC_TWICE:
            raise ValueError("a key comes twice")
        return PyBytes_FromStringAndSize(<char *> self.writer.bytes, self.writer.length)


cdef int _raise(Reader *reader) except -1:
    raise WireError(reader.rung.decode(), reader.message.decode(), reader.at)


cdef Reader _reader(const uint8_t[::1] data):
    cdef Reader reader
    memset(&reader, 0, sizeof(Reader))
    reader.length = data.shape[0]
    reader.bytes = &data[0] if reader.length else NULL
    return reader


cdef int _open(Reader *reader, Reader *body, int kind) except -1:
    """Opens the next chunk; its kind, which has to be `kind` unless that is 0."""
    cdef int got
    with nogil:
        got = open_chunk(reader, body)
    if got < 0:
        _raise(reader)
    if kind and got != kind:
        read_fails(reader, "kind", "the chunk is of another kind than expected here")
        _raise(reader)
    return got


cdef size_t _row_count(Reader *body) except? 0:
    cdef size_t count = read_varint(body, COLUMN_ROWS)
    if body.rung == NULL and not count:
        read_fails(body, "number", "a chunk holds at least one row")
    if body.rung != NULL:
        _raise(body)
    return count


cdef int _no_more(Reader *reader) except -1:
    if reader.at != reader.length:
        read_fails(reader, "length", "there are bytes after the last chunk")
        _raise(reader)
    return 0


def chunk_length(const uint8_t[::1] data):
    cdef Reader reader = _reader(data)
    cdef int64_t length = c_chunk_length(&reader)
    if length < 0:
        _raise(&reader)
    return length


cdef int _write_rows(Writer *writer, const RowPointer *order, size_t count, size_t limit, Codec *codec) noexcept nogil:
    cdef size_t at = 0, size, start
    cdef int status = CODEC_OK
    while at < count and status == CODEC_OK:
        size = min(limit, count - at)
        start = writer.length
        begin_chunk(writer, CHUNK_ROWS)
        write_varint(writer, size)
        status = write_rows(writer, order + at, size, codec)
        end_chunk(writer, start)
        at += size
        if at < count and not all_ascend(order + at - 1, 2):
            status = CODEC_TWICE
    return status


cdef void _write_end(Writer *writer, uint64_t total) noexcept nogil:
    cdef size_t start = writer.length
    begin_chunk(writer, CHUNK_END)
    write_varint(writer, total)
    end_chunk(writer, start)


cdef int _read_end(Reader *reader, Reader *body, uint64_t total) except -1:
    cdef uint64_t said = read_varint(body, <uint64_t> -1)
    if close_chunk(body):
        _raise(body)
    if said != total:
        read_fails(reader, "rows", "the chunks hold another number of rows than the last one says")
        _raise(reader)
    return _no_more(reader)


def encode_chunk(const Row[::1] rows):
    if not 1 <= rows.shape[0] <= COLUMN_ROWS:
        raise ValueError(f"a chunk holds 1 to {COLUMN_ROWS} rows, got {rows.shape[0]}")
    cdef _Order order = _Order(rows)
    cdef _Output output = _Output()
    cdef _Workspace workspace = _take()
    cdef int status
    with nogil:
        status = _write_rows(&output.writer, order.rows, order.count, COLUMN_ROWS, workspace.codec)
    _give(workspace, order.count)
    return output.take(status)


def decode_chunk(const uint8_t[::1] data):
    cdef Reader reader = _reader(data), body
    _open(&reader, &body, CHUNK_ROWS)
    rows = _read_rows(&body)
    _no_more(&reader)
    return rows


cdef object _read_rows(Reader *body):
    cdef size_t count = _row_count(body)
    rows = np.empty(count, dtype=ROW_DTYPE)
    cdef Row[::1] row = rows
    _read_rows_into(body, &row[0], count)
    return rows


cdef int _read_rows_into(Reader *body, Row *rows, size_t count) except -1:
    cdef _Workspace workspace = _take()
    cdef int status
    with nogil:
        status = read_rows(body, rows, count, workspace.codec)
        if status == CODEC_OK:
            status = close_chunk(body)
    _give(workspace, count)
    if status != CODEC_OK:
        _raise(body)
    return 0


def encode_snapshot(const Row[::1] rows, size_t chunk_rows=32_768):
    if not 1 <= chunk_rows <= COLUMN_ROWS:
        raise ValueError(f"a chunk holds 1 to {COLUMN_ROWS} rows, got {chunk_rows}")
    cdef _Order order = _Order(rows)
    cdef _Output output = _Output()
    cdef _Workspace workspace = _take()
    cdef int status
    with nogil:
        status = _write_rows(&output.writer, order.rows, order.count, chunk_rows, workspace.codec)
        _write_end(&output.writer, order.count)
    _give(workspace, order.count)
    return output.take(status)


cdef size_t _claimed_rows(Reader reader) except? 0:
    """How many rows the chunks of a snapshot say they hold, without a look at their columns."""
    cdef size_t total = 0
    cdef int64_t length
    cdef Reader body
    while reader.at < reader.length:
        length = c_chunk_length(&reader)
        if length < 0:
            _raise(&reader)
        if not length or <size_t> length > reader.length - reader.at:
            break
        if reader.bytes[reader.at + 1] == CHUNK_ROWS:
            body = reader
            body.at += CHUNK_HEAD
            total += _row_count(&body)
        reader.at += length
    return total


def decode_snapshot(const uint8_t[::1] data):
    cdef Reader reader = _reader(data), body
    cdef size_t claimed = _claimed_rows(reader), at = 0, count
    rows = np.empty(min(claimed, BELIEVED_ROWS), dtype=ROW_DTYPE)
    cdef Row[::1] row = rows
    cdef RowPointer neighbours[2]
    while _open(&reader, &body, 0) == CHUNK_ROWS:
        count = _row_count(&body)
        if at + count > <size_t> row.shape[0]:
            larger = np.empty(min(claimed, 2 * (at + count)), dtype=ROW_DTYPE)
            larger[:at] = rows[:at]
            row = rows = larger
        _read_rows_into(&body, &row[at], count)
        if at:
            neighbours[0], neighbours[1] = &row[at - 1], &row[at]
            if not all_ascend(neighbours, 2):
                read_fails(&reader, "order", "chunks come twice or out of order")
                _raise(&reader)
        at += count
    if reader.bytes[reader.at - CHUNK_HEAD - (body.length + 8) + 1] != CHUNK_END:
        read_fails(&reader, "kind", "the chunk is of another kind than expected here")
        _raise(&reader)
    _read_end(&reader, &body, at)
    return rows
