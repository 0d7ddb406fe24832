#include "advert_sha1.h"

#include <string.h>

const uint32_t sha1_initial_state[SHA1_STATE_WORDS] = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};

#define ROTATE(x, bits) (((x) << (bits)) | ((x) >> (32 - (bits))))
#define CHOOSE(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define PARITY(b, c, d) ((b) ^ (c) ^ (d))
#define MAJORITY(b, c, d) (((b) & (c)) | ((d) & ((b) | (c))))

#define LANES_FUNCTION compress_portable
#define LANES_ATTRIBUTES
#define LANES_WORD uint32_t
#define LANES_ROTATE ROTATE
#define LANES_CHOOSE CHOOSE
#define LANES_PARITY PARITY
#define LANES_MAJORITY MAJORITY
#include "advert_sha1_lanes.h"

/* Four lanes in the compiler's own vectors: SSE2 on every x86-64, NEON on every aarch64. */
typedef uint32_t four_words __attribute__((vector_size(16), may_alias));

#define LANES_FUNCTION compress_vector
#define LANES_ATTRIBUTES
#define LANES_WORD four_words
#define LANES_ROTATE ROTATE
#define LANES_CHOOSE CHOOSE
#define LANES_PARITY PARITY
#define LANES_MAJORITY MAJORITY
#include "advert_sha1_lanes.h"

static const struct sha1_engine portable = {"portable", 1, compress_portable};
static const struct sha1_engine vector = {"vector", 4, compress_vector};

/* Room for every engine of one architecture, the two above, and the NULL after the last. */
static const struct sha1_engine *available[8];
static const struct sha1_engine *for_one = &portable, *for_many = &portable;

void sha1_detect(void)
{
    size_t count = sha1_engines_of_x86(available);

    count += sha1_engines_of_arm(available + count);
    available[count++] = &vector;
    available[count++] = &portable;
    available[count] = NULL;
    (void)sha1_select("auto");
}

const struct sha1_engine *sha1_engine_at(size_t index)
{
    return index < sizeof available / sizeof *available ? available[index] : NULL;
}

const struct sha1_engine *sha1_for_one(void)
{
    return for_one;
}

const struct sha1_engine *sha1_for_many(void)
{
    return for_many;
}

static const struct sha1_engine *fastest_for_one(void)
{
    size_t index = 0;

    while (available[index]->lanes != 1)
        index++;
    return available[index];
}

int sha1_select(const char *name)
{
    const struct sha1_engine *chosen = NULL;

    for (size_t index = 0; available[index] != NULL; index++)
        if (strcmp(available[index]->name, name) == 0)
            chosen = available[index];
    if (strcmp(name, "auto") == 0)
        chosen = available[0];
    if (chosen == NULL)
        return -1;
    for_many = chosen;
    for_one = chosen->lanes == 1 ? chosen : fastest_for_one();
    return 0;
}

void sha1_absorb(const struct sha1_engine *engine, uint32_t state[SHA1_STATE_WORDS], const uint8_t *block)
{
    uint32_t words[SHA1_BLOCK_WORDS];

    for (size_t index = 0; index < SHA1_BLOCK_WORDS; index++)
        words[index] = load_be32(block + 4 * index);
    engine->compress(state, words);
}

void sha1_digest(const uint8_t *message, size_t length, uint8_t digest[SHA1_DIGEST_BYTES])
{
    const struct sha1_engine *engine = for_one;
    uint32_t state[SHA1_STATE_WORDS];
    uint8_t tail[2 * SHA1_BLOCK_BYTES] = {0};
    size_t rest = length % SHA1_BLOCK_BYTES;
    size_t tail_bytes = rest + 9 <= SHA1_BLOCK_BYTES ? SHA1_BLOCK_BYTES : 2 * SHA1_BLOCK_BYTES;

    memcpy(state, sha1_initial_state, sizeof state);
    for (size_t at = 0; at < length - rest; at += SHA1_BLOCK_BYTES)
        sha1_absorb(engine, state, message + at);
    if (rest != 0)
        memcpy(tail, message + (length - rest), rest);
    tail[rest] = 0x80;
    store_be32(tail + tail_bytes - 8, (uint32_t)((uint64_t)length >> 29));
    store_be32(tail + tail_bytes - 4, (uint32_t)((uint64_t)length << 3));
    for (size_t at = 0; at < tail_bytes; at += SHA1_BLOCK_BYTES)
        sha1_absorb(engine, state, tail + at);
    for (size_t index = 0; index < SHA1_STATE_WORDS; index++)
        store_be32(digest + 4 * index, state[index]);
}
