/* Cursors over bytes: one that grows while it is written, one that never leaves its bounds while it is read. */
#ifndef HACORE_CODEC_BYTES_H
#define HACORE_CODEC_BYTES_H

#include <stdlib.h>
#include <string.h>

#include "row_hash.h"

#define SLACK 8 /* readable bytes after the last stream of a body, so that bits can be taken out of whole words */

typedef struct Writer {
    uint8_t *bytes;
    size_t length, room;
    int failed; /* out of memory: nothing more is written */
} Writer;

/* `rung` is NULL until something is wrong; then it and `message` say what, and `offset` where. */
typedef struct Reader {
    const uint8_t *bytes;
    size_t length, at;
    const char *rung, *message;
} Reader;

static inline uint8_t *write_space(Writer *w, size_t size) {
    if (w->failed) return NULL;
    if (size > w->room - w->length) {
        size_t room = w->room * 2 > w->length + size ? w->room * 2 : w->length + size + 4096;
        uint8_t *bytes = realloc(w->bytes, room);
        if (!bytes) {
            w->failed = 1;
            return NULL;
        }
        w->bytes = bytes;
        w->room = room;
    }
    uint8_t *space = w->bytes + w->length;
    w->length += size;
    return space;
}

static inline void write_bytes(Writer *w, const void *bytes, size_t size) {
    uint8_t *space = write_space(w, size);
    if (space && size) memcpy(space, bytes, size);
}

static inline void write_byte(Writer *w, uint8_t value) { write_bytes(w, &value, 1); }

/* 7 bits a byte, the low ones first, the top bit set on all but the last. */
static inline void write_varint(Writer *w, uint64_t value) {
    uint8_t bytes[10];
    size_t size = 0;
    for (; value >= 0x80; value >>= 7) bytes[size++] = (uint8_t)value | 0x80;
    bytes[size++] = (uint8_t)value;
    write_bytes(w, bytes, size);
}

static inline int read_fails(Reader *r, const char *rung, const char *message) {
    if (!r->rung) {
        r->rung = rung;
        r->message = message;
    }
    return -1;
}

/* The next `size` bytes, or NULL. */
static inline const uint8_t *read_bytes(Reader *r, size_t size) {
    if (r->rung) return NULL;
    if (size > r->length - r->at) {
        read_fails(r, "short", "the body ends early");
        return NULL;
    }
    const uint8_t *bytes = r->bytes + r->at;
    r->at += size;
    return bytes;
}

static inline uint64_t read_varint(Reader *r, uint64_t limit) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t *byte = read_bytes(r, 1);
        if (!byte) return 0;
        value |= (uint64_t)(*byte & 0x7F) << shift;
        if (*byte & 0x80) continue;
        if (value <= limit) return value;
        break;
    }
    read_fails(r, "number", "a number is larger than it may be");
    return 0;
}

static inline uint64_t load64(const void *bytes) {
    uint64_t value;
    memcpy(&value, bytes, 8);
    return value;
}

static inline uint32_t load32(const void *bytes) {
    uint32_t value;
    memcpy(&value, bytes, 4);
    return value;
}

static inline void store64(void *bytes, uint64_t value) { memcpy(bytes, &value, 8); }

/* Bits, the least significant first. Whole words are stored, without a branch that depends on the numbers: the space
 * is BITS_BEYOND larger than what the bits take. */
typedef struct Bits {
    uint8_t *at;
    uint64_t held;
    unsigned count;
} Bits;

#define BITS_BEYOND 8

/* At most 32 at a time. */
static inline void put_bits(Bits *b, uint32_t value, unsigned width) {
    b->held |= (uint64_t)value << b->count;
    b->count += width;
    store64(b->at, b->held);
    b->at += b->count >> 3;
    b->held >>= b->count & ~7u;
    b->count &= 7;
}

/* Room for so many bits, NULL where there is no memory; what is beyond them is given back by `end_bits`. */
static inline uint8_t *open_bits(Writer *w, size_t bits) { return write_space(w, (bits + 7) / 8 + BITS_BEYOND); }

static inline void end_bits(Writer *w, Bits *b) {
    if (b->count) *b->at = (uint8_t)b->held;
    w->length -= BITS_BEYOND;
}

#endif
