/* Expectations, both ways: ctnetlink_exp_dump_expect and ctnetlink_create_expect in the kernel's net/netfilter/nf_conntrack_netlink.c. */
#include "ctnetlink.h"
#include "ctnetlink_wire.h"

int ct_parse_expectation(const uint8_t *attributes, size_t length, uint8_t family, struct ct_expectation *row, struct ct_event *event) {
    struct ct_cursor cursor = {attributes, length}, nat;
    struct ct_attr attr;
    struct ct_tuple tuple;
    uint32_t number;
    int more, seen = 0, bad;

    if (family != FAMILY_V4 && family != FAMILY_V6) CT_REFUSE(CT_BAD_FAMILY);
    memset(row, 0, sizeof *row);
    row->family = family;
    event->id = 0;
    event->present = 0;
    while ((more = ct_attribute(&cursor, &attr)) > 0) {
        switch (attr.type) {
        case CTA_EXPECT_TUPLE:
            if ((bad = ct_parse_tuple(attr.payload, family, &tuple))) return bad;
            row->protocol = tuple.protocol;
            memcpy(row->source, tuple.source, 32);
            row->source_port = tuple.source_port;
            row->destination_port = tuple.destination_port;
            seen |= 1;
            break;
        case CTA_EXPECT_MASK:
            if ((bad = ct_parse_tuple(attr.payload, family, &tuple))) return bad;
            memcpy(row->mask_source, tuple.source, 16);
            row->mask_source_port = tuple.source_port;
            seen |= 2;
            break;
        case CTA_EXPECT_MASTER:
            if ((bad = ct_parse_tuple(attr.payload, family, &tuple))) return bad;
            row->master_protocol = tuple.protocol;
            memcpy(row->master_source, tuple.source, 32);
            row->master_source_port = tuple.source_port;
            row->master_destination_port = tuple.destination_port;
            seen |= 4;
            break;
        case CTA_EXPECT_TIMEOUT:
            if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
            row->timeout = number;
            event->present |= CT_HAS_TIMEOUT;
            break;
        case CTA_EXPECT_ID:
            if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
            event->id = number;
            break;
        case CTA_EXPECT_FLAGS:
            if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
            row->flags = number;
            break;
        case CTA_EXPECT_CLASS:
            if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
            row->class = number;
            break;
        case CTA_EXPECT_ZONE:
            if (attr.payload.left != 2) CT_REFUSE(CT_BAD_LENGTH);
            row->zone = (uint16_t)(attr.payload.at[0] << 8 | attr.payload.at[1]);
            break;
        case CTA_EXPECT_HELP_NAME:
            if (ct_name(&attr.payload, row->helper, sizeof row->helper)) CT_REFUSE(CT_BAD_VALUE);
            break;
        case CTA_EXPECT_FN:
            if (ct_name(&attr.payload, row->function, sizeof row->function)) CT_REFUSE(CT_BAD_VALUE);
            break;
        case CTA_EXPECT_NAT:
            nat = attr.payload;
            row->has_nat = 0;
            while ((more = ct_attribute(&nat, &attr)) > 0) {
                if (attr.type == CTA_EXPECT_NAT_DIR) {
                    if (ct_u32(&attr.payload, &number)) CT_REFUSE(CT_BAD_LENGTH);
                    if (number > 1) CT_REFUSE(CT_BAD_VALUE);
                    row->nat_direction = (uint8_t)number;
                    row->has_nat |= 1;
                } else if (attr.type == CTA_EXPECT_NAT_TUPLE) {
                    if ((bad = ct_parse_tuple(attr.payload, family, &tuple))) return bad;
                    memcpy(row->nat_source, tuple.source, 16);
                    row->nat_source_port = tuple.source_port;
                    row->nat_protocol = tuple.protocol;
                    row->has_nat |= 2;
                }
            }
            if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
            if (row->has_nat != 3) CT_REFUSE(CT_BAD_TUPLE);
            row->has_nat = 1;
            break;
        default: break;
        }
    }
    if (more < 0) CT_REFUSE(CT_BAD_ATTRIBUTE);
    if (seen != 7) CT_REFUSE(CT_BAD_TUPLE);
    return 0;
}

static int starts(const char *name, const char *with) { return !strncmp(name, with, strlen(with)); }

/* The helper that the expected connection itself gets. A dump tells the master's (ctnetlink_exp_dump_expect), so this one has to be known
 * from what the kernel's helpers do: SIP for its signalling class (nf_conntrack_sip.c, process_register_request and
 * process_sip_request), H.323 for the next protocol of its family (nf_conntrack_h323_main.c). The others expect plain data. */
static const char *helper_of_expected(const struct ct_expectation *row) {
    if (starts(row->helper, "sip") && row->class == 0) return row->helper;
    if (!strcmp(row->helper, "RAS")) return row->protocol == P_TCP ? "Q.931" : "RAS";
    if (!strcmp(row->helper, "Q.931")) return starts(row->function, "callforwarding") ? "Q.931" : "H.245";
    return "";
}

static uint8_t *put_expectation_tuple(uint8_t *to, const struct ct_expectation *row) {
    return ct_put_tuple(to, CTA_EXPECT_TUPLE, row->family, row->protocol, row->source, row->destination, row->source_port,
                     row->destination_port, 0);
}

size_t ct_build_expectation(uint8_t *const message, const struct ct_expectation *row, uint32_t sequence, int only_timeout) {
    static const uint8_t all[16] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    static const uint8_t none[16];
    if (row->family != FAMILY_V4 && row->family != FAMILY_V6) return 0;
    uint8_t *to = ct_put_message(message, SUBSYS_EXP, MSG_NEW, NL_REQUEST | (only_timeout ? 0u : NL_CREATE | NL_EXCL), sequence, row->family);
    to = put_expectation_tuple(to, row);
    to = ct_put_tuple(to, CTA_EXPECT_MASK, row->family, row->protocol, row->mask_source, all, row->mask_source_port, 0xffff, 0);
    to = ct_put_tuple(to, CTA_EXPECT_MASTER, row->family, row->master_protocol, row->master_source, row->master_destination,
                   row->master_source_port, row->master_destination_port, 0);
    if (row->zone) to = ct_put_u16(to, CTA_EXPECT_ZONE, row->zone);
    to = ct_put_u32(to, CTA_EXPECT_TIMEOUT, row->timeout);
    if (only_timeout) return ct_finish(message, to);
    to = ct_put_u32(to, CTA_EXPECT_FLAGS, row->flags & ~(uint32_t)EXPECT_USERSPACE);
    to = ct_put_u32(to, CTA_EXPECT_CLASS, row->class);
    const char *helper = helper_of_expected(row);
    if (helper[0]) to = ct_put_name(to, CTA_EXPECT_HELP_NAME, helper, sizeof row->helper);
    if (row->function[0]) to = ct_put_name(to, CTA_EXPECT_FN, row->function, sizeof row->function);
    if (row->has_nat) {
        uint8_t *const inside = to = ct_open(to, CTA_EXPECT_NAT);
        to = ct_put_u32(to, CTA_EXPECT_NAT_DIR, row->nat_direction);
        to = ct_put_tuple(to, CTA_EXPECT_NAT_TUPLE, row->family, row->nat_protocol, row->nat_source, none, row->nat_source_port, 0, 0);
        ct_close(inside, to);
    }
    return ct_finish(message, to);
}

size_t ct_build_expectation_delete(uint8_t *const message, const struct ct_expectation *row, uint32_t sequence) {
    if (row->family != FAMILY_V4 && row->family != FAMILY_V6) return 0;
    uint8_t *to = ct_put_message(message, SUBSYS_EXP, MSG_DELETE, NL_REQUEST, sequence, row->family);
    to = put_expectation_tuple(to, row);
    if (row->zone) to = ct_put_u16(to, CTA_EXPECT_ZONE, row->zone);
    return ct_finish(message, to);
}
