/* Coverage-guided fuzzing of the conntrack parser and builder: any bytes are walked, and every row and expectation that comes out is built
 * again, which must fit its room and be read back as the same. Made by fuzz_ctnetlink.py. */
#include <stdlib.h>

#include "ctnetlink.h"
#include "ctnetlink_wire.h"

enum { ROOM = 8 };

static void must(int truth) {
    if (!truth) abort();
}

static struct ct_sink sink_of(Row *rows, struct ct_event *events, struct ct_display *display, struct ct_expectation *expectations,
                              struct ct_event *told) {
    struct ct_sink sink;
    memset(&sink, 0, sizeof sink);
    sink.first_malformed = -1;
    sink.rows = rows;
    sink.events = events;
    sink.display = display;
    sink.expectations = expectations;
    sink.expectation_events = told;
    sink.row_capacity = sink.expectation_capacity = ROOM;
    return sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct ct_build how = {60, 432000, 120};
    Row rows[ROOM], again[ROOM];
    struct ct_event events[ROOM], told[ROOM];
    struct ct_display display[ROOM];
    struct ct_expectation expectations[ROOM], expected[ROOM];
    size_t offset = 0;
    (void)ct_walk_bare(data, size);
    do {
        struct ct_sink sink = sink_of(rows, events, display, expectations, told);
        const size_t before = offset;
        ct_walk(data, size, &offset, &sink);
        must(offset > before || size == 0);
        for (size_t index = 0; index < sink.row_count; index++) {
            /* On the heap and of the very size, so that a byte too many is seen. */
            for (unsigned omit = 0; omit < 16; omit++) {
                uint8_t *room = malloc(CT_LONGEST);
                const size_t length = ct_build_insert(room, &rows[index], 1, omit, &how);
                must(length <= CT_LONGEST);
                must(ct_build_update(room, &rows[index], 1, omit, &how) <= CT_LONGEST);
                free(room);
            }
            uint8_t *room = malloc(CT_LONGEST);
            for (int by_reply = 0; by_reply < 2; by_reply++) {
                must(ct_build_delete(room, &rows[index], 1, by_reply) <= CT_LONGEST);
                must(ct_build_get(room, &rows[index], 1, by_reply) <= CT_LONGEST);
            }
            Row plain = rows[index];
            plain.status &= ~(uint32_t)(IPS_SRC_NAT | IPS_SRC_NAT_DONE | IPS_DST_NAT | IPS_DST_NAT_DONE);
            const size_t length = ct_build_insert(room, &plain, 1, 0, &how);
            if (length) {
                struct ct_sink other = sink_of(again, events, NULL, expected, told);
                size_t end = 0;
                ct_walk(room, length, &end, &other);
                must(other.row_count == 1 && !memcmp(again[0].source, plain.source, 32) && again[0].zone == plain.zone);
                must(again[0].mark == plain.mark && !memcmp(again[0].labels, plain.labels, 16));
                must(!memcmp(again[0].helper, plain.helper, 16));
            }
            ct_complete(&plain, &rows[0], events[index].present);
            free(room);
        }
        for (size_t index = 0; index < sink.expectation_count; index++) {
            uint8_t *room = malloc(CT_LONGEST);
            must(ct_build_expectation_delete(room, &expectations[index], 1) <= CT_LONGEST);
            const size_t length = ct_build_expectation(room, &expectations[index], 1, 0);
            must(length && length <= CT_LONGEST);
            struct ct_sink other = sink_of(again, events, NULL, expected, told);
            size_t end = 0;
            ct_walk(room, length, &end, &other);
            must(other.expectation_count == 1 && !memcmp(expected[0].source, expectations[index].source, 32));
            free(room);
        }
    } while (offset < size);
    return 0;
}
