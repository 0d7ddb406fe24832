/* Ethernet frames that carry CARP advertisements, and the two announcements of a new MASTER. */
#ifndef HACORE_ADVERT_FRAME_H
#define HACORE_ADVERT_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define MAC_BYTES 6
#define ETHERNET_BYTES 14
#define IPV4_BYTES 20
#define IPV6_BYTES 40
#define ARP_FRAME_BYTES (ETHERNET_BYTES + 28)
#define NA_FRAME_BYTES (ETHERNET_BYTES + IPV6_BYTES + 32)
#define PROTOCOL_CARP 112

/* The rungs of parsing, in the order in which they are asked. */
enum frame_rung {
    FRAME_VALID,
    FRAME_ETHERNET,
    FRAME_HEADER,
    FRAME_PROTOCOL,
    FRAME_FRAGMENT,
};

/* What failed, for the message: which bytes, what would have been right, what stood there. */
struct frame_fault {
    const char *what;
    size_t offset;
    size_t expected;
    size_t got;
};

/* Offsets into the frame. */
struct frame_view {
    size_t source_at, destination_at, address_bytes;
    size_t payload_at, payload_bytes;
    int32_t vlan; /* the tag's VLAN identifier, or -1 */
    uint8_t family, ttl;
};

/* Any bytes at all end in a view or in a rung with its fault. */
enum frame_rung frame_parse(const uint8_t *frame, size_t length, struct frame_view *view, struct frame_fault *fault);

struct frame_header {
    const uint8_t *source_mac, *destination_mac, *source, *destination;
    size_t address_bytes; /* 4 or 16 */
    uint16_t identification;
    uint8_t tos, ttl;
};

/* Write the headers and the payload; the frame has room for all three and the payload for 16 bits of length. */
void frame_write(const struct frame_header *header, const uint8_t *payload, size_t payload_bytes, uint8_t *frame);
void frame_write_arp(const uint8_t mac[MAC_BYTES], const uint8_t address[4], uint8_t frame[ARP_FRAME_BYTES]);
void frame_write_na(const uint8_t mac[MAC_BYTES], const uint8_t address[16], int router, uint8_t frame[NA_FRAME_BYTES]);

#endif
