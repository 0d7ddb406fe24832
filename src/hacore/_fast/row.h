/* One connection as every kernel of hacore sees it: the fields, their units and conventions are described in
 * hacore/states/layout.py, which lists the same fields in the same order. Integers are little endian. */
#ifndef HACORE_ROW_H
#define HACORE_ROW_H

#include <stddef.h>
#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows are little endian in memory: this kernel needs a little-endian machine"
#endif

#define KEY_BYTES 40
#define ROW_BYTES 208

#pragma pack(push, 1)

typedef struct Key {
    uint8_t family;
    uint8_t protocol;
    uint16_t zone;
    uint8_t source[16];
    uint8_t destination[16];
    uint16_t source_port;
    uint16_t destination_port;
} Key;

typedef struct Row {
    uint8_t family;
    uint8_t protocol;
    uint16_t zone;
    uint8_t source[16];
    uint8_t destination[16];
    uint16_t source_port;
    uint16_t destination_port;
    uint8_t reply_source[16];
    uint8_t reply_destination[16];
    uint16_t reply_source_port;
    uint16_t reply_destination_port;
    uint16_t reply_zone;
    uint8_t protocol_state;
    uint8_t master_protocol;
    uint32_t status;
    uint32_t timeout;
    uint32_t mark;
    uint8_t tcp_scale_original;
    uint8_t tcp_scale_reply;
    uint8_t tcp_flags_original;
    uint8_t tcp_flags_reply;
    uint32_t sctp_tag_original;
    uint32_t sctp_tag_reply;
    uint8_t labels[16];
    uint32_t adjust_position_original;
    int32_t adjust_before_original;
    int32_t adjust_after_original;
    uint32_t adjust_position_reply;
    int32_t adjust_before_reply;
    int32_t adjust_after_reply;
    uint32_t synproxy_isn;
    uint32_t synproxy_its;
    uint32_t synproxy_tsoff;
    uint16_t master_source_port;
    uint16_t master_destination_port;
    uint8_t master_source[16];
    uint8_t master_destination[16];
    char helper[16];
} Row;

#pragma pack(pop)

_Static_assert(sizeof(Key) == KEY_BYTES, "a key is 40 bytes");
_Static_assert(sizeof(Row) == ROW_BYTES, "a row is 208 bytes");
_Static_assert(offsetof(Row, reply_source) == KEY_BYTES, "a row starts with its key");

#endif
