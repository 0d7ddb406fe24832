/* Changes between two states of a table, and the frame around every chunk. docs/wire-chunks.md has the format. */
#ifndef HACORE_CODEC_CHANGES_H
#define HACORE_CODEC_CHANGES_H

#include "codec_rows.h"

#define CHUNK_VERSION 1
#define CHUNK_HEAD 16
#define CHUNK_BODY (1u << 26) /* bytes at most: what 65,536 changes of each kind can take when nothing can be saved */

enum { CHUNK_ROWS = 'R', CHUNK_CHANGES = 'C', CHUNK_BASE = 'B', CHUNK_END = 'E' };

enum { NAMED_BY_KEY = 0, NAMED_BY_NUMBER = 1 };

/* Rows are updated and deleted by number where `naming` says so (ascending, no number twice), else by key. */
typedef struct Changes {
    int naming;
    size_t inserted, updated, deleted, deleted_keys;
    const Row *const *inserted_rows;         /* in key order */
    const Row *const *before, *const *after; /* of updated rows, in the order of their names */
    const uint64_t *updated_numbers, *deleted_numbers;
    const Row *const *deleted_by_key; /* in key order; only the keys are looked at */
} Changes;

/* What a body of changes says before its columns are read: where each part starts. */
typedef struct ChangeCounts {
    int naming;
    size_t inserted, updated, deleted, deleted_keys;
} ChangeCounts;

typedef struct ChangeSpace {
    Row *inserted_rows;
    uint64_t *updated_numbers, *deleted_numbers;
    uint8_t *updated_keys, *deleted_keys;
    Row *values; /* of updated rows: the fields that `masks` name, the others zero */
    uint64_t *masks;
    uint64_t check;
} ChangeSpace;

void begin_chunk(Writer *writer, int kind);
/* Fills in length and checksum. */
void seal_chunk(uint8_t *chunk, size_t length);
/* Pads, fills in length and checksum of the chunk that began at `start`. */
void end_chunk(Writer *writer, size_t start);
/* Looks at the first bytes of a chunk: 0 when more are needed to tell, its whole length, or -1 and the reader's rung.
 * */
int64_t chunk_length(Reader *reader);
/* The body of a whole chunk in `body`, its kind as the result; or -1 and the reader's rung. */
int open_chunk(Reader *reader, Reader *body);
int close_chunk(Reader *body);

/* Points `changes`, whose numbers of updated rows and deleted keys are told, at the rows that changed (as they were and
 * as they are, side by side) and at the keys that are gone: named by number in the order of `order` (NULL: as they
 * stand), else by key. 0, or -1 when there is not enough memory; `changes->before` is the caller's to free. */
int arrange_changes(Changes *changes, const Row *before, const Row *after, const int64_t *order,
                    const void *deleted_keys);
int write_changes(Writer *writer, const Changes *changes, Codec *codec);
int read_change_counts(Reader *reader, ChangeCounts *counts);
int read_changes(Reader *reader, const ChangeCounts *counts, ChangeSpace *space, Codec *codec);
/* Overwrites rows with what `values` have in the fields of `masks`. */
void patch_rows(Row *rows, const Row *values, const uint64_t *masks, size_t count);
/* The same, where `check` says that the updates were made from these rows (their timeouts may differ); else 0, and
 * nothing is done. */
int patch_checked(Row *rows, const Row *values, const uint64_t *masks, size_t count, uint64_t check);
/* The digest that names a base: the sum of the 128-bit hashes of whole rows, in whatever order (16 bytes). */
void digest_of(const Row *rows, size_t count, uint8_t *digest);

#endif
