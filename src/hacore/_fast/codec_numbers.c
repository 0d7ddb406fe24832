#include "codec_numbers.h"

enum { CONSTANT = 0, PACKED = 1, CODED = 2 };

#define DIRECT 128 /* numbers that are their own token */
#define TOKENS 228
#define SCALE_BITS 12
#define SCALE (1u << SCALE_BITS)
#define LOWEST (1u << 15) /* a state is in [LOWEST, LOWEST << 16) */
#define STATES 4
#define LONG 4096 /* columns from this length on are judged by every 8th number first */
#define SAMPLE 8

static inline unsigned token_of(uint32_t number) {
    unsigned exponent = 31 - (unsigned)__builtin_clz(number | DIRECT);
    unsigned token = DIRECT + ((exponent - 7) << 2) + ((number >> (exponent - 2)) & 3);
    return number < DIRECT ? number : token;
}

static inline unsigned extra_bits(unsigned token) { return token < DIRECT ? 0 : 5 + ((token - DIRECT) >> 2); }

static inline uint32_t first_of(unsigned token) {
    return token < DIRECT ? token : (4 | ((token - DIRECT) & 3)) << extra_bits(token);
}

static unsigned width_of(uint32_t range) { return range ? 32 - (unsigned)__builtin_clz(range) : 0; }

/* ---- writing ---- */

/* Scales counts to a sum of SCALE, none of those present below 1. */
static void normalise(const uint32_t *counts, size_t total, uint16_t *shares) {
    uint32_t sum = 0, largest = 0;
    for (uint32_t token = 0; token < TOKENS; token++) {
        uint32_t share = (uint32_t)(((uint64_t)counts[token] * SCALE + total / 2) / total);
        shares[token] = (uint16_t)(counts[token] && !share ? 1 : share);
        sum += shares[token];
        if (shares[token] > shares[largest]) largest = token;
    }
    /* The error is at most half a unit a token; the large ones bear it. */
    while (sum > SCALE) {
        for (uint32_t token = 0; token < TOKENS && sum > SCALE; token++)
            if (shares[token] > 1 && shares[token] * 8 >= shares[largest]) shares[token]--, sum--;
    }
    shares[largest] = (uint16_t)(shares[largest] + (SCALE - sum));
}

typedef struct Symbol {
    uint32_t reciprocal, limit; /* a state from `limit` on gives 16 bits away first */
    uint16_t start, complement;
    uint8_t shift;
} Symbol;

/* floor(x / share) = x * reciprocal >> (31 + shift), exactly, for x < 2**31: shift = ceil(log2(share)). */
static Symbol symbol_of(uint32_t start, uint32_t share) {
    unsigned shift = share > 1 ? 32 - (unsigned)__builtin_clz(share - 1) : 0;
    uint64_t power = 1ULL << (31 + shift);
    Symbol s = {(uint32_t)((power + share - 1) / share), (LOWEST >> SCALE_BITS << 16) * share, (uint16_t)start,
                (uint16_t)(SCALE - share), (uint8_t)(31 + shift)};
    return s;
}

static inline uint16_t *encode_symbol(const Symbol *s, uint32_t *state, uint16_t *words) {
    uint32_t x = *state;
    *--words = (uint16_t)x;
    uint32_t gives = x >= s->limit;
    words += 1 - gives;
    x >>= gives << 4;
    uint32_t quotient = (uint32_t)(((uint64_t)x * s->reciprocal) >> s->shift);
    *state = x + quotient * s->complement + s->start;
    return words;
}

static void write_coded(Writer *w, const uint32_t *numbers, size_t count, const uint32_t *counts,
                        NumberScratch *scratch) {
    uint16_t shares[TOKENS];
    Symbol symbols[TOKENS];
    size_t present = 0, bits = 0;
    uint32_t start = 0, gap = 0;
    normalise(counts, count, shares);
    for (unsigned token = 0; token < TOKENS; token++) {
        if (!shares[token]) continue;
        symbols[token] = symbol_of(start, shares[token]);
        start += shares[token];
        bits += (size_t)counts[token] * extra_bits(token);
        present++;
    }
    write_varint(w, present);
    for (unsigned token = 0; token < TOKENS; token++, gap++) {
        if (!shares[token]) continue;
        write_byte(w, (uint8_t)gap);
        write_varint(w, shares[token]);
        gap = UINT32_MAX;
    }
    uint32_t states[STATES] = {LOWEST, LOWEST, LOWEST, LOWEST};
    uint16_t *end = scratch->words + sizeof scratch->words / 2, *words = end;
    size_t left = count;
    for (; left % STATES; left--)
        words = encode_symbol(&symbols[scratch->tokens[left - 1]], &states[(left - 1) % STATES], words);
    for (; left; left -= STATES) {
        const uint8_t *tokens = &scratch->tokens[left - STATES];
        words = encode_symbol(&symbols[tokens[3]], &states[3], words);
        words = encode_symbol(&symbols[tokens[2]], &states[2], words);
        words = encode_symbol(&symbols[tokens[1]], &states[1], words);
        words = encode_symbol(&symbols[tokens[0]], &states[0], words);
    }
    write_varint(w, (uint64_t)(end - words));
    write_bytes(w, states, sizeof states);
    write_bytes(w, words, (size_t)(end - words) * 2);

    if (!bits) return;
    uint8_t *space = open_bits(w, bits);
    if (!space) return;
    Bits stream = {space, 0, 0};
    uint8_t widths[TOKENS];
    for (unsigned token = 0; token < TOKENS; token++) widths[token] = (uint8_t)extra_bits(token);
    for (size_t i = 0; i < count; i++) {
        unsigned width = widths[scratch->tokens[i]];
        put_bits(&stream, numbers[i] & ((1u << width) - 1), width);
    }
    end_bits(w, &stream);
}

static void write_packed(Writer *w, const uint32_t *numbers, size_t count, uint32_t base, unsigned width) {
    write_byte(w, PACKED);
    write_varint(w, base);
    write_byte(w, (uint8_t)width);
    uint8_t *space = open_bits(w, count * width);
    if (!space) return;
    Bits stream = {space, 0, 0};
    for (size_t i = 0; i < count; i++) put_bits(&stream, numbers[i] - base, width);
    end_bits(w, &stream);
}

/* The binary logarithm in 256ths, one bit of it for each squaring. */
static uint32_t logarithm(uint32_t value) {
    unsigned exponent = 31 - (unsigned)__builtin_clz(value);
    uint64_t mantissa = (uint64_t)value << (31 - exponent);
    uint32_t result = exponent;
    for (int bit = 0; bit < 8; bit++) {
        mantissa = mantissa * mantissa >> 31;
        result = result << 1 | (uint32_t)(mantissa >> 32);
        mantissa >>= mantissa >> 32;
    }
    return result;
}

/* Bits that tokens of these counts and their extra bits take when coded, and the bits of the table beside them. */
static uint64_t coded_bits(const uint32_t *counts, size_t total) {
    uint64_t bits = 0, all = logarithm((uint32_t)total);
    for (unsigned token = 0; token < TOKENS; token++)
        if (counts[token])
            bits += counts[token] * (all - logarithm(counts[token]) + ((uint64_t)extra_bits(token) << 8));
    return bits >> 8;
}

static uint64_t table_bits(const uint32_t *counts) {
    uint64_t bits = 8 * (STATES * 4 + 4);
    for (unsigned token = 0; token < TOKENS; token++) bits += counts[token] ? 20 : 0;
    return bits;
}

/* The tokens of all numbers, and how often each occurs. Four counts in turn, because adding to what was just added to waits. */
static void count_tokens(const uint32_t *numbers, size_t count, uint8_t *tokens, uint32_t *counts) {
    uint32_t parts[4][TOKENS] = {{0}};
    for (size_t i = 0; i < count; i++) {
        unsigned token = token_of(numbers[i]);
        tokens[i] = (uint8_t)token;
        parts[i & 3][token]++;
    }
    for (unsigned token = 0; token < TOKENS; token++)
        counts[token] = parts[0][token] + parts[1][token] + parts[2][token] + parts[3][token];
}

void write_numbers(Writer *w, const uint32_t *numbers, size_t count, NumberScratch *scratch) {
    if (!count) return;
    uint32_t lowest = UINT32_MAX, highest = 0;
    for (size_t i = 0; i < count; i++) {
        lowest = numbers[i] < lowest ? numbers[i] : lowest;
        highest = numbers[i] > highest ? numbers[i] : highest;
    }
    if (lowest == highest) {
        write_byte(w, CONSTANT);
        write_varint(w, lowest);
        return;
    }
    unsigned width = width_of(highest - lowest);
    uint64_t packed = (uint64_t)count * width * 63 / 64; /* packing is faster: coding has to be worth it */
    if (packed > 8 * (STATES * 4 + 4)) {
        uint32_t counts[TOKENS] = {0};
        size_t taken = count >= LONG ? 0 : count;
        if (!taken)
            for (size_t i = 0; i < count; i += SAMPLE, taken++) counts[token_of(numbers[i])]++;
        if (taken == count || coded_bits(counts, taken) * count / taken + table_bits(counts) < packed) {
            count_tokens(numbers, count, scratch->tokens, counts);
            if (counts[scratch->tokens[0]] < count && coded_bits(counts, count) + table_bits(counts) < packed) {
                write_byte(w, CODED);
                write_coded(w, numbers, count, counts, scratch);
                return;
            }
        }
    }
    write_packed(w, numbers, count, lowest, width);
}

/* ---- reading ---- */

static int read_table(Reader *r, uint32_t *slots) {
    size_t present = read_varint(r, TOKENS);
    uint32_t token = 0, start = 0;
    for (size_t i = 0; i < present; i++) {
        const uint8_t *gap = read_bytes(r, 1);
        uint32_t share = (uint32_t)read_varint(r, SCALE - 1);
        if (r->rung) return -1;
        token += *gap + (i ? 1u : 0u);
        if (token >= TOKENS || !share || share > SCALE - start)
            return read_fails(r, "shares", "the shares of a column are wrong");
        for (uint32_t slot = 0; slot < share; slot++) slots[start + slot] = token << 24 | share << 12 | slot;
        start += share;
    }
    if (r->rung) return -1;
    return start == SCALE ? 0 : read_fails(r, "shares", "the shares of a column do not add up");
}

#define DECODE(state, token)                                                                   \
    do {                                                                                       \
        uint32_t slot = slots[(state) & (SCALE - 1)];                                          \
        (token) = (uint8_t)(slot >> 24);                                                       \
        (state) = (slot >> 12 & (SCALE - 1)) * ((state) >> SCALE_BITS) + (slot & (SCALE - 1)); \
    } while (0)

static int read_coded(Reader *r, uint32_t *numbers, size_t count, NumberScratch *scratch) {
    uint32_t slots[SCALE], states[STATES];
    if (read_table(r, slots)) return -1;
    size_t words = read_varint(r, COLUMN_ROWS);
    const uint8_t *head = read_bytes(r, sizeof states), *next = read_bytes(r, words * 2);
    if (r->rung) return -1;
    memcpy(states, head, sizeof states);
    const uint8_t *end = next + words * 2;
    uint32_t a = states[0], b = states[1], c = states[2], d = states[3];
    size_t i = 0;
    uint8_t *tokens = scratch->tokens;
    /* A whole round takes 4 words at most, and what follows the words may be read (SLACK), so only the tail looks at
     * each. */
    for (; i + STATES <= count && end - next >= 2 * STATES; i += STATES) {
        DECODE(a, tokens[i]);
        DECODE(b, tokens[i + 1]);
        DECODE(c, tokens[i + 2]);
        DECODE(d, tokens[i + 3]);
        uint32_t low;
#define REFILL(state)                                   \
    low = (state) < LOWEST;                             \
    {                                                   \
        uint16_t word;                                  \
        memcpy(&word, next, 2);                         \
        (state) = low ? (state) << 16 | word : (state); \
        next += low << 1;                               \
    }
        REFILL(a)
        REFILL(b)
        REFILL(c)
        REFILL(d)
    }
    states[0] = a, states[1] = b, states[2] = c, states[3] = d;
    for (; i < count; i++) {
        uint32_t *state = &states[i % STATES];
        DECODE(*state, tokens[i]);
        if (*state >= LOWEST) continue;
        if (next == end) return read_fails(r, "words", "a coded column ends early");
        uint16_t word;
        memcpy(&word, next, 2);
        next += 2;
        *state = *state << 16 | word;
    }
    if (next != end || states[0] != LOWEST || states[1] != LOWEST || states[2] != LOWEST || states[3] != LOWEST)
        return read_fails(r, "words", "a coded column does not end where it should");

    size_t bits = 0;
    uint8_t widths[256] = {0};
    uint32_t firsts[256] = {0};
    for (unsigned token = 0; token < TOKENS; token++)
        widths[token] = (uint8_t)extra_bits(token), firsts[token] = first_of(token);
    for (size_t k = 0; k < count; k++) bits += widths[tokens[k]];
    if (!bits) {
        for (size_t k = 0; k < count; k++) numbers[k] = tokens[k];
        return 0;
    }
    const uint8_t *stream = read_bytes(r, (bits + 7) / 8);
    if (!stream) return -1;
    bits = 0;
    for (size_t k = 0; k < count; k++) {
        unsigned width = widths[tokens[k]];
        uint32_t extra = (uint32_t)(load64(stream + (bits >> 3)) >> (bits & 7)) & ((1u << width) - 1);
        numbers[k] = firsts[tokens[k]] | extra;
        bits += width;
    }
    return 0;
}

static int read_packed(Reader *r, uint32_t *numbers, size_t count) {
    uint32_t base = (uint32_t)read_varint(r, UINT32_MAX);
    const uint8_t *width = read_bytes(r, 1);
    if (!width) return -1;
    if (*width < 1 || *width > 32) return read_fails(r, "width", "a packed column has no such width");
    const uint8_t *stream = read_bytes(r, (count * *width + 7) / 8);
    if (!stream) return -1;
    uint64_t mask = (1ULL << *width) - 1, bits = 0;
    for (size_t i = 0; i < count; i++, bits += *width)
        numbers[i] = base + (uint32_t)((load64(stream + (bits >> 3)) >> (bits & 7)) & mask);
    return 0;
}

int read_numbers(Reader *r, uint32_t *numbers, size_t count, uint32_t limit, NumberScratch *scratch) {
    if (!count) return 0;
    const uint8_t *mode = read_bytes(r, 1);
    if (!mode) return -1;
    if (*mode == CONSTANT) {
        uint32_t value = (uint32_t)read_varint(r, limit);
        for (size_t i = 0; i < count; i++) numbers[i] = value;
        return r->rung ? -1 : 0;
    }
    if (*mode > CODED) return read_fails(r, "mode", "a column is coded in no known way");
    if (*mode == PACKED ? read_packed(r, numbers, count) : read_coded(r, numbers, count, scratch)) return -1;
    uint32_t highest = 0;
    for (size_t i = 0; i < count; i++) highest = numbers[i] > highest ? numbers[i] : highest;
    return highest <= limit ? 0 : read_fails(r, "number", "a column holds a number larger than it may be");
}
