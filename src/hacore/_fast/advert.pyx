# cython: binding=False, embedsignature=True, embedsignature.format=clinic
"""CARP advertisements: built and verified, one and many, and the Ethernet frames that carry them.

Wire format and checks are those of FreeBSD's sys/netinet/ip_carp.c; OpenBSD's digest is accepted where it differs.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.number cimport PyNumber_Index
from libc.string cimport memcmp, memcpy, memset

from array import array

from hacore._fast.advert_prefix import padded_password, prefixes
from hacore.errors import WireError

# The rungs by the verdicts of verify_many, and those of parse_frame.
RUNGS = ("valid", "short", "checksum", "vhid", "version", "authentication")
cdef tuple FRAME_RUNGS = ("valid", "frame", "header", "protocol", "fragment")

# By the index of the form in the key; the last is that of an Advertisement which nobody verified.
cdef tuple FORMS = ("freebsd", "openbsd", "")
cdef enum:
    UNVERIFIED = 2

sha1_detect()


cdef const uint8_t *borrow(object source, raw_buffer *view, size_t *length) except NULL:
    """The bytes of `source`, to be given back with give_back(); `bytes` themselves need no buffer."""
    if PyBytes_CheckExact(source):
        view.obj = NULL
        length[0] = <size_t>PyBytes_GET_SIZE(source)
        return <const uint8_t *>PyBytes_AS_STRING(source)
    PyObject_GetBuffer(source, view, PyBUF_SIMPLE)
    length[0] = <size_t>view.len
    return <const uint8_t *>view.buf if view.buf != NULL else <const uint8_t *>b""


cdef inline void give_back(raw_buffer *view) noexcept:
    if view.obj != NULL:
        PyBuffer_Release(view)


cdef inline bytes copy(const uint8_t *source, size_t length):
    return PyBytes_FromStringAndSize(<const char *>source, <Py_ssize_t>length)


cdef int within(object value, int low, int high, str name) except -1:
    cdef long number
    try:
        number = PyNumber_Index(value)
    except OverflowError:
        number = -1
    if not low <= number <= high:
        raise ValueError(f"{name} is {value}, it must be {low} to {high}")
    return <int>number


cdef const uint8_t *fixed(bytes value, Py_ssize_t length, str name) except NULL:
    if value is None or PyBytes_GET_SIZE(value) != length:
        raise ValueError(f"{name} must be {length} bytes, got {'None' if value is None else len(value)}")
    return <const uint8_t *>PyBytes_AS_STRING(value)


cdef advert_header header_of(object advbase, object advskew, object demotion) except *:
    cdef advert_header header
    header.advbase = <uint8_t>within(advbase, 0, 255, "advbase")
    header.advskew = <uint8_t>within(advskew, 0, 255, "advskew")
    header.demotion = <uint8_t>min(max(PyNumber_Index(demotion), 0), 255)
    return header


@cython.final
@cython.freelist(16)
cdef class Advertisement:
    """The fields of one CARP header, made by AdvertKey.verify, or unverified by Advertisement.from_payload."""

    cdef uint8_t raw[ADVERT_BYTES]
    cdef uint8_t form_index
    cdef readonly uint8_t version
    """2; it is the only version that verifies."""
    cdef readonly uint8_t type
    """1 for an advertisement; no receiver checks it."""
    cdef readonly uint8_t vhid
    """The virtual host, 1 to 255."""
    cdef readonly uint8_t advskew
    """In 1/256 s; not covered by the digest."""
    cdef readonly uint8_t authlen
    """7: the counter and the digest in 32-bit words; no receiver checks it."""
    cdef readonly uint8_t demotion
    """OpenBSD's demote count; FreeBSD and ucarp send 0. Not covered by the digest."""
    cdef readonly uint8_t advbase
    """In seconds; not covered by the digest."""
    cdef readonly uint16_t checksum
    """The Internet checksum of the 36 bytes."""
    cdef readonly uint64_t counter
    """64 bits; to OpenBSD an opaque cookie."""

    def __init__(self):
        raise TypeError("an Advertisement is made by AdvertKey.verify or Advertisement.from_payload")

    @staticmethod
    def from_payload(payload, /):
        """The fields as they stand in a buffer of 36 bytes or more, checked for nothing but length; `form` is empty.

        Raises WireError with rung "short".
        """
        cdef raw_buffer view
        cdef size_t length
        cdef const uint8_t *raw = borrow(payload, &view, &length)
        try:
            if length < ADVERT_BYTES:
                raise advert_error(ADVERT_SHORT, raw, length, 0)
            return advertisement(raw, UNVERIFIED)
        finally:
            give_back(&view)

    @property
    def digest(self):
        """The 20 bytes of the HMAC-SHA1."""
        return copy(self.raw + 16, 20)

    @property
    def form(self):
        """Whose rules the digest follows: "freebsd", "openbsd" (only where it differs), or "" when not verified."""
        return FORMS[self.form_index]

    def __eq__(self, other):
        cdef Advertisement that
        if not isinstance(other, Advertisement):
            return NotImplemented
        that = other
        return memcmp(self.raw, that.raw, ADVERT_BYTES) == 0 and self.form_index == that.form_index

    def __hash__(self):
        return hash((copy(self.raw, ADVERT_BYTES), self.form_index))

    def __repr__(self):
        return (
            f"<Advertisement vhid={self.vhid} advbase={self.advbase} advskew={self.advskew} demotion={self.demotion} "
            f"counter={self.counter:#018x} form={self.form!r}>"
        )


cdef inline Advertisement advertisement(const uint8_t *raw, uint32_t form):
    cdef Advertisement made = Advertisement.__new__(Advertisement)
    memcpy(made.raw, raw, ADVERT_BYTES)
    made.form_index = <uint8_t>form
    made.version = raw[0] >> 4
    made.type = raw[0] & 15
    made.vhid = raw[1]
    made.advskew = raw[2]
    made.authlen = raw[3]
    made.demotion = raw[4]
    made.advbase = raw[5]
    made.checksum = <uint16_t>(raw[6] << 8 | raw[7])
    made.counter = <uint64_t>load_be32(raw + 8) << 32 | load_be32(raw + 12)
    return made


cdef object advert_error(int rung, const uint8_t *raw, size_t length, uint8_t vhid):
    """The WireError of one rung of the ladder; `raw` is read only where it is long enough."""
    cdef uint8_t right[ADVERT_BYTES]
    if rung == ADVERT_SHORT:
        return WireError("short", f"an advertisement has {ADVERT_BYTES} bytes, got {length}", <Py_ssize_t>length)
    if rung == ADVERT_CHECKSUM:
        memcpy(right, raw, ADVERT_BYTES)
        advert_write_checksum(right)
        expected, got = copy(right + 6, 2).hex(), copy(raw + 6, 2).hex()
        return WireError("checksum", f"checksum at byte 6: expected {expected}, got {got}", 6)
    if rung == ADVERT_VHID:
        return WireError("vhid", f"vhid at byte 1: expected {vhid}, got {raw[1]}", 1)
    if rung == ADVERT_VERSION_RUNG:
        return WireError("version", f"version at byte 0: expected 2, got {raw[0] >> 4}", 0)
    return WireError("authentication", f"digest at byte 16, vhid {vhid}: from another password or other addresses", 16)


@cython.final
cdef class AdvertKey:
    """The password, VHID and addresses of one virtual router, prepared so that an advert costs two SHA-1 blocks.

    password: text of up to 19 bytes of UTF-8, or up to 20 raw bytes; empty means no password. vhid: 1 to 255.
    addresses: every virtual address of the VHID, of both families, as text ("10.1.0.1", "10.1.0.1/16", "fe80::1%lan")
    or ipaddress objects; prefix lengths, order and repetitions do not matter. Adverts are built as FreeBSD does
    (link-locals included); what OpenBSD sends (without them) verifies too. openbsd_lladdr: the MAC (6 bytes) that was
    set by hand on an OpenBSD peer's carp interface, which its digest then holds.

    Raises ValueError for a password, vhid or address that CARP cannot take.
    """

    cdef advert_key key

    def __cinit__(self, password, vhid, addresses, *, openbsd_lladdr=None):
        cdef bytes key = padded_password(password), prefix
        cdef uint8_t number = <uint8_t>within(vhid, 1, 255, "vhid")
        cdef list forms = prefixes(number, addresses, openbsd_lladdr)
        advert_key_prepare(&self.key, <const uint8_t *>PyBytes_AS_STRING(key), number)
        for prefix in forms[:ADVERT_MAX_FORMS]:
            advert_key_add_form(&self.key, <const uint8_t *>PyBytes_AS_STRING(prefix), <size_t>PyBytes_GET_SIZE(prefix))

    def __dealloc__(self):
        memset(&self.key, 0, sizeof(self.key))

    def __repr__(self):
        return f"<AdvertKey vhid={self.key.vhid}>"

    @property
    def vhid(self):
        """The virtual host, 1 to 255."""
        return self.key.vhid

    def build(self, advbase, advskew, counter, demotion=0):
        """The 36 bytes of an advert.

        advbase (seconds) and advskew (1/256 s): 0 to 255, both 255 in a bow-out. counter: 64 bits.
        demotion: OpenBSD's byte, clamped to 0..255.
        """
        cdef uint64_t number
        cdef bytes advert
        cdef advert_header header = header_of(advbase, advskew, demotion)
        try:
            number = PyNumber_Index(counter)
        except OverflowError:
            raise ValueError(f"counter is {counter}, it must have 64 bits at most and not be negative") from None
        advert = PyBytes_FromStringAndSize(NULL, ADVERT_BYTES)
        advert_build(&self.key, header, number, <uint8_t *>PyBytes_AS_STRING(advert))
        return advert

    def verify(self, payload, /):
        """The Advertisement in a buffer whose first 36 bytes are a CARP header; what follows them is not looked at.

        Raises WireError; its rung is the first of short, checksum, vhid, version, authentication that fails, in the
        order of FreeBSD's carp_input_c.
        """
        cdef raw_buffer view
        cdef size_t length
        cdef uint32_t form = 0
        cdef const uint8_t *raw = borrow(payload, &view, &length)
        cdef advert_rung rung = advert_verify(&self.key, raw, length, &form)
        try:
            if rung != ADVERT_VALID:
                raise advert_error(rung, raw, length, self.key.vhid)
            return advertisement(raw, form)
        finally:
            give_back(&view)

    def build_many(self, advbase, advskew, counters, demotion=0):
        """One advert for each counter: a numpy uint8 array of shape (n, 36).

        counters: a sequence of n numbers or a numpy array of n whole numbers, of 64 bits each; the rest as in build().
        """
        import numpy

        cdef raw_buffer source, target
        cdef advert_header header = header_of(advbase, advskew, demotion)
        if isinstance(counters, numpy.ndarray):
            kind = counters.dtype.kind
            if counters.ndim != 1 or kind not in "ui" or (kind == "i" and (counters < 0).any()):
                raise ValueError("counters must be one-dimensional, whole numbers and not negative")
            given = numpy.ascontiguousarray(counters, dtype=numpy.uint64)
        else:
            try:
                given = array("Q", counters)
            except OverflowError:
                raise ValueError("a counter must have 64 bits at most and not be negative") from None
        adverts = numpy.empty((len(given), ADVERT_BYTES), dtype=numpy.uint8)
        PyObject_GetBuffer(given, &source, PyBUF_SIMPLE)
        PyObject_GetBuffer(adverts, &target, PyBUF_CONTIG)
        with nogil:
            advert_build_many(&self.key, header, <const uint64_t *>source.buf, <size_t>source.len // sizeof(uint64_t),
                              <uint8_t *>target.buf)
        PyBuffer_Release(&target)
        PyBuffer_Release(&source)
        return adverts

    def verify_many(self, buffer, count):
        """A numpy uint8 array of `count` verdicts on the adverts in the buffer, one after the other, 36 bytes each.

        A verdict is an index into RUNGS (0: valid) and so a hacore.carp.Verdict; an advert that the buffer does not
        wholly hold is short.
        """
        import numpy

        cdef raw_buffer target
        cdef raw_buffer source
        cdef size_t length, held
        cdef Py_ssize_t wanted = count
        cdef const uint8_t *adverts
        if wanted < 0:
            raise ValueError(f"count is {count}, it must not be negative")
        verdicts = numpy.empty(wanted, dtype=numpy.uint8)
        PyObject_GetBuffer(verdicts, &target, PyBUF_CONTIG)
        try:
            adverts = borrow(buffer, &source, &length)
            held = min(<size_t>wanted, length // ADVERT_BYTES)
            with nogil:
                advert_verify_many(&self.key, adverts, held, <uint8_t *>target.buf)
                memset(<uint8_t *>target.buf + held, ADVERT_SHORT, <size_t>wanted - held)
            give_back(&source)
        finally:
            PyBuffer_Release(&target)
        return verdicts


@cython.final
@cython.freelist(16)
cdef class Frame:
    """An Ethernet frame that carries IP protocol 112, taken apart by parse_frame."""

    cdef uint8_t macs[2 * MAC_BYTES]
    cdef uint8_t addresses[32]
    cdef uint8_t address_bytes
    cdef readonly uint8_t family
    """4 or 6."""
    cdef readonly uint8_t ttl
    """The IPv4 time to live or IPv6 hop limit; 255 unless a router forwarded the packet."""
    cdef readonly int vlan
    """The identifier of the frame's 802.1Q tag (0 to 4095), or -1 without a tag."""
    cdef readonly int vhid
    """The second byte of the payload, or -1 where it has none."""
    cdef readonly bytes payload
    """What the IP header says is its payload; Ethernet padding is left off."""

    def __init__(self):
        raise TypeError("a Frame is made by parse_frame")

    @property
    def destination_mac(self):
        """6 bytes."""
        return copy(self.macs, MAC_BYTES)

    @property
    def source_mac(self):
        """6 bytes."""
        return copy(self.macs + MAC_BYTES, MAC_BYTES)

    @property
    def source(self):
        """4 or 16 bytes."""
        return copy(self.addresses, self.address_bytes)

    @property
    def destination(self):
        """4 or 16 bytes."""
        return copy(self.addresses + 16, self.address_bytes)

    def __repr__(self):
        return (
            f"<Frame family={self.family} source_mac={self.source_mac.hex(':')} source={self.source.hex()} "
            f"destination={self.destination.hex()} ttl={self.ttl} vhid={self.vhid} payload={len(self.payload)} bytes>"
        )


cdef Frame frame_of(const uint8_t *raw, const frame_view *parsed):
    cdef Frame made = Frame.__new__(Frame)
    memcpy(made.macs, raw, 2 * MAC_BYTES)
    memcpy(made.addresses, raw + parsed.source_at, parsed.address_bytes)
    memcpy(made.addresses + 16, raw + parsed.destination_at, parsed.address_bytes)
    made.address_bytes = <uint8_t>parsed.address_bytes
    made.family = parsed.family
    made.ttl = parsed.ttl
    made.vlan = parsed.vlan
    made.vhid = raw[parsed.payload_at + 1] if parsed.payload_bytes > 1 else -1
    made.payload = copy(raw + parsed.payload_at, parsed.payload_bytes)
    return made


def parse_frame(frame, /):
    """The Frame in a buffer that holds one Ethernet frame of IPv4 or IPv6 with protocol 112, with or without a tag.

    Raises WireError; its rung is "frame" (no whole Ethernet header), "header" (no sound IP header: version, lengths,
    IPv4 checksum), "protocol" (neither IPv4 nor IPv6, or not protocol 112) or "fragment".
    """
    cdef raw_buffer view
    cdef size_t length
    cdef frame_view parsed
    cdef frame_fault fault
    cdef const uint8_t *raw = borrow(frame, &view, &length)
    cdef int rung = frame_parse(raw, length, &parsed, &fault)
    try:
        if rung != FRAME_VALID:
            raise WireError(
                FRAME_RUNGS[rung],
                f"{fault.what.decode()} at byte {fault.offset}: expected {fault.expected}, got {fault.got}",
                <Py_ssize_t>fault.offset,
            )
        return frame_of(raw, &parsed)
    finally:
        give_back(&view)


def advert_frame(bytes source_mac not None, bytes destination_mac not None, bytes source not None,
                 bytes destination not None, bytes payload not None, *, tos=0xE0, ttl=255, identification=0):
    """The Ethernet frame around an advert: IPv4 or IPv6 by the length of both addresses (4 or 16 bytes), 6-byte MACs.

    tos is IPv6's traffic class too. identification (16 bits) is IPv4's alone, whose checksum is done and DF flag set.
    """
    cdef frame_header header
    cdef size_t payload_bytes = <size_t>PyBytes_GET_SIZE(payload)
    cdef size_t ip_bytes = IPV6_BYTES
    cdef bytes frame
    header.address_bytes = 16
    if PyBytes_GET_SIZE(source) == 4:
        ip_bytes = IPV4_BYTES
        header.address_bytes = 4
    header.source_mac = fixed(source_mac, MAC_BYTES, "source_mac")
    header.destination_mac = fixed(destination_mac, MAC_BYTES, "destination_mac")
    header.source = fixed(source, <Py_ssize_t>header.address_bytes, "source")
    header.destination = fixed(destination, <Py_ssize_t>header.address_bytes, "destination")
    header.tos = <uint8_t>within(tos, 0, 255, "tos")
    header.ttl = <uint8_t>within(ttl, 0, 255, "ttl")
    header.identification = <uint16_t>within(identification, 0, 0xFFFF, "identification")
    if payload_bytes > 0xFFFF - IPV4_BYTES:
        raise ValueError(f"payload has {payload_bytes} bytes, a packet holds {0xFFFF - IPV4_BYTES}")
    frame = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(ETHERNET_BYTES + ip_bytes + payload_bytes))
    frame_write(&header, <const uint8_t *>PyBytes_AS_STRING(payload), payload_bytes,
                <uint8_t *>PyBytes_AS_STRING(frame))
    return frame


def gratuitous_arp_frame(bytes mac not None, bytes address not None):
    """42 bytes: a broadcast ARP request from `mac` (6 bytes), whose sender and target are both `address` (4 bytes)."""
    cdef const uint8_t *mac_raw = fixed(mac, MAC_BYTES, "mac")
    cdef const uint8_t *address_raw = fixed(address, 4, "address")
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, ARP_FRAME_BYTES)
    frame_write_arp(mac_raw, address_raw, <uint8_t *>PyBytes_AS_STRING(frame))
    return frame


def unsolicited_na_frame(bytes mac not None, bytes address not None, *, bint router):
    """86 bytes: a neighbour advertisement to all nodes for `address` (16 bytes) at `mac` (6 bytes), Override set."""
    cdef const uint8_t *mac_raw = fixed(mac, MAC_BYTES, "mac")
    cdef const uint8_t *address_raw = fixed(address, 16, "address")
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, NA_FRAME_BYTES)
    frame_write_na(mac_raw, address_raw, router, <uint8_t *>PyBytes_AS_STRING(frame))
    return frame


def sha1_implementations():
    """The names of the SHA-1 implementations that this CPU can run, the fastest for many messages first."""
    names = []
    while sha1_engine_at(<size_t>len(names)) != NULL:
        names.append(sha1_engine_at(<size_t>len(names)).name.decode())
    return tuple(names)


def select_sha1(str name not None, /):
    """Use one implementation from now on, or with "auto" the fastest.

    Some work only on several messages at once; a message alone then goes through the fastest of the others.
    Raises ValueError where this CPU has no such implementation.
    """
    if sha1_select(name.encode()) != 0:
        raise ValueError(f"no SHA-1 implementation {name!r} here, there are auto, {', '.join(sha1_implementations())}")


def current_sha1():
    """The names of the implementations in use: for one message, and for many."""
    return sha1_for_one().name.decode(), sha1_for_many().name.decode()


def sha1(message, /):
    """The SHA-1 digest (20 bytes) of a buffer by the implementation in use for one message."""
    cdef raw_buffer view
    cdef size_t length
    cdef const uint8_t *raw = borrow(message, &view, &length)
    cdef bytes digest = PyBytes_FromStringAndSize(NULL, 20)
    sha1_digest(raw, length, <uint8_t *>PyBytes_AS_STRING(digest))
    give_back(&view)
    return digest
