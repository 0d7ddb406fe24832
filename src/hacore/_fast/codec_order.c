#define _GNU_SOURCE
#include "codec_order.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "codec_bytes.h"

#define AF_INET 2
#define FEW 64           /* rows that are sorted where they are: the tables for more cost more to clear */
#define HEADS 1024       /* different first words of a key at most (family, protocol, zone), to sort by them at once */
#define SHORT_RUN 24     /* up to here insertion is faster than counting */
#define LONG_RUN 4096    /* from here on a larger digit is */
#define LARGE (1u << 21) /* bytes: from here on large pages pay */

/* What comes after the head of a key, so that it compares as the key's bytes do: all of an IPv4 key, 12 bytes of
 * others. */
typedef struct Entry {
    uint64_t key;
    uint32_t more, row;
} Entry;

enum { WHOLE = -1 }; /* the stage of IPv4 keys; the others take three, of 12 bytes each */

static inline uint64_t big64(const void *bytes) { return __builtin_bswap64(load64(bytes)); }
static inline uint32_t big32(const void *bytes) { return __builtin_bswap32(load32(bytes)); }

static inline Entry entry_of(const Row *row, uint32_t index, int stage) {
    if (stage == WHOLE)
        return (Entry){(uint64_t)big32(row->source) << 32 | big32(row->destination), big32(&row->source_port), index};
    const uint8_t *bytes = (const uint8_t *)row + 4 + 12 * stage;
    return (Entry){big64(bytes), big32(bytes + 8), index};
}

/* Whether an address is more than its first four bytes. */
static inline uint64_t beyond_ipv4(const Row *row) {
    return load64(row->source + 4) | load32(row->source + 12) | load64(row->destination + 4) |
           load32(row->destination + 12);
}

static inline int after(const Row *rows, const Entry *a, const Entry *b, int stage) {
    if (a->key != b->key) return a->key > b->key;
    if (a->more != b->more) return a->more > b->more;
    return stage != WHOLE && memcmp(&rows[a->row], &rows[b->row], KEY_BYTES) > 0;
}

static inline uint64_t word_of(const Entry *entry, int second) { return second ? entry->more : entry->key; }

static void insertion(const Row *rows, Entry *entries, uint32_t count, int stage) {
    for (uint32_t i = 1; i < count; i++) {
        Entry entry = entries[i];
        uint32_t at = i;
        for (; at && after(rows, &entries[at - 1], &entry, stage); at--) entries[at] = entries[at - 1];
        entries[at] = entry;
    }
}

/* Sorts by the highest bits in which the entries differ, then each part by itself. The result is in `spare` where
 * `swapped`. Keys made for the purpose cannot make this slow: each level takes bits away. */
static void sort_entries(const Row *rows, Entry *entries, Entry *spare, uint32_t count, int second, int stage,
                         int swapped) {
    if (count <= SHORT_RUN) {
        insertion(rows, entries, count, stage);
        if (swapped) memcpy(spare, entries, count * sizeof(Entry));
        return;
    }
    uint64_t varying = 0;
    for (uint32_t i = 1; i < count; i++) varying |= word_of(&entries[i], second) ^ word_of(&entries[0], second);
    if (!varying) {
        int last = second && (stage == WHOLE || stage == 2);
        if (second && !last)
            for (uint32_t i = 0; i < count; i++)
                entries[i] = entry_of(&rows[entries[i].row], entries[i].row, stage + 1);
        if (!last)
            sort_entries(rows, entries, spare, count, !second, second ? stage + 1 : stage, swapped);
        else if (swapped)
            memcpy(spare, entries, count * sizeof(Entry));
        return;
    }
    uint32_t starts[2048];
    int bits = count >= LONG_RUN ? 11 : 8, top = 64 - __builtin_clzll(varying), shift = top > bits ? top - bits : 0;
    uint32_t digits = 1u << (top - shift), sum = 0;
    memset(starts, 0, digits * sizeof *starts);
    for (uint32_t i = 0; i < count; i++) starts[word_of(&entries[i], second) >> shift & (digits - 1)]++;
    for (uint32_t digit = 0; digit < digits; digit++) {
        uint32_t size = starts[digit];
        starts[digit] = sum;
        sum += size;
    }
    for (uint32_t i = 0; i < count; i++)
        spare[starts[word_of(&entries[i], second) >> shift & (digits - 1)]++] = entries[i];
    for (uint32_t digit = 0, start = 0; digit < digits; start = starts[digit++]) {
        uint32_t size = starts[digit] - start;
        if (size == 1 && !swapped) entries[start] = spare[start];
        if (size > 1) sort_entries(rows, spare + start, entries + start, size, second, stage, !swapped);
    }
}

/* ---- heads ---- */

typedef struct Head {
    uint32_t value, row_count, start;
    uint64_t beyond;
} Head;

typedef struct Heads {
    Head heads[HEADS];
    uint16_t slots[4 * HEADS];
    uint32_t count;
} Heads;

/* The place of a head in the order of first appearance, or HEADS when there are too many. */
static uint32_t head_number(Heads *h, uint32_t value) {
    uint32_t slot = value * 0x9E3779B1u >> 20;
    while (h->slots[slot] && h->heads[h->slots[slot] - 1].value != value) slot = (slot + 1) % (4 * HEADS);
    if (!h->slots[slot]) {
        if (h->count == HEADS) return HEADS;
        h->heads[h->count] = (Head){value, 0, 0, 0};
        h->slots[slot] = (uint16_t)++h->count;
    }
    return h->slots[slot] - 1u;
}

/* Entries of all rows as they come, and the numbers of their heads. 0 when there are more than HEADS. */
static int read_keys_of(const Row *rows, uint32_t count, Entry *entries, uint16_t *numbers, Heads *h) {
    Head *head = NULL;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t value = big32(&rows[i]);
        if (!head || head->value != value) {
            uint32_t number = head_number(h, value);
            if (number == HEADS) return 0;
            head = &h->heads[number];
        }
        int whole = rows[i].family == AF_INET;
        head->row_count++;
        head->beyond |= whole ? beyond_ipv4(&rows[i]) : 1;
        numbers[i] = (uint16_t)(head - h->heads);
        entries[i] = entry_of(&rows[i], i, whole ? WHOLE : 0);
    }
    return 1;
}

/* Where the rows of each head start: heads in the order of their values. */
static void place_heads(Heads *h) {
    for (uint32_t i = 0; i < h->count; i++)
        for (uint32_t k = 0; k < h->count; k++)
            if (h->heads[k].value < h->heads[i].value) h->heads[i].start += h->heads[k].row_count;
}

static void *space_open(size_t bytes) {
    if (bytes < LARGE) return malloc(bytes);
    void *space = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (space == MAP_FAILED) return NULL;
    madvise(space, bytes, MADV_HUGEPAGE);
    return space;
}

static int by_key(const void *a, const void *b) {
    return memcmp(*(const Row *const *)a, *(const Row *const *)b, KEY_BYTES);
}

static void sort_by_heads(const Row *rows, uint32_t count, Entry *entries, Entry *spare, const uint16_t *numbers,
                          Heads *h) {
    place_heads(h);
    for (uint32_t i = 0; i < count; i++) {
        Head *head = &h->heads[numbers[i]];
        int again = head->beyond && head->value >> 24 == AF_INET;
        spare[head->start++] = again ? entry_of(&rows[i], i, 0) : entries[i];
    }
    for (uint32_t i = 0; i < h->count; i++) {
        uint32_t size = h->heads[i].row_count, start = h->heads[i].start - size;
        sort_entries(rows, spare + start, entries + start, size, 0, h->heads[i].beyond ? 0 : WHOLE, 1);
    }
}

int order_open(Order *order, const Row *rows, size_t count) {
    size_t sorted = count > 0;
    while (sorted < count && memcmp(&rows[sorted - 1], &rows[sorted], KEY_BYTES) <= 0) sorted++;
    order->count = count;
    int few = count <= FEW;
    order->bytes =
        1 + (sorted < count && !few ? sizeof(Heads) + count * (2 * sizeof(Entry) + sizeof(uint16_t)) : count * sizeof(Row *));
    order->rows = space_open(order->bytes);
    if (!order->rows) return -1;
    if (sorted < count && !few) {
        Entry *entries = (Entry *)order->rows;
        Heads *heads = (Heads *)(entries + 2 * count);
        uint16_t *numbers = (uint16_t *)(heads + 1);
        memset(heads, 0, sizeof *heads);
        if (read_keys_of(rows, (uint32_t)count, entries, numbers, heads)) {
            sort_by_heads(rows, (uint32_t)count, entries, entries + count, numbers, heads);
            /* A pointer takes half of an entry's place, so they go where the entries were. */
            for (size_t i = 0; i < count; i++) {
                uint32_t row = entries[i].row;
                order->rows[i] = &rows[row];
            }
            return 0;
        }
    }
    for (size_t i = 0; i < count; i++) order->rows[i] = &rows[i];
    if (sorted < count) qsort(order->rows, count, sizeof *order->rows, by_key);
    return 0;
}

void order_close(Order *order) {
    if (order->bytes < LARGE)
        free(order->rows);
    else
        munmap(order->rows, order->bytes);
    order->rows = NULL;
}

int order_copy(const Row **pointers, const Row *rows, size_t count) {
    Order order;
    if (order_open(&order, rows, count)) return -1;
    memcpy(pointers, order.rows, count * sizeof *pointers);
    order_close(&order);
    return 0;
}

void order_by_key(const Row **pointers, const void *records, size_t stride, size_t count) {
    int ascend = 1;
    for (size_t i = 0; i < count; i++) {
        pointers[i] = (const Row *)((const uint8_t *)records + i * stride);
        ascend &= !i || memcmp(pointers[i - 1], pointers[i], KEY_BYTES) <= 0;
    }
    if (!ascend) qsort(pointers, count, sizeof *pointers, by_key);
}
