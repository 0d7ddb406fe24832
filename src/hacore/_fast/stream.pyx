# cython: boundscheck=False, wraparound=False, embedsignature=False
"""What happens between a batch of events and its frame, and between a frame and the kernel, in one call each.

A batch of a few rows costs as much as the calls that it takes: table, codec and events meet here, so that it takes one.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset

from hacore._fast.codec cimport Changes, Changes_, NAMED_BY_KEY, NAMED_BY_NUMBER, RowPointer, encode_prepared, order_rows
from hacore._fast.ctnetlink cimport CT_DESTROY, CT_HAS_ALL, complete_row, ct_event
from hacore._fast.row cimport KEY_BYTES, Key, Row, records_of
from hacore._fast.table cimport (
    TABLE_CHANGED, TABLE_DELETED, TABLE_FULL, TABLE_INSERT, TABLE_NEW, TABLE_REFRESHED, TABLE_UPDATE, PutOptions,
    Table, hash_key,
)

import numpy as np

from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE as _EVENT_DTYPE
from hacore._fast.row import KEY_DTYPE as _KEY_DTYPE, ROW_DTYPE as _ROW_DTYPE

cdef enum:
    MAX_EVENTS_ = 8192

MAX_EVENTS = MAX_EVENTS_
"""In one batch."""


cdef struct Group:
    # All events of one key: where its row stands at last, its place in the table before, whether it lives.
    Row *row
    const Row *known
    int64_t position
    bint lives


cdef struct Numbered:
    uint64_t number
    size_t index


cdef struct Batch:
    # Room for as many of each as there are events, in one piece of memory.
    Row *before
    Row *rows          # those that live, side by side
    size_t put_count
    Key *gone
    size_t gone_count
    int64_t *positions
    int64_t *places    # in the table: of rows, then of those that are gone
    uint64_t *names
    uint8_t *alone
    uint8_t *outcomes
    uint8_t *foreign
    Group *groups
    uint32_t *slots    # of the groups, by hash
    size_t slot_count
    RowPointer *inserted
    RowPointer *befores
    RowPointer *afters
    RowPointer *gone_keys
    RowPointer *ordered
    uint64_t *updated_numbers
    uint64_t *gone_numbers
    Numbered *numbered
    void *memory


cdef int _open(Batch *batch, size_t count) noexcept nogil:
    """0, or -1 where there is no memory."""
    cdef size_t size, at = 0
    cdef uint8_t *memory
    memset(batch, 0, sizeof(Batch))
    batch.slot_count = 2
    while batch.slot_count < 2 * count:
        batch.slot_count *= 2
    size = count * (sizeof(Row) + sizeof(Key) + 3 * sizeof(int64_t) + 4 * sizeof(uint64_t) + sizeof(Group)
                    + sizeof(Numbered) + 5 * sizeof(RowPointer) + 4)
    memory = <uint8_t *> malloc(size + 64)
    batch.slots = <uint32_t *> calloc(batch.slot_count, sizeof(uint32_t))
    batch.memory = memory
    if memory == NULL or batch.slots == NULL:
        free(memory)
        free(batch.slots)
        return -1
    batch.groups = <Group *> memory
    at += count * sizeof(Group)
    batch.numbered = <Numbered *> (memory + at)
    at += count * sizeof(Numbered)
    batch.positions = <int64_t *> (memory + at)
    at += count * sizeof(int64_t)
    batch.places = <int64_t *> (memory + at)
    at += 2 * count * sizeof(int64_t)
    batch.names = <uint64_t *> (memory + at)
    at += 2 * count * sizeof(uint64_t)
    batch.updated_numbers = <uint64_t *> (memory + at)
    at += count * sizeof(uint64_t)
    batch.gone_numbers = <uint64_t *> (memory + at)
    at += count * sizeof(uint64_t)
    batch.inserted = <RowPointer *> (memory + at)
    at += count * sizeof(RowPointer)
    batch.befores = <RowPointer *> (memory + at)
    at += count * sizeof(RowPointer)
    batch.afters = <RowPointer *> (memory + at)
    at += count * sizeof(RowPointer)
    batch.gone_keys = <RowPointer *> (memory + at)
    at += count * sizeof(RowPointer)
    batch.ordered = <RowPointer *> (memory + at)
    at += count * sizeof(RowPointer)
    batch.before = <Row *> (memory + at)
    at += count * sizeof(Row)
    batch.gone = <Key *> (memory + at)
    at += count * sizeof(Key)
    batch.alone = memory + at
    at += 2 * count
    batch.outcomes = memory + at
    at += count
    batch.foreign = memory + at
    return 0


cdef void _close(Batch *batch) noexcept nogil:
    free(batch.memory)
    free(batch.slots)


cdef Group *_group_of(Table table, Batch *batch, Row *row, int64_t position, size_t *group_count) noexcept nogil:
    """The group of a row's key, a new one where there is none."""
    cdef size_t slot = <size_t> hash_key(table.table.seed, row) & (batch.slot_count - 1)
    cdef Group *group
    while batch.slots[slot]:
        group = &batch.groups[batch.slots[slot] - 1]
        if memcmp(group.row, row, KEY_BYTES) == 0:
            return group
        slot = (slot + 1) & (batch.slot_count - 1)
    group = &batch.groups[group_count[0]]
    group_count[0] += 1
    batch.slots[slot] = <uint32_t> group_count[0]
    group.row = row
    group.position = position
    group.lives = position >= 0
    group.known = &table.table.rows[position] if position >= 0 else NULL
    return group


cdef Row _NOTHING  # all zeros


cdef void _net(Table table, Batch *batch, Row *rows, const ct_event *events, size_t count) noexcept nogil:
    """What the events come to: one row for each key that lives, moved to the front of `rows`, and the keys that go."""
    cdef size_t index, groups = 0
    cdef Group *group
    cdef int64_t *places_gone = batch.places + count
    cdef bint foreign
    table.find_rows(<const uint8_t *> rows, sizeof(Row), count, batch.positions)
    for index in range(count):
        group = _group_of(table, batch, &rows[index], batch.positions[index], &groups)
        if events[index].kind == CT_DESTROY:
            group.lives, group.known = False, NULL
            continue
        if events[index].present != CT_HAS_ALL:
            complete_row(&rows[index], group.known if group.known != NULL else &_NOTHING, events[index].present)
        group.row = &rows[index]
        group.known = &rows[index]
        group.lives = True
    # A group's number is at most the place of its first event, so nothing that is still to be moved is overwritten.
    for index in range(groups):
        group = &batch.groups[index]
        if group.lives:
            batch.places[batch.put_count] = group.position
            foreign = group.position >= 0 and table.table.meta[group.position].owner != 0
            batch.foreign[batch.put_count] = 1 if foreign else 0
            if &rows[batch.put_count] != group.row:
                rows[batch.put_count] = group.row[0]
            batch.put_count += 1
        elif group.position >= 0:
            memcpy(&batch.gone[batch.gone_count], group.row, KEY_BYTES)
            places_gone[batch.gone_count] = group.position
            batch.gone_count += 1
    batch.rows = rows


cdef int _by_key(const void *a, const void *b) noexcept nogil:
    return memcmp((<const RowPointer *> a)[0], (<const RowPointer *> b)[0], KEY_BYTES)


cdef int _by_number(const void *a, const void *b) noexcept nogil:
    cdef uint64_t one = (<const Numbered *> a).number, other = (<const Numbered *> b).number
    return (one > other) - (one < other)


cdef size_t _put(Table table, Batch *batch, Changes_ *changes, const PutOptions *options, size_t count, bint named,
                 bint differences) noexcept nogil:
    """Into the table and out of it; what differs, in order, as changes. How many rows were refused."""
    cdef size_t index, place, refused = 0, updated = 0, inserted = 0, deleted = 0, by_key = 0, known = 0
    cdef uint8_t outcome
    cdef uint64_t *gone_names = batch.names + count
    cdef uint8_t *gone_alone = batch.alone + count
    cdef bint use_names
    for index in range(batch.put_count):
        known += batch.places[index] >= 0
    use_names = named and differences and (known or batch.gone_count)
    if use_names:
        table.name_rows(batch.places, batch.put_count, batch.names, batch.alone)
        table.name_rows(batch.places + count, batch.gone_count, gone_names, gone_alone)
        for index in range(batch.gone_count):
            if table.table.meta[batch.places[count + index]].owner != 0:
                gone_alone[index] = 0  # the others know no such row of this node
    if batch.put_count:
        table.put_rows(batch.rows, batch.put_count, options, batch.outcomes, batch.before if known else NULL)
    if order_rows(batch.rows, batch.put_count, batch.ordered):
        for index in range(batch.put_count):
            batch.ordered[index] = &batch.rows[index]
        qsort(batch.ordered, batch.put_count, sizeof(RowPointer), _by_key)
    for place in range(batch.put_count):
        index = <size_t> (batch.ordered[place] - <RowPointer> batch.rows)
        outcome = batch.outcomes[index]
        if outcome == TABLE_FULL:
            refused += 1
        elif outcome == TABLE_NEW:
            batch.inserted[inserted] = &batch.rows[index]
            inserted += 1
        elif outcome == TABLE_CHANGED or outcome == TABLE_REFRESHED:
            if not differences or batch.foreign[index] or (use_names and not batch.alone[index]):
                batch.inserted[inserted] = &batch.rows[index]
                inserted += 1
            else:
                batch.afters[updated] = &batch.rows[index]
                batch.numbered[updated].number = batch.names[index] if use_names else 0
                batch.numbered[updated].index = index
                updated += 1
    if use_names and updated:
        qsort(batch.numbered, updated, sizeof(Numbered), _by_number)
        for index in range(updated):
            batch.updated_numbers[index] = batch.numbered[index].number
            batch.afters[index] = &batch.rows[batch.numbered[index].index]
    for index in range(updated):
        batch.befores[index] = batch.before + (batch.afters[index] - <RowPointer> batch.rows)

    if batch.gone_count:
        table.delete_rows(<const uint8_t *> batch.gone, sizeof(Key), batch.gone_count, batch.outcomes, NULL)
    for index in range(batch.gone_count):
        if batch.outcomes[index] != TABLE_DELETED:
            continue
        if use_names and gone_alone[index]:
            batch.numbered[deleted].number = gone_names[index]
            deleted += 1
        else:
            batch.gone_keys[by_key] = <RowPointer> &batch.gone[index]
            by_key += 1
    if deleted > 1:
        qsort(batch.numbered, deleted, sizeof(Numbered), _by_number)
    for index in range(deleted):
        batch.gone_numbers[index] = batch.numbered[index].number
    if by_key > 1:
        qsort(batch.gone_keys, by_key, sizeof(RowPointer), _by_key)

    memset(changes, 0, sizeof(Changes_))
    changes.naming = NAMED_BY_NUMBER if use_names and (updated or deleted) else NAMED_BY_KEY
    changes.inserted, changes.inserted_rows = inserted, batch.inserted
    changes.updated, changes.before, changes.after = updated, batch.befores, batch.afters
    changes.updated_numbers, changes.deleted_numbers = batch.updated_numbers, batch.gone_numbers
    changes.deleted, changes.deleted_keys, changes.deleted_by_key = deleted, by_key, batch.gone_keys
    return refused


def observe(Table table not None, rows, events, *, uint32_t epoch, uint8_t generation, uint32_t now, bint named,
            bint differences, bint encode):
    """Events in order into the table, as rows of owner 0; the changes that come of them.

    A key may come any number of times. Whoever has no say in a row's fate (`hacore.states.ownership`) is left out
    before.

    Args:
        rows, events: (n,) of ROW_DTYPE and EVENT_DTYPE, n up to MAX_EVENTS; both as `Reader.receive` gives them,
            `rows` is overwritten.
        epoch, generation, now: as for `Table.put`.
        named: rows may be named by number.
        differences: rows that the others have may be sent as differences; else whole.
        encode: the chunk is wanted.

    Returns:
        chunk: of the changes (`codec.encode_changes`), b"" where nothing has changed or `encode` is false.
        changes: how many there are.
        refused: how many rows the table has no room for.
    """
    cdef size_t count, told, refused = 0, changed = 0
    cdef Row *row = <Row *> records_of(rows, _ROW_DTYPE, &count, True)
    cdef const ct_event *event = <const ct_event *> records_of(events, _EVENT_DTYPE, &told, False)
    cdef Batch batch
    cdef Changes_ changes
    cdef PutOptions options
    cdef int failed
    if told != count or count > MAX_EVENTS_:
        raise ValueError(f"expected up to {MAX_EVENTS_} rows and as many events, got {count} and {told}")
    if not count:
        return b"", 0, 0
    options.mode, options.keep_owner, options.owner = TABLE_INSERT | TABLE_UPDATE, 0, 0
    options.generation, options.epoch, options.now, options.slack = generation, epoch, now, 0
    table._enter()
    try:
        with nogil:
            failed = _open(&batch, count)
            if not failed:
                _net(table, &batch, row, event, count)
                refused = _put(table, &batch, &changes, &options, count, named, differences)
        if failed:
            raise MemoryError(f"no room for {count} events")
        try:
            changed = changes.inserted + changes.updated + changes.deleted + changes.deleted_keys
            return encode_prepared(&changes) if encode and changed else b"", changed, refused
        finally:
            _close(&batch)
    finally:
        table.busy = False


cdef enum:
    REPLY_BYTES = 38  # the reply tuple and its zone, which follow the key

_NUMBER, _BOOL = np.dtype(np.uint64), np.dtype(np.bool_)
_NO_ROWS, _NO_FLAGS = np.zeros(0, dtype=_ROW_DTYPE), np.zeros(0, dtype=_BOOL)


cdef bint _all_found(const int64_t *positions, size_t count) noexcept nogil:
    cdef size_t index
    for index in range(count):
        if positions[index] < 0:
            return False
    return True


cdef int64_t *_positions_of(Table table, object names, object keys, int owner, size_t *count) except? NULL:
    """Where the rows of these names, or else of these keys, are; to be freed."""
    cdef const uint64_t *name = <const uint64_t *> records_of(names, _NUMBER, count, False)
    cdef const uint8_t *key = NULL
    cdef int64_t *positions
    cdef bint by_name = count[0] > 0
    if not by_name:
        key = <const uint8_t *> records_of(keys, _KEY_DTYPE, count, False)
    positions = <int64_t *> malloc((count[0] + 1) * sizeof(int64_t))
    if positions == NULL:
        raise MemoryError(f"no room for {count[0]} changes")
    with nogil:
        if by_name:
            table.resolve_rows(name, count[0], owner, positions)
        else:
            table.find_rows(key, sizeof(Key), count[0], positions)
    return positions


cdef object _rows_to_put(Table table, Changes changes, int owner, bint *matched):
    """What was inserted and what the updates make of the rows here; without the latter where those are others."""
    cdef size_t inserted, updated = 0, room, index
    cdef const Row *new = <const Row *> records_of(changes.inserted, _ROW_DTYPE, &inserted, False)
    cdef Row *row
    cdef int64_t *positions
    matched[0] = True
    if not len(changes.masks):
        return changes.inserted
    positions = _positions_of(table, changes.updated_names, changes.updated_keys, owner, &updated)
    try:
        rows = np.empty(inserted + updated, dtype=_ROW_DTYPE)
        row = <Row *> records_of(rows, _ROW_DTYPE, &room, True)
        if inserted:
            memcpy(row, new, inserted * sizeof(Row))
        matched[0] = _all_found(positions, updated)
        if matched[0]:
            for index in range(updated):
                row[inserted + index] = table.table.rows[positions[index]]
            matched[0] = changes.patch(row + inserted, updated) != 0
        return rows if matched[0] else rows[:<Py_ssize_t> inserted]
    finally:
        free(positions)


cdef object _keys_to_delete(Table table, Changes changes, int owner, bint *found):
    """The keys of what goes; those of names that are not here are left out."""
    cdef size_t named = 0, keyed, room, index, kept = 0
    cdef const Key *given = <const Key *> records_of(changes.deleted_keys, _KEY_DTYPE, &keyed, False)
    cdef Key *key
    cdef int64_t *positions
    found[0] = True
    if not len(changes.deleted_names):
        return changes.deleted_keys
    positions = _positions_of(table, changes.deleted_names, changes.deleted_keys, owner, &named)
    try:
        keys = np.empty(named + keyed, dtype=_KEY_DTYPE)
        key = <Key *> records_of(keys, _KEY_DTYPE, &room, True)
        for index in range(named):
            if positions[index] >= 0:
                memcpy(&key[kept], &table.table.rows[positions[index]], KEY_BYTES)
                kept += 1
        found[0] = kept == named
        if keyed:
            memcpy(&key[kept], given, keyed * sizeof(Key))
        return keys[:<Py_ssize_t> (kept + keyed)]
    finally:
        free(positions)


cdef bint _is_labelled(const Row *row) noexcept nogil:
    cdef size_t index
    for index in range(sizeof(row.labels)):
        if row.labels[index]:
            return True
    return False


def apply(Table table not None, Changes changes not None, *, uint8_t owner, uint32_t epoch, uint8_t generation,
          uint32_t now):
    """Changes of a peer into the table, in which nobody but that peer can own rows.

    Args:
        owner, epoch, generation, now: as for `Table.put`.

    Returns:
        rows: what the kernel is to have, (n,) of ROW_DTYPE.
        new: (n,) bool, whether the kernel has no such entry: the table did not have it, or with another reply tuple.
        cleared: (n,) bool, whether the row had labels that it has no more.
        deleted: what the kernel is to lose, as it was.
        matched: whether the updates met the rows that they were made from; else they are left out.
        found: whether every row to be deleted was named well.
        refused: how many rows the table has no room for.
    """
    cdef size_t count, room, index, kept = 0, refused = 0, doomed
    cdef PutOptions options
    cdef bint matched = True, found = True, fresh, changed
    cdef uint8_t outcome
    cdef uint8_t *outcomes
    cdef uint8_t *clears
    cdef Row *row
    cdef Row *before = NULL
    cdef const uint8_t *key
    options.mode, options.keep_owner, options.owner = TABLE_INSERT | TABLE_UPDATE, 0, owner
    options.generation, options.epoch, options.now, options.slack = generation, epoch, now, 0
    table._enter()
    try:
        rows = _rows_to_put(table, changes, owner, &matched)
        keys = _keys_to_delete(table, changes, owner, &found)
        row = <Row *> records_of(rows, _ROW_DTYPE, &count, True)
        flags, new, cleared = bytearray(count), _NO_FLAGS, _NO_FLAGS
        if count:
            outcomes = <uint8_t *> PyByteArray_AS_STRING(flags)
            cleared_flags = bytearray(count)
            clears = <uint8_t *> PyByteArray_AS_STRING(cleared_flags)
            before = <Row *> malloc(count * sizeof(Row))
            if before == NULL:
                raise MemoryError(f"no room for {count} changes")
            with nogil:
                table.put_rows(row, count, &options, outcomes, before)
                for index in range(count):
                    outcome = outcomes[index]
                    refused += outcome == TABLE_FULL
                    if outcome != TABLE_NEW and outcome != TABLE_CHANGED and outcome != TABLE_REFRESHED:
                        continue
                    if kept != index:
                        row[kept] = row[index]
                    changed = outcome == TABLE_CHANGED
                    fresh = outcome == TABLE_NEW or (changed and memcmp(<const uint8_t *> &row[kept] + KEY_BYTES,
                                                                        <const uint8_t *> &before[index] + KEY_BYTES,
                                                                        REPLY_BYTES) != 0)
                    outcomes[kept] = 1 if fresh else 0
                    clears[kept] = 1 if changed and _is_labelled(&before[index]) and not _is_labelled(&row[kept]) else 0
                    kept += 1
            free(before)
            new, cleared = np.frombuffer(flags, dtype=_BOOL), np.frombuffer(cleared_flags, dtype=_BOOL)
            if kept != count:
                rows, new, cleared = rows[:<Py_ssize_t> kept], new[:<Py_ssize_t> kept], cleared[:<Py_ssize_t> kept]
        deleted = _NO_ROWS
        key = <const uint8_t *> records_of(keys, _KEY_DTYPE, &doomed, False)
        if doomed:
            deleted = np.empty(doomed, dtype=_ROW_DTYPE)
            row = <Row *> records_of(deleted, _ROW_DTYPE, &room, True)
            flags, kept = bytearray(doomed), 0
            outcomes = <uint8_t *> PyByteArray_AS_STRING(flags)
            with nogil:
                table.delete_rows(key, sizeof(Key), doomed, outcomes, row)
                for index in range(doomed):
                    if outcomes[index] != TABLE_DELETED:
                        continue
                    if kept != index:
                        row[kept] = row[index]
                    kept += 1
            if kept != doomed:
                deleted = deleted[:<Py_ssize_t> kept]
        return rows, new, cleared, deleted, matched, found, refused
    finally:
        table.busy = False
