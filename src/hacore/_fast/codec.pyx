# cython: boundscheck=False, wraparound=False, embedsignature=False
"""Snapshots and deltas of rows: self-contained chunks of columns.

A chunk has a version, a kind, its length and a checksum in front, and can be decoded without any other. Kinds: "R"
rows, "C" changes, "B" the base of a delta, "E" the end of a snapshot or a delta. Each field is in
docs/wire-chunks.md. Coding releases the GIL.

Every decoder ends in a value or a `WireError`, whatever the bytes; its `rung` says which check failed, `offset` where
in the body.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from hacore._fast.row cimport Key, Row, records_of

import numpy as np

from hacore._fast.codec_names import NAME_BITS, ascending as _ascending
from hacore._fast.row import KEY_DTYPE as _KEY_DTYPE, ROW_DTYPE as _ROW_DTYPE
from hacore.errors import WireError


MAX_CHUNK_ROWS = COLUMN_ROWS
"""Rows in a chunk at most, and changes of each kind."""

_NUMBER, _INDEX = np.dtype(np.uint64), np.dtype(np.int64)
_NO_ROWS, _NO_KEYS, _NO_NUMBERS = (np.empty(0, dtype=dtype) for dtype in (_ROW_DTYPE, _KEY_DTYPE, _NUMBER))

_workspaces = []


cdef class _Workspace:
    cdef Codec *codec

    def __cinit__(self):
        self.codec = codec_new()
        if self.codec == NULL:
            raise MemoryError("no room to code a chunk")

    def __dealloc__(self):
        codec_free(self.codec)


cdef _Workspace _take():
    return <_Workspace> (_workspaces.pop() if _workspaces else _Workspace())


cdef void _give(_Workspace workspace):
    if len(_workspaces) < 2:
        _workspaces.append(workspace)


cdef class _Order:
    """Rows in key order, without moving them."""
    cdef Order order
    cdef RowPointer *rows
    cdef size_t count
    cdef object held

    def __cinit__(self, rows):
        cdef int failed
        cdef const Row *first = <const Row *> records_of(rows, _ROW_DTYPE, &self.count, False)
        self.held = rows
        if self.count >> 32:
            raise ValueError("more than 2**32 rows")
        with nogil:
            failed = order_open(&self.order, first, self.count)
        if failed:
            raise MemoryError("no room to sort rows")
        self.rows = self.order.rows

    def __dealloc__(self):
        if self.order.rows != NULL:
            order_close(&self.order)


cdef bytes _taken(Writer *writer, int status):
    """What was written; the writer is empty then, and keeps its memory."""
    cdef size_t length = writer.length
    writer.length = 0
    if writer.failed or status == CODEC_MEMORY:
        writer.failed = 0
        raise MemoryError("no room for the coded bytes")
    if status == CODEC_TWICE:
        raise ValueError("a key comes twice")
    return PyBytes_FromStringAndSize(<char *> writer.bytes, <Py_ssize_t> length)


cdef int _raise(Reader *reader) except -1:
    raise WireError(reader.rung.decode(), reader.message.decode(), reader.at)


cdef Reader _reader(const uint8_t[::1] data):
    cdef Reader reader
    memset(&reader, 0, sizeof(Reader))
    reader.length = <size_t> data.shape[0]
    reader.bytes = &data[0] if reader.length else NULL
    return reader


cdef int _open(const uint8_t[::1] data, Reader *body, int kind) except -1:
    """The body of the one chunk that `data` is, which has to be of this kind."""
    cdef Reader reader = _reader(data)
    cdef int got
    with nogil:
        got = open_chunk(&reader, body)
    if got < 0:
        _raise(&reader)
    if got != kind:
        read_fails(&reader, "kind", "the chunk is of another kind than expected here")
        _raise(&reader)
    if reader.at != reader.length:
        read_fails(&reader, "length", "there are bytes after the last chunk")
        _raise(&reader)
    return 0


cdef size_t _row_count(Reader *body) except? 0:
    cdef size_t count = read_varint(body, COLUMN_ROWS)
    if body.rung == NULL and not count:
        read_fails(body, "number", "a chunk holds at least one row")
    if body.rung != NULL:
        _raise(body)
    return count


cdef uint64_t _last_number(Reader *body) except? 0:
    """The number that ends a body."""
    cdef uint64_t number = read_varint(body, <uint64_t> -1)
    if close_chunk(body):
        _raise(body)
    return number


def chunk_length(const uint8_t[::1] data):
    """The whole length of the chunk that `data` begins with; 0 when more bytes are needed to tell. Looks at the head
    only.

    Raises:
        WireError: version, kind, header (reserved bytes) or length (out of bounds).
    """
    cdef Reader reader = _reader(data)
    cdef int64_t length = c_chunk_length(&reader)
    if length < 0:
        _raise(&reader)
    return length


def chunk_kind(const uint8_t[::1] data):
    """The kind of the chunk that `data` begins with."""
    if data.shape[0] < CHUNK_HEAD:
        raise WireError("short", "the chunk ends early", data.shape[0])
    chunk_length(data)
    return chr(data[1])


def encode_rows(rows, size_t chunk_rows=32_768):
    """`rows` in key order as chunks of `chunk_rows`; nothing for no rows.

    Raises:
        ValueError: a key comes twice, or `chunk_rows` is out of bounds.
    """
    if not 1 <= chunk_rows <= COLUMN_ROWS:
        raise ValueError(f"a chunk holds 1 to {COLUMN_ROWS} rows, got {chunk_rows}")
    cdef _Order order = _Order(rows)
    cdef _Workspace workspace = _take()
    cdef Writer *writer = &workspace.codec.writer
    cdef size_t at = 0, size
    cdef int status
    chunks = []
    while at < order.count:
        size = min(chunk_rows, order.count - at)
        with nogil:
            begin_chunk(writer, CHUNK_ROWS)
            write_varint(writer, size)
            status = write_rows(writer, order.rows + at, size, workspace.codec)
            end_chunk(writer, 0)
            at += size
            if at < order.count and not all_ascend(order.rows + at - 1, 2):
                status = CODEC_TWICE
        chunks.append(_taken(writer, status))
    _give(workspace)
    return chunks


def encode_chunk(rows):
    """One chunk of 1 to MAX_CHUNK_ROWS rows."""
    if not 1 <= len(rows) <= COLUMN_ROWS:
        raise ValueError(f"a chunk holds 1 to {COLUMN_ROWS} rows, got {len(rows)}")
    return encode_rows(rows, COLUMN_ROWS)[0]


def row_count(const uint8_t[::1] data):
    """How many rows a chunk of rows says it holds (1 to MAX_CHUNK_ROWS)."""
    cdef Reader reader = _reader(data)
    if chunk_kind(data) != "R":
        raise WireError("kind", "the chunk is of another kind than expected here", 1)
    reader.at = CHUNK_HEAD
    return _row_count(&reader)


cdef int _not_possible() except -1:
    raise WireError("row", "a row is none that a kernel can have: its family, its zones, an address or a name")


def decode_chunk(const uint8_t[::1] data, Row[::1] out=None, *, bint strict=False):
    """The rows of a whole chunk, in key order; into `out` when it is given, which has to have `row_count(data)` rows.

    What `out` holds after a WireError is undefined.

    Args:
        strict: rows that no kernel can have (`hacore.states.layout`) are a WireError, too.
    """
    cdef Reader body
    cdef _Workspace workspace
    cdef int status
    cdef bint possible
    _open(data, &body, CHUNK_ROWS)
    cdef size_t count = _row_count(&body)
    rows = None
    if out is None:
        rows = np.empty(count, dtype=_ROW_DTYPE)
        out = rows
    elif <size_t> out.shape[0] != count:
        raise ValueError(f"out has to have {count} rows, got {out.shape[0]}")
    workspace = _take()
    with nogil:
        status = read_rows(&body, &out[0], count, workspace.codec)
        if status == CODEC_OK:
            status = close_chunk(&body)
        possible = not strict or status != CODEC_OK or rows_are_possible(&out[0], count)
    _give(workspace)
    if status != CODEC_OK:
        _raise(&body)
    if not possible:
        _not_possible()
    return out.base if rows is None else rows


cdef bytes _numbered(int kind, const uint8_t *digest, uint64_t number):
    """A chunk of one number, behind a digest where there is one."""
    cdef _Workspace workspace = _take()
    cdef Writer *writer = &workspace.codec.writer
    begin_chunk(writer, kind)
    if digest != NULL:
        write_bytes(writer, digest, 16)
    write_varint(writer, number)
    end_chunk(writer, 0)
    chunk = _taken(writer, CODEC_OK)
    _give(workspace)
    return chunk


def encode_base(const uint8_t[::1] digest, uint64_t count):
    """The first chunk of a delta: the 16 bytes of `digest_of_rows` of its base, and the number of rows."""
    if digest.shape[0] != 16:
        raise ValueError(f"a digest has 16 bytes, got {digest.shape[0]}")
    return _numbered(CHUNK_BASE, &digest[0], count)


def decode_base(const uint8_t[::1] data):
    cdef Reader body
    _open(data, &body, CHUNK_BASE)
    cdef const uint8_t *digest = read_bytes(&body, 16)
    cdef uint64_t count = _last_number(&body)
    return digest[:16], count


def encode_end(uint64_t count):
    """The last chunk of a snapshot or a delta: how many rows there are then."""
    return _numbered(CHUNK_END, NULL, count)


def decode_end(const uint8_t[::1] data):
    cdef Reader body
    _open(data, &body, CHUNK_END)
    return _last_number(&body)


def encode_changes(inserted, before, after, deleted_keys, *, updated_names=None, deleted_names=None):
    """One chunk of changes, at most MAX_CHUNK_ROWS of each kind, in any order.

    Args:
        inserted: rows that the other side does not have, or has to overwrite whole.
        before, after: rows that the other side has, as it has them and as they are now, side by side.
        deleted_keys: keys of rows that are gone.
        updated_names: a number for each of `after`, by which the other side finds the row; else rows are named by key.
        deleted_names: numbers of further rows that are gone.

    Raises:
        ValueError: a key or a name comes twice, a name has more than NAME_BITS, or there are too many changes.
    """
    cdef Changes_ changes
    cdef _Order new = _Order(inserted)
    cdef size_t updates, befores, deletes, named_deletes = 0, room
    cdef const Row *now = <const Row *> records_of(after, _ROW_DTYPE, &updates, False)
    cdef const Row *once = <const Row *> records_of(before, _ROW_DTYPE, &befores, False)
    cdef const Key *keys = <const Key *> records_of(deleted_keys, _KEY_DTYPE, &deletes, False)
    cdef const int64_t *order = NULL
    memset(&changes, 0, sizeof(changes))
    if updated_names is not None:
        numbers, indices = _ascending(updated_names, updates)
        changes.updated_numbers = <const uint64_t *> records_of(numbers, _NUMBER, &room, False)
        if indices is not None:
            order = <const int64_t *> records_of(indices, _INDEX, &room, False)
    if deleted_names is not None:
        named_deletes = <size_t> len(deleted_names)
        gone, _ = _ascending(deleted_names, named_deletes)
        changes.deleted_numbers = <const uint64_t *> records_of(gone, _NUMBER, &room, False)
    if befores != updates:
        raise ValueError(f"expected as many rows before as after, got {befores} and {updates}")
    if max(new.count, updates, deletes, named_deletes) > COLUMN_ROWS:
        raise ValueError(f"a chunk holds at most {COLUMN_ROWS} changes of a kind")
    if deleted_names is not None and updated_names is None and updates:
        raise ValueError("rows are named by number or by key, not deleted by number and updated by key")
    changes.naming = NAMED_BY_NUMBER if updated_names is not None or deleted_names is not None else NAMED_BY_KEY
    changes.inserted, changes.inserted_rows = new.count, new.rows
    changes.updated, changes.deleted_keys, changes.deleted = updates, deletes, named_deletes
    cdef int failed
    with nogil:
        failed = arrange_changes(&changes, once, now, order, keys)
    if failed:
        raise MemoryError("no room for the coded bytes")
    try:
        return encode_prepared(&changes)
    finally:
        free(<void *> changes.before)


cdef int order_rows(const Row *rows, size_t count, RowPointer *ordered) noexcept nogil:
    """Pointers to rows in the order of their keys; -1 where there is no memory."""
    return order_copy(ordered, rows, count)


cdef bytes encode_prepared(const Changes_ *changes):
    """A chunk of changes whose pointers and numbers are in order already."""
    cdef _Workspace workspace = _take()
    cdef Writer *writer = &workspace.codec.writer
    cdef int status
    with nogil:
        begin_chunk(writer, CHUNK_CHANGES)
        status = write_changes(writer, changes, workspace.codec)
        end_chunk(writer, 0)
    chunk = _taken(writer, status)
    _give(workspace)
    return chunk


cdef class Changes:
    """What a chunk of changes says; `len()` is how many there are.

    `inserted` are in key order. Updated rows are named by `updated_names`, ascending, or by `updated_keys`, in key order;
    the other is empty. What is gone is named by `deleted_names` and `deleted_keys`.
    """

    def __init__(self):
        raise TypeError("decode_changes makes these")

    def __len__(self):
        return len(self.inserted) + len(self.masks) + len(self.deleted_names) + len(self.deleted_keys)

    def apply(self, before):
        """The updated rows, from what they were, in the order of `updated_names` or `updated_keys`.

        Raises:
            WireError: rung "base", the updates were made from other rows than these (timeouts may differ); "row", of
                a chunk that was decoded strictly, they make of one what no kernel can have.
        """
        cdef size_t count = <size_t> len(self.masks), room
        cdef const Row *old = <const Row *> records_of(before, _ROW_DTYPE, &room, False)
        if room != count:
            raise ValueError(f"expected {count} rows, got {room}")
        after = np.empty(count, dtype=_ROW_DTYPE)
        if not count:
            return after
        cdef Row *row = <Row *> records_of(after, _ROW_DTYPE, &room, True)
        memcpy(row, old, count * sizeof(Row))
        if not self.patch(row, count):
            raise WireError("base", "the updates were made from other rows than these")
        return after

    cdef int patch(self, Row *rows, size_t count) except -1:
        """Updates `count` rows in place, as many as there are updates; 0, and nothing done, where they are others than
        those that the updates were made from."""
        cdef size_t room
        cdef const Row *values = <const Row *> records_of(self.values, _ROW_DTYPE, &room, False)
        cdef const uint64_t *masks = <const uint64_t *> records_of(self.masks, _NUMBER, &room, False)
        cdef bint patched, possible
        with nogil:
            patched = patch_checked(rows, values, masks, count, self.check)
            possible = not self.strict or rows_are_possible(rows, count)
        if not possible:
            _not_possible()
        return patched


cdef object _room(size_t count, object dtype, object none, void **first):
    """An array of so many, and where it is; `none` for 0 of them."""
    cdef size_t room
    if not count:
        return none
    records = np.empty(count, dtype=dtype)
    first[0] = records_of(records, dtype, &room, True)
    return records


def decode_changes(const uint8_t[::1] data, *, bint strict=False):
    """What a whole chunk of changes says.

    Args:
        strict: for what somebody else made and names by hashes. Rows that no kernel can have (`hacore.states.layout`),
            here or when the updates are applied, are a WireError, too, as are more names than the chunk has bytes.
    """
    cdef Changes changes = Changes.__new__(Changes)
    cdef ChangeCounts counts
    cdef ChangeSpace space
    cdef _Workspace workspace
    cdef int status
    cdef bint possible
    cdef Reader body
    _open(data, &body, CHUNK_CHANGES)
    if read_change_counts(&body, &counts) != CODEC_OK:
        _raise(&body)
    if strict and counts.naming == NAMED_BY_NUMBER and counts.updated + counts.deleted > body.length:
        # Names are hashes, of which no list is that short: whoever sends it wants work for nothing.
        read_fails(&body, "number", "the chunk names more rows than it has bytes")
        _raise(&body)
    cdef size_t numbered = counts.updated if counts.naming == NAMED_BY_NUMBER else 0
    memset(&space, 0, sizeof(space))
    changes.inserted = _room(counts.inserted, _ROW_DTYPE, _NO_ROWS, <void **> &space.inserted_rows)
    changes.updated_names = _room(numbered, _NUMBER, _NO_NUMBERS, <void **> &space.updated_numbers)
    changes.updated_keys = _room(counts.updated - numbered, _KEY_DTYPE, _NO_KEYS, <void **> &space.updated_keys)
    changes.deleted_names = _room(counts.deleted, _NUMBER, _NO_NUMBERS, <void **> &space.deleted_numbers)
    changes.deleted_keys = _room(counts.deleted_keys, _KEY_DTYPE, _NO_KEYS, <void **> &space.deleted_keys)
    changes.values = _room(counts.updated, _ROW_DTYPE, _NO_ROWS, <void **> &space.values)
    changes.masks = _room(counts.updated, _NUMBER, _NO_NUMBERS, <void **> &space.masks)
    workspace = _take()
    with nogil:
        status = read_changes(&body, &counts, &space, workspace.codec)
        if status == CODEC_OK:
            status = close_chunk(&body)
        possible = not strict or status != CODEC_OK or rows_are_possible(space.inserted_rows, counts.inserted)
    _give(workspace)
    if status != CODEC_OK:
        _raise(&body)
    if not possible:
        _not_possible()
    changes.check, changes.strict = space.check, strict
    return changes


def digest_of_rows(const Row[::1] rows):
    """16 bytes that name a set of rows, in whatever order; not keyed, so against mistakes and not against forgery."""
    cdef uint8_t[16] digest
    cdef size_t count = <size_t> rows.shape[0]
    memset(digest, 0, 16)
    if count:
        with nogil:
            digest_of(&rows[0], count, digest)
    return digest[:16]


def sort_rows(rows):
    """A copy of `rows` in key order.

    Raises:
        ValueError: a key comes twice.
    """
    cdef _Order order = _Order(rows)
    ordered = np.empty(order.count, dtype=_ROW_DTYPE)
    cdef Row[::1] row = ordered
    cdef size_t index
    cdef bint once_each
    with nogil:
        once_each = all_ascend(order.rows, order.count)
        for index in range(order.count):
            row[index] = order.rows[index][0]
    if not once_each:
        raise ValueError("a key comes twice")
    return ordered


def compare(const Row[::1] old, const Row[::1] new):
    """Positions in two tables in key order: inserted (in `new`), changed (in `old`), the same (in `new`), deleted (in
    `old`)."""
    cdef Difference found
    cdef size_t old_count = <size_t> old.shape[0], new_count = <size_t> new.shape[0]
    parts = np.empty(new_count, np.int64), np.empty(min(old_count, new_count), np.int64), \
        np.empty(min(old_count, new_count), np.int64), np.empty(old_count, np.int64)
    cdef int64_t[::1] inserted = parts[0], before = parts[1], after = parts[2], deleted = parts[3]
    memset(&found, 0, sizeof(found))
    found.inserted = &inserted[0] if inserted.shape[0] else NULL
    found.before = &before[0] if before.shape[0] else NULL
    found.after = &after[0] if after.shape[0] else NULL
    found.deleted = &deleted[0] if deleted.shape[0] else NULL
    with nogil:
        compare_rows(&old[0] if old_count else NULL, old_count, &new[0] if new_count else NULL, new_count, &found)
    return (parts[0][:<Py_ssize_t> found.inserted_count], parts[1][:<Py_ssize_t> found.updated_count],
            parts[2][:<Py_ssize_t> found.updated_count], parts[3][:<Py_ssize_t> found.deleted_count])
