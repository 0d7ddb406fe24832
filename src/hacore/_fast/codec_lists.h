/* Lists of 64-bit words, and dictionaries: each value once, the frequent ones first, and a column of their numbers. */
#ifndef HACORE_CODEC_LISTS_H
#define HACORE_CODEC_LISTS_H

#include "codec_numbers.h"

/* A value of up to 16 bytes: an address, a name, or a number in `low`. */
typedef struct Value {
    uint64_t low, high;
} Value;

typedef struct Dictionary {
    Value *values; /* in the order of their first appearance */
    uint32_t *counts;
    uint32_t *slots;
    uint32_t count, slot_bits;
    uint32_t *ranks; /* where a value comes by frequency */
} Dictionary;

/* Room for COLUMN_ROWS values; 0, or -1 when there is not enough memory. */
int dictionary_open(Dictionary *dictionary);
void dictionary_close(Dictionary *dictionary);
void dictionary_clear(Dictionary *dictionary);
uint32_t dictionary_add(Dictionary *dictionary, Value value, uint32_t slot);
void dictionary_grow(Dictionary *dictionary);

#define DICTIONARY_PROBES 32 /* keys come from attackers: rather a value twice than a long search */

static inline uint32_t dictionary_slot(const Dictionary *d, Value value) {
    uint64_t mixed = (value.low ^ hash_rotate(value.high, 29)) * 0x9E3779B97F4A7C15ULL;
    mixed ^= mixed >> 32;
    return (uint32_t)((mixed * 0xD6E8FEB86659FD93ULL) >> (64 - d->slot_bits));
}

/* The number of a value in the order of first appearance; counts it. */
static inline uint32_t dictionary_number(Dictionary *d, Value value) {
    uint32_t slot = dictionary_slot(d, value), mask = (1u << d->slot_bits) - 1;
    for (int probes = 0; probes < DICTIONARY_PROBES; probes++, slot = (slot + 1) & mask) {
        uint32_t entry = d->slots[slot];
        if (!entry) return dictionary_add(d, value, slot);
        if (d->values[entry - 1].low == value.low && d->values[entry - 1].high == value.high) {
            d->counts[entry - 1]++;
            return entry - 1;
        }
    }
    return dictionary_add(d, value, UINT32_MAX);
}

/* `stride` is in words. */
void write_words(Writer *writer, const uint64_t *words, size_t stride, size_t count);
int read_words(Reader *reader, uint64_t *words, size_t stride, size_t count);

/* Writes a column of values: those of `dictionary`, at the places that `numbers` tell. `wide`: they have a high half.
 * What the reader will have is left in `values` (room for `count`, the result tells how many) and `numbers`: by
 * frequency, or where values hardly repeat one for each place. */
size_t write_values(Writer *writer, Dictionary *dictionary, uint32_t *numbers, size_t count, int wide, Value *values,
                    NumberScratch *scratch);
int read_values(Reader *reader, Value *values, uint32_t *numbers, size_t count, int wide, size_t *size,
                NumberScratch *scratch);

#endif
