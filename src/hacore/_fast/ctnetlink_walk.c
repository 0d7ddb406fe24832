/* A buffer of netlink messages, taken apart: events and dumps of connections and expectations, errors, the end of a dump. */
#include "ctnetlink.h"
#include "ctnetlink_wire.h"

static void refuse(struct ct_sink *sink, int rung, size_t offset) {
    sink->malformed[rung]++;
    if (sink->first_malformed < 0) sink->first_malformed = (int64_t)offset;
}

static uint8_t kind_of(uint16_t type, uint16_t flags) {
    if ((type & 0xff) == MSG_DELETE) return CT_DESTROY;
    if (flags & NL_MULTI) return CT_DUMP;
    return (flags & (NL_CREATE | NL_EXCL)) ? CT_NEW : CT_UPDATE;
}

void ct_walk(const uint8_t *buffer, size_t length, size_t *offset, struct ct_sink *sink) {
    while (*offset < length) {
        const uint8_t *at = buffer + *offset;
        const size_t left = length - *offset;
        struct { uint32_t length; uint16_t type, flags; uint32_t sequence, portid; } header;
        if (left < NL_HEADER) {
            refuse(sink, CT_BAD_FRAME, *offset);
            break;
        }
        memcpy(&header, at, NL_HEADER);
        if (header.length < NL_HEADER || header.length > left) {
            refuse(sink, CT_BAD_FRAME, *offset);
            break;
        }
        size_t step = ((size_t)header.length + 3) & ~(size_t)3;
        if (step > left) step = left;

        if (header.type == NL_ERROR || header.type == NL_DONE) {
            int32_t code = 0;
            if (header.type == NL_DONE) sink->done = 1;
            if (header.length >= NL_HEADER + 4) memcpy(&code, at + NL_HEADER, 4);
            else if (header.type == NL_ERROR) refuse(sink, CT_BAD_LENGTH, *offset);
            if (code < 0 && code >= -4095) sink->error = -code;
        } else if (header.type == NL_OVERRUN) {
            sink->overrun = 1;
        } else if (header.type >> 8 == SUBSYS_CT || header.type >> 8 == SUBSYS_EXP) {
            struct ct_event event = {header.portid, 0, 0, kind_of(header.type, header.flags), 0};
            const unsigned what = header.type & 0xff;
            const int is_row = header.type >> 8 == SUBSYS_CT;
            int bad = 0;
            if (header.flags & NL_DUMP_INTR) sink->interrupted = 1;
            if (what != MSG_NEW && what != MSG_DELETE) {
                sink->skipped++;
            } else if (is_row ? sink->row_count == sink->row_capacity : sink->expectation_count == sink->expectation_capacity) {
                if (is_row ? sink->row_capacity : sink->expectation_capacity) return; /* full: the caller empties it and comes back */
                sink->skipped++;
            } else if (header.length < CT_HEADER) {
                refuse(sink, CT_BAD_LENGTH, *offset);
            } else if (is_row) {
                const size_t index = sink->row_count;
                bad = ct_parse_row(at + CT_HEADER, header.length - CT_HEADER, at[NL_HEADER], &sink->rows[index], &event,
                                   sink->display ? &sink->display[index] : NULL);
                if (bad) refuse(sink, -1 - bad, *offset);
                else sink->events[sink->row_count++] = event;
            } else {
                const size_t index = sink->expectation_count;
                bad = ct_parse_expectation(at + CT_HEADER, header.length - CT_HEADER, at[NL_HEADER], &sink->expectations[index], &event);
                if (bad) refuse(sink, -1 - bad, *offset);
                else sink->expectation_events[sink->expectation_count++] = event;
            }
        } else {
            sink->skipped++;
        }
        sink->messages++;
        *offset += step;
    }
    *offset = length;
}

size_t ct_walk_bare(const uint8_t *buffer, size_t length) {
    size_t offset = 0, count = 0;
    while (length - offset >= NL_HEADER) {
        uint32_t size;
        memcpy(&size, buffer + offset, 4);
        if (size < NL_HEADER || size > length - offset) break;
        count++;
        offset += ((size_t)size + 3) & ~(size_t)3;
        if (offset > length) break;
    }
    return count;
}
