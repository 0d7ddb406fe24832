# One connection as every kernel of hacore sees it: row.h for Cython. A typed memoryview of Row or Key takes numpy arrays of
# hacore.states.layout.ROW_DTYPE or KEY_DTYPE and checks every field.

from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t


cdef extern from "row.h" nogil:
    enum:
        KEY_BYTES
        ROW_BYTES

    packed struct Key:
        uint8_t family
        uint8_t protocol
        uint16_t zone
        uint8_t source[16]
        uint8_t destination[16]
        uint16_t source_port
        uint16_t destination_port

    packed struct Row:
        uint8_t family
        uint8_t protocol
        uint16_t zone
        uint8_t source[16]
        uint8_t destination[16]
        uint16_t source_port
        uint16_t destination_port
        uint8_t reply_source[16]
        uint8_t reply_destination[16]
        uint16_t reply_source_port
        uint16_t reply_destination_port
        uint16_t reply_zone
        uint8_t protocol_state
        uint8_t master_protocol
        uint32_t status
        uint32_t timeout
        uint32_t mark
        uint8_t tcp_scale_original
        uint8_t tcp_scale_reply
        uint8_t tcp_flags_original
        uint8_t tcp_flags_reply
        uint32_t sctp_tag_original
        uint32_t sctp_tag_reply
        uint8_t labels[16]
        uint32_t adjust_position_original
        int32_t adjust_before_original
        int32_t adjust_after_original
        uint32_t adjust_position_reply
        int32_t adjust_before_reply
        int32_t adjust_after_reply
        uint32_t synproxy_isn
        uint32_t synproxy_its
        uint32_t synproxy_tsoff
        uint16_t master_source_port
        uint16_t master_destination_port
        uint8_t master_source[16]
        uint8_t master_destination[16]
        char helper[16]


cdef inline void *records_of(object records, object dtype, size_t *count, bint writable) except? NULL:
    """The memory of a one-dimensional contiguous array of exactly this dtype, for as long as the caller holds the array.

    A memoryview of a dtype with many fields costs 15 us to make, as numpy writes its format down each time; this one
    asks for none, for calls that a batch of a few rows is to afford.
    """
    cdef Py_buffer view
    cdef void *first
    cdef int flags = PyBUF_C_CONTIGUOUS
    if writable:
        flags |= PyBUF_WRITABLE
    of = getattr(records, "dtype", None)
    if of is not dtype and of != dtype:
        raise ValueError(f"Buffer of {dtype.itemsize}-byte records expected, got {type(records).__name__} of {of}")
    PyObject_GetBuffer(records, &view, flags)
    first, count[0] = view.buf, <size_t> view.shape[0] if view.ndim == 1 else <size_t> -1
    PyBuffer_Release(&view)
    if count[0] == <size_t> -1:
        raise ValueError(f"Buffer has wrong number of dimensions (expected 1, got {records.ndim})")
    return first
