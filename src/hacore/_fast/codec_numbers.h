/* Columns of 32-bit numbers: constant, packed, or entropy-coded, whichever is smallest. docs/wire-chunks.md has the
   format.
 *
 * The entropy coder is range asymmetric numeral systems (Duda, "Asymmetric numeral systems: entropy coding combining
 * speed of Huffman coding with compression rate of arithmetic coding"), four states in turn, over tokens: a token is a
 * number below 128, or the exponent and two bits after the leading one of a larger number, whose further bits follow in
 * a stream of their own. */
#ifndef HACORE_CODEC_NUMBERS_H
#define HACORE_CODEC_NUMBERS_H

#include "codec_bytes.h"

#define COLUMN_ROWS 65536 /* numbers in a column at most */

#define STATES_ROOM 4 /* a word is stored before it is known whether it counts */

typedef struct NumberScratch {
    uint8_t tokens[COLUMN_ROWS];
    uint16_t words[COLUMN_ROWS + STATES_ROOM];
} NumberScratch;

void write_numbers(Writer *writer, const uint32_t *numbers, size_t count, NumberScratch *scratch);
/* 0 with `count` numbers of at most `limit` each, or -1 and the reader's rung set. */
int read_numbers(Reader *reader, uint32_t *numbers, size_t count, uint32_t limit, NumberScratch *scratch);

#endif
