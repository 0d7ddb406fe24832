#define _GNU_SOURCE
#include "table_store.h"

#include <stdlib.h>
#include <sys/mman.h>

#define NOWHERE UINT32_MAX
#define CARRIED UINT32_MAX /* in the old index: a bucket that no longer counts, but the probe goes on */
#define FIRST_BUCKETS 1024u
#define MEMORY_STEP 16384u /* positions made usable at a time: 3.4 MB of rows */
#define GROUP 16           /* keys whose memory is fetched together */
#define CARRY 8            /* old buckets carried over with each insert: 3 are enough, see grow() */

/* ---- memory ---- */

static size_t whole_pages(size_t bytes) { return (bytes + 4095) & ~(size_t)4095; }

static void *reserve(size_t bytes) {
    void *area = mmap(NULL, whole_pages(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return area == MAP_FAILED ? NULL : area;
}

static int allow(void *area, size_t bytes) { return mprotect(area, whole_pages(bytes), PROT_READ | PROT_WRITE); }

static int make_usable(Table *t, uint32_t positions) {
    uint32_t wanted = t->max_states - positions > MEMORY_STEP ? positions + MEMORY_STEP : t->max_states;
    if (allow(t->rows, (size_t)wanted * sizeof(Row)) || allow(t->meta, (size_t)wanted * sizeof(Meta))) return -1;
    t->usable = wanted;
    return 0;
}

static void give_back(Table *t) {
    uint32_t keep = t->count + MEMORY_STEP;
    size_t from = whole_pages((size_t)keep * sizeof(Row)), to = (size_t)t->usable * sizeof(Row) & ~(size_t)4095;
    if (to > from) madvise((uint8_t *)t->rows + from, to - from, MADV_DONTNEED);
    from = whole_pages((size_t)keep * sizeof(Meta));
    to = (size_t)t->usable * sizeof(Meta) & ~(size_t)4095;
    if (to > from) madvise((uint8_t *)t->meta + from, to - from, MADV_DONTNEED);
    t->usable = keep;
}

static int new_index(Index *index, uint32_t size) {
    void *area = mmap(NULL, whole_pages((size_t)size * 4), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) return -1;
    index->buckets = area;
    index->size = size;
    return 0;
}

static void drop_index(Index *index) {
    if (index->buckets) munmap(index->buckets, whole_pages((size_t)index->size * 4));
    index->buckets = NULL;
    index->size = 0;
}

static int newer(uint32_t version, uint32_t than) { return (int32_t)(version - than) > 0; }

int table_open(Table *t, SipKey seed, SipKey digest_key, uint32_t max_states, uint32_t partitions,
               uint32_t tombstones) {
    memset(t, 0, sizeof *t);
    t->seed = seed;
    t->digest_key = digest_key;
    t->max_states = max_states;
    t->partitions = partitions;
    t->tombstone_size = tombstones;
    while (t->position_mask < max_states + 1) {
        t->position_mask = t->position_mask << 1 | 1;
        t->position_bits++;
    }
    t->rows = reserve((size_t)max_states * sizeof(Row));
    t->meta = reserve((size_t)max_states * sizeof(Meta));
    t->block_changed = calloc((max_states >> TABLE_BLOCK_BITS) + 1, sizeof(uint32_t));
    t->tombstones = calloc((size_t)tombstones + 1, sizeof(Tombstone));
    if (!t->rows || !t->meta || !t->block_changed || !t->tombstones || new_index(&t->index, FIRST_BUCKETS)) {
        table_close(t);
        return -1;
    }
    return 0;
}

void table_close(Table *t) {
    if (t->rows) munmap(t->rows, whole_pages((size_t)t->max_states * sizeof(Row)));
    if (t->meta) munmap(t->meta, whole_pages((size_t)t->max_states * sizeof(Meta)));
    drop_index(&t->index);
    drop_index(&t->old);
    free(t->block_changed);
    free(t->tombstones);
    for (size_t owner = 0; owner < TABLE_OWNERS; owner++) free(t->digests[owner]);
    memset(t, 0, sizeof *t);
}

size_t table_memory(const Table *t) {
    size_t bytes = (size_t)t->usable * (sizeof(Row) + sizeof(Meta)) + ((size_t)t->index.size + t->old.size) * 4;
    for (size_t owner = 0; owner < TABLE_OWNERS; owner++)
        if (t->digests[owner]) bytes += t->partitions * sizeof(Digest);
    return bytes + ((t->max_states >> TABLE_BLOCK_BITS) + 1) * sizeof(uint32_t) +
           (t->tombstone_size + 1) * sizeof(Tombstone);
}

/* ---- the index ---- */

static inline uint32_t home(uint32_t hash, uint32_t size) { return (uint32_t)(((uint64_t)hash * size) >> 32); }

static inline uint32_t next_bucket(uint32_t at, uint32_t size) { return ++at == size ? 0 : at; }

static inline uint32_t bucket_of(const Table *t, uint32_t hash, uint32_t position) {
    return (hash << t->position_bits) | (position + 1);
}

static inline uint32_t position_in(const Table *t, uint32_t bucket) { return (bucket & t->position_mask) - 1; }

static uint32_t probe(const Table *t, const Index *index, const uint8_t *key, uint32_t hash) {
    uint32_t tag = hash << t->position_bits, bucket;
    for (uint32_t at = home(hash, index->size); (bucket = index->buckets[at]); at = next_bucket(at, index->size)) {
        if (((bucket ^ tag) & ~t->position_mask) || bucket == CARRIED) continue;
        uint32_t position = position_in(t, bucket);
        if (!memcmp(&t->rows[position], key, KEY_BYTES)) return position;
    }
    return NOWHERE;
}

static inline uint32_t find(const Table *t, const uint8_t *key, uint32_t hash) {
    uint32_t position = probe(t, &t->index, key, hash);
    return position == NOWHERE && t->old.size ? probe(t, &t->old, key, hash) : position;
}

static void link_bucket(Index *index, uint32_t hash, uint32_t bucket) {
    uint32_t at = home(hash, index->size);
    while (index->buckets[at]) at = next_bucket(at, index->size);
    index->buckets[at] = bucket;
}

/* Where `bucket` stands in `index`, or NOWHERE. */
static uint32_t place_of(const Index *index, uint32_t hash, uint32_t bucket) {
    if (!index->size) return NOWHERE;
    for (uint32_t at = home(hash, index->size); index->buckets[at]; at = next_bucket(at, index->size))
        if (index->buckets[at] == bucket) return at;
    return NOWHERE;
}

/* Takes a bucket out and closes the gap, so that probes need no marks for what is gone. */
static void unlink_place(const Table *t, const Index *index, uint32_t gap) {
    uint32_t size = index->size, bucket;
    for (uint32_t at = next_bucket(gap, size); (bucket = index->buckets[at]); at = next_bucket(at, size)) {
        uint32_t from = home(t->meta[position_in(t, bucket)].hash, size);
        uint32_t probed = at >= from ? at - from : at + size - from;
        uint32_t distance = at >= gap ? at - gap : at + size - gap;
        if (probed < distance) continue;
        index->buckets[gap] = bucket;
        gap = at;
    }
    index->buckets[gap] = 0;
}

static void carry(Table *t, uint32_t buckets) {
    while (buckets-- && t->moved < t->old.size) {
        uint32_t bucket = t->old.buckets[t->moved];
        if (bucket && bucket != CARRIED) {
            link_bucket(&t->index, t->meta[position_in(t, bucket)].hash, bucket);
            t->old.buckets[t->moved] = CARRIED;
        }
        t->moved++;
    }
    if (t->moved == t->old.size) drop_index(&t->old);
}

/* Room in the index for one more: 80 % full, it grows by half. The old index then has at most 0.8 s entries in s
 * buckets, the new one takes 1.2 s before it has to grow itself, so carrying s buckets over in 0.4 s inserts would be
 * soon enough. */
static int make_room(Table *t) {
    if (t->old.size) carry(t, CARRY);
    if (t->count < t->index.size / 5 * 4) return 0;
    Index larger;
    if (t->old.size || new_index(&larger, t->index.size + t->index.size / 2))
        return t->count < t->index.size - t->index.size / 16 ? 0 : -1;
    t->old = t->index;
    t->index = larger;
    t->moved = 0;
    return 0;
}

/* ---- digests and changes ---- */

static int know_owner(Table *t, uint8_t owner) {
    if (!t->digests[owner]) t->digests[owner] = calloc(t->partitions, sizeof(Digest));
    return t->digests[owner] ? 0 : -1;
}

static inline uint16_t partition_of(const Table *t, uint64_t hash) {
    return (uint16_t)(((hash >> 32) * t->partitions) >> 32);
}

static void mark(Table *t, uint32_t position) {
    t->meta[position].changed = t->version;
    t->block_changed[position >> TABLE_BLOCK_BITS] = t->version;
}

static int differs_beyond_timeout(const Row *a, const Row *b) {
    uint64_t difference = 0;
    for (size_t word = KEY_WORDS; word < ROW_WORDS; word++)
        difference |= (hash_word(a, word) ^ hash_word(b, word)) & (word == TIMEOUT_WORD ? WITHOUT_TIMEOUT : ~0ULL);
    return difference != 0;
}

static inline uint32_t aged(uint32_t timeout, uint32_t elapsed) { return timeout > elapsed ? timeout - elapsed : 0; }

/* ---- one row ---- */

static uint8_t insert(Table *t, const Row *row, uint32_t hash, const PutOptions *o) {
    if (t->count == t->max_states || make_room(t) || (t->count == t->usable && make_usable(t, t->count))) {
        t->not_fitted++;
        return TABLE_FULL;
    }
    uint32_t position = t->count++;
    uint64_t of_key;
    Digest digest = hash_row(t->digest_key, row, &of_key);
    uint16_t partition = partition_of(t, of_key);
    t->rows[position] = *row;
    t->meta[position] = (Meta){.hash = hash,
                               .epoch = o->epoch,
                               .stamp = o->now,
                               .partition = partition,
                               .owner = o->owner,
                               .generation = o->generation};
    t->digests[o->owner][partition] += digest;
    link_bucket(&t->index, hash, bucket_of(t, hash, position));
    mark(t, position);
    return TABLE_NEW;
}

static uint8_t update(Table *t, uint32_t position, const Row *row, const PutOptions *o) {
    Row *mine = &t->rows[position];
    Meta *meta = &t->meta[position];
    uint8_t owner = o->keep_owner ? meta->owner : o->owner;
    if (!o->keep_owner) meta->epoch = o->epoch;
    if (owner != meta->owner || differs_beyond_timeout(row, mine)) {
        t->digests[meta->owner][meta->partition] -= hash_row(t->digest_key, mine, NULL);
        t->digests[owner][meta->partition] += hash_row(t->digest_key, row, NULL);
        *mine = *row;
        meta->owner = owner;
        meta->stamp = o->now;
        mark(t, position);
        return TABLE_CHANGED;
    }
    uint32_t passed = o->now - meta->stamp, expected = aged(mine->timeout, passed);
    uint32_t drift = row->timeout > expected ? row->timeout - expected : expected - row->timeout;
    /* One that has run out while the row lives on was refreshed, however short it is. */
    if (drift <= o->slack && passed <= mine->timeout) return TABLE_SAME;
    mine->timeout = row->timeout;
    meta->stamp = o->now;
    mark(t, position);
    return TABLE_REFRESHED;
}

static void bury(Table *t, uint32_t position) {
    if (!t->tombstone_size) {
        t->tombstones_lost = t->version;
        return;
    }
    Tombstone *grave = &t->tombstones[t->tombstone_count % t->tombstone_size];
    if (t->tombstone_count++ >= t->tombstone_size) t->tombstones_lost = grave->version;
    grave->version = t->version;
    grave->owner = t->meta[position].owner;
    memcpy(grave->key, &t->rows[position], KEY_BYTES);
}

static void remove_at(Table *t, uint32_t position) {
    Meta *meta = &t->meta[position];
    t->digests[meta->owner][meta->partition] -= hash_row(t->digest_key, &t->rows[position], NULL);
    bury(t, position);
    uint32_t bucket = bucket_of(t, meta->hash, position);
    uint32_t place = place_of(&t->index, meta->hash, bucket);
    if (place != NOWHERE)
        unlink_place(t, &t->index, place);
    else
        t->old.buckets[place_of(&t->old, meta->hash, bucket)] = CARRIED;
    uint32_t last = --t->count;
    if (last == position) return;
    uint32_t hash = t->meta[last].hash;
    bucket = bucket_of(t, hash, last);
    place = place_of(&t->index, hash, bucket);
    Index *index = place != NOWHERE ? &t->index : &t->old;
    if (place == NOWHERE) place = place_of(&t->old, hash, bucket);
    index->buckets[place] = bucket_of(t, hash, position);
    t->rows[position] = t->rows[last];
    t->meta[position] = t->meta[last];
    uint32_t *block = &t->block_changed[position >> TABLE_BLOCK_BITS];
    if (newer(t->meta[position].changed, *block)) *block = t->meta[position].changed;
}

/* ---- batches ---- */

/* The hashes of up to GROUP keys. Memory that the look-ups will touch is asked for beforehand, buckets first, then
 * rows, so that the waits of a group overlap. */
static void prepare(const Table *t, const uint8_t *keys, size_t stride, size_t count, uint32_t *hashes) {
    for (size_t i = 0; i < count; i++) {
        hashes[i] = (uint32_t)hash_key(t->seed, keys + i * stride);
        __builtin_prefetch(&t->index.buckets[home(hashes[i], t->index.size)]);
        if (t->old.size) __builtin_prefetch(&t->old.buckets[home(hashes[i], t->old.size)]);
    }
    for (size_t i = 0; i < count; i++) {
        uint32_t bucket = t->index.buckets[home(hashes[i], t->index.size)];
        if (!bucket && t->old.size) bucket = t->old.buckets[home(hashes[i], t->old.size)];
        uint32_t position = position_in(t, bucket);
        if (!bucket || position >= t->count) continue;
        for (size_t line = 0; line < sizeof(Row); line += 64)
            __builtin_prefetch((const uint8_t *)&t->rows[position] + line);
        __builtin_prefetch(&t->meta[position]);
    }
}

void table_put(Table *t, const Row *rows, size_t count, const PutOptions *o, uint8_t *outcome, Row *before) {
    if (know_owner(t, o->owner)) {
        memset(outcome, TABLE_FULL, count);
        t->not_fitted += count;
        return;
    }
    t->version++;
    uint32_t hashes[GROUP];
    for (size_t start = 0; start < count; start += GROUP) {
        size_t size = count - start < GROUP ? count - start : GROUP;
        prepare(t, (const uint8_t *)&rows[start], sizeof(Row), size, hashes);
        for (size_t i = 0; i < size; i++) {
            const Row *row = &rows[start + i];
            uint32_t position = find(t, (const uint8_t *)row, hashes[i]);
            if (position == NOWHERE) {
                if (before) memset(&before[start + i], 0, sizeof(Row));
                outcome[start + i] = o->mode & TABLE_INSERT ? insert(t, row, hashes[i], o) : TABLE_ABSENT;
                continue;
            }
            if (before) before[start + i] = t->rows[position];
            t->meta[position].generation = o->generation;
            outcome[start + i] = o->mode & TABLE_UPDATE ? update(t, position, row, o) : TABLE_EXISTS;
        }
    }
}

void table_delete(Table *t, const uint8_t *keys, size_t stride, size_t count, uint8_t *outcome, Row *before) {
    t->version++;
    uint32_t hashes[GROUP];
    for (size_t start = 0; start < count; start += GROUP) {
        size_t size = count - start < GROUP ? count - start : GROUP;
        prepare(t, keys + start * stride, stride, size, hashes);
        for (size_t i = 0; i < size; i++) {
            uint32_t position = find(t, keys + (start + i) * stride, hashes[i]);
            outcome[start + i] = position == NOWHERE ? TABLE_ABSENT : TABLE_DELETED;
            if (before && position == NOWHERE) memset(&before[start + i], 0, sizeof(Row));
            if (position == NOWHERE) continue;
            if (before) before[start + i] = t->rows[position];
            remove_at(t, position);
        }
    }
    if (t->usable - t->count > 4 * MEMORY_STEP) give_back(t);
}

void table_find(const Table *t, const uint8_t *keys, size_t stride, size_t count, int64_t *positions) {
    uint32_t hashes[GROUP];
    for (size_t start = 0; start < count; start += GROUP) {
        size_t size = count - start < GROUP ? count - start : GROUP;
        prepare(t, keys + start * stride, stride, size, hashes);
        for (size_t i = 0; i < size; i++) {
            uint32_t position = find(t, keys + (start + i) * stride, hashes[i]);
            positions[start + i] = position == NOWHERE ? -1 : (int64_t)position;
        }
    }
}

int table_assign(Table *t, const int64_t *positions, size_t count, uint8_t owner, uint32_t epoch) {
    if (know_owner(t, owner)) return -1;
    t->version++;
    for (size_t i = 0; i < count; i++) {
        if (positions[i] < 0 || positions[i] >= (int64_t)t->count) continue;
        uint32_t position = (uint32_t)positions[i];
        Meta *meta = &t->meta[position];
        meta->epoch = epoch;
        if (meta->owner == owner) continue;
        Digest digest = hash_row(t->digest_key, &t->rows[position], NULL);
        t->digests[meta->owner][meta->partition] -= digest;
        t->digests[owner][meta->partition] += digest;
        meta->owner = owner;
        mark(t, position);
    }
    return 0;
}

int64_t table_hand_over(Table *t, uint8_t from, uint8_t owner, uint32_t epoch, uint8_t generation) {
    int64_t count = 0;
    if (from == owner || !t->digests[from]) return 0;
    if (know_owner(t, owner)) return -1;
    t->version++;
    for (uint32_t position = 0; position < t->count; position++) {
        Meta *meta = &t->meta[position];
        if (meta->owner != from) continue;
        meta->owner = owner;
        meta->epoch = epoch;
        meta->generation = generation;
        mark(t, position);
        count++;
    }
    for (uint32_t partition = 0; partition < t->partitions; partition++) {
        t->digests[owner][partition] += t->digests[from][partition];
        t->digests[from][partition] = 0;
    }
    return count;
}

uint32_t table_select(const Table *t, const Filter *f, uint32_t cursor, size_t limit, uint32_t *positions,
                      size_t *found) {
    uint32_t position = cursor < t->count ? cursor : t->count;
    size_t taken = 0;
    while (position && taken < limit) {
        uint32_t block = (position - 1) >> TABLE_BLOCK_BITS, start = block << TABLE_BLOCK_BITS;
        if (f->by_version && !newer(t->block_changed[block], f->since)) {
            position = start;
            continue;
        }
        for (; position > start && taken < limit; position--) {
            const Meta *meta = &t->meta[position - 1];
            if (f->owner != TABLE_ANY_OWNER && meta->owner != f->owner) continue;
            if (f->partitions && !f->partitions[meta->partition]) continue;
            if (f->by_version && !newer(meta->changed, f->since)) continue;
            if (f->by_generation && meta->generation == f->generation) continue;
            positions[taken++] = position - 1;
        }
    }
    *found = taken;
    return position;
}

void table_gather(const Table *t, const uint32_t *positions, size_t count, int age, uint32_t now, Row *rows) {
    for (size_t i = 0; i < count; i++) {
        if (i + GROUP < count)
            for (size_t line = 0; line < sizeof(Row); line += 64)
                __builtin_prefetch((const uint8_t *)&t->rows[positions[i + GROUP]] + line);
        rows[i] = t->rows[positions[i]];
        if (age) rows[i].timeout = aged(rows[i].timeout, now - t->meta[positions[i]].stamp);
    }
}

int table_deleted(const Table *t, uint32_t since, int owner, uint8_t *keys, size_t *found) {
    uint64_t end = t->tombstone_count, kept = end < t->tombstone_size ? end : t->tombstone_size, first = end;
    while (first > end - kept && newer(t->tombstones[(first - 1) % t->tombstone_size].version, since)) first--;
    size_t taken = 0;
    for (uint64_t at = first; at < end; at++) {
        const Tombstone *grave = &t->tombstones[at % t->tombstone_size];
        if (owner != TABLE_ANY_OWNER && grave->owner != owner) continue;
        if (keys) memcpy(keys + taken * KEY_BYTES, grave->key, KEY_BYTES);
        taken++;
    }
    *found = taken;
    return !newer(t->tombstones_lost, since);
}

static uint64_t name_of(const Meta *meta) { return (uint64_t)meta->partition << 32 | meta->hash; }

static void count_named(const Table *t, const Index *index, uint64_t name, int owner, uint32_t *found,
                        uint32_t *position) {
    uint32_t hash = (uint32_t)name, bucket;
    if (!index->size) return;
    for (uint32_t at = home(hash, index->size); (bucket = index->buckets[at]); at = next_bucket(at, index->size)) {
        if (((bucket ^ hash << t->position_bits) & ~t->position_mask) || bucket == CARRIED) continue;
        const Meta *meta = &t->meta[position_in(t, bucket)];
        if (name_of(meta) != name || (owner != TABLE_ANY_OWNER && meta->owner != owner)) continue;
        *position = position_in(t, bucket);
        ++*found;
    }
}

static uint32_t find_named(const Table *t, uint64_t name, int owner, uint32_t *position) {
    uint32_t found = 0;
    count_named(t, &t->index, name, owner, &found, position);
    count_named(t, &t->old, name, owner, &found, position);
    return found;
}

void table_names(const Table *t, const int64_t *positions, size_t count, uint64_t *names, uint8_t *alone) {
    for (size_t i = 0; i < count; i++) {
        uint32_t position;
        names[i] = 0;
        alone[i] = 0;
        if (positions[i] < 0) continue;
        const Meta *meta = &t->meta[positions[i]];
        names[i] = name_of(meta);
        alone[i] = find_named(t, names[i], meta->owner, &position) == 1;
    }
}

void table_resolve(const Table *t, const uint64_t *names, size_t count, int owner, int64_t *positions) {
    for (size_t i = 0; i < count; i++) {
        uint32_t position = 0;
        positions[i] = find_named(t, names[i], owner, &position) == 1 ? (int64_t)position : -1;
    }
}

int table_rekey(Table *t, SipKey seed, SipKey digest_key) {
    Index index;
    if (new_index(&index, t->old.size ? t->index.size + t->index.size / 2 : t->index.size)) return -1;
    drop_index(&t->old);
    drop_index(&t->index);
    t->index = index;
    t->seed = seed;
    t->digest_key = digest_key;
    for (size_t owner = 0; owner < TABLE_OWNERS; owner++)
        if (t->digests[owner]) memset(t->digests[owner], 0, t->partitions * sizeof(Digest));
    for (uint32_t position = 0; position < t->count; position++) {
        uint64_t of_key;
        Digest digest = hash_row(digest_key, &t->rows[position], &of_key);
        Meta *meta = &t->meta[position];
        meta->hash = (uint32_t)hash_key(seed, &t->rows[position]);
        meta->partition = partition_of(t, of_key);
        t->digests[meta->owner][meta->partition] += digest;
        link_bucket(&t->index, meta->hash, bucket_of(t, meta->hash, position));
    }
    return 0;
}
