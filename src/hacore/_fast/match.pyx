# cython: boundscheck=False, wraparound=False, embedsignature=False
"""Rules about the tuples of rows: which rows any of them means.

A rule is a record of `RULE_DTYPE`; every condition in it has to hold.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hacore._fast.ctnetlink cimport ct_event
from hacore._fast.row cimport Row, records_of

import numpy as np

from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE as _EVENT_DTYPE
from hacore._fast.row import ROW_DTYPE as _ROW_DTYPE

SOURCE, DESTINATION, REPLY_SOURCE, REPLY_DESTINATION = 1, 2, 4, 8
"""Ends of the original and the reply tuple; where a rule has several, one of them has to match."""

RULE_DTYPE = np.dtype([
    ("family", "u1"), ("any_protocol", "u1"), ("protocol", "u1"), ("ends", "u1"), ("status", "<u4"), ("port", "<u2"),
    ("reserved", "u1", 6), ("address", "u1", 16), ("mask", "u1", 16),
])
"""family u1 (0: any), any_protocol u1 (not 0: any), protocol u1, ends u1 (of these; 0: any), status u4 (one of
these bits is set; 0: any), port u2 (of that end; 0: any), address and mask of 16 bytes each (of that end, as a row has
them)."""

_BOOL = np.dtype(np.bool_)


cdef packed struct Rule:
    uint8_t family
    uint8_t any_protocol
    uint8_t protocol
    uint8_t ends
    uint32_t status
    uint16_t port
    uint8_t reserved[6]
    uint64_t address[2]
    uint64_t mask[2]


assert RULE_DTYPE.itemsize == sizeof(Rule)


cdef inline bint _end_matches(const Rule *rule, const uint8_t *address, uint16_t port) noexcept nogil:
    cdef uint64_t words[2]
    memcpy(words, address, 16)
    if (words[0] ^ rule.address[0]) & rule.mask[0] or (words[1] ^ rule.address[1]) & rule.mask[1]:
        return False
    return not rule.port or rule.port == port


cdef bint _matches(const Rule *rule, const Row *row) noexcept nogil:
    if rule.family and rule.family != row.family:
        return False
    if not rule.any_protocol and rule.protocol != row.protocol:
        return False
    if rule.status and not rule.status & row.status:
        return False
    if not rule.ends:
        return True
    if rule.ends & 1 and _end_matches(rule, row.source, row.source_port):
        return True
    if rule.ends & 2 and _end_matches(rule, row.destination, row.destination_port):
        return True
    if rule.ends & 4 and _end_matches(rule, row.reply_source, row.reply_source_port):
        return True
    return rule.ends & 8 and _end_matches(rule, row.reply_destination, row.reply_destination_port)


def matching(rows, rules):
    """(n,) bool: which of `rows` any of `rules` means.

    Args:
        rows: (n,) of ROW_DTYPE.
        rules: (m,) of RULE_DTYPE.
    """
    cdef size_t count, rule_count, index, number
    cdef const Row *row = <const Row *> records_of(rows, _ROW_DTYPE, &count, False)
    cdef const Rule *rule = <const Rule *> records_of(rules, RULE_DTYPE, &rule_count, False)
    cdef bytearray found = bytearray(count)
    cdef uint8_t *hit = <uint8_t *> PyByteArray_AS_STRING(found)
    with nogil:
        for index in range(count):
            for number in range(rule_count):
                if _matches(&rule[number], &row[index]):
                    hit[index] = 1
                    break
    return np.frombuffer(found, dtype=_BOOL)


def sift(rows, events, uint32_t portid, rules):
    """Moves the rows that neither that socket has caused nor any of `rules` means to the front, and their events; how
    many those are, and how many of the others the socket has caused.

    Args:
        rows, events: (n,) of ROW_DTYPE and EVENT_DTYPE, overwritten; what follows the front is undefined.
        rules: (m,) of RULE_DTYPE.
    """
    cdef size_t count, told, rule_count, index, number, kept = 0, echoes = 0
    cdef Row *row = <Row *> records_of(rows, _ROW_DTYPE, &count, True)
    cdef ct_event *event = <ct_event *> records_of(events, _EVENT_DTYPE, &told, True)
    cdef const Rule *rule = <const Rule *> records_of(rules, RULE_DTYPE, &rule_count, False)
    cdef bint hit
    if told != count:
        raise ValueError(f"expected {count} events, one a row, got {told}")
    with nogil:
        for index in range(count):
            if event[index].portid == portid:
                echoes += 1
                continue
            hit = False
            for number in range(rule_count):
                if _matches(&rule[number], &row[index]):
                    hit = True
                    break
            if hit:
                continue
            if kept != index:
                row[kept] = row[index]
                event[kept] = event[index]
            kept += 1
    return kept, echoes
