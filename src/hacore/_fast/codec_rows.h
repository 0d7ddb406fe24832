/* Rows and keys in key order as columns. docs/wire-chunks.md has the format. */
#ifndef HACORE_CODEC_ROWS_H
#define HACORE_CODEC_ROWS_H

#include "codec_lists.h"

enum { CODEC_OK = 0, CODEC_MEMORY = -1, CODEC_TWICE = -2, CODEC_WRONG = -3 };

/* What a row has beyond a plain connection without NAT; a flag says that the value follows in a column of its own. */
enum {
    ROW_REPLY_SOURCE = 1 << 0, /* differs from the destination */
    ROW_REPLY_DESTINATION = 1 << 1,
    ROW_REPLY_SOURCE_PORT = 1 << 2,
    ROW_REPLY_DESTINATION_PORT = 1 << 3,
    ROW_REPLY_ZONE = 1 << 4,
    ROW_SCTP = 1 << 5, /* is not zero */
    ROW_LABELS = 1 << 6,
    ROW_ADJUST = 1 << 7,
    ROW_SYNPROXY = 1 << 8,
    ROW_MASTER = 1 << 9,
    ROW_HELPER = 1 << 10,
    ROW_FLAGS = (1 << 11) - 1,
};

/* All that encoding or decoding a chunk needs beside its input and output; one for each thread that does so. */
typedef struct Codec {
    NumberScratch scratch;
    Dictionary destination, port, profile, tcp, mark, translated, other;
    Value values[COLUMN_ROWS], destinations[COLUMN_ROWS], profile_values[COLUMN_ROWS];
    uint64_t outer_words[COLUMN_ROWS], inner_words[COLUMN_ROWS];
    uint32_t heads[COLUMN_ROWS], outer_sizes[COLUMN_ROWS], inner_sizes[COLUMN_ROWS];
    uint32_t destination_numbers[COLUMN_ROWS], source_ports[COLUMN_ROWS], destination_ports[COLUMN_ROWS];
    uint32_t profiles[COLUMN_ROWS], timeouts[COLUMN_ROWS], tcps[COLUMN_ROWS], marks[COLUMN_ROWS];
    uint32_t translated_numbers[COLUMN_ROWS], translated_ports[COLUMN_ROWS];
    uint32_t bases[COLUMN_ROWS], column[COLUMN_ROWS], places[COLUMN_ROWS];
    Writer writer; /* what becomes of a chunk, kept to be used again */
} Codec;

/* NULL when there is not enough memory. */
Codec *codec_new(void);
/* `codec` may be NULL. */
void codec_free(Codec *codec);

/* CODEC_TWICE when a key comes twice or the order is not that of the keys. */
int write_rows(Writer *writer, const Row *const *order, size_t count, Codec *codec);
/* The same for keys alone, the first KEY_BYTES of what `order` points to. */
int write_keys(Writer *writer, const Row *const *order, size_t count, Codec *codec);
/* CODEC_OK or CODEC_WRONG with the reader's rung set. Keys come `stride` bytes apart. */
int read_rows(Reader *reader, Row *rows, size_t count, Codec *codec);
int read_keys(Reader *reader, uint8_t *keys, size_t stride, size_t count, Codec *codec);

/* A column of one field, 16 bytes or a number of 1, 2 or 4, of the rows at `places`. */
typedef struct Field {
    uint8_t offset, size;
} Field;

void write_field(Writer *writer, const Row *const *order, const uint32_t *places, size_t count, Field field,
                 Codec *codec);
int read_field(Reader *reader, Row *rows, const uint32_t *places, size_t count, Field field, Codec *codec);

#endif
