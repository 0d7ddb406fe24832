/* SHA-1's compression function in several implementations, for one message or for several side by side ("lanes").
 *
 * State and blocks are words in host order, word by word: word w of lane l is at [w * lanes + l]. With one lane this is
 * the plain layout. With more, both are aligned to the lanes' width.
 */
#ifndef HACORE_ADVERT_SHA1_H
#define HACORE_ADVERT_SHA1_H

#include <stddef.h>
#include <stdint.h>

#define SHA1_BLOCK_BYTES 64
#define SHA1_BLOCK_WORDS 16
#define SHA1_DIGEST_BYTES 20
#define SHA1_STATE_WORDS 5
#define SHA1_MAX_LANES 16 /* bounds the stack that a group of lanes takes: under 5 KB */

typedef void sha1_compress_function(uint32_t *state, const uint32_t *block);

struct sha1_engine {
    const char *name;
    size_t lanes;
    sha1_compress_function *compress;
};

extern const uint32_t sha1_initial_state[SHA1_STATE_WORDS];

/* The engines that this CPU can run, fastest for many messages first; index from 0, NULL after the last. */
const struct sha1_engine *sha1_engine_at(size_t index);

/* The engines in use: for one message, and for many. Written only by sha1_select, under the caller's lock (the GIL). */
const struct sha1_engine *sha1_for_one(void);
const struct sha1_engine *sha1_for_many(void);

/* Of one architecture: those of its engines that this CPU can run, fastest for many messages first; returns how many
 * (0 elsewhere). */
size_t sha1_engines_of_x86(const struct sha1_engine **engines);
size_t sha1_engines_of_arm(const struct sha1_engine **engines);

/* Detect the CPU and choose the fastest engines. Once, before anything else here. */
void sha1_detect(void);

/* Use the named engine for many messages, and if it has one lane for one message as well (else the fastest there);
 * "auto" chooses the fastest for both. Returns 0, or -1 if this CPU has no such engine. */
int sha1_select(const char *name);

/* Whole-message SHA-1 on a one-lane engine. */
void sha1_absorb(const struct sha1_engine *engine, uint32_t state[SHA1_STATE_WORDS], const uint8_t *block);
void sha1_digest(const uint8_t *message, size_t length, uint8_t digest[SHA1_DIGEST_BYTES]);

static inline uint32_t load_be32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | (uint32_t)bytes[3];
}

static inline void store_be32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 24);
    bytes[1] = (uint8_t)(value >> 16);
    bytes[2] = (uint8_t)(value >> 8);
    bytes[3] = (uint8_t)value;
}

#endif
