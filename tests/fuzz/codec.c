/* The codec's decoders for libFuzzer: bodies of chunks. The first byte says of which kind; length and checksum are made
 * right, or the fuzzer would never come past them. What is taken for rows has to be written and read again as the same.
 * */
#include <stdio.h>

#include "codec_compare.h"
#include "codec_order.h"

#define MOST_ROWS 4096 /* of chunks that say they hold more only the head is looked at: speed */

static void require(int condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void write_again(Codec *codec, const Row *rows, size_t count, Row *again) {
    Order order;
    require(!order_open(&order, rows, count), "memory");
    Writer *writer = &codec->writer;
    writer->length = 0;
    begin_chunk(writer, CHUNK_ROWS);
    require(write_rows(writer, order.rows, count, codec) == CODEC_OK, "rows that were read cannot be written");
    end_chunk(writer, 0);
    order_close(&order);
    Reader reader = {.bytes = writer->bytes, .length = writer->length}, body;
    require(open_chunk(&reader, &body) == CHUNK_ROWS, "what was written is no chunk");
    require(read_rows(&body, again, count, codec) == CODEC_OK && !close_chunk(&body),
            "what was written cannot be read");
    require(!memcmp(rows, again, count * sizeof(Row)), "rows change on the way");
}

static void take_rows(Codec *codec, Reader *body, Row *rows) {
    size_t count = read_varint(body, COLUMN_ROWS);
    if (body->rung || !count || count > MOST_ROWS) return;
    if (read_rows(body, rows, count, codec) == CODEC_OK && !close_chunk(body))
        write_again(codec, rows, count, rows + MOST_ROWS);
}

static void take_changes(Codec *codec, Reader *body, Row *rows) {
    static uint64_t numbers[2][MOST_ROWS], masks[MOST_ROWS];
    static uint8_t keys[2][MOST_ROWS * KEY_BYTES];
    ChangeCounts counts;
    if (read_change_counts(body, &counts) != CODEC_OK) return;
    if (counts.inserted > MOST_ROWS || counts.updated > MOST_ROWS || counts.deleted > MOST_ROWS ||
        counts.deleted_keys > MOST_ROWS)
        return;
    ChangeSpace space = {rows, numbers[0], numbers[1], keys[0], keys[1], rows + MOST_ROWS, masks, 0};
    if (read_changes(body, &counts, &space, codec) != CODEC_OK || close_chunk(body)) return;
    memset(rows, 0, counts.updated * sizeof(Row));
    patch_rows(rows, space.values, masks, counts.updated);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static Codec *codec;
    static Row *rows;
    if (!codec) {
        codec = codec_new();
        rows = malloc(2 * MOST_ROWS * sizeof *rows);
        require(codec && rows, "memory");
    }
    if (size < 1 + SLACK) return 0;
    size_t length = CHUNK_HEAD + size - 1;
    uint8_t *chunk = calloc(1, length); /* exactly as long as the chunk, so that a read beyond it is seen */
    require(chunk != NULL, "memory");
    chunk[0] = CHUNK_VERSION;
    chunk[1] = (uint8_t)"RCBE"[data[0] % 4];
    memcpy(chunk + CHUNK_HEAD, data + 1, size - 1);
    seal_chunk(chunk, length);
    Reader reader = {.bytes = chunk, .length = length}, body;
    int kind = open_chunk(&reader, &body);
    require(kind == chunk[1], "a chunk with the right checksum is refused");
    if (kind == CHUNK_ROWS) take_rows(codec, &body, rows);
    if (kind == CHUNK_CHANGES) take_changes(codec, &body, rows);
    free(chunk);
    return 0;
}
