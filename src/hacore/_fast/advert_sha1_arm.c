#include "advert_sha1.h"

#if defined(__aarch64__) && defined(__linux__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)

#include <arm_neon.h>
#include <sys/auxv.h>

/* The headers of GCC declare these instructions with AES and SHA-256 together; those of Clang under SHA alone. */
#if defined(__clang__)
#define TARGET_SHA "sha2"
#else
#define TARGET_SHA "+crypto"
#endif

#define CAPABILITY_SHA1 (1ul << 5) /* HWCAP_SHA1 of <asm/hwcap.h> */

#define FOUR_ROUNDS(words, instruction, k)                                                                    \
    do {                                                                                                      \
        uint32_t next_e = vsha1h_u32(vgetq_lane_u32(abcd, 0));                                                \
        abcd = instruction(abcd, e, vaddq_u32(words, vdupq_n_u32(k)));                                        \
        e = next_e;                                                                                           \
    } while (0)

/* The next four words of the message schedule replace the oldest four. */
#define EXPAND(w0, w1, w2, w3) (w0 = vsha1su1q_u32(vsha1su0q_u32(w0, w1, w2), w3))

__attribute__((target(TARGET_SHA))) static void compress_armv8(uint32_t *state, const uint32_t *block)
{
    uint32x4_t w0 = vld1q_u32(block), w1 = vld1q_u32(block + 4), w2 = vld1q_u32(block + 8), w3 = vld1q_u32(block + 12);
    const uint32x4_t initial = vld1q_u32(state);
    uint32x4_t abcd = initial;
    uint32_t e = state[4];

    FOUR_ROUNDS(w0, vsha1cq_u32, 0x5a827999u);
    FOUR_ROUNDS(w1, vsha1cq_u32, 0x5a827999u);
    FOUR_ROUNDS(w2, vsha1cq_u32, 0x5a827999u);
    FOUR_ROUNDS(w3, vsha1cq_u32, 0x5a827999u);
    FOUR_ROUNDS(EXPAND(w0, w1, w2, w3), vsha1cq_u32, 0x5a827999u);
    FOUR_ROUNDS(EXPAND(w1, w2, w3, w0), vsha1pq_u32, 0x6ed9eba1u);
    FOUR_ROUNDS(EXPAND(w2, w3, w0, w1), vsha1pq_u32, 0x6ed9eba1u);
    FOUR_ROUNDS(EXPAND(w3, w0, w1, w2), vsha1pq_u32, 0x6ed9eba1u);
    FOUR_ROUNDS(EXPAND(w0, w1, w2, w3), vsha1pq_u32, 0x6ed9eba1u);
    FOUR_ROUNDS(EXPAND(w1, w2, w3, w0), vsha1pq_u32, 0x6ed9eba1u);
    FOUR_ROUNDS(EXPAND(w2, w3, w0, w1), vsha1mq_u32, 0x8f1bbcdcu);
    FOUR_ROUNDS(EXPAND(w3, w0, w1, w2), vsha1mq_u32, 0x8f1bbcdcu);
    FOUR_ROUNDS(EXPAND(w0, w1, w2, w3), vsha1mq_u32, 0x8f1bbcdcu);
    FOUR_ROUNDS(EXPAND(w1, w2, w3, w0), vsha1mq_u32, 0x8f1bbcdcu);
    FOUR_ROUNDS(EXPAND(w2, w3, w0, w1), vsha1mq_u32, 0x8f1bbcdcu);
    FOUR_ROUNDS(EXPAND(w3, w0, w1, w2), vsha1pq_u32, 0xca62c1d6u);
    FOUR_ROUNDS(EXPAND(w0, w1, w2, w3), vsha1pq_u32, 0xca62c1d6u);
    FOUR_ROUNDS(EXPAND(w1, w2, w3, w0), vsha1pq_u32, 0xca62c1d6u);
    FOUR_ROUNDS(EXPAND(w2, w3, w0, w1), vsha1pq_u32, 0xca62c1d6u);
    FOUR_ROUNDS(EXPAND(w3, w0, w1, w2), vsha1pq_u32, 0xca62c1d6u);
    vst1q_u32(state, vaddq_u32(abcd, initial));
    state[4] += e;
}

static const struct sha1_engine armv8 = {"armv8", 1, compress_armv8};

size_t sha1_engines_of_arm(const struct sha1_engine **engines)
{
    size_t count = 0;

    if (getauxval(AT_HWCAP) & CAPABILITY_SHA1)
        engines[count++] = &armv8;
    return count;
}

#else

size_t sha1_engines_of_arm(const struct sha1_engine **engines)
{
    (void)engines;
    return 0;
}

#endif
