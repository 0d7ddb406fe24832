/* CARP advertisements under a prepared key: the header of FreeBSD's sys/netinet/ip_carp.h, its checksum and HMAC-SHA1.
 *
 *   0 version << 4 | type   1 vhid      2 advskew   3 authlen   4 pad (OpenBSD: demotion)   5 advbase   6 checksum (2)
 *   8 counter (8, big endian)           16 digest (20)
 *
 * The HMAC covers a constant prefix (02 01, vhid, addresses) and then the counter, so all of it is done beforehand but
 * the last one or two blocks inside and the one outside.
 */
#ifndef HACORE_ADVERT_HMAC_H
#define HACORE_ADVERT_HMAC_H

#include "advert_sha1.h"

#define ADVERT_BYTES 36
#define ADVERT_VERSION 2
#define ADVERT_TYPE 1
#define ADVERT_AUTHLEN 7
#define ADVERT_KEY_BYTES 20
#define ADVERT_MAX_FORMS 2

/* The rungs of the ladder, in the order of FreeBSD's carp_input_c. */
enum advert_rung {
    ADVERT_VALID,
    ADVERT_SHORT,
    ADVERT_CHECKSUM,
    ADVERT_VHID,
    ADVERT_VERSION_RUNG,
    ADVERT_AUTHENTICATION,
};

/* One way to compute the digest: the state before the blocks that hold the counter, those blocks with zeros in its
 * place, and where it goes. */
struct advert_form {
    uint32_t state[SHA1_STATE_WORDS];
    uint32_t words[2 * SHA1_BLOCK_WORDS];
    uint32_t blocks;       /* 1 or 2 */
    uint32_t counter_word; /* the counter starts in this word, */
    uint32_t counter_skip; /* after this many of its bytes */
};

struct advert_key {
    uint32_t inner[SHA1_STATE_WORDS]; /* after the block of key ^ ipad */
    uint32_t outer[SHA1_STATE_WORDS]; /* after the block of key ^ opad */
    struct advert_form forms[ADVERT_MAX_FORMS];
    uint32_t form_count;
    uint8_t vhid;
};

/* The password is padded with zeros by the caller. Each prefix that is accepted is added as a form; adverts are built
 * in the first. */
void advert_key_prepare(struct advert_key *key, const uint8_t password[ADVERT_KEY_BYTES], uint8_t vhid);
void advert_key_add_form(struct advert_key *key, const uint8_t *prefix, size_t length);

/* What all adverts of one build share. */
struct advert_header {
    uint8_t advbase, advskew, demotion;
};

void advert_build(const struct advert_key *key, struct advert_header header, uint64_t counter, uint8_t *advert);
void advert_build_many(const struct advert_key *key, struct advert_header header, const uint64_t *counters,
                       size_t count, uint8_t *adverts);

/* Bytes past the 36th are not looked at. `form` gets the index of the form that matched. */
enum advert_rung advert_verify(const struct advert_key *key, const uint8_t *advert, size_t length, uint32_t *form);

/* `adverts` holds `count` adverts of 36 bytes, one after the other; `verdicts` gets the rung of each. */
void advert_verify_many(const struct advert_key *key, const uint8_t *adverts, size_t count, uint8_t *verdicts);

/* The Internet checksum's sum over the 36 bytes as they are, folded, in the machine's byte order: 0xffff where the
 * checksum field is right. */
uint32_t advert_sum(const uint8_t advert[ADVERT_BYTES]);

/* Put the right checksum into its field. */
void advert_write_checksum(uint8_t advert[ADVERT_BYTES]);

#endif
