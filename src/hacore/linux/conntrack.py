"""The kernel's connection table: its events, dumps, and rows put into it, over NETLINK_NETFILTER sockets.

Every socket belongs to the network namespace of the thread that opened it. Parsing and building are
`hacore._fast.ctnetlink`; here are the sockets, their options and the sysctls of net.netfilter. Arrays are of the
dtypes of `hacore.states.layout` and `hacore._fast.ctnetlink_dtypes`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from hacore._fast import ctnetlink
from hacore._fast.ctnetlink_dtypes import DISPLAY_DTYPE, EVENT_DTYPE, EXPECTATION_DTYPE
from hacore._fast.row import ROW_DTYPE
from hacore.errors import PlatformError, PrivilegeError

Records = npt.NDArray[np.void]

NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NETLINK_DROP_MEMBERSHIP: Final = 2
NETLINK_CAP_ACK: Final = 10
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33

# linux/netfilter/nfnetlink_compat.h and nfnetlink.h
GROUP_NEW, GROUP_UPDATE, GROUP_DESTROY, GROUP_EXPECTATION_NEW, _, GROUP_EXPECTATION_DESTROY = range(1, 7)
ROW_GROUPS: Final = (GROUP_NEW, GROUP_UPDATE, GROUP_DESTROY)
EXPECTATION_GROUPS: Final = (GROUP_EXPECTATION_NEW, GROUP_EXPECTATION_DESTROY)

SUBSYSTEM_ROWS, SUBSYSTEM_EXPECTATIONS = 1, 2
MESSAGE_GET, MESSAGE_DELETE, MESSAGE_GET_STATS = 1, 2, 5
REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
STATS_ENTRIES, STATS_MAX_ENTRIES = 1, 2
CTA_STATUS: Final = 3

SYSCTLS: Final = Path("/proc/sys/net/netfilter")

# Name, families and protocol of the helpers in the kernel's tree (net/netfilter/nf_conntrack_*.c); those on several
# ports have more names.
KNOWN_HELPERS: Final = (
    ("amanda", 17), ("ftp", 6), ("irc", 6), ("netbios-ns", 17), ("snmp", 17), ("pptp", 6), ("sane", 6), ("sip", 17),
    ("tftp", 17), ("RAS", 17), ("Q.931", 6), ("H.245", 6),
)  # fmt: skip


def _refused(error: OSError, what: str) -> PlatformError | PrivilegeError:
    if error.errno == errno.EPERM:
        return PrivilegeError(f"{what}: CAP_NET_ADMIN is missing in this network namespace")
    return PlatformError(f"{what}: {error.strerror}")


def _enlarge(sock: socket.socket, force: int, plain: int, size_bytes: int) -> int:
    """Sets a buffer's size past the administrator's bound where that is allowed, and gives what the kernel made of it
    (it doubles)."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size_bytes)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, plain, size_bytes)
    return sock.getsockopt(socket.SOL_SOCKET, plain)


class _Socket:
    """One NETLINK_NETFILTER socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        self._socket.bind((0, 0))
        self._sequence = 0

    @property
    def portid(self) -> int:
        """The number that the events of this socket's own messages carry."""
        return int(self._socket.getsockname()[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, subsystem: int, message: int, flags: int, family: int = 0) -> None:
        self._sequence += 1
        header = struct.pack("=IHHII", 20, subsystem << 8 | message, REQUEST | flags, self._sequence, 0)
        try:
            self._socket.send(header + struct.pack("=BBH", family, 0, 0))
        except OSError as error:
            raise _refused(error, "asking the kernel's connection table") from error


class EventSocket(_Socket):
    """The kernel's events, nonblocking; `rows`, `events` and so on hold what the last `receive` brought.

    Args:
        buffer_bytes: of the receive buffer, past net.core.rmem_max where CAP_NET_ADMIN allows; `buffer_bytes` tells
            what came of it.
        rows: room for rows in one call; what is left waits for the next one.
        expectations: whether their events are wanted as well.
        display: whether counters and timestamps are wanted (`display`, beside `rows`).
        datagrams: taken in one call.

    Raises:
        PrivilegeError: the kernel asks for CAP_NET_ADMIN.
    """

    def __init__(
        self,
        *,
        buffer_bytes: int = 64 << 20,
        rows: int = 8192,
        expectations: bool = True,
        display: bool = False,
        datagrams: int = 1024,
    ) -> None:
        super().__init__()
        self.buffer_bytes = _enlarge(self._socket, SO_RCVBUFFORCE, socket.SO_RCVBUF, buffer_bytes)
        self.rows: Records = np.zeros(rows, ROW_DTYPE)
        self.events: Records = np.zeros(rows, EVENT_DTYPE)
        self.display: Records | None = np.zeros(rows, DISPLAY_DTYPE) if display else None
        self.expectations: Records = np.zeros(1024, EXPECTATION_DTYPE)
        self.expectation_events: Records = np.zeros(1024, EVENT_DTYPE)
        self._reader = ctnetlink.Reader(
            self.rows, self.events, display=self.display, expectations=self.expectations,
            expectation_events=self.expectation_events, datagrams=datagrams, datagram_bytes=4096,
        )  # fmt: skip
        self._groups = ROW_GROUPS + (EXPECTATION_GROUPS if expectations else ())
        try:
            self.listen()
        except OSError as error:
            self.close()
            raise _refused(error, "listening to the kernel's connection table") from error

    def listen(self) -> None:
        """Joins the groups; a new socket has done so. A node that only injects is faster when nobody listens:
        `mute`."""
        for group in self._groups:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def mute(self) -> None:
        """Leaves the groups; what has come already can still be received."""
        for group in self._groups:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_DROP_MEMBERSHIP, group)

    def receive(self) -> ctnetlink.Received:
        """Takes what is there, at most `datagrams` and what `rows` has room for, in one system call and without the
        GIL.

        The first `rows` and `expectations` of the arrays are then of this call. `overrun`: the kernel had to drop
        events, compare with a dump. `more`: call again before waiting. The totals of messages refused are in
        `malformed`.
        """
        return self._reader.receive(self._socket.fileno())

    @property
    def malformed(self) -> dict[str, int]:
        """Messages that were refused since the socket was opened, by the check that failed."""
        return self._reader.malformed

    @property
    def overruns(self) -> int:
        """How often the kernel said that events were lost."""
        return self._reader.overruns


class Batch(NamedTuple):
    """Rows of a dump and what stands beside them; views that the next batch overwrites."""

    rows: Records
    events: Records
    display: Records | None


def dump(
    family: int = 0, zone: int | None = None, *, rows: int = 16384, display: bool = False, datagrams: int = 32
) -> Iterator[Batch]:
    """The kernel's table in batches of at most `rows`, each valid until the next is asked for.

    Args:
        family: AF_INET or AF_INET6; 0 is both.
        zone: only entries whose original or reply tuple is in that zone; None is all.
        datagrams: taken in one system call, each of up to 32 KiB.

    Raises:
        PlatformError: the kernel broke the dump off, or a message of it was malformed.
    """
    records: Records = np.zeros(rows, ROW_DTYPE)
    events: Records = np.zeros(rows, EVENT_DTYPE)
    shown: Records | None = np.zeros(rows, DISPLAY_DTYPE) if display else None
    reader = ctnetlink.Reader(records, events, display=shown, datagrams=datagrams, datagram_bytes=32768)
    with _Socket() as sock:
        _enlarge(sock._socket, SO_RCVBUFFORCE, socket.SO_RCVBUF, 4 << 20)
        sock._send(SUBSYSTEM_ROWS, MESSAGE_GET, DUMP, family)
        done = False
        while not done:
            received = reader.receive(sock.fileno())
            _check_dump(received)
            done = received.done
            count = received.rows
            if zone is None:
                if count:
                    yield Batch(records[:count], events[:count], None if shown is None else shown[:count])
                continue
            chosen = (records["zone"][:count] == zone) | (records["reply_zone"][:count] == zone)
            if zone == 0:
                chosen = (records["zone"][:count] == 0) & (records["reply_zone"][:count] == 0)
            if chosen.any():
                yield Batch(
                    records[:count][chosen], events[:count][chosen], None if shown is None else shown[:count][chosen]
                )


def _check_dump(received: ctnetlink.Received) -> None:
    if received.error:
        raise _refused(OSError(received.error, os.strerror(received.error)), "dumping the kernel's connection table")
    if received.overrun or received.malformed:
        raise PlatformError(f"dumping the kernel's connection table: {received!r}")


def dump_rows(family: int = 0, zone: int | None = None) -> Records:
    """The kernel's table as one array of `ROW_DTYPE`."""
    batches = [batch.rows.copy() for batch in dump(family, zone)]
    return np.concatenate(batches) if batches else np.zeros(0, ROW_DTYPE)


def expectation_batches(family: int = 0) -> Iterator[Records]:
    """The kernel's expectations in arrays of at most 1024 of `EXPECTATION_DTYPE`. Their `zone` is zero: the kernel does
    not tell it."""
    expectations: Records = np.zeros(1024, EXPECTATION_DTYPE)
    events: Records = np.zeros(1024, EVENT_DTYPE)
    reader = ctnetlink.Reader(
        np.zeros(1, ROW_DTYPE), np.zeros(1, EVENT_DTYPE), expectations=expectations, expectation_events=events,
        datagrams=8, datagram_bytes=32768,
    )  # fmt: skip
    with _Socket() as sock:
        sock._send(SUBSYSTEM_EXPECTATIONS, MESSAGE_GET, DUMP, family)
        done = False
        while not done:
            received = reader.receive(sock.fileno())
            _check_dump(received)
            done = received.done
            yield expectations[: received.expectations].copy()


def dump_expectations(family: int = 0) -> Records:
    """The kernel's expectations as one array, as `expectation_batches` gives them."""
    return np.concatenate(list(expectation_batches(family)))


def fetch(keys: Records, *, by_reply: bool = False) -> Records:
    """The entries with the keys of these rows (or with their reply tuples), as they are now; those that are gone, or
    that no kernel can have (an ICMP type that has no answer), are left out.

    For what changes without an event: the sequence adjustment of a helper's connection, of which the new expectation
    is the only sign.
    """
    return fetch_shown(keys, by_reply=by_reply)[0]


def fetch_shown(keys: Records, *, by_reply: bool = False) -> tuple[Records, Records]:
    """As `fetch`, and `DISPLAY_DTYPE` beside each entry."""
    found: list[Records] = []
    found_shown: list[Records] = []
    operation = ctnetlink.GET_BY_REPLY if by_reply else ctnetlink.GET
    room = 64  # answers of 8 KiB each in the receive buffer
    rows: Records = np.zeros(room, ROW_DTYPE)
    shown: Records = np.zeros(room, DISPLAY_DTYPE)
    reader = ctnetlink.Reader(rows, np.zeros(room, EVENT_DTYPE), display=shown, datagrams=room, datagram_bytes=4096)
    with _Socket() as sock:
        _enlarge(sock._socket, SO_RCVBUFFORCE, socket.SO_RCVBUF, 1 << 20)
        for start in range(0, len(keys), room):
            some = keys[start : start + room]
            sock._socket.send(ctnetlink.build(np.ascontiguousarray(some), np.full(len(some), operation, np.uint8)))
            while True:
                received = reader.receive(sock.fileno())
                if received.error not in (0, errno.ENOENT, errno.EINVAL) or received.overrun or received.malformed:
                    raise PlatformError(f"asking the kernel's connection table for entries: {received!r}")
                if not received.messages:
                    break
                found.append(rows[: received.rows].copy())
                found_shown.append(shown[: received.rows].copy())
    if not found:
        return np.zeros(0, ROW_DTYPE), np.zeros(0, DISPLAY_DTYPE)
    return np.concatenate(found), np.concatenate(found_shown)


class Injector(_Socket):
    """Puts rows and expectations into the kernel: `ctnetlink.Injector` and its socket.

    Args:
        batch_bytes: of messages in one send.
        extra_timeout: seconds that the copies live longer than the rows say.

    Raises:
        PrivilegeError: the kernel asks for CAP_NET_ADMIN.
    """

    def __init__(self, *, batch_bytes: int = 1 << 17, extra_timeout: int = 0) -> None:
        super().__init__()
        try:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
            _enlarge(self._socket, SO_SNDBUFFORCE, socket.SO_SNDBUF, 2 * batch_bytes + 65536)
            _enlarge(self._socket, SO_RCVBUFFORCE, socket.SO_RCVBUF, 4 << 20)
            _stats(self)
            self._injector = ctnetlink.Injector(
                self._socket.fileno(),
                batch_bytes=batch_bytes,
                extra_timeout=extra_timeout,
                offload_timeout_tcp=sysctl("nf_conntrack_tcp_timeout_established"),
                offload_timeout_udp=sysctl("nf_conntrack_udp_timeout_stream"),
            )
        except BaseException:
            self.close()
            raise

    @property
    def extra_timeout(self) -> int:
        """Seconds that the copies live longer than the rows say."""
        return self._injector.extra_timeout

    @extra_timeout.setter
    def extra_timeout(self, seconds: int) -> None:
        self._injector.extra_timeout = seconds

    def inject(
        self,
        rows: Records,
        operations: npt.NDArray[np.uint8] | None = None,
        errors: npt.NDArray[np.int32] | None = None,
    ) -> ctnetlink.Injected:
        """`ctnetlink.Injector.inject` on this socket."""
        return self._injector.inject(np.ascontiguousarray(rows), operations, errors)

    def inject_expectations(
        self,
        expectations: Records,
        operations: npt.NDArray[np.uint8] | None = None,
        errors: npt.NDArray[np.int32] | None = None,
    ) -> ctnetlink.Injected:
        """`ctnetlink.Injector.inject_expectations` on this socket."""
        return self._injector.inject_expectations(np.ascontiguousarray(expectations), operations, errors)

    def inject_bare(self, messages: bytes) -> int:
        """Sends prebuilt messages in batches and drops the answers, of which it gives the number: the yardstick of the
        benchmarks."""
        return self._injector.inject_bare(messages)


def _answer(sock: _Socket) -> bytes:
    """The next datagram; an error in it is raised."""
    reply = sock._socket.recv(65536)
    (kind,) = struct.unpack_from("=H", reply, 4)
    if kind == 2:
        (code,) = struct.unpack_from("=i", reply, 16)
        if code:
            raise _refused(OSError(-code, os.strerror(-code)), "asking the kernel's connection table")
    return reply


def _stats(sock: _Socket) -> dict[int, int]:
    """The answer to IPCTNL_MSG_CT_GET_STATS: attributes of one 32-bit number."""
    sock._send(SUBSYSTEM_ROWS, MESSAGE_GET_STATS, 0)
    stats = {}
    for header, value in struct.iter_unpack("4s4s", _answer(sock)[20:]):
        (kind,) = struct.unpack("=H", header[2:])
        (stats[kind & 0x3FFF],) = struct.unpack("!I", value)
    return stats


def count() -> int:
    """How many entries the table of this network namespace has."""
    with _Socket() as sock:
        return _stats(sock)[STATS_ENTRIES]


def limit() -> int:
    """How many entries one table may have (the kernel has one number for all network namespaces)."""
    with _Socket() as sock:
        stats = _stats(sock)
    return stats[STATS_MAX_ENTRIES] if STATS_MAX_ENTRIES in stats else sysctl("nf_conntrack_max")


def flush() -> None:
    """Empties the table of this network namespace. For namespaces of one's own: no node does this to a living
    firewall."""
    with _Socket() as sock:
        sock._send(SUBSYSTEM_ROWS, MESSAGE_DELETE, ACK)
        _answer(sock)


def helpers() -> tuple[str, ...]:
    """The helpers that this kernel has, or can load, for IPv4.

    Asked for by offering an entry with the helper's name and a status that the kernel refuses after it has looked the
    name up (ctnetlink_create_conntrack): nothing is created.
    """
    rows = np.zeros(len(KNOWN_HELPERS), ROW_DTYPE)
    rows["family"], rows["timeout"] = socket.AF_INET, 1
    rows["source"][:, 0] = rows["reply_destination"][:, 0] = 127
    rows["destination"][:, 0] = rows["reply_source"][:, 0] = 127
    rows["helper"] = [name for name, _ in KNOWN_HELPERS]
    rows["protocol"] = [protocol for _, protocol in KNOWN_HELPERS]
    found = []
    with _Socket() as sock:
        for index, (name, _) in enumerate(KNOWN_HELPERS):
            message = ctnetlink.build(rows[index : index + 1])
            confirmed, expected = (struct.pack("<HH", 8, CTA_STATUS) + struct.pack(">I", bits) for bits in (0x8, 0x9))
            sock._socket.send(message.replace(confirmed, expected))
            reply = sock._socket.recv(65536)
            (code,) = struct.unpack_from("=i", reply, 16)
            if code == -errno.EBUSY:
                found.append(name)
            elif code != -errno.EOPNOTSUPP:
                raise _refused(OSError(-code, os.strerror(-code)), f"asking for the helper {name}")
    return tuple(found)


def sysctl(name: str) -> int:
    """A number out of /proc/sys/net/netfilter, as the calling thread's network namespace has it.

    Raises:
        PlatformError: connection tracking is not there, or the kernel has no such setting.
    """
    try:
        return int((SYSCTLS / name).read_text())
    except OSError as error:
        raise PlatformError(f"net.netfilter.{name}: {error.strerror}") from error


def set_sysctl(name: str, value: int) -> None:
    """Writes a number into /proc/sys/net/netfilter.

    Raises:
        PlatformError: it cannot be written (a container with a read-only /proc/sys).
    """
    try:
        (SYSCTLS / name).write_text(f"{value}\n")
    except OSError as error:
        raise PlatformError(f"net.netfilter.{name} = {value}: {error.strerror}") from error


def keep_events() -> int:
    """Sets net.netfilter.nf_conntrack_events to 1 and gives what it was.

    With 2, the kernel's default, an entry born while nobody listens never sends an event in its life, also when
    somebody listens later: a replica that becomes the origin would not hear of the end of any inherited connection.
    """
    before = sysctl("nf_conntrack_events")
    if before != 1:
        set_sysctl("nf_conntrack_events", 1)
    return before
