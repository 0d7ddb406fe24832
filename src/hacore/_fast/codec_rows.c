#include "codec_rows.h"

#define AHEAD 16 /* rows whose memory is asked for before they are looked at */

Codec *codec_new(void) {
    Codec *c = malloc(sizeof *c);
    if (!c) return NULL;
    Dictionary *all[] = {&c->destination, &c->port, &c->profile, &c->tcp, &c->mark, &c->translated, &c->other};
    int failed = 0;
    c->writer = (Writer){0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) failed |= dictionary_open(all[i]);
    if (!failed) return c;
    codec_free(c);
    return NULL;
}

void codec_free(Codec *c) {
    if (!c) return;
    Dictionary *all[] = {&c->destination, &c->port, &c->profile, &c->tcp, &c->mark, &c->translated, &c->other};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) dictionary_close(all[i]);
    free(c->writer.bytes);
    free(c);
}

/* ---- what is expected ---- */

/* nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c: the type that answers another. */
static uint8_t answer_to(uint8_t protocol, uint8_t type) {
    static const uint8_t pairs[][3] = {{1, 8, 0},   {1, 13, 14},    {1, 15, 16},
                                       {1, 17, 18}, {58, 128, 129}, {58, 139, 140}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        if (pairs[i][0] != protocol) continue;
        if (pairs[i][1] == type) return pairs[i][2];
        if (pairs[i][2] == type) return pairs[i][1];
    }
    return type;
}

static inline uint16_t expected_reply_source_port(uint8_t protocol, uint16_t destination_port) {
    if (protocol != 1 && protocol != 58) return destination_port;
    return (uint16_t)(answer_to(protocol, (uint8_t)(destination_port >> 8)) << 8 | (destination_port & 0xFF));
}

static inline Value value_at(const void *bytes) {
    Value value = {load64(bytes), load64((const uint8_t *)bytes + 8)};
    return value;
}

static inline int equal16(const void *a, const void *b) {
    return !((load64(a) ^ load64(b)) | (load64((const uint8_t *)a + 8) ^ load64((const uint8_t *)b + 8)));
}

static inline int any(const void *bytes, size_t size) {
    uint64_t bits = 0;
    for (size_t at = 0; at + 8 <= size; at += 8) bits |= load64((const uint8_t *)bytes + at);
    if (size & 4) bits |= load32((const uint8_t *)bytes + (size & ~(size_t)7));
    return bits != 0;
}

/* The fields that most connections do not have lie together, from the SCTP tags to the end. */
_Static_assert(offsetof(Row, sctp_tag_original) == 96 && offsetof(Row, helper) + 16 == ROW_BYTES, "the tail of a row");

static inline uint32_t flags_of(const Row *row) {
    uint32_t flags = 0;
    if (!equal16(row->reply_source, row->destination)) flags |= ROW_REPLY_SOURCE;
    if (!equal16(row->reply_destination, row->source)) flags |= ROW_REPLY_DESTINATION;
    if (row->reply_source_port != expected_reply_source_port(row->protocol, row->destination_port))
        flags |= ROW_REPLY_SOURCE_PORT;
    if (row->reply_destination_port != row->source_port) flags |= ROW_REPLY_DESTINATION_PORT;
    if (row->reply_zone != row->zone) flags |= ROW_REPLY_ZONE;
    if (!(any(&row->sctp_tag_original, ROW_BYTES - 96) | row->master_protocol)) return flags;
    if (any(&row->sctp_tag_original, 8)) flags |= ROW_SCTP;
    if (any(row->labels, 16)) flags |= ROW_LABELS;
    if (any(&row->adjust_position_original, 24)) flags |= ROW_ADJUST;
    if (any(&row->synproxy_isn, 12)) flags |= ROW_SYNPROXY;
    if (any(&row->master_source_port, 36) | row->master_protocol) flags |= ROW_MASTER;
    if (any(row->helper, 16)) flags |= ROW_HELPER;
    return flags;
}

/* A profile: what goes together, and repeats. */
static inline Value profile_of(const Row *row) {
    Value value = {row->status | (uint64_t)row->protocol_state << 32 | (uint64_t)flags_of(row) << 40, 0};
    return value;
}

static inline uint32_t flags_in(Value profile) { return (uint32_t)(profile.low >> 40); }

/* ---- the columns that a flag stands for ---- */

typedef struct Column {
    uint32_t flag;
    Field field;
} Column;

#define COLUMN(flag, field)                                    \
    {                                                          \
        flag, { offsetof(Row, field), sizeof((Row){0}.field) } \
    }

static const Column COLUMNS[] = {
    COLUMN(ROW_REPLY_SOURCE, reply_source),
    COLUMN(ROW_REPLY_DESTINATION, reply_destination),
    COLUMN(ROW_REPLY_SOURCE_PORT, reply_source_port),
    COLUMN(ROW_REPLY_DESTINATION_PORT, reply_destination_port),
    COLUMN(ROW_REPLY_ZONE, reply_zone),
    COLUMN(ROW_SCTP, sctp_tag_original),
    COLUMN(ROW_SCTP, sctp_tag_reply),
    COLUMN(ROW_LABELS, labels),
    COLUMN(ROW_ADJUST, adjust_position_original),
    COLUMN(ROW_ADJUST, adjust_before_original),
    COLUMN(ROW_ADJUST, adjust_after_original),
    COLUMN(ROW_ADJUST, adjust_position_reply),
    COLUMN(ROW_ADJUST, adjust_before_reply),
    COLUMN(ROW_ADJUST, adjust_after_reply),
    COLUMN(ROW_SYNPROXY, synproxy_isn),
    COLUMN(ROW_SYNPROXY, synproxy_its),
    COLUMN(ROW_SYNPROXY, synproxy_tsoff),
    COLUMN(ROW_MASTER, master_protocol),
    COLUMN(ROW_MASTER, master_source_port),
    COLUMN(ROW_MASTER, master_destination_port),
    COLUMN(ROW_MASTER, master_source),
    COLUMN(ROW_MASTER, master_destination),
    COLUMN(ROW_HELPER, helper),
};
#define COLUMN_COUNT (sizeof COLUMNS / sizeof *COLUMNS)

static inline uint32_t number_at(const void *bytes, size_t size) {
    uint32_t number = 0;
    memcpy(&number, bytes, size);
    return number;
}

void write_field(Writer *w, const Row *const *order, const uint32_t *places, size_t count, Field field, Codec *c) {
    if (field.size == 16) {
        dictionary_clear(&c->other);
        for (size_t i = 0; i < count; i++)
            c->column[i] = dictionary_number(&c->other, value_at((const uint8_t *)order[places[i]] + field.offset));
        write_values(w, &c->other, c->column, count, 1, c->values, &c->scratch);
        return;
    }
    for (size_t i = 0; i < count; i++)
        c->column[i] = number_at((const uint8_t *)order[places[i]] + field.offset, field.size);
    write_numbers(w, c->column, count, &c->scratch);
}

int read_field(Reader *r, Row *rows, const uint32_t *places, size_t count, Field field, Codec *c) {
    uint8_t *at = (uint8_t *)rows + field.offset;
    if (field.size == 16) {
        size_t listed;
        if (read_values(r, c->values, c->column, count, 1, &listed, &c->scratch)) return CODEC_WRONG;
        for (size_t i = 0; i < count; i++) memcpy(at + places[i] * sizeof(Row), &c->values[c->column[i]], 16);
        return CODEC_OK;
    }
    uint32_t limit = field.size < 4 ? (1u << (8 * field.size)) - 1 : UINT32_MAX;
    if (read_numbers(r, c->column, count, limit, &c->scratch)) return CODEC_WRONG;
    for (size_t i = 0; i < count; i++) memcpy(at + places[i] * sizeof(Row), &c->column[i], field.size);
    return CODEC_OK;
}

/* The places of rows whose profile has `flag`. */
static size_t places_with(uint32_t flag, size_t count, Codec *c) {
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        c->places[found] = (uint32_t)i;
        found += (flags_in(c->profile_values[c->profiles[i]]) & flag) != 0;
    }
    return found;
}

/* ---- keys ---- */

/* Two levels of runs: rows of one source, and in that sources of one zone, protocol and upper half (an IPv6 prefix; for
 * IPv4 the whole address, whose lower half is zero). */
typedef struct Runs {
    size_t outer, inner;
} Runs;

static inline void key_columns(Codec *c, Runs *runs, size_t i, const Row *row) {
    uint32_t head = load32(row);
    uint64_t outer = load64(row->source), inner = load64(row->source + 8);
    size_t last = runs->outer;
    if (!i || c->heads[last - 1] != head || c->outer_words[last - 1] != outer) {
        c->heads[runs->outer] = head;
        c->outer_words[runs->outer] = outer;
        c->outer_sizes[runs->outer++] = 0;
        c->inner_words[runs->inner] = inner;
        c->inner_sizes[runs->inner++] = 0;
    } else if (c->inner_words[runs->inner - 1] != inner) {
        c->outer_sizes[last - 1]++;
        c->inner_words[runs->inner] = inner;
        c->inner_sizes[runs->inner++] = 0;
    } else {
        c->inner_sizes[runs->inner - 1]++;
    }
    Value ports = {row->destination_port, 0};
    c->destination_numbers[i] = dictionary_number(&c->destination, value_at(row->destination));
    c->source_ports[i] = row->source_port;
    c->destination_ports[i] = dictionary_number(&c->port, ports);
}

/* Whether two keys are in order and not the same. */
static inline int ascends(const void *before, const void *after) {
    for (size_t word = 0; word < KEY_WORDS; word++) {
        uint64_t a = hash_word(before, word), b = hash_word(after, word);
        if (a != b) return __builtin_bswap64(a) < __builtin_bswap64(b);
    }
    return 0;
}

static void write_key_columns(Writer *w, Runs runs, size_t count, Codec *c) {
    size_t heads = 0;
    write_varint(w, runs.outer);
    write_varint(w, runs.inner);
    for (size_t i = 0; i < runs.outer; i++) heads += !i || c->heads[i] != c->heads[i - 1];
    write_varint(w, heads);
    for (size_t start = 0, end; start < runs.outer; start = end) {
        for (end = start + 1; end < runs.outer && c->heads[end] == c->heads[start];) end++;
        write_bytes(w, &c->heads[start], 4);
        write_varint(w, end - start - 1);
    }
    write_words(w, c->outer_words, 1, runs.outer);
    write_words(w, c->inner_words, 1, runs.inner);
    write_numbers(w, c->outer_sizes, runs.outer, &c->scratch);
    write_numbers(w, c->inner_sizes, runs.inner, &c->scratch);
    write_values(w, &c->destination, c->destination_numbers, count, 1, c->values, &c->scratch);
    write_numbers(w, c->source_ports, count, &c->scratch);
    write_values(w, &c->port, c->destination_ports, count, 0, c->values, &c->scratch);
}

int write_keys(Writer *w, const Row *const *order, size_t count, Codec *c) {
    Runs runs = {0, 0};
    dictionary_clear(&c->destination);
    dictionary_clear(&c->port);
    for (size_t i = 0; i < count; i++) {
        if (i && !ascends(order[i - 1], order[i])) return CODEC_TWICE;
        key_columns(c, &runs, i, order[i]);
    }
    write_key_columns(w, runs, count, c);
    return w->failed ? CODEC_MEMORY : CODEC_OK;
}

/* Sizes less one, as they are written, to sizes that add up to `total`. */
static int read_sizes(Reader *r, uint32_t *sizes, size_t count, size_t total, NumberScratch *scratch) {
    if (read_numbers(r, sizes, count, COLUMN_ROWS - 1, scratch)) return -1;
    size_t sum = 0;
    for (size_t i = 0; i < count; i++) sum += ++sizes[i];
    return sum == total ? 0 : read_fails(r, "runs", "the runs of a chunk do not add up");
}

static int read_key_columns(Reader *r, Runs *runs, size_t count, Codec *c) {
    runs->outer = read_varint(r, count);
    runs->inner = read_varint(r, count);
    size_t heads = read_varint(r, count), at = 0, listed;
    for (; heads && !r->rung; heads--) {
        const uint8_t *head = read_bytes(r, 4);
        size_t end = at + read_varint(r, count) + 1;
        if (!head || r->rung) break;
        if (end > runs->outer) return read_fails(r, "runs", "the runs of a chunk do not add up");
        for (; at < end; at++) c->heads[at] = load32(head);
    }
    if (r->rung) return -1;
    if (at != runs->outer || !at) return read_fails(r, "runs", "the runs of a chunk do not add up");
    if (read_words(r, c->outer_words, 1, runs->outer) || read_words(r, c->inner_words, 1, runs->inner)) return -1;
    if (read_sizes(r, c->outer_sizes, runs->outer, runs->inner, &c->scratch)) return -1;
    if (read_sizes(r, c->inner_sizes, runs->inner, count, &c->scratch)) return -1;
    if (read_values(r, c->destinations, c->destination_numbers, count, 1, &listed, &c->scratch)) return -1;
    if (read_numbers(r, c->source_ports, count, UINT16_MAX, &c->scratch)) return -1;
    if (read_values(r, c->values, c->destination_ports, count, 0, &listed, &c->scratch)) return -1;
    for (size_t i = 0; i < count; i++) {
        uint64_t port = c->values[c->destination_ports[i]].low;
        if (port > UINT16_MAX) return read_fails(r, "number", "a port has 16 bits");
        c->destination_ports[i] = (uint32_t)port;
    }
    return 0;
}

static inline void put_key(uint8_t *key, uint32_t head, uint64_t outer, uint64_t inner, const Value *destination,
                           uint32_t ports) {
    memcpy(key, &head, 4);
    store64(key + 4, outer);
    store64(key + 12, inner);
    memcpy(key + 20, destination, 16);
    memcpy(key + 36, &ports, 4);
}

int read_keys(Reader *r, uint8_t *keys, size_t stride, size_t count, Codec *c) {
    Runs runs;
    if (read_key_columns(r, &runs, count, c)) return CODEC_WRONG;
    size_t i = 0, inner = 0;
    for (size_t outer = 0; outer < runs.outer; outer++) {
        for (size_t last = inner + c->outer_sizes[outer]; inner < last; inner++) {
            for (size_t end = i + c->inner_sizes[inner]; i < end; i++) {
                uint8_t *key = keys + i * stride;
                put_key(key, c->heads[outer], c->outer_words[outer], c->inner_words[inner],
                        &c->destinations[c->destination_numbers[i]],
                        c->source_ports[i] | c->destination_ports[i] << 16);
                if (i && !ascends(key - stride, key)) {
                    read_fails(r, "order", "keys come twice or out of order");
                    return CODEC_WRONG;
                }
            }
        }
    }
    return CODEC_OK;
}

/* ---- rows ---- */

/* Timeouts as what they are below the highest one of rows with the same profile: numbers near zero. */
static void write_timeouts(Writer *w, size_t listed, size_t count, Codec *c) {
    memset(c->bases, 0, listed * sizeof *c->bases);
    for (size_t i = 0; i < count; i++) {
        uint32_t *base = &c->bases[c->profiles[i]];
        if (c->timeouts[i] > *base) *base = c->timeouts[i];
    }
    for (size_t i = 0; i < count; i++) c->timeouts[i] = c->bases[c->profiles[i]] - c->timeouts[i];
    write_numbers(w, c->bases, listed, &c->scratch);
    write_numbers(w, c->timeouts, count, &c->scratch);
}

int write_rows(Writer *w, const Row *const *order, size_t count, Codec *c) {
    Runs runs = {0, 0};
    Dictionary *all[] = {&c->destination, &c->port, &c->profile, &c->tcp, &c->mark, &c->translated};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) dictionary_clear(all[i]);
    uint32_t flags = 0;
    size_t addresses = 0, ports = 0; /* of source NAT, the one thing beyond a plain row that most rows may have */
    for (size_t i = 0; i < count; i++) {
        const Row *row = order[i];
        if (i + AHEAD < count)
            for (size_t line = 0; line < sizeof(Row); line += 64)
                __builtin_prefetch((const uint8_t *)order[i + AHEAD] + line);
        if (i && !ascends(order[i - 1], row)) return CODEC_TWICE;
        key_columns(c, &runs, i, row);
        Value profile = profile_of(row), tcp = {load32(&row->tcp_scale_original), 0}, mark = {row->mark, 0};
        uint32_t mine = flags_in(profile);
        flags |= mine;
        if (mine & ROW_REPLY_DESTINATION)
            c->translated_numbers[addresses++] = dictionary_number(&c->translated, value_at(row->reply_destination));
        if (mine & ROW_REPLY_DESTINATION_PORT) c->translated_ports[ports++] = row->reply_destination_port;
        c->profiles[i] = dictionary_number(&c->profile, profile);
        c->timeouts[i] = row->timeout;
        c->tcps[i] = dictionary_number(&c->tcp, tcp);
        c->marks[i] = dictionary_number(&c->mark, mark);
    }
    write_key_columns(w, runs, count, c);
    size_t listed = write_values(w, &c->profile, c->profiles, count, 0, c->profile_values, &c->scratch);
    write_timeouts(w, listed, count, c);
    write_values(w, &c->tcp, c->tcps, count, 0, c->values, &c->scratch);
    write_values(w, &c->mark, c->marks, count, 0, c->values, &c->scratch);
    for (size_t i = 0, found = 0; i < COLUMN_COUNT; i++) {
        uint32_t flag = COLUMNS[i].flag;
        if (!(flags & flag)) continue;
        if (flag == ROW_REPLY_DESTINATION) {
            write_values(w, &c->translated, c->translated_numbers, addresses, 1, c->values, &c->scratch);
            continue;
        }
        if (flag == ROW_REPLY_DESTINATION_PORT) {
            write_numbers(w, c->translated_ports, ports, &c->scratch);
            continue;
        }
        if (!i || flag != COLUMNS[i - 1].flag) found = places_with(flag, count, c);
        write_field(w, order, c->places, found, COLUMNS[i].field, c);
    }
    return w->failed ? CODEC_MEMORY : CODEC_OK;
}

static int read_row_columns(Reader *r, size_t count, uint32_t *flags, Codec *c) {
    size_t listed, values;
    if (read_values(r, c->profile_values, c->profiles, count, 0, &listed, &c->scratch)) return -1;
    *flags = 0;
    for (size_t i = 0; i < listed; i++) *flags |= flags_in(c->profile_values[i]);
    if (*flags > ROW_FLAGS) return read_fails(r, "flags", "a profile has unknown flags");
    if (read_numbers(r, c->bases, listed, UINT32_MAX, &c->scratch)) return -1;
    if (read_numbers(r, c->timeouts, count, UINT32_MAX, &c->scratch)) return -1;
    uint32_t *numbers[] = {c->tcps, c->marks};
    for (size_t column = 0; column < 2; column++) {
        if (read_values(r, c->values, numbers[column], count, 0, &values, &c->scratch)) return -1;
        for (size_t i = 0; i < values; i++)
            if (c->values[i].low > UINT32_MAX) return read_fails(r, "number", "a field has 32 bits");
        for (size_t i = 0; i < count; i++) numbers[column][i] = (uint32_t)c->values[numbers[column][i]].low;
    }
    return 0;
}

/* All of a row but what its flags add. */
static inline void put_row(uint8_t *row, uint32_t head, uint64_t outer, uint64_t inner, size_t i, const Codec *c) {
    const Value *destination = &c->destinations[c->destination_numbers[i]];
    uint64_t profile = c->profile_values[c->profiles[i]].low;
    uint32_t source_port = c->source_ports[i], destination_port = c->destination_ports[i];
    uint32_t timeout = c->bases[c->profiles[i]] - c->timeouts[i];
    put_key(row, head, outer, inner, destination, source_port | destination_port << 16);
    memcpy(row + offsetof(Row, reply_source), destination, 16);
    store64(row + offsetof(Row, reply_destination), outer);
    store64(row + offsetof(Row, reply_destination) + 8, inner);
    uint32_t ports = expected_reply_source_port((uint8_t)(head >> 8), (uint16_t)destination_port) | source_port << 16;
    store64(row + offsetof(Row, reply_source_port),
            ports | (uint64_t)(head >> 16) << 32 | (profile >> 32 & 0xFF) << 48);
    store64(row + offsetof(Row, status), (uint32_t)profile | (uint64_t)timeout << 32);
    store64(row + offsetof(Row, mark), c->marks[i] | (uint64_t)c->tcps[i] << 32);
    memset(row + offsetof(Row, sctp_tag_original), 0, ROW_BYTES - offsetof(Row, sctp_tag_original));
}

int read_rows(Reader *r, Row *rows, size_t count, Codec *c) {
    Runs runs;
    uint32_t flags;
    if (read_key_columns(r, &runs, count, c) || read_row_columns(r, count, &flags, c)) return CODEC_WRONG;
    size_t i = 0, inner = 0;
    for (size_t outer = 0; outer < runs.outer; outer++) {
        for (size_t last = inner + c->outer_sizes[outer]; inner < last; inner++) {
            for (size_t end = i + c->inner_sizes[inner]; i < end; i++) {
                put_row((uint8_t *)&rows[i], c->heads[outer], c->outer_words[outer], c->inner_words[inner], i, c);
                if (i && !ascends(&rows[i - 1], &rows[i])) {
                    read_fails(r, "order", "rows come twice or out of order");
                    return CODEC_WRONG;
                }
            }
        }
    }
    for (size_t column = 0, found = 0; column < COLUMN_COUNT; column++) {
        if (!(flags & COLUMNS[column].flag)) continue;
        if (!column || COLUMNS[column].flag != COLUMNS[column - 1].flag)
            found = places_with(COLUMNS[column].flag, count, c);
        if (read_field(r, rows, c->places, found, COLUMNS[column].field, c)) return CODEC_WRONG;
    }
    return CODEC_OK;
}
