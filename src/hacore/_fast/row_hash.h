/* SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF") over keys and rows, which are whole 64-bit
 * words. With a key that nobody else knows its values cannot be foreseen, so neither collisions nor equal digests can
 * be made. */
#ifndef HACORE_ROW_HASH_H
#define HACORE_ROW_HASH_H

#include <string.h>

#include "row.h"

#define KEY_WORDS (KEY_BYTES / 8)
#define ROW_WORDS (ROW_BYTES / 8)

/* The timeout runs down by itself and differently on every node: digests leave it out. */
#define TIMEOUT_WORD (offsetof(Row, timeout) / 8)
#define WITHOUT_TIMEOUT 0x00000000FFFFFFFFULL
_Static_assert(offsetof(Row, timeout) % 8 == 4, "the timeout is the high half of its word");

typedef struct SipKey {
    uint64_t low, high;
} SipKey;

typedef struct SipState {
    uint64_t v0, v1, v2, v3;
} SipState;

typedef unsigned __int128 Digest;

static inline uint64_t hash_rotate(uint64_t value, int bits) { return (value << bits) | (value >> (64 - bits)); }

static inline uint64_t hash_word(const void *bytes, size_t word) {
    uint64_t value;
    memcpy(&value, (const uint8_t *)bytes + word * 8, 8);
    return value;
}

static inline void sip_round(SipState *s) {
    s->v0 += s->v1;
    s->v1 = hash_rotate(s->v1, 13) ^ s->v0;
    s->v0 = hash_rotate(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = hash_rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = hash_rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = hash_rotate(s->v1, 17) ^ s->v2;
    s->v2 = hash_rotate(s->v2, 32);
}

static inline SipState sip_start(SipKey key) {
    SipState s = {key.low ^ 0x736f6d6570736575ULL, key.high ^ 0x646f72616e646f6dULL, key.low ^ 0x6c7967656e657261ULL,
                  key.high ^ 0x7465646279746573ULL};
    return s;
}

static inline void sip_absorb(SipState *s, uint64_t word) {
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

static inline uint64_t sip_finish(SipState s, size_t length) {
    sip_absorb(&s, (uint64_t)length << 56);
    s.v2 ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/* The 64-bit hash of a key. */
static inline uint64_t hash_key(SipKey seed, const void *key) {
    SipState s = sip_start(seed);
    for (size_t word = 0; word < KEY_WORDS; word++) sip_absorb(&s, hash_word(key, word));
    return sip_finish(s, KEY_BYTES);
}

/* The 128-bit variant over a row without its timeout; `*of_key` gets the hash of the key alone, for the partition. */
static inline Digest hash_row(SipKey seed, const void *row, uint64_t *of_key) {
    SipState s = sip_start(seed);
    s.v1 ^= 0xee;
    for (size_t word = 0; word < KEY_WORDS; word++) sip_absorb(&s, hash_word(row, word));
    if (of_key) *of_key = sip_finish(s, KEY_BYTES);
    for (size_t word = KEY_WORDS; word < ROW_WORDS; word++)
        sip_absorb(&s, hash_word(row, word) & (word == TIMEOUT_WORD ? WITHOUT_TIMEOUT : ~0ULL));
    sip_absorb(&s, (uint64_t)ROW_BYTES << 56);
    s.v2 ^= 0xee;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    uint64_t low = s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
    s.v1 ^= 0xdd;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return ((Digest)(s.v0 ^ s.v1 ^ s.v2 ^ s.v3) << 64) | low;
}

#endif
