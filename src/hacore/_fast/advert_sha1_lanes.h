/* One SHA-1 block in each lane of a vector (FIPS 180-4, section 6.1.2). A template: included once for each vector
 * width, after defining
 *
 *   LANES_FUNCTION  the name of the function made        LANES_ATTRIBUTES  its attributes (the target of its code)
 *   LANES_WORD      a vector of unsigned 32-bit words    LANES_ROTATE(x, bits)
 *   LANES_CHOOSE(b, c, d), LANES_PARITY(b, c, d), LANES_MAJORITY(b, c, d)
 *
 * and undefining them all. State and block may not overlap and are aligned to the vector.
 */
#define LANES_EXPAND(t)                                                                                       \
    (w[(t) & 15] = LANES_ROTATE(LANES_PARITY(w[((t) + 13) & 15], w[((t) + 8) & 15], w[((t) + 2) & 15]) ^ w[(t) & 15], \
                                1))

#define LANES_ROUND(a, b, c, d, e, f, k, word)                                                                \
    do {                                                                                                      \
        e += (word) + (k);                                                                                    \
        e += f(b, c, d) + LANES_ROTATE(a, 5);                                                                 \
        b = LANES_ROTATE(b, 30);                                                                              \
    } while (0)

#define LANES_FIVE(t, f, k, word)                                                                             \
    LANES_ROUND(a, b, c, d, e, f, k, word((t) + 0));                                                          \
    LANES_ROUND(e, a, b, c, d, f, k, word((t) + 1));                                                          \
    LANES_ROUND(d, e, a, b, c, f, k, word((t) + 2));                                                          \
    LANES_ROUND(c, d, e, a, b, f, k, word((t) + 3));                                                          \
    LANES_ROUND(b, c, d, e, a, f, k, word((t) + 4))

#define LANES_TWENTY(t, f, k)                                                                                 \
    LANES_FIVE((t) + 0, f, k, LANES_EXPAND);                                                                  \
    LANES_FIVE((t) + 5, f, k, LANES_EXPAND);                                                                  \
    LANES_FIVE((t) + 10, f, k, LANES_EXPAND);                                                                 \
    LANES_FIVE((t) + 15, f, k, LANES_EXPAND)

#define LANES_GIVEN(t) w[t]

LANES_ATTRIBUTES static void LANES_FUNCTION(uint32_t *state_words, const uint32_t *block_words)
{
    LANES_WORD *state = (LANES_WORD *)(void *)state_words;
    const LANES_WORD *block = (const LANES_WORD *)(const void *)block_words;
    LANES_WORD w[SHA1_BLOCK_WORDS];
    LANES_WORD a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

    for (int t = 0; t < SHA1_BLOCK_WORDS; t++)
        w[t] = block[t];
    LANES_FIVE(0, LANES_CHOOSE, 0x5a827999u, LANES_GIVEN);
    LANES_FIVE(5, LANES_CHOOSE, 0x5a827999u, LANES_GIVEN);
    LANES_FIVE(10, LANES_CHOOSE, 0x5a827999u, LANES_GIVEN);
    LANES_ROUND(a, b, c, d, e, LANES_CHOOSE, 0x5a827999u, LANES_GIVEN(15));
    LANES_ROUND(e, a, b, c, d, LANES_CHOOSE, 0x5a827999u, LANES_EXPAND(16));
    LANES_ROUND(d, e, a, b, c, LANES_CHOOSE, 0x5a827999u, LANES_EXPAND(17));
    LANES_ROUND(c, d, e, a, b, LANES_CHOOSE, 0x5a827999u, LANES_EXPAND(18));
    LANES_ROUND(b, c, d, e, a, LANES_CHOOSE, 0x5a827999u, LANES_EXPAND(19));
    LANES_TWENTY(20, LANES_PARITY, 0x6ed9eba1u);
    LANES_TWENTY(40, LANES_MAJORITY, 0x8f1bbcdcu);
    LANES_TWENTY(60, LANES_PARITY, 0xca62c1d6u);
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

#undef LANES_EXPAND
#undef LANES_ROUND
#undef LANES_FIVE
#undef LANES_TWENTY
#undef LANES_GIVEN
#undef LANES_FUNCTION
#undef LANES_ATTRIBUTES
#undef LANES_WORD
#undef LANES_ROTATE
#undef LANES_CHOOSE
#undef LANES_PARITY
#undef LANES_MAJORITY
