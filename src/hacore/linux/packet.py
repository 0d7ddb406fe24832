"""Sockets that carry adverts: AF_PACKET for multicast, raw IP for unicast peers.

AF_PACKET frames pass outside netfilter: no ruleset blocks them and no connection table counts them. Errors of the
kernel are raised as OSError, never swallowed. An interface that goes down raises ENETDOWN once on receive and on each
send, and the socket works again when the interface is back up; one that was deleted raises ENXIO on send and is silent
for ever: close the socket and make a new one when the name is back.

Source: packet(7), ip(7), ipv6(7), raw(7), include/uapi/linux/if_packet.h, filter.h; net/packet/af_packet.c.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Final

from hacore.linux import bpf
from hacore.linux.netlink import raise_buffer

CARP_PROTOCOL: Final = 112
ETH_P_ALL: Final = 0x0003
GROUP: Final = "224.0.0.18"
GROUP6: Final = "ff02::12"
GROUP_MAC: Final = bytes.fromhex("01005e000012")
GROUP6_MAC: Final = bytes.fromhex("333300000012")
# An advert is 70 or 90 bytes, with a trailer under 200; what is longer is cut here and fails its checks.
FRAME_LIMIT: Final = 2048
# DSCP CS7, as FreeBSD sends it (net.inet.carp.dscp 56).
TRAFFIC_CLASS: Final = 0xE0

_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_STATISTICS: Final = 6
_PACKET_IGNORE_OUTGOING: Final = 23
_PACKET_MR_MULTICAST: Final = 0
_SO_PRIORITY: Final = 12
_IP_MTU_DISCOVER: Final = 10
_IP_PMTUDISC_DO: Final = 2
_IPV6_DONTFRAG: Final = 62
_TC_PRIO_CONTROL: Final = 7

_PACKET_TYPE: Final = bpf.ANCILLARY + 4
_VLAN_TAG: Final = bpf.ANCILLARY + 44
_VLAN_TAG_PRESENT: Final = bpf.ANCILLARY + 48
_PACKET_OTHERHOST: Final = 3
ADVERT_FILTER: Final[bpf.Program] = (
    # A tag still attached belongs to another VLAN than the interface's own; only the priority tag (VLAN 0) does not.
    (bpf.LDW, 0, 0, _VLAN_TAG_PRESENT),
    (bpf.JEQ, 3, 0, 0),
    (bpf.LDW, 0, 0, _VLAN_TAG),
    (bpf.AND, 0, 0, 0x0FFF),
    (bpf.JEQ, 0, 10, 0),
    # Unicast to somebody else, seen because the interface is promiscuous.
    (bpf.LDW, 0, 0, _PACKET_TYPE),
    (bpf.JEQ, 8, 0, _PACKET_OTHERHOST),
    (bpf.LDH, 0, 0, 12),
    (bpf.JEQ, 0, 2, 0x0800),
    (bpf.LDB, 0, 0, 14 + 9),
    (bpf.JEQ, 3, 4, CARP_PROTOCOL),
    (bpf.JEQ, 0, 3, 0x86DD),
    (bpf.LDB, 0, 0, 14 + 6),
    (bpf.JEQ, 0, 1, CARP_PROTOCOL),
    (bpf.RET, 0, 0, bpf.ALL),
    (bpf.RET, 0, 0, 0),
)
_NOTHING: Final[bpf.Program] = ((bpf.RET, 0, 0, 0),)


def unicast_priority(vhid: int) -> int:
    """SO_PRIORITY of a VHID's unicast adverts, by which the lease gate knows them.

    A priority and not a mark, so that it takes no part in policy routing. The low bits are TC_PRIO_CONTROL, which
    queueing disciplines serve first; values above 6 need CAP_NET_ADMIN, and forwarded packets never have one of these,
    so nobody else renews a lease.
    """
    return 0x7000_0000 | vhid << 8 | _TC_PRIO_CONTROL


class AdvertSocket:
    """Sends and receives whole Ethernet frames on one interface: every frame of IP protocol 112, IPv4 or IPv6, that is
    meant for this host or a group.

    `membership_errors` holds the errno of each group ("224.0.0.18", "ff02::12") that could not be joined at the IP
    level, for instance because IPv6 is off on the interface. Raises OSError: ENODEV if the interface is not there under
    this name and index, EPERM without CAP_NET_RAW.
    """

    def __init__(self, ifname: str, ifindex: int, buffer_size: int = 4 << 20) -> None:
        self.ifname = ifname
        self.ifindex = ifindex
        self.membership_errors: dict[str, int] = {}
        self._dropped = 0
        self._pending: OSError | None = None
        self._members: list[socket.socket] = []
        # Protocol 0 receives nothing: the filter is attached before the first frame can arrive.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        try:
            bpf.attach(self._socket, ADVERT_FILTER)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_PRIORITY, _TC_PRIO_CONTROL)
            raise_buffer(self._socket, buffer_size)
            # ETH_P_ALL and not the two protocols: a macvlan with the same virtual MAC as the sender swallows the frame
            # before those see it.
            self._socket.bind((ifname, ETH_P_ALL))
            if socket.if_nametoindex(ifname) != ifindex:
                raise OSError(errno.ENODEV, f"{ifname} is no longer the interface with the index {ifindex}")
            for mac in (GROUP_MAC, GROUP6_MAC):
                request = struct.pack("=iHH8s", ifindex, _PACKET_MR_MULTICAST, len(mac), mac)
                self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
            self._join(socket.AF_INET, GROUP)
            self._join(socket.AF_INET6, GROUP6)
        except BaseException:
            self.close()
            raise

    def _join(self, family: int, group: str) -> None:
        """Joins at the IP level: only this sends the IGMP and MLD reports that snooping switches go by."""
        packed = socket.inet_pton(family, group)
        member: socket.socket | None = None
        try:
            member = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            if family == socket.AF_INET:
                member.setsockopt(
                    socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, packed + bytes(4) + struct.pack("=i", self.ifindex)
                )
            else:
                member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, packed + struct.pack("=i", self.ifindex))
        except OSError as error:
            self.membership_errors[group] = error.errno or errno.EIO
            if member is not None:
                member.close()
        else:
            self._members.append(member)

    def fileno(self) -> int:
        """Readable while frames or an error wait."""
        return self._socket.fileno()

    def receive(self, limit: int) -> list[bytes]:
        """Up to `limit` frames that wait; empty if none does. Raises OSError (ENETDOWN: the interface went down) after
        what came before it was returned.
        """
        if self._pending is not None:
            error, self._pending = self._pending, None
            raise error
        frames: list[bytes] = []
        receive = self._socket.recv
        try:
            for _ in range(limit):
                frames.append(receive(FRAME_LIMIT))  # noqa: PERF401 - what came before an error must not be lost
        except BlockingIOError:
            pass
        except OSError as error:
            if not frames:
                raise
            self._pending = error
        return frames

    def send(self, frame: bytes) -> None:
        """Sends one whole Ethernet frame. Raises OSError: ENETDOWN, ENXIO, ENOBUFS (dropped on the way), EAGAIN (the
        send buffer is full).
        """
        self._socket.send(frame)

    def dropped(self) -> int:
        """Frames the kernel dropped since the socket was made because its buffer was full."""
        _, drops = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self._dropped += int(drops)
        return self._dropped

    def close(self) -> None:
        """Leaves the groups and closes; may be called twice."""
        for member in self._members:
            member.close()
        self._members.clear()
        self._socket.close()


class UnicastSocket:
    """Sends a VHID's adverts of one family to one peer over raw IP, with the NIC's own MAC, routed by the kernel and
    kept on one interface.

    It takes nothing in: what arrives is read by the interface's AdvertSocket. It must stay open nevertheless, for
    without a raw socket on protocol 112 the kernel would answer adverts with "protocol unreachable". `source` binds the
    sender's address. Raises OSError.
    """

    def __init__(self, ifname: str, vhid: int, peer: str, source: str | None = None) -> None:
        family = socket.AF_INET6 if ":" in peer else socket.AF_INET
        self.peer = peer
        self._destination: tuple[str, int] = (peer, 0)
        self._socket = socket.socket(
            family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, CARP_PROTOCOL
        )
        try:
            bpf.attach(self._socket, _NOTHING)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, ifname.encode() + b"\0")
            if family == socket.AF_INET:
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)
                self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, TRAFFIC_CLASS)
                self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
            else:
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, TRAFFIC_CLASS)
                self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            # After the traffic class, which sets a priority of its own.
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_PRIORITY, unicast_priority(vhid))
            if source is not None:
                self._socket.bind((source, 0))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor; it never becomes readable."""
        return self._socket.fileno()

    def send(self, payload: bytes) -> None:
        """Sends the bytes after the IP header (the CARP header and what follows it). Raises OSError: no route, host
        unreachable, ENETDOWN, ...
        """
        self._socket.sendto(payload, self._destination)

    def close(self) -> None:
        """Closes the socket."""
        self._socket.close()
