/* Sorting rows by key, without moving them. */
#ifndef HACORE_CODEC_ORDER_H
#define HACORE_CODEC_ORDER_H

#include "row_hash.h"

/* Fills `order` with pointers to the rows in the order of their keys' bytes; 0, or -1 when there is not enough memory. */
int order_rows(const Row *rows, size_t count, const Row **order);

#endif
