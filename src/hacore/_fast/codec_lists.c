#include "codec_lists.h"

#define FIRST_SLOT_BITS 8
#define LAST_SLOT_BITS 18 /* at most a quarter full with COLUMN_ROWS values */

int dictionary_open(Dictionary *d) {
    memset(d, 0, sizeof *d);
    d->values = malloc(COLUMN_ROWS * sizeof(Value));
    d->counts = malloc(COLUMN_ROWS * sizeof(uint32_t));
    d->ranks = malloc(COLUMN_ROWS * sizeof(uint32_t));
    d->slots = calloc((size_t)1 << LAST_SLOT_BITS, sizeof(uint32_t));
    d->slot_bits = FIRST_SLOT_BITS;
    if (d->values && d->counts && d->ranks && d->slots) return 0;
    dictionary_close(d);
    return -1;
}

void dictionary_close(Dictionary *d) {
    free(d->values);
    free(d->counts);
    free(d->ranks);
    free(d->slots);
    memset(d, 0, sizeof *d);
}

void dictionary_clear(Dictionary *d) {
    memset(d->slots, 0, sizeof(uint32_t) << d->slot_bits);
    d->count = 0;
    d->slot_bits = FIRST_SLOT_BITS;
}

uint32_t dictionary_add(Dictionary *d, Value value, uint32_t slot) {
    uint32_t number = d->count++;
    d->values[number] = value;
    d->counts[number] = 1;
    if (slot != UINT32_MAX) d->slots[slot] = number + 1;
    if (d->count * 2 > 1u << d->slot_bits && d->slot_bits < LAST_SLOT_BITS) dictionary_grow(d);
    return number;
}

void dictionary_grow(Dictionary *d) {
    memset(d->slots, 0, sizeof(uint32_t) << d->slot_bits);
    d->slot_bits += 2;
    uint32_t mask = (1u << d->slot_bits) - 1;
    for (uint32_t number = 0; number < d->count; number++) {
        uint32_t slot = dictionary_slot(d, d->values[number]);
        for (int probes = 0; probes < DICTIONARY_PROBES; probes++, slot = (slot + 1) & mask) {
            if (d->slots[slot]) continue;
            d->slots[slot] = number + 1;
            break;
        }
    }
}

/* ---- words ---- */

/* Only the bytes from the lowest to the highest that differ are written: `low` and `span` say which, the rest is in the
 * first word. */
void write_words(Writer *w, const uint64_t *words, size_t stride, size_t count) {
    if (!count) return;
    uint64_t varying = 0;
    for (size_t i = 1; i < count; i++) varying |= words[i * stride] ^ words[0];
    unsigned low = varying ? (unsigned)__builtin_ctzll(varying) / 8 : 0;
    unsigned span = varying ? 8 - (unsigned)__builtin_clzll(varying) / 8 - low : 0;
    write_byte(w, (uint8_t)(low << 4 | span));
    write_bytes(w, words, 8);
    if (!span) return;
    uint8_t *at = write_space(w, (count - 1) * span + 8);
    if (!at) return;
    for (size_t i = 1; i < count; i++, at += span) store64(at, words[i * stride] >> (8 * low));
    w->length -= 8;
}

int read_words(Reader *r, uint64_t *words, size_t stride, size_t count) {
    if (!count) return 0;
    const uint8_t *head = read_bytes(r, 9);
    if (!head) return -1;
    unsigned low = *head >> 4, span = *head & 15;
    if (low + span > 8) return read_fails(r, "span", "words have 8 bytes");
    uint64_t first = load64(head + 1), mask = span == 8 ? ~0ULL : (1ULL << (8 * span)) - 1;
    const uint8_t *at = read_bytes(r, (count - 1) * span);
    if (!at) return -1;
    words[0] = first;
    uint64_t rest = span ? first & ~(mask << (8 * low)) : first;
    unsigned shift = span ? 8 * low : 0;
    for (size_t i = 1; i < count; i++, at += span) words[i * stride] = rest | (load64(at) & mask) << shift;
    return 0;
}

/* ---- values ---- */

#define EXACT 256 /* counts below this are sorted by counting; the few others among themselves */

static void rank(Dictionary *d, Value *sorted) {
    uint32_t starts[EXACT + 1] = {0}, often = 0;
    for (uint32_t number = 0; number < d->count; number++)
        starts[d->counts[number] < EXACT ? EXACT - d->counts[number] : 0]++;
    often = starts[0];
    for (uint32_t sum = 0, bucket = 0; bucket <= EXACT; bucket++) {
        uint32_t size = starts[bucket];
        starts[bucket] = sum;
        sum += size;
    }
    uint32_t large[COLUMN_ROWS / EXACT + 1];
    uint32_t placed = 0;
    for (uint32_t number = 0; number < d->count; number++) {
        if (d->counts[number] >= EXACT) {
            uint32_t at = placed++;
            for (; at && d->counts[large[at - 1]] < d->counts[number]; at--) large[at] = large[at - 1];
            large[at] = number;
        } else {
            d->ranks[number] = starts[EXACT - d->counts[number]]++;
        }
    }
    for (uint32_t at = 0; at < often; at++) d->ranks[large[at]] = at;
    for (uint32_t number = 0; number < d->count; number++) sorted[d->ranks[number]] = d->values[number];
}

size_t write_values(Writer *w, Dictionary *d, uint32_t *numbers, size_t count, int wide, Value *values,
                    NumberScratch *scratch) {
    if (!count) return 0;
    size_t listed = d->count;
    if (listed > 1 && listed > count - count / 4) {
        for (size_t i = 0; i < count; i++) {
            values[i] = d->values[numbers[i]];
            numbers[i] = (uint32_t)i;
        }
        write_varint(w, 0);
        write_words(w, &values[0].low, 2, count);
        if (wide) write_words(w, &values[0].high, 2, count);
        return count;
    }
    rank(d, values);
    write_varint(w, listed);
    write_words(w, &values[0].low, 2, listed);
    if (wide) write_words(w, &values[0].high, 2, listed);
    for (size_t i = 0; i < count; i++) numbers[i] = d->ranks[numbers[i]];
    write_numbers(w, numbers, count, scratch);
    return listed;
}

int read_values(Reader *r, Value *values, uint32_t *numbers, size_t count, int wide, size_t *size,
                NumberScratch *scratch) {
    size_t listed = count ? read_varint(r, count) : 0, all = listed ? listed : count;
    *size = all;
    if (r->rung || read_words(r, &values[0].low, 2, all)) return -1;
    if (wide && read_words(r, &values[0].high, 2, all)) return -1;
    if (!wide)
        for (size_t i = 0; i < all; i++) values[i].high = 0;
    if (listed) return read_numbers(r, numbers, count, (uint32_t)listed - 1, scratch);
    for (size_t i = 0; i < count; i++) numbers[i] = (uint32_t)i;
    return 0;
}
