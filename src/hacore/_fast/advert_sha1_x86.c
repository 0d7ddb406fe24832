#include "advert_sha1.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

/* Sixteen lanes: rotation and the three-operand functions are one instruction each in AVX-512. The second number of a
 * _mm512_ternarylogic is the truth table of the function over (b, c, d). */
typedef uint32_t sixteen_words __attribute__((vector_size(64), may_alias));

#define TERNARY(b, c, d, table)                                                                               \
    ((sixteen_words)_mm512_ternarylogic_epi32((__m512i)(b), (__m512i)(c), (__m512i)(d), table))
#define LANES_FUNCTION compress_avx512
#define LANES_ATTRIBUTES __attribute__((target("avx512f")))
#define LANES_WORD sixteen_words
#define LANES_ROTATE(x, bits) ((sixteen_words)_mm512_rol_epi32((__m512i)(x), bits))
#define LANES_CHOOSE(b, c, d) TERNARY(b, c, d, 0xca)
#define LANES_PARITY(b, c, d) TERNARY(b, c, d, 0x96)
#define LANES_MAJORITY(b, c, d) TERNARY(b, c, d, 0xe8)
#include "advert_sha1_lanes.h"

typedef uint32_t eight_words __attribute__((vector_size(32), may_alias));

#define LANES_FUNCTION compress_avx2
#define LANES_ATTRIBUTES __attribute__((target("avx2")))
#define LANES_WORD eight_words
#define LANES_ROTATE(x, bits) (((x) << (bits)) | ((x) >> (32 - (bits))))
#define LANES_CHOOSE(b, c, d) ((d) ^ ((b) & ((c) ^ (d))))
#define LANES_PARITY(b, c, d) ((b) ^ (c) ^ (d))
#define LANES_MAJORITY(b, c, d) (((b) & (c)) | ((d) & ((b) ^ (c))))
#include "advert_sha1_lanes.h"

/* Four rounds: the state after them, and the one before them, from which SHA1NEXTE makes the E of the next four. */
#define FOUR_ROUNDS(words, function)                                                                          \
    do {                                                                                                      \
        e = _mm_sha1nexte_epu32(before, words);                                                               \
        before = abcd;                                                                                        \
        abcd = _mm_sha1rnds4_epu32(abcd, e, function);                                                        \
    } while (0)

/* The next four words of the message schedule replace the oldest four. */
#define EXPAND(w0, w1, w2, w3) (w0 = _mm_sha1msg2_epu32(_mm_xor_si128(_mm_sha1msg1_epu32(w0, w1), w2), w3))

/* The instructions want the first of four words in the highest place. */
#define REVERSE(words) _mm_shuffle_epi32(words, 0x1b)

__attribute__((target("sha"))) static void compress_sha_ni(uint32_t *state, const uint32_t *block)
{
    const __m128i *blocks = (const __m128i *)(const void *)block;
    __m128i w0 = REVERSE(_mm_loadu_si128(blocks)), w1 = REVERSE(_mm_loadu_si128(blocks + 1));
    __m128i w2 = REVERSE(_mm_loadu_si128(blocks + 2)), w3 = REVERSE(_mm_loadu_si128(blocks + 3));
    const __m128i initial = REVERSE(_mm_loadu_si128((const __m128i *)(const void *)state));
    const __m128i initial_e = _mm_set_epi32((int)state[4], 0, 0, 0);
    __m128i abcd = initial, before = initial, e = _mm_add_epi32(initial_e, w0);

    abcd = _mm_sha1rnds4_epu32(abcd, e, 0);
    FOUR_ROUNDS(w1, 0);
    FOUR_ROUNDS(w2, 0);
    FOUR_ROUNDS(w3, 0);
    FOUR_ROUNDS(EXPAND(w0, w1, w2, w3), 0);
    FOUR_ROUNDS(EXPAND(w1, w2, w3, w0), 1);
    FOUR_ROUNDS(EXPAND(w2, w3, w0, w1), 1);
    FOUR_ROUNDS(EXPAND(w3, w0, w1, w2), 1);
    FOUR_ROUNDS(EXPAND(w0, w1, w2, w3), 1);
    FOUR_ROUNDS(EXPAND(w1, w2, w3, w0), 1);
    FOUR_ROUNDS(EXPAND(w2, w3, w0, w1), 2);
    FOUR_ROUNDS(EXPAND(w3, w0, w1, w2), 2);
    FOUR_ROUNDS(EXPAND(w0, w1, w2, w3), 2);
    FOUR_ROUNDS(EXPAND(w1, w2, w3, w0), 2);
    FOUR_ROUNDS(EXPAND(w2, w3, w0, w1), 2);
    FOUR_ROUNDS(EXPAND(w3, w0, w1, w2), 3);
    FOUR_ROUNDS(EXPAND(w0, w1, w2, w3), 3);
    FOUR_ROUNDS(EXPAND(w1, w2, w3, w0), 3);
    FOUR_ROUNDS(EXPAND(w2, w3, w0, w1), 3);
    FOUR_ROUNDS(EXPAND(w3, w0, w1, w2), 3);
    e = _mm_sha1nexte_epu32(before, initial_e);
    abcd = _mm_add_epi32(abcd, initial);
    _mm_storeu_si128((__m128i *)(void *)state, REVERSE(abcd));
    state[4] = (uint32_t)_mm_cvtsi128_si32(REVERSE(e));
}

static const struct sha1_engine avx512 = {"avx512", 16, compress_avx512};
static const struct sha1_engine avx2 = {"avx2", 8, compress_avx2};
static const struct sha1_engine sha_ni = {"sha-ni", 1, compress_sha_ni};

static int has_sha_instructions(void)
{
    unsigned a, b, c, d;

    /* Leaf 7, EBX bit 29. The instructions work on SSE's registers, which every x86-64 system saves. */
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
}

size_t sha1_engines_of_x86(const struct sha1_engine **engines)
{
    size_t count = 0;

    __builtin_cpu_init(); /* asks the operating system's mask (XCR0) as well as the CPU */
    if (__builtin_cpu_supports("avx512f"))
        engines[count++] = &avx512;
    if (__builtin_cpu_supports("avx2"))
        engines[count++] = &avx2;
    if (has_sha_instructions())
        engines[count++] = &sha_ni;
    return count;
}

#else

size_t sha1_engines_of_x86(const struct sha1_engine **engines)
{
    (void)engines;
    return 0;
}

#endif
