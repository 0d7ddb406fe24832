/* The state table: dense rows, what the node knows about each (`Meta`), and a seeded hash index of their positions.
 *
 * Rows and metadata lie in address space that is reserved for `max_states` once and made usable as they come, so they
 * never move and never wait for a copy. A delete moves the last row into the hole, so live rows are always the
 * positions 0 to count - 1.
 *
 * The index is open addressing with linear probing over 32-bit buckets: position + 1 in the low bits, the hash's low
 * bits as a tag above, 0 for an empty bucket. It grows by half; while it grows every insert carries a few buckets of
 * the old one over, so no operation ever stops for the whole table. */
#ifndef HACORE_TABLE_STORE_H
#define HACORE_TABLE_STORE_H

#include "row_hash.h"

#define TABLE_OWNERS 256
#define TABLE_MAX_STATES (1u << 26)
#define TABLE_ANY_OWNER (-1)
#define TABLE_BLOCK_BITS 6 /* changes are remembered for blocks of 64 rows as well, to skip what did not change */

/* What became of one row of a batch. */
enum {
    TABLE_SAME = 0,      /* there already, nothing to do */
    TABLE_NEW = 1,       /* inserted */
    TABLE_CHANGED = 2,   /* overwritten with another content or owner */
    TABLE_REFRESHED = 3, /* only the timeout was overwritten */
    TABLE_DELETED = 4,
    TABLE_ABSENT = 5, /* no such key: nothing updated, nothing deleted */
    TABLE_EXISTS = 6, /* inserted over an existing key: left as it was */
    TABLE_FULL = 7,   /* did not fit */
};

enum { TABLE_INSERT = 1, TABLE_UPDATE = 2 };

#pragma pack(push, 1)
typedef struct Meta {
    uint32_t hash;
    uint32_t changed; /* version of the table at the last change */
    uint32_t epoch;
    uint32_t stamp; /* the caller's clock when the timeout was true (seconds) */
    uint16_t partition;
    uint8_t owner;
    uint8_t generation;
} Meta;
#pragma pack(pop)

typedef struct Tombstone {
    uint32_t version;
    uint8_t owner;
    uint8_t key[KEY_BYTES];
} Tombstone;

typedef struct Index {
    uint32_t *buckets;
    uint32_t size;
} Index;

typedef struct Table {
    Row *rows;
    Meta *meta;
    uint32_t *block_changed;
    Tombstone *tombstones;
    Digest *digests[TABLE_OWNERS];
    Index index;
    Index old;      /* while the index grows: the one before it */
    uint32_t moved; /* buckets of `old` that are carried over */
    uint32_t count;
    uint32_t usable; /* positions that have memory */
    uint32_t max_states;
    uint32_t position_mask; /* of a bucket: the bits that hold position + 1 */
    int position_bits;
    uint32_t partitions;
    uint32_t tombstone_size;
    uint64_t tombstone_count; /* ever written */
    uint32_t tombstones_lost; /* version of the newest one overwritten */
    uint32_t version;
    uint64_t not_fitted;
    SipKey seed;
    SipKey digest_key;
} Table;

typedef struct PutOptions {
    int mode; /* TABLE_INSERT, TABLE_UPDATE or both */
    int keep_owner;
    uint8_t owner;
    uint8_t generation;
    uint32_t epoch;
    uint32_t now;
    uint32_t slack;
} PutOptions;

typedef struct Filter {
    int owner;                 /* TABLE_ANY_OWNER or 0 to 255 */
    const uint8_t *partitions; /* one flag for each, or NULL */
    int by_version;
    uint32_t since;
    int by_generation;
    uint8_t generation;
} Filter;

/* 0, or -1 when there is not enough memory. */
int table_open(Table *table, SipKey seed, SipKey digest_key, uint32_t max_states, uint32_t partitions,
               uint32_t tombstones);
void table_close(Table *table);

void table_put(Table *table, const Row *rows, size_t count, const PutOptions *options, uint8_t *outcome, Row *before);
/* Keys are `stride` bytes apart: KEY_BYTES, or ROW_BYTES where they are the heads of rows. */
void table_delete(Table *table, const uint8_t *keys, size_t stride, size_t count, uint8_t *outcome, Row *before);
void table_find(const Table *table, const uint8_t *keys, size_t stride, size_t count, int64_t *positions);
/* 0, or -1 when there is not enough memory. */
int table_assign(Table *table, const int64_t *positions, size_t count, uint8_t owner, uint32_t epoch);
/* All rows of `from` become those of `owner`, as last seen in `generation`. How many, or -1 when there is not enough
 * memory. */
int64_t table_hand_over(Table *table, uint8_t from, uint8_t owner, uint32_t epoch, uint8_t generation);
/* Positions below `cursor` that pass, from the highest down, at most `limit`; the new cursor comes back, 0 when all are
 * seen. */
uint32_t table_select(const Table *table, const Filter *filter, uint32_t cursor, size_t limit, uint32_t *positions,
                      size_t *found);
/* Copies rows; with `age`, their timeouts are what is left of them at `now`. */
void table_gather(const Table *table, const uint32_t *positions, size_t count, int age, uint32_t now, Row *rows);
/* Keys deleted after `since`, oldest first, into `keys` (only counted when NULL); 0 when the log does not reach back
 * that far. */
int table_deleted(const Table *table, uint32_t since, int owner, uint8_t *keys, size_t *found);
/* Short names: hash and partition, the same on every node that has the same seed and digest key. `alone` tells whether
 * no other row of that owner has the name; position -1 has none. */
void table_names(const Table *table, const int64_t *positions, size_t count, uint64_t *names, uint8_t *alone);
/* The position of the owner's only row of that name, or -1. */
void table_resolve(const Table *table, const uint64_t *names, size_t count, int owner, int64_t *positions);
/* Other secrets: index, partitions and digests are made anew. 0, or -1 when there is not enough memory. */
int table_rekey(Table *table, SipKey seed, SipKey digest_key);
size_t table_memory(const Table *table);

#endif
