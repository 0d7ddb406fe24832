/* What a row has to be, by hacore/states/layout.py, for a kernel to have it: for rows that somebody else made. */
#ifndef HACORE_ROW_POSSIBLE_H
#define HACORE_ROW_POSSIBLE_H

#include <string.h>

#include "row.h"

enum { ROW_V4 = 2, ROW_V6 = 10 };

/* What stands behind the four bytes of an IPv4 address. */
static inline uint64_t behind_v4(const uint8_t *address) {
    uint32_t low;
    uint64_t high;
    memcpy(&low, address + 4, sizeof low);
    memcpy(&high, address + 8, sizeof high);
    return low | high;
}

static inline int row_is_possible(const Row *row) {
    int zones = row->zone == row->reply_zone || !row->zone || !row->reply_zone;
    if (!zones || row->helper[sizeof row->helper - 1]) return 0;
    if (row->family == ROW_V6) return 1;
    return row->family == ROW_V4 &&
           !(behind_v4(row->source) | behind_v4(row->destination) | behind_v4(row->reply_source) |
             behind_v4(row->reply_destination) | behind_v4(row->master_source) | behind_v4(row->master_destination));
}

static inline int rows_are_possible(const Row *rows, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!row_is_possible(&rows[i])) return 0;
    return 1;
}

#endif
