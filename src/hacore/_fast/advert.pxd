# What advert.pyx takes from the C files beside it, and Python's buffers.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "Python.h":
    # Cython's own declaration makes `obj` an object, which cannot be NULL.
    ctypedef struct raw_buffer "Py_buffer":
        void *buf
        void *obj
        Py_ssize_t len
    enum:
        PyBUF_CONTIG
        PyBUF_SIMPLE
    int PyObject_GetBuffer(object source, raw_buffer *view, int flags) except -1
    void PyBuffer_Release(raw_buffer *view)

cdef extern from "advert_sha1.h":
    struct sha1_engine:
        const char *name
    const sha1_engine *sha1_engine_at(size_t index) noexcept
    const sha1_engine *sha1_for_one() noexcept
    const sha1_engine *sha1_for_many() noexcept
    void sha1_detect() noexcept
    int sha1_select(const char *name) noexcept
    void sha1_digest(const uint8_t *message, size_t length, uint8_t *digest) noexcept nogil
    uint32_t load_be32(const uint8_t *bytes) noexcept

cdef extern from "advert_hmac.h":
    enum:
        ADVERT_BYTES
        ADVERT_MAX_FORMS
    enum advert_rung:
        ADVERT_VALID
        ADVERT_SHORT
        ADVERT_CHECKSUM
        ADVERT_VHID
        ADVERT_VERSION_RUNG
        ADVERT_AUTHENTICATION
    struct advert_key:
        uint32_t form_count
        uint8_t vhid
    struct advert_header:
        uint8_t advbase, advskew, demotion
    void advert_key_prepare(advert_key *key, const uint8_t *password, uint8_t vhid) noexcept
    void advert_key_add_form(advert_key *key, const uint8_t *prefix, size_t length) noexcept
    void advert_build(const advert_key *key, advert_header header, uint64_t counter, uint8_t *advert) noexcept
    void advert_build_many(const advert_key *key, advert_header header, const uint64_t *counters, size_t count,
                           uint8_t *adverts) noexcept nogil
    void advert_write_checksum(uint8_t *advert) noexcept
    advert_rung advert_verify(const advert_key *key, const uint8_t *advert, size_t length, uint32_t *form) noexcept
    void advert_verify_many(const advert_key *key, const uint8_t *adverts, size_t count,
                            uint8_t *verdicts) noexcept nogil

cdef extern from "advert_frame.h":
    enum:
        MAC_BYTES
        ETHERNET_BYTES
        IPV4_BYTES
        IPV6_BYTES
        ARP_FRAME_BYTES
        NA_FRAME_BYTES
    enum frame_rung:
        FRAME_VALID
    struct frame_fault:
        const char *what
        size_t offset, expected, got
    struct frame_view:
        size_t source_at, destination_at, address_bytes, payload_at, payload_bytes
        int32_t vlan
        uint8_t family, ttl
    struct frame_header:
        const uint8_t *source_mac
        const uint8_t *destination_mac
        const uint8_t *source
        const uint8_t *destination
        size_t address_bytes
        uint16_t identification
        uint8_t tos, ttl
    frame_rung frame_parse(const uint8_t *frame, size_t length, frame_view *view, frame_fault *fault) noexcept
    void frame_write(const frame_header *header, const uint8_t *payload, size_t payload_bytes, uint8_t *frame) noexcept
    void frame_write_arp(const uint8_t *mac, const uint8_t *address, uint8_t *frame) noexcept
    void frame_write_na(const uint8_t *mac, const uint8_t *address, int router, uint8_t *frame) noexcept
