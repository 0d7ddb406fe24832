# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""Conntrack messages to rows and back (nfnetlink_conntrack), and the socket loops that carry many of them in one call.

Nothing here knows a policy: which socket, which rows and what is done about errors that remain is the caller's affair
(`hacore.linux.conntrack`). The work is in the C files beside this one and runs without the GIL; this is their Python face. Rows are arrays of
`hacore._fast.row.ROW_DTYPE`, the other records of `hacore._fast.ctnetlink_dtypes`.
"""

cimport cython
from libc.errno cimport ENOMEM, EPERM
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset, strerror

from hacore._fast.row cimport Row, records_of
from hacore._fast.ctnetlink_dtypes import EVENT_DTYPE as _EVENT_DTYPE, EXPECTATION_DTYPE as _EXPECTATION_DTYPE
from hacore._fast.ctnetlink_injected import INJECTED_FIELDS, Injected
from hacore._fast.row import ROW_DTYPE as _ROW_DTYPE
from hacore.errors import PlatformError, PrivilegeError


EVENT_DUMP = CT_DUMP
EVENT_NEW = CT_NEW
EVENT_UPDATE = CT_UPDATE
EVENT_DESTROY = CT_DESTROY

HAS_STATE = CT_HAS_STATE
HAS_TIMEOUT = CT_HAS_TIMEOUT
HAS_LABELS = CT_HAS_LABELS
HAS_ADJUST = CT_HAS_ADJUST
HAS_MASTER = CT_HAS_MASTER
HAS_SYNPROXY = CT_HAS_SYNPROXY
HAS_HELPER = CT_HAS_HELPER
HAS_MARK = CT_HAS_MARK
HAS_STATUS = CT_HAS_STATUS
HAS_ALL = CT_HAS_ALL

INSERT = CT_INSERT
UPDATE = CT_UPDATE_ROW
REPLACE = CT_REPLACE
DELETE = CT_DELETE_ROW
GET = CT_GET_ROW
GET_BY_REPLY = CT_GET_REPLY
WITH_LABELS = CT_LABELS_TOO
YIELD = CT_YIELD

RUNGS = ("frame", "attribute", "length", "family", "tuple", "value", "truncated")



def _refusal(int code, str what):
    if code == ENOMEM:
        return MemoryError(what)
    if code == EPERM:
        return PrivilegeError(f"{what}: CAP_NET_ADMIN is missing in the socket's network namespace")
    return PlatformError(f"{what}: {strerror(code).decode()}")


@cython.final
cdef class Received:
    """What one call of `Reader.receive` or `parse` found.

    | | |
    |---|---|
    | `rows`, `expectations` | how many of the arrays, from their start, are of this call |
    | `messages`, `skipped` | netlink messages seen; of these of a kind that is neither a connection nor an expectation |
    | `malformed`, `first_malformed` | messages refused, and where the first of them begins (in its datagram; -1: none) |
    | `consumed` | bytes of the buffer that `parse` is done with |
    | `error` | the errno of an NLMSG_ERROR or of the end of a dump; 0: none |
    | `done`, `interrupted` | NLMSG_DONE was seen; the dump says that the table changed under it |
    | `overrun` | the kernel had to drop messages (ENOBUFS), or one was longer than its slot |
    | `more` | the arrays were full: call again |
    """

    cdef readonly Py_ssize_t rows
    cdef readonly Py_ssize_t expectations
    cdef readonly Py_ssize_t messages
    cdef readonly Py_ssize_t malformed
    cdef readonly Py_ssize_t skipped
    cdef readonly Py_ssize_t consumed
    cdef readonly Py_ssize_t first_malformed
    cdef readonly int error
    cdef readonly bint done
    cdef readonly bint interrupted
    cdef readonly bint overrun
    cdef readonly bint more

    def __init__(self):
        raise TypeError("made by Reader.receive and parse")

    def __repr__(self):
        return (
            f"Received(rows={self.rows}, expectations={self.expectations}, messages={self.messages}, malformed={self.malformed}, "
            f"skipped={self.skipped}, error={self.error}, done={self.done}, interrupted={self.interrupted}, "
            f"overrun={self.overrun}, more={self.more})"
        )


@cython.final
cdef class _Sink:
    """The arrays that a parse fills, held for as long as it needs them."""

    cdef ct_sink sink
    cdef Row[::1] rows
    cdef ct_event[::1] events
    cdef ct_display[::1] display
    cdef ct_expectation[::1] expectations
    cdef ct_event[::1] expectation_events

    def __cinit__(self, rows, events, display, expectations, expectation_events):
        memset(&self.sink, 0, sizeof(self.sink))
        self.rows = rows
        self.events = events
        if self.events.shape[0] != self.rows.shape[0]:
            raise ValueError(f"expected {self.rows.shape[0]} events, as many as rows, got {self.events.shape[0]}")
        self.sink.row_capacity = <size_t>self.rows.shape[0]
        if self.rows.shape[0]:
            self.sink.rows = &self.rows[0]
            self.sink.events = &self.events[0]
        if display is not None:
            self.display = display
            if self.display.shape[0] != self.rows.shape[0]:
                raise ValueError(f"expected {self.rows.shape[0]} display records, as many as rows, got {self.display.shape[0]}")
            if self.rows.shape[0]:
                self.sink.display = &self.display[0]
        if expectations is not None:
            self.expectations = expectations
            self.expectation_events = expectation_events
            if self.expectation_events.shape[0] != self.expectations.shape[0]:
                raise ValueError(
                    f"expected {self.expectations.shape[0]} events, as many as expectations, got {self.expectation_events.shape[0]}"
                )
            self.sink.expectation_capacity = <size_t>self.expectations.shape[0]
            if self.expectations.shape[0]:
                self.sink.expectations = &self.expectations[0]
                self.sink.expectation_events = &self.expectation_events[0]

    cdef void begin(self) noexcept:
        self.sink.row_count = self.sink.expectation_count = 0
        self.sink.messages = self.sink.skipped = 0
        self.sink.first_malformed = -1
        self.sink.error = 0
        self.sink.done = self.sink.interrupted = self.sink.overrun = 0
        memset(self.sink.malformed, 0, sizeof(self.sink.malformed))

    cdef Received received(self):
        cdef Received result = Received.__new__(Received)
        cdef int rung
        result.rows = <Py_ssize_t>self.sink.row_count
        result.expectations = <Py_ssize_t>self.sink.expectation_count
        result.messages = <Py_ssize_t>self.sink.messages
        result.skipped = <Py_ssize_t>self.sink.skipped
        result.first_malformed = self.sink.first_malformed
        result.error = self.sink.error
        result.done = self.sink.done
        result.interrupted = self.sink.interrupted
        result.overrun = self.sink.overrun
        for rung in range(CT_RUNGS):
            result.malformed += <Py_ssize_t>self.sink.malformed[rung]
        return result


def parse(const uint8_t[::1] messages not None, rows, events, *, display=None, expectations=None, expectation_events=None, offset=0):
    """Takes a buffer of netlink messages apart, as a datagram of an event or of a dump holds them.

    Args:
        messages: the bytes, any bytes; from `offset` on.
        rows, events: writable arrays of `ROW_DTYPE` and `EVENT_DTYPE`, of one length.
        display: writable array of `DISPLAY_DTYPE`, as long as `rows`, where counters and timestamps are wanted.
        expectations, expectation_events: writable arrays of `EXPECTATION_DTYPE` and `EVENT_DTYPE`, where expectations are wanted.

    A malformed message is counted and skipped; where the length of a message cannot be right, the rest of the buffer goes with it as one. Where the
    arrays are full, `more` is set and `consumed` is the offset to go on from.
    """
    cdef _Sink sink = _Sink(rows, events, display, expectations, expectation_events)
    cdef size_t at = offset
    cdef size_t length = <size_t>messages.shape[0]
    cdef const uint8_t *start = &messages[0] if length else NULL
    if at > length:
        raise ValueError(f"offset {at} is beyond the {length} bytes of the messages")
    sink.begin()
    with nogil:
        ct_walk(start, length, &at, &sink.sink)
    cdef Received result = sink.received()
    result.consumed = <Py_ssize_t>at
    result.more = at < length
    return result


def count_messages(const uint8_t[::1] messages not None):
    """How many netlink messages a buffer holds, by their lengths alone: what a parse costs at least."""
    cdef size_t length = <size_t>messages.shape[0]
    cdef const uint8_t *start = &messages[0] if length else NULL
    cdef size_t count
    with nogil:
        count = ct_walk_bare(start, length)
    return count


cdef void complete_row(Row *row, const Row *known, unsigned int present) noexcept nogil:
    ct_complete(row, known, present)


def complete(rows, known, events):
    """Fills in what an event did not tell, from the row as it was known before, for each of `rows` in place.

    An update carries status, timeout, mark and helper, and of the rest only what has changed (`events["present"]`). `known` holds a row for each, zeros
    where none was known.
    """
    cdef size_t count, knowns, told, index
    cdef Row *row = <Row *>records_of(rows, _ROW_DTYPE, &count, True)
    cdef const Row *before = <const Row *>records_of(known, _ROW_DTYPE, &knowns, False)
    cdef const ct_event *event = <const ct_event *>records_of(events, _EVENT_DTYPE, &told, False)
    if knowns != count or told != count:
        raise ValueError(f"expected {count} of each, got {knowns} known rows and {told} events")
    with nogil:
        for index in range(count):
            if event[index].present != CT_HAS_ALL:
                ct_complete(&row[index], &before[index], event[index].present)


@cython.final
cdef class Reader:
    """Receives many datagrams of a conntrack socket in one call and parses them, without the GIL.

    Args:
        rows, events, display, expectations, expectation_events: as for `parse`; they are filled from their start by each call.
        datagrams: how many one call takes.
        datagram_bytes: room for each; an event needs less than 1024, a dump gives as much as there is room for, up to 32768.
    """

    cdef _Sink sink
    cdef ct_receiver receiver
    cdef readonly dict malformed
    cdef readonly object overruns

    def __init__(
        self, rows, events, *, display=None, expectations=None, expectation_events=None, size_t datagrams=256, size_t datagram_bytes=4096
    ):
        if not 1 <= datagrams <= 65536 or not 256 <= datagram_bytes <= 1 << 20:
            raise ValueError(f"expected 1 to 65536 datagrams of 256 to {1 << 20} bytes, got {datagrams} of {datagram_bytes}")
        if self.sink is not None:
            raise TypeError("a Reader is made once")
        self.sink = _Sink(rows, events, display, expectations, expectation_events)
        if self.sink.sink.row_capacity == 0:
            raise ValueError("expected room for at least one row")
        self.malformed = dict.fromkeys(RUNGS, 0)
        self.overruns = 0
        cdef int result = ct_receiver_open(&self.receiver, datagrams, datagram_bytes)
        if result < 0:
            raise _refusal(-result, f"room for {datagrams} datagrams of {datagram_bytes} bytes")

    def __dealloc__(self):
        ct_receiver_close(&self.receiver)

    def receive(self, int fileno):
        """One recvmmsg without waiting, and the parse of what came; gives a `Received`.

        Raises:
            PlatformError: the socket failed. A full receive buffer (ENOBUFS) is no error but `overrun`.
        """
        cdef int result
        cdef int rung
        if self.receiver.slot_count == 0:
            raise TypeError("this Reader was never made")
        self.sink.begin()
        with nogil:
            result = ct_receive(&self.receiver, fileno, &self.sink.sink)
        if result < 0:
            raise _refusal(-result, "recvmmsg on the conntrack socket")
        cdef Received received = self.sink.received()
        received.more = self.receiver.current < self.receiver.filled
        if received.malformed:
            for rung in range(CT_RUNGS):
                self.malformed[RUNGS[rung]] += self.sink.sink.malformed[rung]
        self.overruns += received.overrun
        return received


cdef object _injected(ct_counts counts):
    cdef dict found = counts
    return Injected(**found)


cdef const uint8_t *_operations(const uint8_t[::1] operations, Py_ssize_t count) except? NULL:
    if operations is None:
        return NULL
    if operations.shape[0] != count:
        raise ValueError(f"expected {count} operations, as many as rows, got {operations.shape[0]}")
    return &operations[0] if count else NULL


@cython.final
cdef class Injector:
    """Puts rows into the kernel's table through a NETLINK_NETFILTER socket with NETLINK_CAP_ACK.

    Args:
        fileno: the socket, which stays the caller's; no other reader may take its answers.
        batch_bytes: of messages in one send, at most what the socket's send buffer takes.
        extra_timeout: seconds added to each timeout.
        offload_timeout_tcp, offload_timeout_udp: seconds, for rows in a flow table, whose timeout the kernel does not tell.
    """

    cdef ct_injector injector

    def __init__(
        self, int fileno, *, size_t batch_bytes=1 << 17, uint32_t extra_timeout=0, uint32_t offload_timeout_tcp=432000,
        uint32_t offload_timeout_udp=120
    ):
        if self.injector.batch != NULL:
            raise TypeError("an Injector is made once")
        if batch_bytes < 4 * CT_LONGEST:
            raise ValueError(f"expected batches of at least {4 * CT_LONGEST} bytes, got {batch_bytes}")
        cdef int result = ct_injector_open(&self.injector, fileno, batch_bytes)
        if result < 0:
            raise _refusal(-result, "the injector's socket")
        self.injector.how.extra_timeout = extra_timeout
        self.injector.how.offload_timeout_tcp = offload_timeout_tcp
        self.injector.how.offload_timeout_udp = offload_timeout_udp

    def __dealloc__(self):
        ct_injector_close(&self.injector)

    @property
    def extra_timeout(self):
        """Seconds added to each timeout."""
        return self.injector.how.extra_timeout

    @extra_timeout.setter
    def extra_timeout(self, uint32_t seconds):
        self.injector.how.extra_timeout = seconds

    @property
    def batch_bytes(self):
        """Of messages in one send."""
        return self.injector.batch_bytes

    def inject(self, rows, operations=None, int32_t[::1] errors=None):
        """Brings rows into the table, in order, and gives an `Injected`.

        Args:
            rows: array of `ROW_DTYPE`; no key twice.
            operations: array of uint8, one a row; None is INSERT for all.
            errors: writable array of int32, filled with an errno a row, 0 for what is done.

        | operation | what comes of it |
        |---|---|
        | `INSERT` | a new entry; one that is there already is asked for, and updated or replaced |
        | `UPDATE` | the entry is updated in place (not its helper); one that is not there is inserted, one that would lose a bit replaced |
        | `REPLACE` | the entry is deleted and inserted in one send: its NAT binding has changed |
        | `DELETE` | the entry is deleted; one that is not there is no error |
        | `| WITH_LABELS` | labels are set also where the row has none |
        | `| YIELD` | another entry that has one of the row's tuples stays, and the row is left out with EEXIST; else that entry has to go |

        What the kernel refuses and the connection can do without is left out and counted. Errors that remain are in `errors`; the other rows go in.

        Raises:
            PlatformError, PrivilegeError: the socket failed; `errors` has the errno for all rows that were not tried.
        """
        cdef size_t count
        cdef const Row *first = <const Row *>records_of(rows, _ROW_DTYPE, &count, False)
        return self._inject(first, NULL, <Py_ssize_t>count, operations, errors)

    def inject_expectations(self, expectations, operations=None, int32_t[::1] errors=None):
        """Brings expectations into the table, after the rows of their masters; otherwise as `inject`.

        `INSERT`, `UPDATE` and `REPLACE` all make the kernel's one equal to the row. ENOENT: the master is not there; EOPNOTSUPP: it has no helper.
        """
        cdef size_t count
        cdef const ct_expectation *first = <const ct_expectation *>records_of(expectations, _EXPECTATION_DTYPE, &count, False)
        return self._inject(NULL, first, <Py_ssize_t>count, operations, errors)

    cdef object _inject(
        self, const Row *rows, const ct_expectation *expectations, Py_ssize_t count, operations, int32_t[::1] errors
    ):
        cdef ct_counts counts
        cdef const uint8_t[::1] view = operations
        cdef const uint8_t *chosen = _operations(view, count)
        cdef int32_t *codes = NULL
        cdef int result = 0
        if self.injector.batch == NULL:
            raise TypeError("this Injector was never made")
        memset(&counts, 0, sizeof(counts))
        if errors is not None and errors.shape[0] != count:
            raise ValueError(f"expected room for {count} errors, as many as rows, got {errors.shape[0]}")
        if count == 0:
            return _injected(counts)
        codes = &errors[0] if errors is not None else <int32_t *>malloc(<size_t>count * sizeof(int32_t))
        if codes == NULL:
            raise MemoryError(f"errors of {count} rows")
        try:
            with nogil:
                if rows != NULL:
                    result = ct_inject(&self.injector, rows, chosen, <size_t>count, codes, &counts)
                else:
                    result = ct_inject_expectations(&self.injector, expectations, chosen, <size_t>count, codes, &counts)
        finally:
            if errors is None:
                free(codes)
        if result < 0:
            raise _refusal(-result, "injecting into the kernel's connection table")
        return _injected(counts)

    def inject_bare(self, const uint8_t[::1] messages not None):
        """Sends prebuilt messages in batches, drops the answers and gives their number: what an injection costs at least."""
        cdef uint64_t errors = 0
        cdef int result = 0
        if self.injector.batch == NULL:
            raise TypeError("this Injector was never made")
        cdef size_t length = <size_t>messages.shape[0]
        if length:
            with nogil:
                result = ct_inject_bare(&self.injector, &messages[0], length, &errors)
        if result < 0:
            raise _refusal(-result, "sending prebuilt messages")
        return errors


def build(
    const Row[::1] rows not None, operations=None, *, uint32_t sequence=1, uint32_t extra_timeout=0, uint32_t offload_timeout_tcp=432000,
    uint32_t offload_timeout_udp=120
):
    """The messages that `Injector.inject` would send first for these rows, one or two a row, as bytes; `sequence` is the first row's.

    `GET` and `GET_BY_REPLY` are operations here and not of `inject`: they ask for the entry with the row's key, or with its reply tuple.

    Raises:
        ValueError: a row that no message can tell: of another family, or in two zones at once.
    """
    cdef ct_build how
    how.extra_timeout, how.offload_timeout_tcp, how.offload_timeout_udp = extra_timeout, offload_timeout_tcp, offload_timeout_udp
    cdef const uint8_t[::1] view = operations
    cdef const uint8_t *chosen = _operations(view, rows.shape[0])
    cdef size_t used = 0, size = 0, room = <size_t>(rows.shape[0] + 1) * 2 * CT_LONGEST
    cdef Py_ssize_t index = 0
    cdef uint8_t operation
    cdef uint8_t *buffer = <uint8_t *>malloc(room)
    if buffer == NULL:
        raise MemoryError(f"messages of {rows.shape[0]} rows")
    try:
        with nogil:
            for index in range(rows.shape[0]):
                operation = chosen[index] if chosen != NULL else <uint8_t>CT_INSERT
                size = ct_build_first(buffer + used, &rows[index], operation, sequence, &how)
                if size == 0:
                    break
                used += size
                sequence += 1
        if size == 0 and rows.shape[0]:
            raise ValueError(f"row {index} cannot be told to the kernel: its family, its zones or its operation")
        return (<char *>buffer)[:<Py_ssize_t>used]
    finally:
        free(buffer)


def build_expectations(const ct_expectation[::1] expectations not None, *, uint32_t sequence=1, bint delete=False):
    """The messages that make these expectations, or that delete them, as bytes; `sequence` is the first one's.

    Raises:
        ValueError: one of another family than IPv4 and IPv6.
    """
    cdef bytearray messages = bytearray()
    cdef uint8_t message[CT_LONGEST]
    cdef size_t size
    cdef Py_ssize_t index
    for index in range(expectations.shape[0]):
        if delete:
            size = ct_build_expectation_delete(message, &expectations[index], sequence)
        else:
            size = ct_build_expectation(message, &expectations[index], sequence, 0)
        if size == 0:
            raise ValueError(f"expectation {index} cannot be told to the kernel: family {expectations[index].family}")
        messages += (<char *>message)[:<Py_ssize_t>size]
        sequence += 1
    return bytes(messages)
