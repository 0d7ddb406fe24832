# cython: boundscheck=False, wraparound=False, embedsignature=False
"""What happens between a batch of events and its frame, and between a frame and the kernel, in one call each.

A batch of a few rows costs as much as the calls that it takes: table, codec and events meet here, so that it takes one.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset

from hacore._fast.codec cimport Changes_, NAMED_BY_KEY, NAMED_BY_NUMBER, RowPointer, encode_prepared
from hacore._fast.ctnetlink cimport CT_DESTROY, CT_HAS_ALL, complete_row, ct_event
from hacore._fast.row cimport KEY_BYTES, Key, Row, records_of
from hacore._fast.table cimport (
    TABLE_CHANGED, TABLE_DELETED, TABLE_FULL, TABLE_INSERT, TABLE_NEW, TABLE_REFRESHED, TABLE_UPDATE, PutOptions,
    Table, hash_key,
)

from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE as _EVENT_DTYPE
from hacore._fast.row import ROW_DTYPE as _ROW_DTYPE

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
                    + sizeof(Numbered) + 4 * sizeof(RowPointer) + 4)
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
            batch.foreign[batch.put_count] = group.position >= 0 and table.table.meta[group.position].owner != 0
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
    cdef size_t index, refused = 0, updated = 0, inserted = 0, deleted = 0, by_key = 0, known = 0
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
    if batch.put_count:
        table.put_rows(batch.rows, batch.put_count, options, batch.outcomes, batch.before if known else NULL)
    for index in range(batch.put_count):
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
    if inserted > 1:
        qsort(batch.inserted, inserted, sizeof(RowPointer), _by_key)
    if use_names and updated:
        qsort(batch.numbered, updated, sizeof(Numbered), _by_number)
        for index in range(updated):
            batch.updated_numbers[index] = batch.numbered[index].number
            batch.afters[index] = &batch.rows[batch.numbered[index].index]
    elif updated > 1:
        qsort(batch.afters, updated, sizeof(RowPointer), _by_key)
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
