/* The difference of two tables. */
#ifndef HACORE_CODEC_DELTA_H
#define HACORE_CODEC_DELTA_H

#include "codec_changes.h"

/* Rows of `after` alone, rows of both that differ, and positions of rows of `before` alone. */
typedef struct Difference {
    const Row **inserted, **before, **after;
    uint64_t *updated, *deleted;
    size_t inserted_count, updated_count, deleted_count;
} Difference;

/* Both in key order, no key twice. 0, or -1 when there is not enough memory. */
int difference_open(Difference *difference, const Row *const *before, size_t before_count, const Row *const *after, size_t after_count);
void difference_close(Difference *difference);

/* Whether rows in `order` ascend by key, no key twice. */
int all_ascend(const Row *const *order, size_t count);

#endif
