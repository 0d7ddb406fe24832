/* Conntrack messages to rows and back, and the two socket loops. No function here calls into Python. */
#ifndef HACORE_CTNETLINK_H
#define HACORE_CTNETLINK_H

#include <stddef.h>
#include <stdint.h>

#include "row.h"

/* What a message said beside the row. */
struct __attribute__((packed)) ct_event {
    uint32_t portid;  /* the socket that caused it; 0: traffic or expiry */
    uint32_t id;      /* the kernel's id of the entry; 0: not told */
    uint16_t present; /* CT_HAS_*: parts of the row that the message carried */
    uint8_t kind;     /* CT_DUMP, CT_NEW, CT_UPDATE, CT_DESTROY */
    uint8_t reserved;
};

/* What can be shown and not injected. Absent: zero. */
struct __attribute__((packed)) ct_display {
    uint64_t start_ns, stop_ns; /* ns since 1970 */
    uint64_t packets_original, bytes_original, packets_reply, bytes_reply;
};

/* An expectation: the connection that a helper waits for. Same conventions as the row. */
struct __attribute__((packed)) ct_expectation {
    uint8_t family, protocol;
    uint16_t zone; /* the kernel never tells it: zero, or what the caller has filled in from the master's row */
    uint8_t source[16], destination[16];
    uint16_t source_port, destination_port;
    uint8_t mask_source[16]; /* the destination's mask is all ones in every kernel */
    uint16_t mask_source_port;
    uint8_t master_protocol, has_nat;
    uint8_t master_source[16], master_destination[16];
    uint16_t master_source_port, master_destination_port;
    uint8_t nat_source[16];
    uint16_t nat_source_port;
    uint8_t nat_protocol, nat_direction;
    uint32_t timeout, flags, class;
    char helper[16];   /* of the master */
    char function[32]; /* CTA_EXPECT_FN */
};
_Static_assert(sizeof(struct ct_expectation) == 176, "the expectation has no holes");

enum { CT_DUMP = 0, CT_NEW = 1, CT_UPDATE = 2, CT_DESTROY = 3 };
enum {
    CT_HAS_STATE = 1, CT_HAS_TIMEOUT = 2, CT_HAS_LABELS = 4, CT_HAS_ADJUST = 8, CT_HAS_MASTER = 16, CT_HAS_SYNPROXY = 32,
    CT_HAS_HELPER = 64, CT_HAS_MARK = 128, CT_HAS_STATUS = 256, CT_HAS_ALL = 511
};
/* Why a message was refused: index of the counter, the name is in ctnetlink.pyx. */
enum { CT_BAD_FRAME, CT_BAD_ATTRIBUTE, CT_BAD_LENGTH, CT_BAD_FAMILY, CT_BAD_TUPLE, CT_BAD_VALUE, CT_TRUNCATED, CT_RUNGS };

/* Where parsed messages go and what was met on the way. Pointers may be NULL where the capacity is 0; `display` may always be NULL. */
struct ct_sink {
    Row *rows;
    struct ct_event *events; /* one for each row */
    struct ct_display *display;
    size_t row_capacity, row_count;
    struct ct_expectation *expectations;
    struct ct_event *expectation_events;
    size_t expectation_capacity, expectation_count;
    uint64_t malformed[CT_RUNGS];
    uint64_t messages, skipped;
    int64_t first_malformed; /* offset in the buffer of the first refused message of this call, or -1 */
    int32_t error;           /* errno out of the last NLMSG_ERROR, 0: none */
    uint8_t done, interrupted, overrun;
};

/* Parses one attribute area (after nfgenmsg) of a conntrack message: 0 or -1 - rung. `display` may be NULL. */
int ct_parse_row(const uint8_t *attributes, size_t length, uint8_t family, Row *row, struct ct_event *event,
                 struct ct_display *display);
int ct_parse_expectation(const uint8_t *attributes, size_t length, uint8_t family, struct ct_expectation *expectation,
                         struct ct_event *event);
/* Walks the messages in `buffer` from `*offset`, stops at the end or where the sink is full (`*offset` then says where to go on). */
void ct_walk(const uint8_t *buffer, size_t length, size_t *offset, struct ct_sink *sink);
/* Only the framing: how many messages there are. The yardstick of the benchmark. */
size_t ct_walk_bare(const uint8_t *buffer, size_t length);
/* What an event did not carry, from the row as it was known before. */
void ct_complete(Row *row, const Row *known, unsigned present);

/* Datagrams of one socket, many in a call. */
struct ct_receiver {
    uint8_t *slots;
    size_t slot_bytes, slot_count;
    struct mmsghdr *headers;
    struct iovec *vectors;
    size_t filled, current, offset; /* slots that hold a datagram, the one being parsed, the place in it */
};
int ct_receiver_open(struct ct_receiver *receiver, size_t slot_count, size_t slot_bytes);
void ct_receiver_close(struct ct_receiver *receiver);
/* One recvmmsg (where no datagram waits from the call before) and the parse of what came. 0 or -errno; ENOBUFS is `sink->overrun`. */
int ct_receive(struct ct_receiver *receiver, int fd, struct ct_sink *sink);

enum { CT_LONGEST = 1024 }; /* no message built here is longer */
enum { CT_OMIT_HELPER = 1, CT_OMIT_MASTER = 2, CT_OMIT_TIMEOUT = 4, CT_WITH_LABELS = 8 };
struct ct_build {
    uint32_t extra_timeout, offload_timeout_tcp, offload_timeout_udp; /* seconds */
};
/* Each writes one whole message at `to` and gives its length; `omit` is of CT_OMIT_*. 0: the row cannot be told to the kernel (EINVAL). */
size_t ct_build_insert(uint8_t *to, const Row *row, uint32_t sequence, unsigned omit, const struct ct_build *how);
size_t ct_build_update(uint8_t *to, const Row *row, uint32_t sequence, unsigned omit, const struct ct_build *how);
size_t ct_build_delete(uint8_t *to, const Row *row, uint32_t sequence, int by_reply);
size_t ct_build_get(uint8_t *to, const Row *row, uint32_t sequence, int by_reply);
size_t ct_build_expectation(uint8_t *to, const struct ct_expectation *expectation, uint32_t sequence, int only_timeout);
size_t ct_build_expectation_delete(uint8_t *to, const struct ct_expectation *expectation, uint32_t sequence);

enum { CT_INSERT = 1, CT_UPDATE_ROW = 2, CT_REPLACE = 3, CT_DELETE_ROW = 4, CT_GET_ROW = 5, CT_GET_REPLY = 6 };
enum { CT_OPERATION = 0x0f, CT_LABELS_TOO = 0x10, CT_YIELD = 0x20 }; /* beside the operation */
/* What an injection of the row with this operation sends first, or a query (CT_GET_*): one or two messages of one sequence number, so the
 * room is twice CT_LONGEST. Their length, or 0 as above. */
size_t ct_build_first(uint8_t *to, const Row *row, unsigned operation, uint32_t sequence, const struct ct_build *how);
struct ct_counts {
    uint64_t inserted, updated, replaced, deleted; /* rows, by what it came to in the end */
    uint64_t displaced;                            /* of the inserted and replaced: another entry had to leave its reply tuple */
    uint64_t absent;                               /* deletes of what was not there */
    uint64_t yielded;                              /* rows with CT_YIELD that stayed out: another entry has one of their tuples */
    uint64_t failed, full;                         /* rows with an error; of these ENOMEM: the kernel's table is full */
    uint64_t no_helper, no_labels, no_master, no_timeout; /* optional parts that the kernel refused and that were left out */
    uint64_t messages, sends, queries, lost;       /* lost: sends after which an answer may be missing; their rows were asked for */
};
struct ct_injector {
    int fd;
    uint32_t sequence;
    size_t batch_bytes, batch_answers; /* bytes in one send; answers that the receive buffer surely holds */
    uint8_t *batch, *answers;
    struct ct_build how;
};
int ct_injector_open(struct ct_injector *injector, int fd, size_t batch_bytes);
void ct_injector_close(struct ct_injector *injector);
/* Brings `count` rows into the kernel. operations: one of CT_INSERT... a row, or NULL: CT_INSERT. errors: an errno a row, 0 is done. Gives 0
 * or -errno where the socket itself failed; the errors of rows not tried are then that errno. */
int ct_inject(struct ct_injector *injector, const Row *rows, const uint8_t *operations, size_t count, int32_t *errors,
              struct ct_counts *counts);
int ct_inject_expectations(struct ct_injector *injector, const struct ct_expectation *expectations, const uint8_t *operations,
                           size_t count, int32_t *errors, struct ct_counts *counts);
/* Sends prebuilt messages `batch_bytes` at a time and drops the answers. The yardstick of the benchmark. */
int ct_inject_bare(struct ct_injector *injector, const uint8_t *messages, size_t length, uint64_t *errors);

#endif
