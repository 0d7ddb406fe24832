#include "advert_frame.h"

#include <string.h>

enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_ARP = 0x0806, ETHERTYPE_VLAN = 0x8100, ETHERTYPE_IPV6 = 0x86dd };
enum { NEXT_FRAGMENT = 44, NEXT_ICMPV6 = 58 };
enum { VLAN_TAG_BYTES = 4, VLAN_IDENTIFIER_MASK = 0x0fff, DONT_FRAGMENT = 0x4000, MORE_FRAGMENTS_OR_OFFSET = 0x3fff };

static uint32_t load_be16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

static void store_be16(uint8_t *bytes, size_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

/* The sum of RFC 1071 over an even number of bytes, not yet folded. */
static uint32_t add_words(uint32_t sum, const uint8_t *bytes, size_t length)
{
    for (size_t at = 0; at < length; at += 2)
        sum += load_be16(bytes + at);
    return sum;
}

static uint32_t fold(uint32_t sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

static enum frame_rung fail(enum frame_rung rung, struct frame_fault *fault, const char *what, size_t offset,
                            size_t expected, size_t got)
{
    *fault = (struct frame_fault){what, offset, expected, got};
    return rung;
}

/* RFC 791. `at` is the offset of the header, which `length` reaches at least. */
static enum frame_rung parse_ipv4(const uint8_t *frame, size_t length, size_t at, struct frame_view *view,
                                  struct frame_fault *fault)
{
    const uint8_t *header = frame + at;
    const size_t remaining = length - at;
    size_t header_bytes, total_bytes;
    uint32_t sum, fragment;

    if (remaining < IPV4_BYTES)
        return fail(FRAME_HEADER, fault, "bytes of an IPv4 header", at, IPV4_BYTES, remaining);
    if (header[0] >> 4 != 4)
        return fail(FRAME_HEADER, fault, "IP version", at, 4, header[0] >> 4);
    header_bytes = 4 * (size_t)(header[0] & 15);
    if (header_bytes < IPV4_BYTES)
        return fail(FRAME_HEADER, fault, "at least this IPv4 header length", at, IPV4_BYTES, header_bytes);
    if (header_bytes > remaining)
        return fail(FRAME_HEADER, fault, "bytes of an IPv4 header with options", at, header_bytes, remaining);
    sum = fold(add_words(0, header, header_bytes));
    if (sum != 0xffff)
        return fail(FRAME_HEADER, fault, "sum of the IPv4 header", at + 10, 0xffff, sum);
    total_bytes = load_be16(header + 2);
    if (total_bytes < header_bytes)
        return fail(FRAME_HEADER, fault, "at least this IPv4 total length", at + 2, header_bytes, total_bytes);
    if (total_bytes > remaining)
        return fail(FRAME_HEADER, fault, "bytes of an IPv4 packet", at + 2, total_bytes, remaining);
    if (header[9] != PROTOCOL_CARP)
        return fail(FRAME_PROTOCOL, fault, "IP protocol", at + 9, PROTOCOL_CARP, header[9]);
    fragment = load_be16(header + 6) & MORE_FRAGMENTS_OR_OFFSET;
    if (fragment != 0)
        return fail(FRAME_FRAGMENT, fault, "fragment offset and more-fragments flag", at + 6, 0, fragment);
    view->family = 4;
    view->ttl = header[8];
    view->source_at = at + 12;
    view->destination_at = at + 16;
    view->address_bytes = 4;
    view->payload_at = at + header_bytes;
    view->payload_bytes = total_bytes - header_bytes;
    return FRAME_VALID;
}

/* RFC 8200. An advertisement carries no extension header; one that says it is a fragment is named so. */
static enum frame_rung parse_ipv6(const uint8_t *frame, size_t length, size_t at, struct frame_view *view,
                                  struct frame_fault *fault)
{
    const uint8_t *header = frame + at;
    const size_t remaining = length - at;
    size_t payload_bytes;

    if (remaining < IPV6_BYTES)
        return fail(FRAME_HEADER, fault, "bytes of an IPv6 header", at, IPV6_BYTES, remaining);
    if (header[0] >> 4 != 6)
        return fail(FRAME_HEADER, fault, "IP version", at, 6, header[0] >> 4);
    payload_bytes = load_be16(header + 4);
    if (payload_bytes > remaining - IPV6_BYTES)
        return fail(FRAME_HEADER, fault, "bytes of an IPv6 payload", at + 4, payload_bytes, remaining - IPV6_BYTES);
    if (header[6] == NEXT_FRAGMENT)
        return fail(FRAME_FRAGMENT, fault, "IPv6 next header", at + 6, PROTOCOL_CARP, header[6]);
    if (header[6] != PROTOCOL_CARP)
        return fail(FRAME_PROTOCOL, fault, "IPv6 next header", at + 6, PROTOCOL_CARP, header[6]);
    view->family = 6;
    view->ttl = header[7];
    view->source_at = at + 8;
    view->destination_at = at + 24;
    view->address_bytes = 16;
    view->payload_at = at + IPV6_BYTES;
    view->payload_bytes = payload_bytes;
    return FRAME_VALID;
}

enum frame_rung frame_parse(const uint8_t *frame, size_t length, struct frame_view *view, struct frame_fault *fault)
{
    size_t at = ETHERNET_BYTES;
    uint32_t ethertype;

    if (length < at)
        return fail(FRAME_ETHERNET, fault, "bytes of an Ethernet header", 0, at, length);
    ethertype = load_be16(frame + at - 2);
    view->vlan = -1;
    if (ethertype == ETHERTYPE_VLAN) {
        if (length < at + VLAN_TAG_BYTES)
            return fail(FRAME_ETHERNET, fault, "bytes of a tagged Ethernet header", 0, at + VLAN_TAG_BYTES, length);
        view->vlan = (int32_t)(load_be16(frame + at) & VLAN_IDENTIFIER_MASK);
        at += VLAN_TAG_BYTES;
        ethertype = load_be16(frame + at - 2);
    }
    if (ethertype == ETHERTYPE_IPV4)
        return parse_ipv4(frame, length, at, view, fault);
    if (ethertype == ETHERTYPE_IPV6)
        return parse_ipv6(frame, length, at, view, fault);
    return fail(FRAME_PROTOCOL, fault, "Ethernet type of IPv4 (IPv6 is 34525)", at - 2, ETHERTYPE_IPV4, ethertype);
}

static void write_ethernet(const uint8_t *destination, const uint8_t *source, uint32_t ethertype, uint8_t *frame)
{
    memcpy(frame, destination, MAC_BYTES);
    memcpy(frame + MAC_BYTES, source, MAC_BYTES);
    store_be16(frame + 2 * MAC_BYTES, ethertype);
}

void frame_write(const struct frame_header *header, const uint8_t *payload, size_t payload_bytes, uint8_t *frame)
{
    const int is_ipv4 = header->address_bytes == 4;
    const size_t ip_bytes = is_ipv4 ? IPV4_BYTES : IPV6_BYTES;
    uint8_t *ip = frame + ETHERNET_BYTES;

    write_ethernet(header->destination_mac, header->source_mac, is_ipv4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6, frame);
    memset(ip, 0, ip_bytes);
    if (is_ipv4) {
        ip[0] = 4 << 4 | IPV4_BYTES / 4;
        ip[1] = header->tos;
        store_be16(ip + 2, IPV4_BYTES + payload_bytes);
        store_be16(ip + 4, header->identification);
        store_be16(ip + 6, DONT_FRAGMENT);
        ip[8] = header->ttl;
        ip[9] = PROTOCOL_CARP;
        memcpy(ip + 12, header->source, 4);
        memcpy(ip + 16, header->destination, 4);
        store_be16(ip + 10, ~fold(add_words(0, ip, IPV4_BYTES)) & 0xffff);
    } else {
        store_be16(ip, 6u << 12 | (uint32_t)header->tos << 4);
        store_be16(ip + 4, payload_bytes);
        ip[6] = PROTOCOL_CARP;
        ip[7] = header->ttl;
        memcpy(ip + 8, header->source, 16);
        memcpy(ip + 24, header->destination, 16);
    }
    if (payload_bytes != 0)
        memcpy(ip + ip_bytes, payload, payload_bytes);
}

/* RFC 5227 section 3: an ARP request whose sender and target are both the address. */
void frame_write_arp(const uint8_t mac[MAC_BYTES], const uint8_t address[4], uint8_t frame[ARP_FRAME_BYTES])
{
    static const uint8_t broadcast[MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t request[8] = {0, 1, 8, 0, 6, 4, 0, 1}; /* Ethernet, IPv4, their address lengths, request */
    uint8_t *arp = frame + ETHERNET_BYTES;

    write_ethernet(broadcast, mac, ETHERTYPE_ARP, frame);
    memcpy(arp, request, sizeof request);
    memcpy(arp + 8, mac, MAC_BYTES);
    memcpy(arp + 14, address, 4);
    memset(arp + 18, 0, MAC_BYTES);
    memcpy(arp + 24, address, 4);
}

/* RFC 4861 section 4.4, with the Override flag and the target link-layer address option, to all nodes. */
void frame_write_na(const uint8_t mac[MAC_BYTES], const uint8_t address[16], int router, uint8_t frame[NA_FRAME_BYTES])
{
    static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1}, all_nodes_mac[MAC_BYTES] = {0x33, 0x33, 0, 0, 0, 1};
    enum { ROUTER = 0x80, OVERRIDE = 0x20, ADVERTISEMENT = 136, TARGET_LINK_LAYER_ADDRESS = 2, BODY_BYTES = 32 };
    uint8_t *ip = frame + ETHERNET_BYTES, *body = ip + IPV6_BYTES;
    uint32_t sum;

    write_ethernet(all_nodes_mac, mac, ETHERTYPE_IPV6, frame);
    memset(ip, 0, IPV6_BYTES + BODY_BYTES);
    ip[0] = 6 << 4;
    store_be16(ip + 4, BODY_BYTES);
    ip[6] = NEXT_ICMPV6;
    ip[7] = 255;
    memcpy(ip + 8, address, 16);
    memcpy(ip + 24, all_nodes, 16);
    body[0] = ADVERTISEMENT;
    body[4] = (uint8_t)(OVERRIDE | (router ? ROUTER : 0));
    memcpy(body + 8, address, 16);
    body[24] = TARGET_LINK_LAYER_ADDRESS;
    body[25] = 1; /* in units of 8 bytes */
    memcpy(body + 26, mac, MAC_BYTES);
    sum = add_words(BODY_BYTES + NEXT_ICMPV6, ip + 8, 32); /* RFC 8200 section 8.1: addresses, length, next header */
    store_be16(body + 2, ~fold(add_words(sum, body, BODY_BYTES)) & 0xffff);
}
