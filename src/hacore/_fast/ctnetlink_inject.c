/* Rows into the kernel: large sends without acknowledgement, the errors of the few that fail, and what to do about them.
 *
 * The kernel works a send off before sendmsg returns, so that its answers (errors only) are all waiting by then. Every row has four sequence
 * numbers: for the messages that clear its way, and for the one that counts. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "ctnetlink.h"
#include "ctnetlink_wire.h"

enum { CLEAR_ORIGINAL = 0, CLEAR_REPLY = 1, COUNTS = 3, NUMBERS = 4 };
enum { ANSWER_BYTES = 64 * 1024, QUERY_COST = 8, LONGEST_OF_A_ROW = 3 * CT_LONGEST };

/* What is done about a row next. */
enum step { S_INSERT, S_UPDATE, S_REPLACE, S_DISPLACE, S_QUERY, S_VERIFY, S_DELETE, S_OK, S_FAILED };
enum { ASKED_AGAIN = 0x80, WAS_ABSENT = 0x40, YIELDS = 0x20 }; /* beside CT_OMIT_* in `omit` */

struct work {
    uint32_t row;
    uint8_t step, omit, tries, reserved;
};

int ct_injector_open(struct ct_injector *injector, int fd, size_t batch_bytes) {
    int buffer = 0;
    socklen_t size = sizeof buffer;
    memset(injector, 0, sizeof *injector);
    injector->fd = fd;
    injector->sequence = 1;
    if (getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, &size) < 0) return -errno;
    if (buffer < 2 * LONGEST_OF_A_ROW) return -EMSGSIZE;
    if (batch_bytes > (size_t)buffer - 64) batch_bytes = (size_t)buffer - 64; /* netlink_sendmsg refuses more than that */
    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, &size) < 0) return -errno;
    injector->batch_bytes = batch_bytes;
    injector->batch_answers = (size_t)buffer / 1024; /* an error without the message it is about costs 768 bytes of the buffer */
    if (injector->batch_answers < 16) injector->batch_answers = 16;
    injector->batch = malloc(batch_bytes);
    injector->answers = malloc(ANSWER_BYTES);
    if (!injector->batch || !injector->answers) {
        ct_injector_close(injector);
        return -ENOMEM;
    }
    return 0;
}

void ct_injector_close(struct ct_injector *injector) {
    free(injector->batch);
    free(injector->answers);
    injector->batch = injector->answers = NULL;
}

static int send_batch(struct ct_injector *injector, const uint8_t *bytes, size_t length) {
    ssize_t sent;
    do sent = send(injector->fd, bytes, length, 0);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Brings the row and what the kernel has for its key together: the step that makes them equal. */
static uint8_t compare(const Row *want, const Row *have, uint8_t *omit, struct ct_counts *counts) {
    const uint32_t lasting = IPS_SEEN_REPLY | IPS_ASSURED | IPS_EXPECTED, nat = IPS_SRC_NAT | IPS_DST_NAT;
    if (memcmp(want->reply_source, have->reply_source, 36) || want->reply_zone != have->reply_zone) return S_REPLACE;
    if ((have->status & lasting & ~want->status) || ((have->status ^ want->status) & nat) || (have->status & IPS_DYING)) return S_REPLACE;
    if (!(*omit & CT_OMIT_HELPER) && memcmp(want->helper, have->helper, sizeof want->helper)) return S_REPLACE;
    if ((want->status & ~have->status & IPS_EXPECTED) && !(*omit & CT_OMIT_MASTER)) {
        *omit |= CT_OMIT_MASTER; /* it went in without its master, which may be gone for good: that is no reason to begin anew */
        counts->no_master++;
    }
    static const uint8_t none[sizeof want->labels];
    if (memcmp(have->labels, none, sizeof none) && !memcmp(want->labels, none, sizeof none)) *omit |= CT_WITH_LABELS;
    if ((have->status & IPS_FIXED_TIMEOUT) && !(*omit & CT_OMIT_TIMEOUT)) {
        *omit |= CT_OMIT_TIMEOUT;
        counts->no_timeout++;
    }
    return S_UPDATE;
}

struct pass {
    const Row *rows;
    struct work *works;      /* of this send */
    uint8_t *outcomes;       /* a step a work: what the answers made of it, starts as S_OK */
    int32_t *errors;         /* a row */
    size_t count;
    uint32_t first_sequence;
    int overrun;
    int32_t refused;         /* EPERM about the first message of a send: the kernel has looked at none */
    struct ct_counts *counts;
};

static uint8_t fail(struct pass *pass, struct work *work, int32_t code) {
    pass->errors[work->row] = code;
    return S_FAILED;
}

/* Another entry has one of the row's tuples. */
static uint8_t displace(struct pass *pass, struct work *work) {
    return work->omit & YIELDS ? fail(pass, work, EEXIST) : S_DISPLACE;
}

/* An error about the message that counts, into the next step. */
static uint8_t next_step(struct pass *pass, struct work *work, int32_t code) {
    const Row *row = &pass->rows[work->row];
    if (++work->tries > 8) return fail(pass, work, code);
    switch (work->step) {
    case S_INSERT:
    case S_REPLACE:
    case S_DISPLACE:
        if (code == EEXIST && work->step == S_INSERT) return work->omit & WAS_ABSENT ? displace(pass, work) : S_QUERY;
        if (code == EEXIST && work->step == S_REPLACE) return displace(pass, work);
        if (code == EOPNOTSUPP && row->helper[0] && !(work->omit & CT_OMIT_HELPER)) {
            work->omit |= CT_OMIT_HELPER;
            pass->counts->no_helper++;
            return work->step;
        }
        if (code == ENOENT && row->master_protocol && !(work->omit & CT_OMIT_MASTER)) {
            /* The master may be later in the same batch: once more, then without. */
            if (work->omit & ASKED_AGAIN) {
                work->omit |= CT_OMIT_MASTER;
                pass->counts->no_master++;
            }
            work->omit |= ASKED_AGAIN;
            return work->step;
        }
        return fail(pass, work, code);
    case S_UPDATE:
        if (code == ENOENT) return S_INSERT;
        if (code == ETIME) return S_REPLACE;
        if (code == EBUSY) return S_QUERY;
        if (code == EPERM && !(work->omit & CT_OMIT_TIMEOUT)) {
            work->omit |= CT_OMIT_TIMEOUT; /* IPS_FIXED_TIMEOUT */
            pass->counts->no_timeout++;
            return S_UPDATE;
        }
        if (code == ENOSPC) { /* labels are the last thing an update sets: the rest is done */
            pass->counts->no_labels++;
            return S_OK;
        }
        return fail(pass, work, code);
    case S_QUERY:
    case S_VERIFY:
        if (code != ENOENT) return fail(pass, work, code);
        /* Not there by its key: it has expired since, or what stood in the way holds its reply tuple. */
        work->omit |= WAS_ABSENT;
        return S_INSERT;
    case S_DELETE:
        if (code == ENOENT) {
            pass->counts->absent++;
            return S_OK;
        }
        return fail(pass, work, code);
    default: return fail(pass, work, code);
    }
}

static void take_error(struct pass *pass, uint32_t sequence, int32_t code) {
    const uint32_t place = sequence - pass->first_sequence;
    const size_t index = place / NUMBERS;
    if (code == 0 || index >= pass->count) return;
    /* Without CAP_NET_ADMIN one EPERM answers the first message of a send and the kernel looks at none. Only an update may hear EPERM for
     * a reason of its own, once. */
    if (code == EPERM && (place % NUMBERS != COUNTS || pass->works[index].step != S_UPDATE || pass->works[index].omit & CT_OMIT_TIMEOUT))
        pass->refused = EPERM;
    if (place % NUMBERS != COUNTS) return; /* a way that was clear already */
    pass->outcomes[index] = next_step(pass, &pass->works[index], code);
}

static void take_row(struct pass *pass, uint32_t sequence, const Row *have) {
    const uint32_t place = sequence - pass->first_sequence;
    const size_t index = place / NUMBERS;
    if (index >= pass->count) return;
    struct work *work = &pass->works[index];
    if (work->step != S_QUERY && work->step != S_VERIFY) return;
    const Row *want = &pass->rows[work->row];
    if (++work->tries > 8) pass->outcomes[index] = fail(pass, work, EBUSY);
    else if (work->omit & YIELDS && memcmp(want, have, KEY_BYTES)) pass->outcomes[index] = displace(pass, work); /* found by its reply tuple */
    else pass->outcomes[index] = compare(want, have, &work->omit, pass->counts);
}

static int drain(struct ct_injector *injector, struct pass *pass) {
    for (;;) {
        ssize_t got = recv(injector->fd, injector->answers, ANSWER_BYTES, MSG_DONTWAIT);
        if (got < 0) {
            if (errno == EINTR) continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
            if (errno != ENOBUFS) return -errno;
            pass->overrun = 1;
            continue;
        }
        const uint8_t *at = injector->answers;
        size_t left = (size_t)got;
        while (left >= NL_HEADER) {
            struct { uint32_t length; uint16_t type, flags; uint32_t sequence, portid; } header;
            memcpy(&header, at, NL_HEADER);
            if (header.length < NL_HEADER || header.length > left) break;
            if (header.type == NL_ERROR && header.length >= NL_HEADER + 4) {
                int32_t code;
                memcpy(&code, at + NL_HEADER, 4);
                take_error(pass, header.sequence, -code);
            } else if (header.type == (SUBSYS_CT << 8 | MSG_NEW) && header.length >= CT_HEADER) {
                Row have;
                struct ct_event event = {0, 0, 0, CT_DUMP, 0};
                if (!ct_parse_row(at + CT_HEADER, header.length - CT_HEADER, at[NL_HEADER], &have, &event, NULL))
                    take_row(pass, header.sequence, &have);
            }
            const size_t step = ((size_t)header.length + 3) & ~(size_t)3;
            if (step >= left) break;
            at += step;
            left -= step;
        }
    }
}

static size_t build(const struct ct_injector *injector, uint8_t *at, const Row *row, const struct work *work, uint32_t sequence) {
    uint8_t *to = at;
    const unsigned omit = work->omit & (CT_OMIT_HELPER | CT_OMIT_MASTER | CT_OMIT_TIMEOUT | CT_WITH_LABELS);
    size_t size = 0;
    switch (work->step) {
    case S_DISPLACE:
    case S_REPLACE:
        to += ct_build_delete(to, row, sequence + CLEAR_ORIGINAL, 0);
        if (work->step == S_DISPLACE) to += ct_build_delete(to, row, sequence + CLEAR_REPLY, 1);
        size = ct_build_insert(to, row, sequence + COUNTS, omit, &injector->how);
        break;
    case S_INSERT: size = ct_build_insert(to, row, sequence + COUNTS, omit, &injector->how); break;
    case S_UPDATE: size = ct_build_update(to, row, sequence + COUNTS, omit, &injector->how); break;
    case S_DELETE: size = ct_build_delete(to, row, sequence + COUNTS, 0); break;
    default: size = ct_build_get(to, row, sequence + COUNTS, 0); break;
    }
    return size ? (size_t)(to - at) + size : 0;
}

static void count_done(struct ct_counts *counts, const struct work *work) {
    switch (work->step) {
    case S_INSERT: counts->inserted++; break;
    case S_UPDATE: counts->updated++; break;
    case S_REPLACE: counts->replaced++; break;
    case S_DISPLACE: counts->replaced++; counts->displaced++; break;
    case S_DELETE: counts->deleted++; break;
    default: break;
    }
}

static uint8_t first_step(uint8_t operation) {
    switch (operation & CT_OPERATION) {
    case CT_INSERT: return S_INSERT;
    case CT_UPDATE_ROW: return S_UPDATE;
    case CT_REPLACE: return S_REPLACE;
    case CT_DELETE_ROW: return S_DELETE;
    default: return S_FAILED;
    }
}

struct retries {
    struct work *works;
    size_t count, capacity;
};

static int again(struct retries *retries, const struct work *work) {
    if (retries->count == retries->capacity) {
        const size_t capacity = retries->capacity ? retries->capacity * 2 : 256;
        struct work *grown = realloc(retries->works, capacity * sizeof *grown);
        if (!grown) return -ENOMEM;
        retries->works = grown;
        retries->capacity = capacity;
    }
    retries->works[retries->count++] = *work;
    return 0;
}

/* Sends works[0..] of at most `limit`, as many as fit, takes the answers and files what is not done yet. Gives how many or -errno. */
static ssize_t run(struct ct_injector *injector, const Row *rows, struct work *works, uint8_t *outcomes, size_t limit,
                   int32_t *errors, struct ct_counts *counts, struct retries *retries) {
    struct pass pass = {rows, works, outcomes, errors, 0, injector->sequence, 0, 0, counts};
    size_t used = 0, cost = 0;
    int result;
    while (pass.count < limit && used + LONGEST_OF_A_ROW <= injector->batch_bytes && cost < injector->batch_answers) {
        struct work *work = &works[pass.count];
        const uint32_t sequence = pass.first_sequence + (uint32_t)pass.count * NUMBERS;
        uint8_t outcome = S_OK;
        size_t size = 0;
        if (work->step == S_FAILED) outcome = fail(&pass, work, EINVAL);
        else if (!(size = build(injector, injector->batch + used, &rows[work->row], work, sequence))) outcome = fail(&pass, work, EINVAL);
        outcomes[pass.count++] = outcome;
        used += size;
        cost += work->step == S_QUERY || work->step == S_VERIFY ? QUERY_COST : work->step == S_DISPLACE ? 3 : work->step == S_REPLACE ? 2 : 1;
        counts->messages += size ? (work->step == S_DISPLACE ? 3 : work->step == S_REPLACE ? 2 : 1) : 0;
        counts->queries += work->step == S_QUERY || work->step == S_VERIFY;
    }
    injector->sequence += (uint32_t)pass.count * NUMBERS;
    if (used) {
        if ((result = send_batch(injector, injector->batch, used)) < 0) return result;
        counts->sends++;
        if ((result = drain(injector, &pass)) < 0) return result;
        if (pass.refused) return -pass.refused;
    }
    if (pass.overrun) { /* the buffer holds less than was thought */
        counts->lost++;
        injector->batch_answers = injector->batch_answers / 4 > QUERY_COST ? injector->batch_answers / 4 : QUERY_COST;
    }
    for (size_t index = 0; index < pass.count; index++) {
        struct work *work = &works[index];
        uint8_t outcome = outcomes[index];
        if (outcome == S_OK && (pass.overrun || work->step == S_QUERY || work->step == S_VERIFY)) {
            /* No answer where one may have been lost: ask what is there; a delete can simply be said twice. */
            if (++work->tries > 8) outcome = fail(&pass, work, ENOBUFS);
            else outcome = work->step == S_DELETE ? S_DELETE : S_VERIFY;
        }
        if (outcome == S_OK) {
            count_done(counts, work);
        } else if (outcome == S_FAILED) {
            if (work->omit & YIELDS && errors[work->row] == EEXIST) counts->yielded++;
            else counts->failed++;
            counts->full += errors[work->row] == ENOMEM;
        } else {
            work->step = outcome;
            if ((result = again(retries, work)) < 0) return result;
        }
    }
    return (ssize_t)pass.count;
}

int ct_inject(struct ct_injector *injector, const Row *rows, const uint8_t *operations, size_t count, int32_t *errors,
              struct ct_counts *counts) {
    const size_t most = injector->batch_bytes / 64; /* no message is shorter */
    struct work *works = malloc(most * sizeof *works);
    uint8_t *outcomes = malloc(most);
    struct retries now = {0}, later = {0};
    ssize_t result = works && outcomes && count <= UINT32_MAX ? 0 : -ENOMEM;
    size_t done = 0;

    memset(errors, 0, count * sizeof *errors);
    while (result >= 0 && done < count) {
        const size_t limit = count - done < most ? count - done : most;
        for (size_t index = 0; index < limit; index++) {
            const uint8_t operation = operations ? operations[done + index] : CT_INSERT;
            const int omit = (operation & CT_LABELS_TOO ? CT_WITH_LABELS : 0) | (operation & CT_YIELD ? YIELDS : 0);
            works[index] = (struct work){(uint32_t)(done + index), first_step(operation), (uint8_t)omit, 0, 0};
        }
        if ((result = run(injector, rows, works, outcomes, limit, errors, counts, &now)) >= 0) done += (size_t)result;
    }
    while (result >= 0 && now.count) {
        size_t taken = 0;
        while (result >= 0 && taken < now.count) {
            const size_t limit = now.count - taken < most ? now.count - taken : most;
            if ((result = run(injector, rows, now.works + taken, outcomes, limit, errors, counts, &later)) >= 0) taken += (size_t)result;
        }
        if (result < 0) /* what was not tried */
            for (; taken < now.count; taken++) errors[now.works[taken].row] = (int32_t)-result;
        const struct retries spare = now;
        now = later;
        later = spare;
        later.count = 0;
    }
    if (result < 0) {
        for (size_t index = 0; index < now.count; index++) errors[now.works[index].row] = (int32_t)-result;
        for (; done < count; done++) errors[done] = (int32_t)-result;
    }
    free(works);
    free(outcomes);
    free(now.works);
    free(later.works);
    return result < 0 ? (int)result : 0;
}

/* Expectations: few, so one step after the other. A new one gets its helper's timeout from the kernel, the right one needs a second message. */
int ct_inject_expectations(struct ct_injector *injector, const struct ct_expectation *expectations, const uint8_t *operations, size_t count,
                           int32_t *errors, struct ct_counts *counts) {
    Row nothing;
    memset(&nothing, 0, sizeof nothing);
    for (size_t index = 0; index < count; index++) {
        const struct ct_expectation *one = &expectations[index];
        const uint8_t operation = operations ? operations[index] & CT_OPERATION : CT_INSERT;
        const int adds = operation == CT_INSERT || operation == CT_UPDATE_ROW || operation == CT_REPLACE;
        int replace = operation == CT_REPLACE;
        for (int tries = 0; tries < 2; tries++) {
            struct work work = {0, S_DELETE, 0, 8, 0}; /* no further try: every error fails the work */
            uint8_t outcome = S_OK, *to = injector->batch;
            int32_t error = 0;
            struct pass pass = {&nothing, &work, &outcome, &error, 1, injector->sequence, 0, 0, counts};
            int result;
            injector->sequence += NUMBERS;
            if ((replace && adds) || operation == CT_DELETE_ROW)
                to += ct_build_expectation_delete(to, one, pass.first_sequence + (adds ? CLEAR_ORIGINAL : COUNTS));
            if (adds) {
                to += ct_build_expectation(to, one, pass.first_sequence + COUNTS, 0);
                to += ct_build_expectation(to, one, pass.first_sequence + CLEAR_REPLY, 1);
            }
            if (to == injector->batch) {
                errors[index] = EINVAL;
                counts->failed++;
                break;
            }
            if ((result = send_batch(injector, injector->batch, (size_t)(to - injector->batch))) == 0) result = drain(injector, &pass);
            if (pass.refused) result = -pass.refused;
            if (result < 0) {
                for (; index < count; index++) errors[index] = -result;
                return result;
            }
            counts->sends++;
            if (error == EEXIST && adds && !replace) {
                replace = 1;
                continue;
            }
            errors[index] = operation == CT_DELETE_ROW && error == ENOENT ? 0 : error;
            if (error == 0 && adds) counts->inserted += replace ? 0 : 1, counts->replaced += replace ? 1 : 0;
            else if (error == 0) counts->deleted++;
            else if (errors[index] == 0) counts->absent++;
            else counts->failed++;
            break;
        }
    }
    return 0;
}

int ct_inject_bare(struct ct_injector *injector, const uint8_t *messages, size_t length, uint64_t *errors) {
    size_t offset = 0;
    int result;
    while (offset < length) {
        size_t end = offset;
        while (end < length) {
            uint32_t size;
            memcpy(&size, messages + end, 4);
            const size_t step = ((size_t)size + 3) & ~(size_t)3;
            if (size < NL_HEADER || step > length - end) return -EINVAL;
            if (end + step - offset > injector->batch_bytes) break;
            end += step;
        }
        if ((result = send_batch(injector, messages + offset, end - offset)) < 0) return result;
        for (;;) {
            ssize_t got = recv(injector->fd, injector->answers, ANSWER_BYTES, MSG_DONTWAIT);
            if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
            if (got < 0 && errno != ENOBUFS && errno != EINTR) return -errno;
            ++*errors;
        }
        offset = end;
    }
    return 0;
}
