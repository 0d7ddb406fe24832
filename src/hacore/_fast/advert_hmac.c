#include "advert_hmac.h"

#include <string.h>

/* The lanes of one call, as the engine wants them: constant words are written once, the counters' for each group. */
struct group {
    const struct sha1_engine *engine;
    uint32_t inner[2 * SHA1_BLOCK_WORDS * SHA1_MAX_LANES] __attribute__((aligned(64)));
    uint32_t outer[SHA1_BLOCK_WORDS * SHA1_MAX_LANES] __attribute__((aligned(64))); /* five rows: the inner digest */
    uint32_t digest[SHA1_STATE_WORDS * SHA1_MAX_LANES] __attribute__((aligned(64)));
};

static void spread(uint32_t *rows, size_t lanes, const uint32_t *words, size_t count)
{
    for (size_t word = 0; word < count; word++)
        for (size_t lane = 0; lane < lanes; lane++)
            rows[word * lanes + lane] = words[word];
}

static void group_open(struct group *group, const struct sha1_engine *engine, const struct advert_form *form)
{
    static const uint32_t padding[SHA1_BLOCK_WORDS - SHA1_STATE_WORDS] = {
        [0] = 0x80000000u, [SHA1_BLOCK_WORDS - SHA1_STATE_WORDS - 1] = 8 * (SHA1_BLOCK_BYTES + SHA1_DIGEST_BYTES)};

    group->engine = engine;
    spread(group->inner, engine->lanes, form->words, form->blocks * (size_t)SHA1_BLOCK_WORDS);
    spread(group->outer + SHA1_STATE_WORDS * engine->lanes, engine->lanes, padding, sizeof padding / sizeof *padding);
}

/* Leave in group->digest the HMAC of each lane's counter. */
static void group_digest(struct group *group, const struct advert_key *key, const struct advert_form *form,
                         const uint64_t *counters)
{
    const struct sha1_engine *engine = group->engine;
    const size_t lanes = engine->lanes;
    const uint32_t *base = form->words + form->counter_word, skip = 8 * form->counter_skip;
    uint32_t *rows = group->inner + form->counter_word * lanes;

    for (size_t lane = 0; lane < lanes; lane++) {
        rows[lane] = base[0] | (uint32_t)(counters[lane] >> 32 >> skip);
        rows[lanes + lane] = base[1] | (uint32_t)(counters[lane] >> skip);
        rows[2 * lanes + lane] = base[2] | (uint32_t)(counters[lane] << 32 >> skip);
    }
    spread(group->outer, lanes, form->state, SHA1_STATE_WORDS);
    engine->compress(group->outer, group->inner);
    if (form->blocks == 2)
        engine->compress(group->outer, group->inner + SHA1_BLOCK_WORDS * lanes);
    spread(group->digest, lanes, key->outer, SHA1_STATE_WORDS);
    engine->compress(group->digest, group->outer);
}

void advert_key_prepare(struct advert_key *key, const uint8_t password[ADVERT_KEY_BYTES], uint8_t vhid)
{
    uint8_t inner[SHA1_BLOCK_BYTES], outer[SHA1_BLOCK_BYTES];

    for (size_t at = 0; at < SHA1_BLOCK_BYTES; at++) {
        uint8_t byte = at < ADVERT_KEY_BYTES ? password[at] : 0;
        inner[at] = byte ^ 0x36;
        outer[at] = byte ^ 0x5c;
    }
    memset(key, 0, sizeof *key);
    memcpy(key->inner, sha1_initial_state, sizeof key->inner);
    memcpy(key->outer, sha1_initial_state, sizeof key->outer);
    sha1_absorb(sha1_for_one(), key->inner, inner);
    sha1_absorb(sha1_for_one(), key->outer, outer);
    key->vhid = vhid;
}

void advert_key_add_form(struct advert_key *key, const uint8_t *prefix, size_t length)
{
    struct advert_form *form = &key->forms[key->form_count++];
    const size_t rest = length % SHA1_BLOCK_BYTES;
    const uint64_t message_bits = 8 * (uint64_t)(SHA1_BLOCK_BYTES + length + 8);
    uint8_t tail[2 * SHA1_BLOCK_BYTES] = {0};

    memcpy(form->state, key->inner, sizeof form->state);
    for (size_t at = 0; at < length - rest; at += SHA1_BLOCK_BYTES)
        sha1_absorb(sha1_for_one(), form->state, prefix + at);
    memcpy(tail, prefix + (length - rest), rest);
    tail[rest + 8] = 0x80;
    form->counter_word = (uint32_t)(rest / 4);
    form->counter_skip = (uint32_t)(rest % 4);
    form->blocks = rest + 8 + 9 <= SHA1_BLOCK_BYTES ? 1 : 2;
    store_be32(tail + form->blocks * (size_t)SHA1_BLOCK_BYTES - 8, (uint32_t)(message_bits >> 32));
    store_be32(tail + form->blocks * (size_t)SHA1_BLOCK_BYTES - 4, (uint32_t)message_bits);
    for (size_t word = 0; word < 2 * SHA1_BLOCK_WORDS; word++)
        form->words[word] = load_be32(tail + 4 * word);
}

uint32_t advert_sum(const uint8_t advert[ADVERT_BYTES])
{
    uint32_t words[ADVERT_BYTES / 4];
    uint64_t sum = 0;

    memcpy(words, advert, sizeof words);
    for (size_t word = 0; word < ADVERT_BYTES / 4; word++)
        sum += words[word];
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffffffffu) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint32_t)((sum & 0xffff) + (sum >> 16));
}

void advert_write_checksum(uint8_t advert[ADVERT_BYTES])
{
    uint16_t checksum;

    advert[6] = advert[7] = 0;
    checksum = (uint16_t)~advert_sum(advert);
    memcpy(advert + 6, &checksum, sizeof checksum);
}

/* Everything before authentication, for an advert that is long enough. */
static enum advert_rung check_header(const struct advert_key *key, const uint8_t *advert)
{
    if (advert_sum(advert) != 0xffff)
        return ADVERT_CHECKSUM;
    if (advert[1] != key->vhid)
        return ADVERT_VHID;
    if (advert[0] >> 4 != ADVERT_VERSION)
        return ADVERT_VERSION_RUNG;
    return ADVERT_VALID;
}

static uint64_t counter_of(const uint8_t *advert)
{
    return (uint64_t)load_be32(advert + 8) << 32 | load_be32(advert + 12);
}

/* Zero where lane's digest is the advert's; takes as long wherever they differ. */
static uint32_t digest_difference(const struct group *group, size_t lane, const uint8_t *advert)
{
    uint32_t difference = 0;

    for (size_t word = 0; word < SHA1_STATE_WORDS; word++)
        difference |= group->digest[word * group->engine->lanes + lane] ^ load_be32(advert + 16 + 4 * word);
    return difference;
}

static void write_advert(const struct advert_key *key, struct advert_header header, const struct group *group,
                         size_t lane, uint64_t counter, uint8_t *advert)
{
    const uint8_t first[8] = {ADVERT_VERSION << 4 | ADVERT_TYPE, key->vhid, header.advskew, ADVERT_AUTHLEN,
                              header.demotion, header.advbase, 0, 0};

    memcpy(advert, first, sizeof first);
    store_be32(advert + 8, (uint32_t)(counter >> 32));
    store_be32(advert + 12, (uint32_t)counter);
    for (size_t word = 0; word < SHA1_STATE_WORDS; word++)
        store_be32(advert + 16 + 4 * word, group->digest[word * group->engine->lanes + lane]);
    advert_write_checksum(advert);
}

void advert_build(const struct advert_key *key, struct advert_header header, uint64_t counter, uint8_t *advert)
{
    struct group group;

    group_open(&group, sha1_for_one(), &key->forms[0]);
    group_digest(&group, key, &key->forms[0], &counter);
    write_advert(key, header, &group, 0, counter, advert);
}

void advert_build_many(const struct advert_key *key, struct advert_header header, const uint64_t *counters,
                       size_t count, uint8_t *adverts)
{
    struct group group;
    const struct sha1_engine *engine = sha1_for_many();

    group_open(&group, engine, &key->forms[0]);
    for (size_t first = 0; first < count; first += engine->lanes) {
        uint64_t lane_counters[SHA1_MAX_LANES] = {0};
        size_t live = count - first < engine->lanes ? count - first : engine->lanes;

        memcpy(lane_counters, counters + first, live * sizeof *counters);
        group_digest(&group, key, &key->forms[0], lane_counters);
        for (size_t lane = 0; lane < live; lane++)
            write_advert(key, header, &group, lane, lane_counters[lane], adverts + (first + lane) * ADVERT_BYTES);
    }
}

enum advert_rung advert_verify(const struct advert_key *key, const uint8_t *advert, size_t length, uint32_t *form)
{
    struct group group;
    enum advert_rung rung = length < ADVERT_BYTES ? ADVERT_SHORT : check_header(key, advert);
    uint64_t counter;

    if (rung != ADVERT_VALID)
        return rung;
    counter = counter_of(advert);
    for (*form = 0; *form < key->form_count; ++*form) {
        group_open(&group, sha1_for_one(), &key->forms[*form]);
        group_digest(&group, key, &key->forms[*form], &counter);
        if (digest_difference(&group, 0, advert) == 0)
            return ADVERT_VALID;
    }
    return ADVERT_AUTHENTICATION;
}

void advert_verify_many(const struct advert_key *key, const uint8_t *adverts, size_t count, uint8_t *verdicts)
{
    struct group groups[ADVERT_MAX_FORMS];
    const struct sha1_engine *engine = sha1_for_many();

    for (uint32_t form = 0; form < key->form_count; form++)
        group_open(&groups[form], engine, &key->forms[form]);
    for (size_t first = 0; first < count; first += engine->lanes) {
        const uint8_t *advert = adverts + first * ADVERT_BYTES;
        uint8_t *verdict = verdicts + first;
        uint64_t counters[SHA1_MAX_LANES] = {0};
        size_t live = count - first < engine->lanes ? count - first : engine->lanes, waiting = 0;

        for (size_t lane = 0; lane < live; lane++) {
            enum advert_rung rung = check_header(key, advert + lane * ADVERT_BYTES);
            verdict[lane] = (uint8_t)(rung == ADVERT_VALID ? ADVERT_AUTHENTICATION : rung);
            waiting += rung == ADVERT_VALID;
            counters[lane] = counter_of(advert + lane * ADVERT_BYTES);
        }
        for (uint32_t form = 0; form < key->form_count && waiting > 0; form++) {
            group_digest(&groups[form], key, &key->forms[form], counters);
            for (size_t lane = 0; lane < live; lane++) {
                uint32_t difference = digest_difference(&groups[form], lane, advert + lane * ADVERT_BYTES);
                if (verdict[lane] == ADVERT_AUTHENTICATION && difference == 0) {
                    verdict[lane] = ADVERT_VALID;
                    waiting--;
                }
            }
        }
    }
}
