#define _GNU_SOURCE
#include "codec_order.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "codec_bytes.h"

#define AF_INET 2
#define SHORT_RUN 32 /* up to here insertion is faster than counting */

/* Two words of a key that compare as its bytes do, with all of an IPv4 key in them. */
typedef struct Entry {
    uint64_t high, low;
    const Row *row;
} Entry;

static inline uint64_t big64(const void *bytes) { return __builtin_bswap64(load64(bytes)); }
static inline uint64_t big32(const void *bytes) { return __builtin_bswap32(load32(bytes)); }

/* Whether the bytes after an IPv4 address are not zero: then the address is not all of it. */
static inline uint64_t beyond_ipv4(const Row *row) {
    return row->family == AF_INET ? load64(row->source + 4) | load32(row->source + 12) | load64(row->destination + 4) |
                                        load32(row->destination + 12)
                                  : 0;
}

static int by_rest(const void *a, const void *b) {
    return memcmp((const uint8_t *)(*(const Entry *)a).row + 16, (const uint8_t *)(*(const Entry *)b).row + 16, KEY_BYTES - 16);
}

static void insert_by_low(Entry *entries, size_t count) {
    for (size_t i = 1; i < count; i++) {
        Entry entry = entries[i];
        size_t at = i;
        for (; at && entries[at - 1].low > entry.low; at--) entries[at] = entries[at - 1];
        entries[at] = entry;
    }
}

/* One counting pass for each byte of the word that is not the same everywhere, the least significant first. */
static void sort_by_word(Entry *entries, Entry *spare, size_t count, size_t word) {
    uint64_t first = (&entries[0].high)[word], varying = 0;
    for (size_t i = 1; i < count; i++) varying |= (&entries[i].high)[word] ^ first;
    Entry *from = entries, *to = spare;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!(varying >> shift & 0xFF)) continue;
        uint32_t starts[256] = {0};
        for (size_t i = 0; i < count; i++) starts[(&from[i].high)[word] >> shift & 0xFF]++;
        for (uint32_t sum = 0, digit = 0; digit < 256; digit++) {
            uint32_t size = starts[digit];
            starts[digit] = sum;
            sum += size;
        }
        for (size_t i = 0; i < count; i++) to[starts[(&from[i].high)[word] >> shift & 0xFF]++] = from[i];
        Entry *swap = from;
        from = to;
        to = swap;
    }
    if (from != entries) memcpy(entries, from, count * sizeof(Entry));
}

static void sort_run(Entry *entries, Entry *spare, size_t count) {
    if (count <= SHORT_RUN)
        insert_by_low(entries, count);
    else
        sort_by_word(entries, spare, count, 1);
    for (size_t start = 0, end; start < count; start = end) {
        for (end = start + 1; end < count && entries[end].low == entries[start].low;) end++;
        if (end - start > 1) qsort(&entries[start], end - start, sizeof(Entry), by_rest);
    }
}

/* Large pages where there are any: sorting a million rows takes 48 MB, 12,000 page faults with small ones. */
static Entry *entries_open(size_t count) {
    size_t bytes = count * 2 * sizeof(Entry);
    void *area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED) return NULL;
    madvise(area, bytes, MADV_HUGEPAGE);
    return area;
}

int order_rows(const Row *rows, size_t count, const Row **order) {
    int sorted = 1;
    uint64_t beyond = 0;
    for (size_t i = 0; i < count; i++) {
        order[i] = &rows[i];
        sorted &= !i || memcmp(&rows[i - 1], &rows[i], KEY_BYTES) <= 0;
        if (!sorted) break;
    }
    if (sorted) return 0;
    Entry *entries = entries_open(count);
    if (!entries) return -1;
    for (size_t i = 0; i < count; i++) {
        const Row *row = &rows[i];
        entries[i].high = big64(row);
        entries[i].low = row->family == AF_INET ? big32(row->destination) << 32 | big32(&row->source_port) : big64(row->source + 4);
        entries[i].row = row;
        beyond |= beyond_ipv4(row);
    }
    if (beyond)
        for (size_t i = 0; i < count; i++) entries[i].low = big64(rows[i].source + 4);
    sort_by_word(entries, entries + count, count, 0);
    for (size_t start = 0, end; start < count; start = end) {
        for (end = start + 1; end < count && entries[end].high == entries[start].high;) end++;
        if (end - start > 1) sort_run(&entries[start], entries + count, end - start);
    }
    for (size_t i = 0; i < count; i++) order[i] = entries[i].row;
    munmap(entries, count * 2 * sizeof(Entry));
    return 0;
}
