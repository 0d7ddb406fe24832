#include "codec_changes.h"

#include "codec_order.h"

/* ---- the frame of a chunk ---- */

static const SipKey NO_SECRET = {0, 0}; /* a checksum against accidents; who can forge bytes is kept out by TLS */

static uint64_t checksum(const uint8_t *head, const uint8_t *body, size_t length) {
    SipState s = sip_start(NO_SECRET);
    sip_absorb(&s, load64(head));
    size_t at = 0;
    for (; length - at >= 8; at += 8) sip_absorb(&s, load64(body + at));
    uint64_t tail = 0;
    memcpy(&tail, body + at, length - at);
    sip_absorb(&s, tail);
    return sip_finish(s, length & 0xFF);
}

void begin_chunk(Writer *w, int kind) {
    uint8_t head[CHUNK_HEAD] = {CHUNK_VERSION, (uint8_t)kind};
    write_bytes(w, head, sizeof head);
}

void seal_chunk(uint8_t *chunk, size_t length) {
    uint32_t body = (uint32_t)(length - CHUNK_HEAD);
    memcpy(chunk + 4, &body, 4);
    store64(chunk + 8, checksum(chunk, chunk + CHUNK_HEAD, body));
}

void end_chunk(Writer *w, size_t start) {
    static const uint8_t padding[SLACK] = {0};
    write_bytes(w, padding, sizeof padding);
    if (!w->failed) seal_chunk(w->bytes + start, w->length - start);
}

int64_t chunk_length(Reader *r) {
    size_t have = r->length - r->at;
    const uint8_t *head = r->bytes + r->at;
    if (have >= 1 && head[0] != CHUNK_VERSION) return read_fails(r, "version", "the chunk has another version");
    if (have >= 2 && head[1] != CHUNK_ROWS && head[1] != CHUNK_CHANGES && head[1] != CHUNK_BASE && head[1] != CHUNK_END)
        return read_fails(r, "kind", "the chunk is of no known kind");
    if (have < 8) return 0;
    uint32_t length = load32(head + 4);
    if (head[2] || head[3]) return read_fails(r, "header", "the chunk's reserved bytes are not zero");
    if (length < SLACK || length > CHUNK_BODY) return read_fails(r, "length", "the chunk's length is out of bounds");
    return (int64_t)length + CHUNK_HEAD;
}

int open_chunk(Reader *r, Reader *body) {
    int64_t length = chunk_length(r);
    if (length < 0) return -1;
    if (!length || (size_t)length > r->length - r->at) return read_fails(r, "short", "the chunk ends early");
    const uint8_t *head = read_bytes(r, (size_t)length);
    size_t size = (size_t)length - CHUNK_HEAD;
    if (load64(head + 8) != checksum(head, head + CHUNK_HEAD, size)) {
        r->at -= (size_t)length;
        return read_fails(r, "checksum", "the chunk's checksum is wrong");
    }
    *body = (Reader){.bytes = head + CHUNK_HEAD, .length = size - SLACK};
    return head[1];
}

int close_chunk(Reader *body) {
    if (body->rung) return -1;
    if (body->at != body->length || load64(body->bytes + body->length))
        return read_fails(body, "length", "the chunk's body is longer than its columns");
    return 0;
}

/* ---- numbers that name rows ---- */

static unsigned width64(uint64_t value) { return value ? 64 - (unsigned)__builtin_clzll(value) : 0; }

/* Ascending numbers as gaps, whose lower bits (that tell nothing) stay as they are and whose upper ones are coded. */
static void write_ascending(Writer *w, const uint64_t *numbers, size_t count, Codec *c) {
    if (!count) return;
    uint64_t largest = numbers[0];
    for (size_t i = 1; i < count; i++) {
        uint64_t gap = numbers[i] - numbers[i - 1] - 1;
        if (gap > largest) largest = gap;
    }
    unsigned mean = width64((numbers[count - 1] - count + 1) / count), low = mean > 4 ? mean - 4 : 0;
    while (largest >> low > UINT32_MAX) low++;
    write_byte(w, (uint8_t)low);
    for (size_t i = 0; i < count; i++)
        c->column[i] = (uint32_t)((i ? numbers[i] - numbers[i - 1] - 1 : numbers[0]) >> low);
    write_numbers(w, c->column, count, &c->scratch);
    uint8_t *space = open_bits(w, count * low);
    if (!space) return;
    Bits stream = {space, 0, 0};
    for (size_t i = 0; i < count; i++) {
        uint64_t gap = i ? numbers[i] - numbers[i - 1] - 1 : numbers[0];
        unsigned first = low < 32 ? low : 32;
        put_bits(&stream, (uint32_t)(gap & ((1ULL << first) - 1)), first);
        put_bits(&stream, (uint32_t)(gap >> first & ((1ULL << (low - first)) - 1)), low - first);
    }
    end_bits(w, &stream);
}

#define NUMBER_BITS 56 /* numbers stay below: so many bits can be taken out of a word at any bit */

static int read_ascending(Reader *r, uint64_t *numbers, size_t count, Codec *c) {
    if (!count) return 0;
    const uint8_t *low = read_bytes(r, 1);
    if (!low) return -1;
    if (*low > NUMBER_BITS) return read_fails(r, "width", "a list of numbers has no such width");
    if (read_numbers(r, c->column, count, UINT32_MAX, &c->scratch)) return -1;
    const uint8_t *stream = read_bytes(r, (count * *low + 7) / 8);
    if (!stream) return -1;
    uint64_t next = 0, mask = (1ULL << *low) - 1, bits = 0;
    for (size_t i = 0; i < count; i++, bits += *low) {
        uint64_t high = c->column[i], gap = (load64(stream + (bits >> 3)) >> (bits & 7)) & mask;
        if (*low >= NUMBER_BITS ? high : high >> (NUMBER_BITS - *low))
            return read_fails(r, "number", "a number is larger than it may be");
        numbers[i] = next + (high << *low | gap);
        if (numbers[i] >> NUMBER_BITS) return read_fails(r, "number", "a number is larger than it may be");
        next = numbers[i] + 1;
    }
    return 0;
}

/* ---- the fields that differ ---- */

#define FIELD(field) {offsetof(Row, field), sizeof((Row){0}.field)}

/* In the order of the bits of a mask. */
static const Field FIELDS[] = {
    FIELD(status),
    FIELD(timeout),
    FIELD(protocol_state),
    FIELD(mark),
    FIELD(tcp_flags_original),
    FIELD(tcp_flags_reply),
    FIELD(tcp_scale_original),
    FIELD(tcp_scale_reply),
    FIELD(labels),
    FIELD(helper),
    FIELD(reply_source),
    FIELD(reply_destination),
    FIELD(reply_source_port),
    FIELD(reply_destination_port),
    FIELD(reply_zone),
    FIELD(sctp_tag_original),
    FIELD(sctp_tag_reply),
    FIELD(adjust_position_original),
    FIELD(adjust_before_original),
    FIELD(adjust_after_original),
    FIELD(adjust_position_reply),
    FIELD(adjust_before_reply),
    FIELD(adjust_after_reply),
    FIELD(synproxy_isn),
    FIELD(synproxy_its),
    FIELD(synproxy_tsoff),
    FIELD(master_protocol),
    FIELD(master_source_port),
    FIELD(master_destination_port),
    FIELD(master_source),
    FIELD(master_destination),
};
#define FIELD_COUNT (sizeof FIELDS / sizeof *FIELDS)
#define ALL_FIELDS ((1ULL << FIELD_COUNT) - 1)

static uint64_t mask_of(const Row *before, const Row *after) {
    uint64_t mask = 0;
    for (size_t field = 0; field < FIELD_COUNT; field++)
        if (memcmp((const uint8_t *)before + FIELDS[field].offset, (const uint8_t *)after + FIELDS[field].offset,
                   FIELDS[field].size))
            mask |= 1ULL << field;
    return mask;
}

/* The sum of the hashes of rows without their timeouts: tells whether updates meet the rows that they were made from. */
static inline uint64_t check_of(const Row *row) { return (uint64_t)hash_row(NO_SECRET, row, NULL); }

void patch_rows(Row *rows, const Row *values, const uint64_t *masks, size_t count) {
    for (size_t i = 0; i < count; i++)
        for (uint64_t mask = masks[i]; mask; mask &= mask - 1) {
            Field field = FIELDS[__builtin_ctzll(mask)];
            memcpy((uint8_t *)&rows[i] + field.offset, (const uint8_t *)&values[i] + field.offset, field.size);
        }
}

int patch_checked(Row *rows, const Row *values, const uint64_t *masks, size_t count, uint64_t check) {
    for (size_t i = 0; i < count; i++) check -= check_of(&rows[i]);
    if (check) return 0;
    patch_rows(rows, values, masks, count);
    return 1;
}

static size_t places_in_mask(const uint64_t *masks, size_t count, size_t field, uint32_t *places) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++)
        if (masks[i] >> field & 1) places[found++] = (uint32_t)i;
    return found;
}

/* Changed numbers are mostly few different ones, so they may have a dictionary as well. */
static void write_changed(Writer *w, const Row *const *rows, size_t count, Field field, Codec *c) {
    if (field.size < 16) {
        dictionary_clear(&c->other);
        for (size_t i = 0; i < count; i++) {
            Value value = {0, 0};
            memcpy(&value, (const uint8_t *)rows[c->places[i]] + field.offset, field.size);
            c->column[i] = dictionary_number(&c->other, value);
        }
        int repeats = c->other.count > 1 && c->other.count <= count / 8;
        write_byte(w, (uint8_t)repeats);
        if (repeats) {
            write_values(w, &c->other, c->column, count, 0, c->values, &c->scratch);
            return;
        }
    }
    write_field(w, rows, c->places, count, field, c);
}

static int read_changed(Reader *r, Row *values, size_t count, Field field, Codec *c) {
    if (field.size == 16) return read_field(r, values, c->places, count, field, c);
    const uint8_t *repeats = read_bytes(r, 1);
    if (!repeats) return -1;
    if (!*repeats) return read_field(r, values, c->places, count, field, c);
    if (*repeats > 1) return read_fails(r, "mode", "a column is coded in no known way");
    size_t listed;
    if (read_values(r, c->values, c->column, count, 0, &listed, &c->scratch)) return -1;
    for (size_t i = 0; i < listed; i++)
        if (c->values[i].low >> (8 * field.size)) return read_fails(r, "number", "a field does not have so many bits");
    for (size_t i = 0; i < count; i++)
        memcpy((uint8_t *)&values[c->places[i]] + field.offset, &c->values[c->column[i]], field.size);
    return 0;
}


/* `masks` (room for `count`) are left as the reader will have them. */
static void write_patches(Writer *w, const Changes *changes, uint64_t *masks, Codec *c) {
    size_t count = changes->updated;
    uint64_t all = 0, check = 0;
    dictionary_clear(&c->profile);
    for (size_t i = 0; i < count; i++) {
        check += check_of(changes->before[i]);
        Value mask = {masks[i] = mask_of(changes->before[i], changes->after[i]), 0};
        c->profiles[i] = dictionary_number(&c->profile, mask);
        all |= masks[i];
    }
    write_bytes(w, &check, 8);
    write_values(w, &c->profile, c->profiles, count, 0, c->values, &c->scratch);
    for (size_t field = 0; field < FIELD_COUNT; field++) {
        if (!(all >> field & 1)) continue;
        size_t found = places_in_mask(masks, count, field, c->places);
        write_changed(w, changes->after, found, FIELDS[field], c);
    }
}

static int read_patches(Reader *r, size_t count, ChangeSpace *space, Codec *c) {
    const uint8_t *check = read_bytes(r, 8);
    size_t listed;
    uint64_t all = 0;
    if (!check) return -1;
    space->check = load64(check);
    if (read_values(r, c->profile_values, c->profiles, count, 0, &listed, &c->scratch)) return -1;
    for (size_t i = 0; i < listed; i++) all |= c->profile_values[i].low;
    if (all > ALL_FIELDS) return read_fails(r, "flags", "a mask has unknown fields");
    for (size_t i = 0; i < count; i++) space->masks[i] = c->profile_values[c->profiles[i]].low;
    memset(space->values, 0, count * sizeof(Row));
    for (size_t field = 0; field < FIELD_COUNT; field++) {
        if (!(all >> field & 1)) continue;
        size_t found = places_in_mask(space->masks, count, field, c->places);
        if (read_changed(r, space->values, found, FIELDS[field], c)) return -1;
    }
    return 0;
}

/* ---- changes ---- */

int arrange_changes(Changes *changes, const Row *before, const Row *after, const int64_t *order,
                    const void *deleted_keys) {
    size_t updated = changes->updated;
    const Row **space = malloc((2 * updated + changes->deleted_keys + 1) * sizeof *space);
    if (!space) return -1;
    const Row **now = space + updated;
    if (changes->naming == NAMED_BY_KEY)
        order_by_key(now, after, sizeof *after, updated);
    else
        for (size_t i = 0; i < updated; i++) now[i] = &after[order ? (size_t)order[i] : i];
    for (size_t i = 0; i < updated; i++) space[i] = &before[now[i] - after];
    order_by_key(now + updated, deleted_keys, KEY_BYTES, changes->deleted_keys);
    changes->before = space;
    changes->after = now;
    changes->deleted_by_key = now + updated;
    return 0;
}

int write_changes(Writer *w, const Changes *changes, Codec *c) {
    int status = CODEC_OK;
    write_byte(w, (uint8_t)changes->naming);
    write_varint(w, changes->inserted);
    write_varint(w, changes->updated);
    write_varint(w, changes->deleted);
    write_varint(w, changes->deleted_keys);
    if (changes->inserted) status = write_rows(w, changes->inserted_rows, changes->inserted, c);
    if (status == CODEC_OK && changes->updated) {
        uint64_t *masks = malloc(changes->updated * sizeof *masks);
        if (!masks) return CODEC_MEMORY;
        if (changes->naming == NAMED_BY_NUMBER)
            write_ascending(w, changes->updated_numbers, changes->updated, c);
        else
            status = write_keys(w, changes->after, changes->updated, c);
        if (status == CODEC_OK) write_patches(w, changes, masks, c);
        free(masks);
    }
    write_ascending(w, changes->deleted_numbers, changes->deleted, c);
    if (status == CODEC_OK && changes->deleted_keys)
        status = write_keys(w, changes->deleted_by_key, changes->deleted_keys, c);
    return w->failed ? CODEC_MEMORY : status;
}

int read_change_counts(Reader *r, ChangeCounts *counts) {
    const uint8_t *naming = read_bytes(r, 1);
    counts->inserted = read_varint(r, COLUMN_ROWS);
    counts->updated = read_varint(r, COLUMN_ROWS);
    counts->deleted = read_varint(r, COLUMN_ROWS);
    counts->deleted_keys = read_varint(r, COLUMN_ROWS);
    if (r->rung) return CODEC_WRONG;
    counts->naming = *naming;
    if (*naming > NAMED_BY_NUMBER || (*naming == NAMED_BY_KEY && counts->deleted)) {
        read_fails(r, "mode", "rows are named in no known way");
        return CODEC_WRONG;
    }
    return CODEC_OK;
}

int read_changes(Reader *r, const ChangeCounts *counts, ChangeSpace *space, Codec *c) {
    if (counts->inserted && read_rows(r, space->inserted_rows, counts->inserted, c)) return CODEC_WRONG;
    if (counts->updated) {
        if (counts->naming == NAMED_BY_NUMBER ? read_ascending(r, space->updated_numbers, counts->updated, c)
                                              : read_keys(r, space->updated_keys, KEY_BYTES, counts->updated, c))
            return CODEC_WRONG;
        if (read_patches(r, counts->updated, space, c)) return CODEC_WRONG;
    }
    if (read_ascending(r, space->deleted_numbers, counts->deleted, c)) return CODEC_WRONG;
    if (counts->deleted_keys && read_keys(r, space->deleted_keys, KEY_BYTES, counts->deleted_keys, c))
        return CODEC_WRONG;
    return CODEC_OK;
}

void digest_of(const Row *rows, size_t count, uint8_t *digest) {
    Digest sum = 0;
    for (size_t i = 0; i < count; i++) {
        SipKey of_timeout = {rows[i].timeout, 0};
        sum += hash_row(of_timeout, &rows[i], NULL);
    }
    memcpy(digest, &sum, sizeof sum);
}
