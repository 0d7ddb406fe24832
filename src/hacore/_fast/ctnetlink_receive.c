/* Many datagrams of a netlink socket in one call, and their parse. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "ctnetlink.h"
#include "ctnetlink_wire.h"

int ct_receiver_open(struct ct_receiver *receiver, size_t slot_count, size_t slot_bytes) {
    memset(receiver, 0, sizeof *receiver);
    receiver->slot_count = slot_count;
    receiver->slot_bytes = slot_bytes;
    receiver->slots = malloc(slot_count * slot_bytes);
    receiver->headers = calloc(slot_count, sizeof *receiver->headers);
    receiver->vectors = calloc(slot_count, sizeof *receiver->vectors);
    if (!receiver->slots || !receiver->headers || !receiver->vectors) {
        ct_receiver_close(receiver);
        return -ENOMEM;
    }
    for (size_t slot = 0; slot < slot_count; slot++) {
        receiver->vectors[slot].iov_base = receiver->slots + slot * slot_bytes;
        receiver->vectors[slot].iov_len = slot_bytes;
        receiver->headers[slot].msg_hdr.msg_iov = &receiver->vectors[slot];
        receiver->headers[slot].msg_hdr.msg_iovlen = 1;
    }
    return 0;
}

void ct_receiver_close(struct ct_receiver *receiver) {
    free(receiver->slots);
    free(receiver->headers);
    free(receiver->vectors);
    memset(receiver, 0, sizeof *receiver);
}

int ct_receive(struct ct_receiver *receiver, int fd, struct ct_sink *sink) {
    if (receiver->current == receiver->filled) {
        int got;
        receiver->current = receiver->filled = receiver->offset = 0;
        do got = recvmmsg(fd, receiver->headers, (unsigned)receiver->slot_count, MSG_DONTWAIT, NULL);
        while (got < 0 && errno == EINTR);
        if (got < 0) {
            if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
            if (errno != ENOBUFS) return -errno;
            sink->overrun = 1; /* told once, the next call reads on */
            return 0;
        }
        receiver->filled = (size_t)got;
    }
    while (receiver->current < receiver->filled) {
        const struct mmsghdr *header = &receiver->headers[receiver->current];
        const uint8_t *slot = receiver->slots + receiver->current * receiver->slot_bytes;
        size_t length = header->msg_len < receiver->slot_bytes ? header->msg_len : receiver->slot_bytes;
        if (header->msg_hdr.msg_flags & MSG_TRUNC) {
            /* Something was lost: the same cure as for a full buffer. */
            if (receiver->offset == 0) {
                sink->malformed[CT_TRUNCATED]++;
                sink->overrun = 1;
            }
        } else {
            ct_walk(slot, length, &receiver->offset, sink);
            if (receiver->offset < length) return 0; /* the sink is full */
        }
        receiver->current++;
        receiver->offset = 0;
    }
    return 0;
}
