# ctnetlink.h for Cython: what the records and the fields mean stands there.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from hacore._fast.row cimport Row


cdef extern from "ctnetlink.h" nogil:
    packed struct ct_event:
        uint32_t portid
        uint32_t id
        uint16_t present
        uint8_t kind
        uint8_t reserved

    packed struct ct_display:
        uint64_t start_ns
        uint64_t stop_ns
        uint64_t packets_original
        uint64_t bytes_original
        uint64_t packets_reply
        uint64_t bytes_reply

    packed struct ct_expectation:
        uint8_t family
        uint8_t protocol
        uint16_t zone
        uint8_t source[16]
        uint8_t destination[16]
        uint16_t source_port
        uint16_t destination_port
        uint8_t mask_source[16]
        uint16_t mask_source_port
        uint8_t master_protocol
        uint8_t has_nat
        uint8_t master_source[16]
        uint8_t master_destination[16]
        uint16_t master_source_port
        uint16_t master_destination_port
        uint8_t nat_source[16]
        uint16_t nat_source_port
        uint8_t nat_protocol
        uint8_t nat_direction
        uint32_t timeout
        uint32_t flags
        uint32_t policy "class"
        char helper[16]
        char function[32]

    enum:
        CT_RUNGS
        CT_LONGEST
        CT_DUMP
        CT_NEW
        CT_UPDATE
        CT_DESTROY
        CT_HAS_STATE
        CT_HAS_TIMEOUT
        CT_HAS_LABELS
        CT_HAS_ADJUST
        CT_HAS_MASTER
        CT_HAS_SYNPROXY
        CT_HAS_HELPER
        CT_HAS_MARK
        CT_HAS_STATUS
        CT_HAS_ALL
        CT_INSERT
        CT_UPDATE_ROW
        CT_REPLACE
        CT_DELETE_ROW
        CT_GET_ROW
        CT_GET_REPLY
        CT_OPERATION
        CT_LABELS_TOO
        CT_YIELD
        CT_WITH_LABELS

    struct ct_sink:
        Row *rows
        ct_event *events
        ct_display *display
        size_t row_capacity
        size_t row_count
        ct_expectation *expectations
        ct_event *expectation_events
        size_t expectation_capacity
        size_t expectation_count
        uint64_t malformed[7]
        uint64_t messages
        uint64_t skipped
        int64_t first_malformed
        int32_t error
        uint8_t done
        uint8_t interrupted
        uint8_t overrun

    struct ct_receiver:
        size_t slot_count
        size_t filled
        size_t current

    struct ct_build:
        uint32_t extra_timeout
        uint32_t offload_timeout_tcp
        uint32_t offload_timeout_udp

    struct ct_counts:
        uint64_t inserted
        uint64_t updated
        uint64_t replaced
        uint64_t deleted
        uint64_t displaced
        uint64_t absent
        uint64_t yielded
        uint64_t failed
        uint64_t full
        uint64_t no_helper
        uint64_t no_labels
        uint64_t no_master
        uint64_t no_timeout
        uint64_t messages
        uint64_t sends
        uint64_t queries
        uint64_t lost

    struct ct_injector:
        size_t batch_bytes
        uint8_t *batch
        ct_build how

    void ct_walk(const uint8_t *buffer, size_t length, size_t *offset, ct_sink *sink)
    size_t ct_walk_bare(const uint8_t *buffer, size_t length)
    void ct_complete(Row *row, const Row *known, unsigned present)
    int ct_receiver_open(ct_receiver *receiver, size_t slot_count, size_t slot_bytes)
    void ct_receiver_close(ct_receiver *receiver)
    int ct_receive(ct_receiver *receiver, int fd, ct_sink *sink)
    size_t ct_build_insert(uint8_t *to, const Row *row, uint32_t sequence, unsigned omit, const ct_build *how)
    size_t ct_build_update(uint8_t *to, const Row *row, uint32_t sequence, unsigned omit, const ct_build *how)
    size_t ct_build_delete(uint8_t *to, const Row *row, uint32_t sequence, int by_reply)
    size_t ct_build_get(uint8_t *to, const Row *row, uint32_t sequence, int by_reply)
    size_t ct_build_first(uint8_t *to, const Row *row, unsigned operation, uint32_t sequence, const ct_build *how)
    size_t ct_build_expectation(uint8_t *to, const ct_expectation *expectation, uint32_t sequence, int only_timeout)
    size_t ct_build_expectation_delete(uint8_t *to, const ct_expectation *expectation, uint32_t sequence)
    int ct_injector_open(ct_injector *injector, int fd, size_t batch_bytes)
    void ct_injector_close(ct_injector *injector)
    int ct_inject(ct_injector *injector, const Row *rows, const uint8_t *operations, size_t count, int32_t *errors, ct_counts *counts)
    int ct_inject_expectations(
        ct_injector *injector, const ct_expectation *expectations, const uint8_t *operations, size_t count, int32_t *errors,
        ct_counts *counts
    )
    int ct_inject_bare(ct_injector *injector, const uint8_t *messages, size_t length, uint64_t *errors)


cdef void complete_row(Row *row, const Row *known, unsigned int present) noexcept nogil
