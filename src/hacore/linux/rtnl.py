"""Addresses and links over rtnetlink: prebuilt address messages, a request socket, a monitor, dumps.

Written out here and not left to pyroute2, which costs 33 MB and milliseconds (see `netlink`). Source: rtnetlink(7),
include/uapi/linux/if_addr.h, if_link.h, rtnetlink.h; net/ipv4/devinet.c, net/ipv6/addrconf.c.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from hacore.linux import bpf, netlink

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22

IFA_F_NODAD: Final = 0x02
IFA_F_DEPRECATED: Final = 0x20
IFA_F_TENTATIVE: Final = 0x40
IFA_F_PERMANENT: Final = 0x80
IFA_F_NOPREFIXROUTE: Final = 0x200
# The mark that our addresses carry (IFA_PROTO, Linux 5.18; older kernels ignore it): CARP's IP protocol number.
IFAPROT_HACORE: Final = 112

_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_IFA_CACHEINFO: Final = 6
_IFA_FLAGS: Final = 8
_IFA_PROTO: Final = 11
_IFLA_ADDRESS: Final = 1
_IFLA_IFNAME: Final = 3
_IFLA_IFALIAS: Final = 20
_IFLA_GROUP: Final = 27
_ARPHRD_ETHER: Final = 1
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40
_IFF_LOWER_UP: Final = 0x10000
_RTMGRP_LINK: Final = 0x1
_RTMGRP_IPV4_IFADDR: Final = 0x10
_RTMGRP_IPV6_IFADDR: Final = 0x100
_FOREVER: Final = 0xFFFFFFFF

_IFADDRMSG = struct.Struct("=BBBBI")
_IFINFOMSG = struct.Struct("=BxHiII")
_CACHEINFO = struct.Struct("=IIII")
_U32 = struct.Struct("=I")

# Our own addresses that come, or live on, are news to nobody here, and each is renewed almost twice a second. What
# leaves is told, whoever removed it: by the mark alone it cannot be known who did.
_OWN_ADDRESSES_UNSEEN: Final[bpf.Program] = (
    (bpf.LDH, 0, 0, 4),
    (bpf.JEQ, 0, 7, int.from_bytes(struct.pack("=H", RTM_NEWADDR), "big")),
    (bpf.LDX_NUMBER, 0, 0, _IFA_PROTO),
    (bpf.LD_NUMBER, 0, 0, netlink.HEADER_LENGTH + _IFADDRMSG.size),
    (bpf.LDW, 0, 0, bpf.NETLINK_ATTRIBUTE),
    (bpf.JEQ, 3, 0, 0),
    (bpf.TAX, 0, 0, 0),
    (bpf.LDB_AT_X, 0, 0, 4),
    (bpf.JEQ, 1, 0, IFAPROT_HACORE),
    (bpf.RET, 0, 0, bpf.ALL),
    (bpf.RET, 0, 0, 0),
)


def _address_body(ifindex: int, address: str, prefix_length: int, flags: int, *more: bytes) -> bytes:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address)
    if not 0 <= prefix_length <= 8 * len(packed):
        raise ValueError(f"{address}: a prefix length of {prefix_length} is impossible")
    return b"".join(
        (
            _IFADDRMSG.pack(family, prefix_length, flags & 0xFF, 0, ifindex),
            netlink.attribute(_IFA_LOCAL, packed),
            netlink.attribute(_IFA_ADDRESS, packed),
            *more,
        )
    )


def new_address_message(
    ifindex: int,
    address: str,
    prefix_length: int,
    lifetime: int | None = None,
    noprefixroute: bool = True,
    nodad: bool = True,
    exclusive: bool = False,
) -> bytes:
    """RTM_NEWADDR that adds the address, or renews its lifetime where it is there already; `exclusive`: is answered
    with EEXIST there.

    `lifetime` is in whole seconds, None is for ever. IPv6 addresses are added as deprecated (preferred lifetime 0):
    they answer like any other, but the node's own connections do not choose an address that may leave with the next
    transition.
    """
    ipv6 = ":" in address
    flags = (IFA_F_NOPREFIXROUTE if noprefixroute else 0) | (IFA_F_NODAD if nodad and ipv6 else 0)
    valid = _FOREVER if lifetime is None else lifetime
    body = _address_body(
        ifindex,
        address,
        prefix_length,
        flags,
        netlink.attribute(_IFA_FLAGS, _U32.pack(flags)),
        netlink.attribute(_IFA_CACHEINFO, _CACHEINFO.pack(0 if ipv6 else valid, valid, 0, 0)),
        netlink.attribute(_IFA_PROTO, bytes((IFAPROT_HACORE,))),
    )
    where_it_is = netlink.NLM_F_EXCL if exclusive else netlink.NLM_F_REPLACE
    return netlink.message(RTM_NEWADDR, netlink.NLM_F_REQUEST | netlink.NLM_F_CREATE | where_it_is, body)


def delete_address_message(ifindex: int, address: str, prefix_length: int) -> bytes:
    """RTM_DELADDR; answered with EADDRNOTAVAIL where the address is not there."""
    return netlink.message(RTM_DELADDR, netlink.NLM_F_REQUEST, _address_body(ifindex, address, prefix_length, 0))


def set_group_message(ifindex: int, group: int) -> bytes:
    """RTM_NEWLINK that puts a link into an interface group."""
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + netlink.attribute(_IFLA_GROUP, _U32.pack(group))
    return netlink.message(RTM_NEWLINK, netlink.NLM_F_REQUEST, body)


def set_alias_message(ifindex: int, alias: str) -> bytes:
    """RTM_NEWLINK that gives a link an alias."""
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, 0, 0) + netlink.attribute(_IFLA_IFALIAS, alias.encode())
    return netlink.message(RTM_NEWLINK, netlink.NLM_F_REQUEST, body)


def set_up_message(ifindex: int) -> bytes:
    """RTM_NEWLINK that takes a link up."""
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, ifindex, _IFF_UP, _IFF_UP)
    return netlink.message(RTM_NEWLINK, netlink.NLM_F_REQUEST, body)


def delete_group_message(group: int) -> bytes:
    """RTM_DELLINK of every link in an interface group at once: one wait for the packet path, where single ones wait 20
    ms each.
    """
    body = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + netlink.attribute(_IFLA_GROUP, _U32.pack(group))
    return netlink.message(RTM_DELLINK, netlink.NLM_F_REQUEST, body)


class RouteSocket(netlink.RequestSocket):
    """Sends prebuilt messages."""

    def __init__(self) -> None:
        super().__init__(socket.NETLINK_ROUTE)

    def request(self, messages: Sequence[bytes]) -> list[int]:
        """One send for all messages (each one netlink message); the errno of each, 0 where it worked. They fail apart
        from each other.

        Raises OSError when the socket itself fails.
        """
        results = [0] * len(messages)
        for indices in netlink.split(messages):
            batch = bytearray().join(messages[index] for index in indices)
            first, _ = self._number(batch)
            self._exchange(batch, indices, first, results)
        return results


class LinkChange(NamedTuple):
    """A link as it is now. `up`: administratively up with a carrier; `present` False: it is gone; `mac` is empty where
    there is none; `ethernet`: it carries Ethernet frames to others (ARPHRD_ETHER), as lo and tunnels do not.
    """

    ifindex: int
    name: str
    up: bool
    present: bool
    mac: bytes
    ethernet: bool


class AddressChange(NamedTuple):
    """An address was added or renewed (`added`), or removed. `flags` are IFA_F_*; `ours`: it carries our mark (Linux
    5.18 or newer).
    """

    ifindex: int
    address: str
    prefix_length: int
    added: bool
    flags: int
    ours: bool


class Overrun(NamedTuple):
    """Changes were lost because they were not read in time: ask again for what is (`dump_links`, `dump_addresses`)."""


Change = LinkChange | AddressChange | Overrun


def _link_change(kind: int, body: bytes) -> LinkChange | None:
    if len(body) < _IFINFOMSG.size:
        return None
    family, hardware, ifindex, flags, _ = _IFINFOMSG.unpack_from(body)
    # A port that leaves a bridge is announced as RTM_DELLINK of the family AF_BRIDGE: the link itself stays.
    if family != socket.AF_UNSPEC or ifindex <= 0:
        return None
    attributes = netlink.attributes_in(body, _IFINFOMSG.size)
    name = attributes.get(_IFLA_IFNAME, b"").split(b"\0", 1)[0].decode(errors="surrogateescape")
    present = kind == RTM_NEWLINK
    wanted = _IFF_UP | _IFF_RUNNING | _IFF_LOWER_UP
    up, mac = present and flags & wanted == wanted, attributes.get(_IFLA_ADDRESS, b"")
    return LinkChange(ifindex, name, up, present, mac, hardware == _ARPHRD_ETHER)


def _address_change(kind: int, body: bytes) -> AddressChange | None:
    if len(body) < _IFADDRMSG.size:
        return None
    family, prefix_length, flags, _, ifindex = _IFADDRMSG.unpack_from(body)
    length = {socket.AF_INET: 4, socket.AF_INET6: 16}.get(family)
    attributes = netlink.attributes_in(body, _IFADDRMSG.size)
    packed = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
    if length is None or len(packed) != length:
        return None
    wide = attributes.get(_IFA_FLAGS, b"")
    if len(wide) == 4:
        flags = _U32.unpack(wide)[0]
    ours = attributes.get(_IFA_PROTO) == bytes((IFAPROT_HACORE,))
    return AddressChange(ifindex, socket.inet_ntop(family, packed), prefix_length, kind == RTM_NEWADDR, flags, ours)


def parse_changes(data: bytes) -> Iterator[Change]:
    """The changes in one datagram of the route family; total on any bytes, what is not understood is left out."""
    for kind, _, _, body in netlink.messages_in(data):
        change: Change | None = None
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            change = _link_change(kind, body)
        elif kind in (RTM_NEWADDR, RTM_DELADDR):
            change = _address_change(kind, body)
        if change is not None:
            yield change


class LinkMonitor:
    """Follows links and addresses of both families. Nonblocking: put `fileno()` into a selector.

    With `own_addresses` False it does not see that addresses with our mark come and are renewed (Linux 5.18; before
    that they have no mark), only that they leave.
    """

    def __init__(self, buffer_size: int = 4 << 20, *, own_addresses: bool = True) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        try:
            netlink.raise_buffer(self._socket, buffer_size)
            if not own_addresses:
                bpf.attach(self._socket, _OWN_ADDRESSES_UNSEEN)
            self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Readable while changes wait."""
        return self._socket.fileno()

    def read(self, limit: int = 256) -> list[Change]:
        """What happened since the last call, in order; at most `limit` datagrams (one change each as the kernel sends
        them).
        """
        changes: list[Change] = []
        for _ in range(limit):
            try:
                data = self._socket.recv(netlink.RECEIVE_LIMIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changes.append(Overrun())
                continue
            changes.extend(parse_changes(data))
        return changes

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()


def _dump(kind: int, body: bytes) -> list[Change]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as opened:
        opened.bind((0, 0))
        netlink.raise_buffer(opened, 1 << 20)
        opened.send(netlink.message(kind, netlink.NLM_F_REQUEST | netlink.NLM_F_DUMP, body))
        found: list[Change] = []
        while True:
            data = opened.recv(netlink.RECEIVE_LIMIT)
            found.extend(parse_changes(data))
            for answer, _, _, rest in netlink.messages_in(data):
                if answer == netlink.NLMSG_DONE:
                    return found
                if answer == netlink.NLMSG_ERROR:
                    number = -int.from_bytes(rest[:4], sys.byteorder, signed=True) if len(rest) >= 4 else errno.EPROTO
                    raise OSError(number, "the kernel refused a dump over rtnetlink")


def dump_links() -> list[LinkChange]:
    """Every link of this network namespace as it is now."""
    return [change for change in _dump(RTM_GETLINK, bytes(_IFINFOMSG.size)) if isinstance(change, LinkChange)]


def dump_addresses() -> list[AddressChange]:
    """Every address of this network namespace, both families."""
    return [change for change in _dump(RTM_GETADDR, bytes(_IFADDRMSG.size)) if isinstance(change, AddressChange)]
