/* The difference of two tables. */
#ifndef HACORE_CODEC_COMPARE_H
#define HACORE_CODEC_COMPARE_H

#include "codec_changes.h"

/* Positions: of rows only the new table has, of rows both have but not alike (in the old and in the new), of rows only
 * the old has. Room for as many as there can be. */
typedef struct Difference {
    int64_t *inserted, *before, *after, *deleted;
    size_t inserted_count, updated_count, deleted_count;
} Difference;

/* Both are in key order, no key twice. */
void compare_rows(const Row *old, size_t old_count, const Row *new, size_t new_count, Difference *found);

/* Whether rows in `order` ascend by key, no key twice. */
int all_ascend(const Row *const *order, size_t count);

#endif
