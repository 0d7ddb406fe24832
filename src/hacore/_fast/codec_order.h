/* Sorting rows by key, without moving them. */
#ifndef HACORE_CODEC_ORDER_H
#define HACORE_CODEC_ORDER_H

#include "row_hash.h"

/* Pointers to rows in the order of their keys' bytes. */
typedef struct Order {
    const Row **rows;
    size_t count, bytes;
} Order;

/* Of less than 2**32 rows; 0, or -1 when there is not enough memory. */
int order_open(Order *order, const Row *rows, size_t count);
void order_close(Order *order);

/* The same into `pointers`, for as long as the caller likes; 0, or -1 when there is not enough memory. */
int order_copy(const Row **pointers, const Row *rows, size_t count);

/* Pointers to records that begin with a key, `stride` bytes apart, in the order of their keys' bytes. */
void order_by_key(const Row **pointers, const void *records, size_t stride, size_t count);

#endif
