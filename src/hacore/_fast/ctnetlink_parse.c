/* Conntrack messages to rows. The attributes are those of ctnetlink_fill_info and ctnetlink_conntrack_event in the kernel's
 * net/netfilter/nf_conntrack_netlink.c; what is unknown is skipped, what is known and malformed refuses the message. */
#include "ctnetlink.h"
#include "ctnetlink_wire.h"

static int parse_addresses(struct ct_cursor cursor, uint8_t family, struct ct_tuple *tuple) {
    struct ct_attr attr;
    int more, seen = 0;
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        const size_t size = family == FAMILY_V4 ? 4 : 16;
        const unsigned first = family == FAMILY_V4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC;
        if (attr.type == first) {
            if (ct_bytes(&attr.payload, tuple->source, size)) CT_REFUSE(CT_BAD_LENGTH);
            seen |= 1;
        } else if (attr.type == first + 1) {
            if (ct_bytes(&attr.payload, tuple->destination, size)) CT_REFUSE(CT_BAD_LENGTH);
            seen |= 2;
        }
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    if (seen != 3) CT_REFUSE(CT_BAD_TUPLE);
    return 0;
}

static int parse_protocol(struct ct_cursor cursor, struct ct_tuple *tuple) {
    struct ct_attr attr;
    uint8_t type = 0, code = 0;
    int more, seen = 0, bad = 0;
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        switch (attr.type) {
        case CTA_PROTO_NUM: bad |= ct_u8(&attr.payload, &tuple->protocol); seen |= 1; break;
        case CTA_PROTO_SRC_PORT:
        case CTA_PROTO_ICMP_ID:
        case CTA_PROTO_ICMPV6_ID: bad |= ct_u16(&attr.payload, &tuple->source_port); break;
        case CTA_PROTO_DST_PORT: bad |= ct_u16(&attr.payload, &tuple->destination_port); break;
        case CTA_PROTO_ICMP_TYPE:
        case CTA_PROTO_ICMPV6_TYPE: bad |= ct_u8(&attr.payload, &type); seen |= 2; break;
        case CTA_PROTO_ICMP_CODE:
        case CTA_PROTO_ICMPV6_CODE: bad |= ct_u8(&attr.payload, &code); seen |= 2; break;
        default: break;
        }
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    if (bad) CT_REFUSE(CT_BAD_LENGTH);
    if (!(seen & 1)) CT_REFUSE(CT_BAD_TUPLE);
    if (seen & 2) tuple->destination_port = (uint16_t)(type << 8 | code);
    return 0;
}

/* A tuple with ports, laid out as every kernel so far does it: all headers at once. 0: it is laid out otherwise. */
static int parse_usual_tuple(const struct ct_cursor *cursor, uint8_t family, struct ct_tuple *tuple) {
    const size_t size = family == FAMILY_V4 ? 4 : 16, first = family == FAMILY_V4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC;
    const uint8_t *at = cursor->at, *ports = at + 3 * NLA_HEADER + 2 * size;
    if (cursor->left != 40 + 2 * size) return 0;
    if (CT_IS(at, 12 + 2 * size, CTA_TUPLE_IP | NLA_NESTED) | CT_IS(at + 4, 4 + size, first) | CT_IS(at + 8 + size, 4 + size, first + 1) |
        CT_IS(ports, 28, CTA_TUPLE_PROTO | NLA_NESTED) | CT_IS(ports + 4, 5, CTA_PROTO_NUM) | CT_IS(ports + 12, 6, CTA_PROTO_SRC_PORT) |
        CT_IS(ports + 20, 6, CTA_PROTO_DST_PORT))
        return 0;
    if (size == 4) {
        memset(tuple->source, 0, 32);
        memcpy(tuple->source, at + 8, 4);
        memcpy(tuple->destination, at + 16, 4);
    } else {
        memcpy(tuple->source, at + 8, 16);
        memcpy(tuple->destination, at + 28, 16);
    }
    tuple->protocol = ports[8];
    tuple->source_port = ct_port(ports + 16);
    tuple->destination_port = ct_port(ports + 24);
    tuple->zone = 0;
    return 1;
}

int ct_parse_tuple(struct ct_cursor cursor, uint8_t family, struct ct_tuple *tuple) {
    struct ct_attr attr;
    int more, seen = 0, bad;
    if (parse_usual_tuple(&cursor, family, tuple)) return 0;
    memset(tuple, 0, sizeof *tuple);
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        if (attr.type == CTA_TUPLE_IP) {
            if ((bad = parse_addresses(attr.payload, family, tuple))) return bad;
            seen |= 1;
        } else if (attr.type == CTA_TUPLE_PROTO) {
            if ((bad = parse_protocol(attr.payload, tuple))) return bad;
            seen |= 2;
        } else if (attr.type == CTA_TUPLE_ZONE) {
            if (ct_u16(&attr.payload, &tuple->zone)) CT_REFUSE(CT_BAD_LENGTH);
        }
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    if (seen != 3) CT_REFUSE(CT_BAD_TUPLE);
    return 0;
}

static int parse_tcp(struct ct_cursor cursor, Row *row) {
    struct ct_attr attr;
    uint8_t flags[2];
    int more, bad = 0;
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        switch (attr.type) {
        case CTA_TCP_STATE: bad |= ct_u8(&attr.payload, &row->protocol_state); break;
        case CTA_TCP_WSCALE_ORIGINAL: bad |= ct_u8(&attr.payload, &row->tcp_scale_original); break;
        case CTA_TCP_WSCALE_REPLY: bad |= ct_u8(&attr.payload, &row->tcp_scale_reply); break;
        case CTA_TCP_FLAGS_ORIGINAL:
            if (ct_bytes(&attr.payload, flags, 2)) bad = -1;
            else row->tcp_flags_original = flags[0];
            break;
        case CTA_TCP_FLAGS_REPLY:
            if (ct_bytes(&attr.payload, flags, 2)) bad = -1;
            else row->tcp_flags_reply = flags[0];
            break;
        default: break;
        }
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    if (bad) CT_REFUSE(CT_BAD_LENGTH);
    return 0;
}

static int parse_sctp(struct ct_cursor cursor, Row *row) {
    struct ct_attr attr;
    uint32_t tag;
    int more, bad = 0;
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        switch (attr.type) {
        case CTA_SCTP_STATE: bad |= ct_u8(&attr.payload, &row->protocol_state); break;
        case CTA_SCTP_VTAG_ORIGINAL:
            if (ct_u32(&attr.payload, &tag)) bad = -1;
            else row->sctp_tag_original = tag;
            break;
        case CTA_SCTP_VTAG_REPLY:
            if (ct_u32(&attr.payload, &tag)) bad = -1;
            else row->sctp_tag_reply = tag;
            break;
        default: break;
        }
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    if (bad) CT_REFUSE(CT_BAD_LENGTH);
    return 0;
}

static int parse_dccp(struct ct_cursor cursor, Row *row) {
    struct ct_attr attr;
    uint8_t state = 0, role = 0;
    int more, bad = 0;
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        if (attr.type == CTA_DCCP_STATE) bad |= ct_u8(&attr.payload, &state);
        else if (attr.type == CTA_DCCP_ROLE) bad |= ct_u8(&attr.payload, &role);
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    if (bad) CT_REFUSE(CT_BAD_LENGTH);
    if (state > 0x7f || role > 1) CT_REFUSE(CT_BAD_VALUE);
    row->protocol_state = (uint8_t)(role << 7 | state);
    return 0;
}

/* The same for TCP's state. */
static int parse_usual_tcp(const struct ct_cursor *cursor, Row *row) {
    const uint8_t *at = cursor->at;
    if (cursor->left != 44) return 0;
    if (CT_IS(at, 44, CTA_PROTOINFO_TCP | NLA_NESTED) | CT_IS(at + 4, 5, CTA_TCP_STATE) | CT_IS(at + 12, 5, CTA_TCP_WSCALE_ORIGINAL) |
        CT_IS(at + 20, 5, CTA_TCP_WSCALE_REPLY) | CT_IS(at + 28, 6, CTA_TCP_FLAGS_ORIGINAL) | CT_IS(at + 36, 6, CTA_TCP_FLAGS_REPLY))
        return 0;
    row->protocol_state = at[8];
    row->tcp_scale_original = at[16];
    row->tcp_scale_reply = at[24];
    row->tcp_flags_original = at[32];
    row->tcp_flags_reply = at[40];
    return 1;
}

static int parse_protoinfo(struct ct_cursor cursor, Row *row) {
    struct ct_attr attr;
    int more, bad = 0;
    if (parse_usual_tcp(&cursor, row)) return 0;
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        if (attr.type == CTA_PROTOINFO_TCP) bad = parse_tcp(attr.payload, row);
        else if (attr.type == CTA_PROTOINFO_SCTP) bad = parse_sctp(attr.payload, row);
        else if (attr.type == CTA_PROTOINFO_DCCP) bad = parse_dccp(attr.payload, row);
        if (bad) return bad;
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    return 0;
}

/* Up to three numbers of 32 bits under the types 1 to 3: sequence adjustments and SYNPROXY. */
static int parse_three(struct ct_cursor cursor, uint32_t numbers[3]) {
    struct ct_attr attr;
    int more;
    while ((more = ct_attribute(&cursor, &attr)) > 0)
        if (attr.type >= 1 && attr.type <= 3 && ct_u32(&attr.payload, &numbers[attr.type - 1])) CT_REFUSE(CT_BAD_LENGTH);
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    return 0;
}

/* Up to two numbers of 64 bits under the types 1 and 2: counters and timestamps. */
static int parse_two(struct ct_cursor cursor, uint64_t numbers[2]) {
    struct ct_attr attr;
    int more;
    while ((more = ct_attribute(&cursor, &attr)) > 0)
        if (attr.type >= 1 && attr.type <= 2 && ct_u64(&attr.payload, &numbers[attr.type - 1])) CT_REFUSE(CT_BAD_LENGTH);
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    return 0;
}

static int parse_helper(struct ct_cursor cursor, Row *row) {
    struct ct_attr attr;
    int more;
    while ((more = ct_attribute(&cursor, &attr)) > 0)
        if (attr.type == CTA_HELP_NAME && ct_name(&attr.payload, row->helper, sizeof row->helper)) CT_REFUSE(CT_BAD_VALUE);
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    return 0;
}

int ct_parse_row(const uint8_t *attributes, size_t length, uint8_t family, Row *row, struct ct_event *event,
                 struct ct_display *display) {
    struct ct_cursor cursor = {attributes, length};
    struct ct_attr attr;
    struct ct_tuple tuple;
    struct ct_display ignored;
    uint32_t number, three[3];
    uint64_t two[2];
    uint16_t zone = 0;
    unsigned present = 0;
    int more, seen = 0, bad;

    if (family != FAMILY_V4 && family != FAMILY_V6) CT_REFUSE(CT_BAD_FAMILY);
    memset(row, 0, sizeof *row);
    if (!display) display = &ignored;
    memset(display, 0, sizeof *display);
    row->family = family;
    event->id = 0;
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        switch (attr.type) {
        case CTA_TUPLE_ORIG:
            if ((bad = ct_parse_tuple(attr.payload, family, &tuple))) return bad;
            if ((seen & 2) && tuple.protocol != row->protocol) CT_REFUSE(CT_BAD_TUPLE);
            row->protocol = tuple.protocol;
            memcpy(row->source, tuple.source, 32);
            row->source_port = tuple.source_port;
            row->destination_port = tuple.destination_port;
            if (tuple.zone) row->zone = tuple.zone;
            seen |= 1;
            break;
        case CTA_TUPLE_REPLY:
            if ((bad = ct_parse_tuple(attr.payload, family, &tuple))) return bad;
            if ((seen & 1) && tuple.protocol != row->protocol) CT_REFUSE(CT_BAD_TUPLE);
            row->protocol = tuple.protocol;
            memcpy(row->reply_source, tuple.source, 32);
            row->reply_source_port = tuple.source_port;
            row->reply_destination_port = tuple.destination_port;
            if (tuple.zone) row->reply_zone = tuple.zone;
            seen |= 2;
            break;
        case CTA_ZONE:
            if (ct_u16(&attr.payload, &zone)) CT_REFUSE(CT_BAD_LENGTH);
            row->zone = row->reply_zone = zone;
            break;
        case CTA_STATUS:
            if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
            row->status = number;
            present |= CT_HAS_STATUS;
            break;
        case CTA_TIMEOUT:
            if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
            row->timeout = number;
            present |= CT_HAS_TIMEOUT;
            break;
        case CTA_MARK:
            if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
            row->mark = number;
            break;
        case CTA_ID:
            if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
            event->id = number;
            break;
        case CTA_PROTOINFO:
            if ((bad = parse_protoinfo(attr.payload, row))) return bad;
            present |= CT_HAS_STATE;
            break;
        case CTA_HELP:
            if ((bad = parse_helper(attr.payload, row))) return bad;
            break;
        case CTA_TUPLE_MASTER:
            if ((bad = ct_parse_tuple(attr.payload, family, &tuple))) return bad;
            row->master_protocol = tuple.protocol;
            memcpy(row->master_source, tuple.source, 32);
            row->master_source_port = tuple.source_port;
            row->master_destination_port = tuple.destination_port;
            present |= CT_HAS_MASTER;
            break;
        case CTA_SEQ_ADJ_ORIG:
            memset(three, 0, sizeof three);
            if ((bad = parse_three(attr.payload, three))) return bad;
            row->adjust_position_original = three[0];
            row->adjust_before_original = (int32_t)three[1];
            row->adjust_after_original = (int32_t)three[2];
            present |= CT_HAS_ADJUST;
            break;
        case CTA_SEQ_ADJ_REPLY:
            memset(three, 0, sizeof three);
            if ((bad = parse_three(attr.payload, three))) return bad;
            row->adjust_position_reply = three[0];
            row->adjust_before_reply = (int32_t)three[1];
            row->adjust_after_reply = (int32_t)three[2];
            present |= CT_HAS_ADJUST;
            break;
        case CTA_SYNPROXY:
            memset(three, 0, sizeof three);
            if ((bad = parse_three(attr.payload, three))) return bad;
            row->synproxy_isn = three[0];
            row->synproxy_its = three[1];
            row->synproxy_tsoff = three[2];
            present |= CT_HAS_SYNPROXY;
            break;
        case CTA_LABELS:
            if (attr.payload.left > sizeof row->labels || attr.payload.left % 4) CT_REFUSE(CT_BAD_LENGTH);
            memset(row->labels, 0, sizeof row->labels);
            memcpy(row->labels, attr.payload.at, attr.payload.left);
            present |= CT_HAS_LABELS;
            break;
        case CTA_COUNTERS_ORIG:
            memset(two, 0, sizeof two);
            if ((bad = parse_two(attr.payload, two))) return bad;
            display->packets_original = two[0];
            display->bytes_original = two[1];
            break;
        case CTA_COUNTERS_REPLY:
            memset(two, 0, sizeof two);
            if ((bad = parse_two(attr.payload, two))) return bad;
            display->packets_reply = two[0];
            display->bytes_reply = two[1];
            break;
        case CTA_TIMESTAMP:
            memset(two, 0, sizeof two);
            if ((bad = parse_two(attr.payload, two))) return bad;
            display->start_ns = two[0];
            display->stop_ns = two[1];
            break;
        default: break;
        }
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    if (seen != 3) CT_REFUSE(CT_BAD_TUPLE);

    /* What is not there says as much where the kernel would have told it. A mark that is absent is 0 and a helper that is absent is none
     * (but for the end of an entry, which tells of neither); an entry whose status has no bit for them has no master and no adjustment. */
    if (event->kind == CT_DUMP) present |= CT_HAS_LABELS | CT_HAS_SYNPROXY;
    if (event->kind == CT_NEW) present |= CT_HAS_ALL; /* nothing known before is of this entry */
    if (event->kind != CT_DESTROY) present |= CT_HAS_MARK | CT_HAS_HELPER;
    if (present & CT_HAS_STATUS) {
        if (!(row->status & IPS_EXPECTED)) present |= CT_HAS_MASTER;
        if (!(row->status & IPS_SEQ_ADJUST)) present |= CT_HAS_ADJUST;
        /* A flow in a flow table is dumped without state and timeout, and only established ones get there (nf_flow_table_core.c). */
        if ((row->status & IPS_OFFLOAD) && !(present & CT_HAS_STATE)) {
            if (row->protocol == P_TCP) row->protocol_state = TCP_ESTABLISHED;
            else present |= CT_HAS_STATE;
        }
    }
    if (row->protocol != P_TCP && row->protocol != P_SCTP && row->protocol != P_DCCP) present |= CT_HAS_STATE;
    event->present = (uint16_t)present;
    return 0;
}

void ct_complete(Row *row, const Row *known, unsigned present) {
    if (!(present & CT_HAS_STATUS)) row->status = known->status;
    if (!(present & CT_HAS_TIMEOUT)) row->timeout = known->timeout;
    if (!(present & CT_HAS_MARK)) row->mark = known->mark;
    if (!(present & CT_HAS_STATE)) {
        row->protocol_state = known->protocol_state;
        row->tcp_scale_original = known->tcp_scale_original;
        row->tcp_scale_reply = known->tcp_scale_reply;
        row->tcp_flags_original = known->tcp_flags_original;
        row->tcp_flags_reply = known->tcp_flags_reply;
        row->sctp_tag_original = known->sctp_tag_original;
        row->sctp_tag_reply = known->sctp_tag_reply;
    }
    if (!(present & CT_HAS_LABELS)) memcpy(row->labels, known->labels, sizeof row->labels);
    if (!(present & CT_HAS_ADJUST)) {
        row->adjust_position_original = known->adjust_position_original;
        row->adjust_before_original = known->adjust_before_original;
        row->adjust_after_original = known->adjust_after_original;
        row->adjust_position_reply = known->adjust_position_reply;
        row->adjust_before_reply = known->adjust_before_reply;
        row->adjust_after_reply = known->adjust_after_reply;
    }
    if (!(present & CT_HAS_SYNPROXY)) {
        row->synproxy_isn = known->synproxy_isn;
        row->synproxy_its = known->synproxy_its;
        row->synproxy_tsoff = known->synproxy_tsoff;
    }
    if (!(present & CT_HAS_MASTER)) {
        row->master_protocol = known->master_protocol;
        row->master_source_port = known->master_source_port;
        row->master_destination_port = known->master_destination_port;
        memcpy(row->master_source, known->master_source, 32);
    }
    if (!(present & CT_HAS_HELPER)) memcpy(row->helper, known->helper, sizeof row->helper);
}
