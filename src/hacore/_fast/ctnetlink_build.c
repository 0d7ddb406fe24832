/* Rows to conntrack messages: what ctnetlink_new_conntrack, ctnetlink_del_conntrack and ctnetlink_new_expect in the kernel's
 * net/netfilter/nf_conntrack_netlink.c want to read. */
#include "ctnetlink.h"
#include "ctnetlink_wire.h"

/* Bits that the kernel keeps for itself. CONFIRMED must be there or it answers EBUSY; EXPECTED comes by the master. */
enum { IPS_NEVER = IPS_DYING | IPS_TEMPLATE | IPS_UNTRACKED | IPS_OFFLOAD | IPS_HW_OFFLOAD };

uint8_t *ct_put_message(uint8_t *to, unsigned subsystem, unsigned message, unsigned flags, uint32_t sequence, uint8_t family) {
    const uint16_t kind[2] = {(uint16_t)(subsystem << 8 | message), (uint16_t)flags};
    const uint32_t numbers[2] = {sequence, 0};
    const uint8_t general[4] = {family, 0, 0, 0};
    memcpy(to + 4, kind, 4);
    memcpy(to + 8, numbers, 8);
    memcpy(to + NL_HEADER, general, 4);
    return to + CT_HEADER;
}

size_t ct_finish(uint8_t *to, const uint8_t *end) {
    const uint32_t length = (uint32_t)(end - to);
    memcpy(to, &length, 4);
    return length;
}

static uint8_t *put_address(uint8_t *to, unsigned type, uint8_t family, const uint8_t *address) {
    if (family == FAMILY_V4) {
        to = ct_put_header(to, 8, type);
        memcpy(to, address, 4);
        return to + 4;
    }
    to = ct_put_header(to, 20, type);
    memcpy(to, address, 16);
    return to + 16;
}

/* What is in the two halves of a tuple beside the addresses: nf_ct_port_tuple_to_nlattr, icmp_tuple_to_nlattr. */
enum parts { PARTS_NONE, PARTS_PORTS, PARTS_ICMP, PARTS_ICMPV6 };

static enum parts parts_of(uint8_t protocol) {
    switch (protocol) {
    case P_TCP: case P_UDP: case P_UDPLITE: case P_SCTP: case P_DCCP: case P_GRE: return PARTS_PORTS;
    case P_ICMP: return PARTS_ICMP;
    case P_ICMPV6: return PARTS_ICMPV6;
    default: return PARTS_NONE;
    }
}

uint8_t *ct_put_tuple(uint8_t *to, unsigned type, uint8_t family, uint8_t protocol, const uint8_t *source, const uint8_t *destination,
                          uint16_t source_port, uint16_t destination_port, uint16_t zone) {
    const unsigned first = family == FAMILY_V4 ? CTA_IP_V4_SRC : CTA_IP_V6_SRC;
    uint8_t *const inside = to = ct_open(to, type);
    uint8_t *const addresses = to = ct_open(to, CTA_TUPLE_IP);
    to = put_address(to, first, family, source);
    to = put_address(to, first + 1, family, destination);
    ct_close(addresses, to);
    uint8_t *const ports = to = ct_open(to, CTA_TUPLE_PROTO);
    to = ct_put_u8(to, CTA_PROTO_NUM, protocol);
    switch (parts_of(protocol)) {
    case PARTS_PORTS:
        to = ct_put_u16(to, CTA_PROTO_SRC_PORT, source_port);
        to = ct_put_u16(to, CTA_PROTO_DST_PORT, destination_port);
        break;
    case PARTS_ICMP:
        to = ct_put_u16(to, CTA_PROTO_ICMP_ID, source_port);
        to = ct_put_u8(to, CTA_PROTO_ICMP_TYPE, (uint8_t)(destination_port >> 8));
        to = ct_put_u8(to, CTA_PROTO_ICMP_CODE, (uint8_t)destination_port);
        break;
    case PARTS_ICMPV6:
        to = ct_put_u16(to, CTA_PROTO_ICMPV6_ID, source_port);
        to = ct_put_u8(to, CTA_PROTO_ICMPV6_TYPE, (uint8_t)(destination_port >> 8));
        to = ct_put_u8(to, CTA_PROTO_ICMPV6_CODE, (uint8_t)destination_port);
        break;
    case PARTS_NONE: break;
    }
    ct_close(ports, to);
    if (zone) to = ct_put_u16(to, CTA_TUPLE_ZONE, zone);
    ct_close(inside, to);
    return to;
}

/* One zone and its directions: a zone of both stands beside the tuples, a zone of one direction inside that tuple. */
struct zones {
    uint16_t both, original, reply;
};
static int zones_of(const Row *row, struct zones *zones) {
    zones->both = row->zone == row->reply_zone ? row->zone : 0;
    zones->original = row->reply_zone ? 0 : row->zone;
    zones->reply = row->zone ? 0 : row->reply_zone;
    return row->zone && row->reply_zone && row->zone != row->reply_zone ? -1 : 0;
}

static uint8_t *put_original(uint8_t *to, const Row *row, uint16_t zone) {
    return ct_put_tuple(to, CTA_TUPLE_ORIG, row->family, row->protocol, row->source, row->destination, row->source_port,
                     row->destination_port, zone);
}

/* A range of one address and one port: CTA_NAT_SRC and CTA_NAT_DST, nfnetlink_parse_nat in nf_nat_core.c. Without an end it ends where it
 * begins. */
static uint8_t *put_nat(uint8_t *to, unsigned type, const Row *row, const uint8_t *address, uint16_t port) {
    const int v4 = row->family == FAMILY_V4;
    uint8_t *const inside = to = ct_open(to, type);
    to = put_address(to, v4 ? CTA_NAT_V4_MINIP : CTA_NAT_V6_MINIP, row->family, address);
    if (parts_of(row->protocol) != PARTS_NONE && row->protocol != P_GRE) {
        uint8_t *const ports = to = ct_open(to, CTA_NAT_PROTO);
        to = ct_put_u16(to, CTA_PROTONAT_PORT_MIN, port);
        ct_close(ports, to);
    }
    ct_close(inside, to);
    return to;
}

static uint8_t *put_three(uint8_t *to, unsigned type, uint32_t first, uint32_t second, uint32_t third) {
    uint8_t *const inside = to = ct_open(to, type);
    to = ct_put_u32(to, 1, first);
    to = ct_put_u32(to, 2, second);
    to = ct_put_u32(to, 3, third);
    ct_close(inside, to);
    return to;
}

/* The windows are not in a row: without the liberal flag the first packets after a takeover would be out of them. The highest
 * acknowledgement is not in it either, so the kernel must not believe that it has one: with MAXACK_SET and none, it takes every reset whose
 * sequence number is in the upper half for invalid (nf_conntrack_tcp_packet in nf_conntrack_proto_tcp.c). */
static uint8_t tcp_flags(uint8_t flags) { return (uint8_t)((flags & ~TCP_FLAG_MAXACK_SET) | TCP_FLAG_BE_LIBERAL); }

static uint8_t *put_tcp(uint8_t *to, const Row *row) {
    const uint8_t original[4] = {tcp_flags(row->tcp_flags_original), 0xff, 0, 0}, reply[4] = {tcp_flags(row->tcp_flags_reply), 0xff, 0, 0};
    uint8_t *const outside = to = ct_open(to, CTA_PROTOINFO);
    uint8_t *const inside = to = ct_open(to, CTA_PROTOINFO_TCP);
    to = ct_put_u8(to, CTA_TCP_STATE, row->protocol_state);
    to = ct_put_u8(to, CTA_TCP_WSCALE_ORIGINAL, row->tcp_scale_original);
    to = ct_put_u8(to, CTA_TCP_WSCALE_REPLY, row->tcp_scale_reply);
    to = ct_put_header(to, 6, CTA_TCP_FLAGS_ORIGINAL);
    memcpy(to, original, 4);
    to = ct_put_header(to + 4, 6, CTA_TCP_FLAGS_REPLY);
    memcpy(to, reply, 4);
    to += 4;
    ct_close(inside, to);
    ct_close(outside, to);
    return to;
}

static uint8_t *put_protoinfo(uint8_t *to, const Row *row) {
    if (row->protocol == P_TCP) return put_tcp(to, row);
    if (row->protocol == P_SCTP && row->protocol_state) {
        uint8_t *const outside = to = ct_open(to, CTA_PROTOINFO);
        uint8_t *const inside = to = ct_open(to, CTA_PROTOINFO_SCTP);
        to = ct_put_u8(to, CTA_SCTP_STATE, row->protocol_state);
        to = ct_put_u32(to, CTA_SCTP_VTAG_ORIGINAL, row->sctp_tag_original);
        to = ct_put_u32(to, CTA_SCTP_VTAG_REPLY, row->sctp_tag_reply);
        ct_close(inside, to);
        ct_close(outside, to);
    } else if (row->protocol == P_DCCP && row->protocol_state) {
        uint8_t *const outside = to = ct_open(to, CTA_PROTOINFO);
        uint8_t *const inside = to = ct_open(to, CTA_PROTOINFO_DCCP);
        to = ct_put_u8(to, CTA_DCCP_STATE, row->protocol_state & 0x7f);
        to = ct_put_u8(to, CTA_DCCP_ROLE, row->protocol_state >> 7);
        ct_close(inside, to);
        ct_close(outside, to);
    }
    return to;
}

static uint32_t timeout_of(const Row *row, const struct ct_build *how) {
    uint32_t timeout = row->timeout;
    if (row->status & (IPS_OFFLOAD | IPS_HW_OFFLOAD))
        timeout = row->protocol == P_TCP ? how->offload_timeout_tcp : how->offload_timeout_udp;
    timeout = timeout > UINT32_MAX - how->extra_timeout ? UINT32_MAX : timeout + how->extra_timeout;
    return timeout ? timeout : 1; /* an entry with 0 would be gone before it is found */
}

/* What a new entry and an update have in common. */
static uint8_t *put_body(uint8_t *to, const Row *row, uint32_t status, unsigned omit, int is_new, const struct ct_build *how) {
    to = ct_put_u32(to, CTA_STATUS, status);
    if (!(omit & CT_OMIT_TIMEOUT)) to = ct_put_u32(to, CTA_TIMEOUT, timeout_of(row, how));
    to = put_protoinfo(to, row);
    if (row->mark || !is_new) to = ct_put_u32(to, CTA_MARK, row->mark);
    if ((row->status & IPS_SEQ_ADJUST)) {
        to = put_three(to, CTA_SEQ_ADJ_ORIG, row->adjust_position_original, (uint32_t)row->adjust_before_original,
                       (uint32_t)row->adjust_after_original);
        to = put_three(to, CTA_SEQ_ADJ_REPLY, row->adjust_position_reply, (uint32_t)row->adjust_before_reply,
                       (uint32_t)row->adjust_after_reply);
    }
    if (row->synproxy_isn | row->synproxy_its | row->synproxy_tsoff)
        to = put_three(to, CTA_SYNPROXY, row->synproxy_isn, row->synproxy_its, row->synproxy_tsoff);
    static const uint8_t none[16];
    if ((omit & CT_WITH_LABELS) || memcmp(row->labels, none, 16)) {
        to = ct_put_header(to, NLA_HEADER + 16, CTA_LABELS);
        memcpy(to, row->labels, 16);
        to += 16;
    }
    return to;
}

static int tellable(const Row *row, struct zones *zones) {
    return (row->family == FAMILY_V4 || row->family == FAMILY_V6) && !zones_of(row, zones);
}

size_t ct_build_insert(uint8_t *const message, const Row *row, uint32_t sequence, unsigned omit, const struct ct_build *how) {
    const uint32_t nat = row->status & (IPS_SRC_NAT | IPS_SRC_NAT_DONE), dnat = row->status & (IPS_DST_NAT | IPS_DST_NAT_DONE);
    const size_t size = row->family == FAMILY_V4 ? 4 : 16;
    const uint8_t *reply_source = row->reply_source, *reply_destination = row->reply_destination;
    uint16_t reply_source_port = row->reply_source_port, reply_destination_port = row->reply_destination_port;
    int source_nat = 0, destination_nat = 0;
    struct zones zones;
    if (!tellable(row, &zones)) return 0;
    uint8_t *to = ct_put_message(message, SUBSYS_CT, MSG_NEW, NL_REQUEST | NL_CREATE | NL_EXCL, sequence, row->family);
    to = put_original(to, row, zones.original);

    /* The kernel makes the reply tuple of a new entry itself, from the reply tuple without NAT and the binding (nf_nat_setup_info). */
    switch (parts_of(row->protocol)) {
    case PARTS_PORTS:
        if (row->protocol == P_GRE) { /* NAT leaves the keys of a new entry alone (nf_nat_l4proto_unique_tuple): they stand in the tuple */
            source_nat = nat && memcmp(row->reply_destination, row->source, size);
            destination_nat = dnat && memcmp(row->reply_source, row->destination, size);
            break;
        }
        source_nat = nat && (memcmp(row->reply_destination, row->source, size) || row->reply_destination_port != row->source_port);
        destination_nat = dnat && (memcmp(row->reply_source, row->destination, size) || row->reply_source_port != row->destination_port);
        if (source_nat) reply_destination_port = row->source_port;
        if (destination_nat) reply_source_port = row->destination_port;
        break;
    case PARTS_ICMP:
    case PARTS_ICMPV6: /* the id is the source half of both tuples */
        source_nat = nat && (memcmp(row->reply_destination, row->source, size) || row->reply_source_port != row->source_port);
        destination_nat = dnat && memcmp(row->reply_source, row->destination, size);
        if (source_nat) reply_source_port = row->source_port;
        break;
    case PARTS_NONE:
        source_nat = nat && memcmp(row->reply_destination, row->source, size);
        destination_nat = dnat && memcmp(row->reply_source, row->destination, size);
        break;
    }
    if (source_nat) reply_destination = row->source;
    if (destination_nat) reply_source = row->destination;
    to = ct_put_tuple(to, CTA_TUPLE_REPLY, row->family, row->protocol, reply_source, reply_destination, reply_source_port,
                   reply_destination_port, zones.reply);
    if (zones.both) to = ct_put_u16(to, CTA_ZONE, zones.both);
    if (source_nat) {
        const int icmp = row->protocol == P_ICMP || row->protocol == P_ICMPV6;
        to = put_nat(to, CTA_NAT_SRC, row, row->reply_destination, icmp ? row->reply_source_port : row->reply_destination_port);
    }
    /* Without a binding for the other side the kernel makes an empty one, for which it looks whether the tuple is taken; one range of one
     * address and port is not looked up (get_unique_tuple in nf_nat_core.c), and the insertion itself finds out anyway. */
    const int plain = source_nat && parts_of(row->protocol) == PARTS_PORTS && row->protocol != P_GRE;
    if (destination_nat || plain) to = put_nat(to, CTA_NAT_DST, row, row->reply_source, row->reply_source_port);

    if (row->helper[0] && !(omit & CT_OMIT_HELPER)) {
        uint8_t *const inside = to = ct_open(to, CTA_HELP);
        to = ct_put_name(to, CTA_HELP_NAME, row->helper, sizeof row->helper);
        ct_close(inside, to);
    }
    if (row->master_protocol && !(omit & CT_OMIT_MASTER))
        to = ct_put_tuple(to, CTA_TUPLE_MASTER, row->family, row->master_protocol, row->master_source, row->master_destination,
                       row->master_source_port, row->master_destination_port, 0);
    uint32_t status = (row->status & ~(uint32_t)(IPS_NEVER | IPS_EXPECTED)) | IPS_CONFIRMED;
    if (omit & CT_OMIT_HELPER) status &= ~(uint32_t)IPS_HELPER;
    to = put_body(to, row, status, omit & ~(unsigned)CT_OMIT_TIMEOUT, 1, how);
    return ct_finish(message, to);
}

size_t ct_build_update(uint8_t *const message, const Row *row, uint32_t sequence, unsigned omit, const struct ct_build *how) {
    struct zones zones;
    if (!tellable(row, &zones)) return 0;
    uint8_t *to = ct_put_message(message, SUBSYS_CT, MSG_NEW, NL_REQUEST, sequence, row->family);
    to = put_original(to, row, zones.original);
    if (zones.both) to = ct_put_u16(to, CTA_ZONE, zones.both);
    uint32_t status = (row->status & ~(uint32_t)IPS_NEVER) | IPS_CONFIRMED;
    if (omit & CT_OMIT_MASTER) status &= ~(uint32_t)IPS_EXPECTED;
    if (omit & CT_OMIT_HELPER) status &= ~(uint32_t)IPS_HELPER;
    to = put_body(to, row, status, omit, 0, how);
    return ct_finish(message, to);
}

static size_t build_key(uint8_t *const message, const Row *row, uint32_t sequence, unsigned what, int by_reply) {
    struct zones zones;
    if (!tellable(row, &zones)) return 0;
    uint8_t *to = ct_put_message(message, SUBSYS_CT, what, NL_REQUEST, sequence, row->family);
    if (by_reply)
        to = ct_put_tuple(to, CTA_TUPLE_REPLY, row->family, row->protocol, row->reply_source, row->reply_destination,
                       row->reply_source_port, row->reply_destination_port, zones.reply);
    else
        to = put_original(to, row, zones.original);
    if (zones.both) to = ct_put_u16(to, CTA_ZONE, zones.both);
    return ct_finish(message, to);
}

size_t ct_build_delete(uint8_t *message, const Row *row, uint32_t sequence, int by_reply) {
    return build_key(message, row, sequence, MSG_DELETE, by_reply);
}

size_t ct_build_get(uint8_t *message, const Row *row, uint32_t sequence, int by_reply) {
    return build_key(message, row, sequence, MSG_GET, by_reply);
}

size_t ct_build_first(uint8_t *to, const Row *row, unsigned operation, uint32_t sequence, const struct ct_build *how) {
    const unsigned omit = operation & CT_LABELS_TOO ? CT_WITH_LABELS : 0;
    size_t gone, size;
    switch (operation & CT_OPERATION) {
    case CT_INSERT: return ct_build_insert(to, row, sequence, omit, how);
    case CT_UPDATE_ROW: return ct_build_update(to, row, sequence, omit, how);
    case CT_REPLACE:
        gone = ct_build_delete(to, row, sequence, 0);
        size = ct_build_insert(to + gone, row, sequence, omit, how);
        return size ? gone + size : 0;
    case CT_DELETE_ROW: return ct_build_delete(to, row, sequence, 0);
    case CT_GET_ROW: return ct_build_get(to, row, sequence, 0);
    case CT_GET_REPLY: return ct_build_get(to, row, sequence, 1);
    default: return 0;
    }
}
