/* The conntrack side of netlink: its numbers, a checked cursor over attributes, and the writer's counterpart.
 *
 * Numbers: linux/netfilter/nfnetlink_conntrack.h and nf_conntrack_common.h. They are repeated here because a wheel is built with headers
 * older than the kernel it will meet. Every read of foreign bytes goes through `ct_attribute` and `ct_u8` to `ct_u64`: bounds are checked
 * there and nowhere else. */
#ifndef HACORE_CTNETLINK_WIRE_H
#define HACORE_CTNETLINK_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { NL_NOOP = 1, NL_ERROR = 2, NL_DONE = 3, NL_OVERRUN = 4 };
enum { NL_REQUEST = 1, NL_MULTI = 2, NL_ACK = 4, NL_DUMP_INTR = 0x10, NL_DUMP = 0x300, NL_EXCL = 0x200, NL_CREATE = 0x400 };
enum { NL_HEADER = 16, NFGEN_HEADER = 4, CT_HEADER = NL_HEADER + NFGEN_HEADER, NLA_HEADER = 4 };
enum { NLA_NESTED = 0x8000, NLA_TYPE = 0x3fff };
enum { SUBSYS_CT = 1, SUBSYS_EXP = 2 };
enum { MSG_NEW = 0, MSG_GET = 1, MSG_DELETE = 2, MSG_GET_STATS = 5 };

enum {
    CTA_TUPLE_ORIG = 1, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO, CTA_HELP, CTA_NAT_SRC, CTA_TIMEOUT, CTA_MARK, CTA_COUNTERS_ORIG,
    CTA_COUNTERS_REPLY, CTA_USE, CTA_ID, CTA_NAT_DST, CTA_TUPLE_MASTER, CTA_SEQ_ADJ_ORIG, CTA_SEQ_ADJ_REPLY, CTA_SECMARK, CTA_ZONE,
    CTA_SECCTX, CTA_TIMESTAMP, CTA_MARK_MASK, CTA_LABELS, CTA_LABELS_MASK, CTA_SYNPROXY
};
enum { CTA_TUPLE_IP = 1, CTA_TUPLE_PROTO, CTA_TUPLE_ZONE };
enum { CTA_IP_V4_SRC = 1, CTA_IP_V4_DST, CTA_IP_V6_SRC, CTA_IP_V6_DST };
enum {
    CTA_PROTO_NUM = 1, CTA_PROTO_SRC_PORT, CTA_PROTO_DST_PORT, CTA_PROTO_ICMP_ID, CTA_PROTO_ICMP_TYPE, CTA_PROTO_ICMP_CODE,
    CTA_PROTO_ICMPV6_ID, CTA_PROTO_ICMPV6_TYPE, CTA_PROTO_ICMPV6_CODE
};
enum { CTA_PROTOINFO_TCP = 1, CTA_PROTOINFO_DCCP, CTA_PROTOINFO_SCTP };
enum { CTA_TCP_STATE = 1, CTA_TCP_WSCALE_ORIGINAL, CTA_TCP_WSCALE_REPLY, CTA_TCP_FLAGS_ORIGINAL, CTA_TCP_FLAGS_REPLY };
enum { CTA_DCCP_STATE = 1, CTA_DCCP_ROLE };
enum { CTA_SCTP_STATE = 1, CTA_SCTP_VTAG_ORIGINAL, CTA_SCTP_VTAG_REPLY };
enum { CTA_COUNTERS_PACKETS = 1, CTA_COUNTERS_BYTES };
enum { CTA_TIMESTAMP_START = 1, CTA_TIMESTAMP_STOP };
enum { CTA_NAT_V4_MINIP = 1, CTA_NAT_V4_MAXIP, CTA_NAT_PROTO, CTA_NAT_V6_MINIP, CTA_NAT_V6_MAXIP };
enum { CTA_PROTONAT_PORT_MIN = 1, CTA_PROTONAT_PORT_MAX };
enum { CTA_SEQADJ_POSITION = 1, CTA_SEQADJ_BEFORE, CTA_SEQADJ_AFTER };
enum { CTA_SYNPROXY_ISN = 1, CTA_SYNPROXY_ITS, CTA_SYNPROXY_TSOFF };
enum { CTA_HELP_NAME = 1 };
enum {
    CTA_EXPECT_MASTER = 1, CTA_EXPECT_TUPLE, CTA_EXPECT_MASK, CTA_EXPECT_TIMEOUT, CTA_EXPECT_ID, CTA_EXPECT_HELP_NAME, CTA_EXPECT_ZONE,
    CTA_EXPECT_FLAGS, CTA_EXPECT_CLASS, CTA_EXPECT_NAT, CTA_EXPECT_FN
};
enum { CTA_EXPECT_NAT_DIR = 1, CTA_EXPECT_NAT_TUPLE };

enum {
    IPS_EXPECTED = 1 << 0, IPS_SEEN_REPLY = 1 << 1, IPS_ASSURED = 1 << 2, IPS_CONFIRMED = 1 << 3, IPS_SRC_NAT = 1 << 4,
    IPS_DST_NAT = 1 << 5, IPS_SEQ_ADJUST = 1 << 6, IPS_SRC_NAT_DONE = 1 << 7, IPS_DST_NAT_DONE = 1 << 8, IPS_DYING = 1 << 9,
    IPS_FIXED_TIMEOUT = 1 << 10, IPS_TEMPLATE = 1 << 11, IPS_UNTRACKED = 1 << 12, IPS_HELPER = 1 << 13, IPS_OFFLOAD = 1 << 14,
    IPS_HW_OFFLOAD = 1 << 15
};
enum { TCP_ESTABLISHED = 3, TCP_FLAG_BE_LIBERAL = 0x08, TCP_FLAG_MAXACK_SET = 0x20 };
enum { EXPECT_USERSPACE = 4 };
enum { FAMILY_V4 = 2, FAMILY_V6 = 10 };
enum { P_ICMP = 1, P_TCP = 6, P_UDP = 17, P_DCCP = 33, P_GRE = 47, P_ICMPV6 = 58, P_SCTP = 132, P_UDPLITE = 136 };

static inline uint16_t ct_be16(uint16_t value) { return __builtin_bswap16(value); }
static inline uint32_t ct_be32(uint32_t value) { return __builtin_bswap32(value); }

struct ct_cursor {
    const uint8_t *at;
    size_t left;
};

struct ct_attr {
    uint16_t type; /* without the nested and byte order bits */
    struct ct_cursor payload;
};

/* 1: one more attribute in `attr`; 0: the end; -1: bytes that are no attribute. */
static inline int ct_attribute(struct ct_cursor *cursor, struct ct_attr *attr) {
    uint16_t header[2];
    if (cursor->left < NLA_HEADER) return cursor->left ? -1 : 0;
    memcpy(header, cursor->at, sizeof header);
    if (header[0] < NLA_HEADER || header[0] > cursor->left) return -1;
    attr->type = header[1] & NLA_TYPE;
    attr->payload.at = cursor->at + NLA_HEADER;
    attr->payload.left = (size_t)(header[0] - NLA_HEADER);
    size_t step = ((size_t)header[0] + 3) & ~(size_t)3;
    if (step > cursor->left) step = cursor->left;
    cursor->at += step;
    cursor->left -= step;
    return 1;
}

/* The one value that an attribute holds: 0, or -1 where its length is another. Numbers come in network order. */
static inline int ct_u8(const struct ct_cursor *payload, uint8_t *value) {
    if (payload->left != 1) return -1;
    *value = payload->at[0];
    return 0;
}
static inline int ct_u16(const struct ct_cursor *payload, uint16_t *value) {
    if (payload->left != 2) return -1;
    memcpy(value, payload->at, 2);
    *value = ct_be16(*value);
    return 0;
}
static inline int ct_u32(const struct ct_cursor *payload, uint32_t *value) {
    if (payload->left != 4) return -1;
    memcpy(value, payload->at, 4);
    *value = ct_be32(*value);
    return 0;
}
static inline int ct_u64(const struct ct_cursor *payload, uint64_t *value) {
    if (payload->left != 8) return -1;
    memcpy(value, payload->at, 8);
    *value = __builtin_bswap64(*value);
    return 0;
}
static inline int ct_bytes(const struct ct_cursor *payload, void *to, size_t size) {
    if (payload->left != size) return -1;
    memcpy(to, payload->at, size);
    return 0;
}
/* A string that ends in its first zero (or with the payload) into `size` zeroed bytes, of which the last stays zero. */
static inline int ct_name(const struct ct_cursor *payload, char *to, size_t size) {
    size_t length = payload->left ? strnlen((const char *)payload->at, payload->left) : 0;
    if (length >= size) return -1;
    memset(to, 0, size);
    if (length) memcpy(to, payload->at, length);
    return 0;
}

/* The header of an attribute as one number, to compare a whole layout at once. */
#define CT_IS(at, length, type) (ct_word(at) ^ ((uint32_t)(type) << 16 | (uint32_t)(length)))
static inline uint32_t ct_word(const uint8_t *at) {
    uint32_t word;
    memcpy(&word, at, 4);
    return word;
}
static inline uint16_t ct_port(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }

/* Writing: the caller has made sure of room for the largest message (CT_LONGEST); attributes are 4-byte aligned and zero padded. */
static inline uint8_t *ct_put_header(uint8_t *to, size_t length, unsigned type) {
    const uint16_t header[2] = {(uint16_t)length, (uint16_t)type};
    memcpy(to, header, sizeof header);
    return to + NLA_HEADER;
}
static inline uint8_t *ct_put_u8(uint8_t *to, unsigned type, uint8_t value) {
    const uint8_t padded[4] = {value, 0, 0, 0};
    to = ct_put_header(to, 5, type);
    memcpy(to, padded, 4);
    return to + 4;
}
static inline uint8_t *ct_put_u16(uint8_t *to, unsigned type, uint16_t value) {
    const uint16_t padded[2] = {ct_be16(value), 0};
    to = ct_put_header(to, 6, type);
    memcpy(to, padded, 4);
    return to + 4;
}
static inline uint8_t *ct_put_u32(uint8_t *to, unsigned type, uint32_t value) {
    to = ct_put_header(to, 8, type);
    value = ct_be32(value);
    memcpy(to, &value, 4);
    return to + 4;
}
static inline uint8_t *ct_put_name(uint8_t *to, unsigned type, const char *name, size_t size) {
    const size_t length = strnlen(name, size - 1);
    const size_t padded = (length + 1 + 3) & ~(size_t)3;
    to = ct_put_header(to, NLA_HEADER + length + 1, type);
    memset(to, 0, padded);
    memcpy(to, name, length);
    return to + padded;
}
/* A nest: open it, write into it, close it with where it began. */
static inline uint8_t *ct_open(uint8_t *to, unsigned type) { return ct_put_header(to, 0, type | NLA_NESTED); }
static inline void ct_close(uint8_t *inside, const uint8_t *end) {
    const uint16_t length = (uint16_t)(end - inside + NLA_HEADER);
    memcpy(inside - NLA_HEADER, &length, 2);
}

struct ct_tuple {
    uint8_t source[16], destination[16];
    uint16_t source_port, destination_port, zone;
    uint8_t protocol;
};
/* A tuple of one of the CTA_TUPLE_* and CTA_EXPECT_* nests; 0 or the rung that refused it, negative (-1 - CT_BAD_...). */
int ct_parse_tuple(struct ct_cursor cursor, uint8_t family, struct ct_tuple *tuple);

/* One message: its headers, a tuple in it, and at the end its length, which is given back. */
uint8_t *ct_put_message(uint8_t *to, unsigned subsystem, unsigned message, unsigned flags, uint32_t sequence, uint8_t family);
uint8_t *ct_put_tuple(uint8_t *to, unsigned type, uint8_t family, uint8_t protocol, const uint8_t *source, const uint8_t *destination,
                      uint16_t source_port, uint16_t destination_port, uint16_t zone);
size_t ct_finish(uint8_t *message, const uint8_t *end);

#define CT_REFUSE(rung) return -1 - (rung)

#endif
