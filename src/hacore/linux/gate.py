"""The lease gate: frames pass a VIP's macvlan only while its lease stands, and the node's own adverts are what renews
it.

Every VIP device has a set with one timed element, its lease. The node's egress of adverts renews it in the packet path
(dynset), so a node whose election no longer lives stops forwarding one dead time after its last advert, with no process
involved; without a lease the device neither takes in nor lets out a single frame.

The key of a set is the interface type (`ether`): it is the one thing that is the same on the parent, where adverts
leave, and on the macvlan, in both directions and for broadcast too.

A lease is taken and given up from user space in one of two ways. `LeaseSocket` sends a frame into the macvlan that its
egress chain turns into an update of the set and drops: some 4 us, no lock, not held up while somebody loads a large
ruleset. `NftSocket` sends nfnetlink messages (NEWSETELEM and so on): acknowledged, one transaction for all, but behind
the commit lock of nftables. The mode `static` (no egress hook, before Linux 5.16) knows only the second.

The ruleset that goes with it is made in `ruleset`. Source: nft(8), include/uapi/linux/netfilter/nf_tables.h,
net/netfilter/nft_dynset.c, nf_tables_api.c.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final, Literal

from hacore.linux import netlink

TABLE: Final = "hacore"
Mode = Literal["adverts", "static", "none"]
# Shorter leases would end between two adverts when the machine is busy.
SHORTEST_LEASE: Final = 0.1

_NETLINK_NETFILTER: Final = 12
_NFNL_SUBSYS_NFTABLES: Final = 10
_NFNL_MSG_BATCH_BEGIN: Final = 16
_NFNL_MSG_BATCH_END: Final = 17
_NFT_MSG_NEWSETELEM: Final = 12
_NFT_MSG_DELSETELEM: Final = 14
_NFPROTO_NETDEV: Final = 5
_NFTA_SET_ELEM_LIST_TABLE: Final = 1
_NFTA_SET_ELEM_LIST_SET: Final = 2
_NFTA_SET_ELEM_LIST_ELEMENTS: Final = 3
_NFTA_LIST_ELEM: Final = 1
_NFTA_SET_ELEM_KEY: Final = 1
_NFTA_SET_ELEM_TIMEOUT: Final = 4
_NFTA_DATA_VALUE: Final = 1
_ARPHRD_ETHER: Final = 1

# A local experimental EtherType (IEEE Std 802), to an address that no bridge forwards, from one that none accepts:
# harmless if the gate is missing.
COMMAND_TYPE: Final = 0x88B5
COMMAND_LEASE: Final = 1
COMMAND_RELEASE: Final = 2
_COMMAND_NOTHING: Final = 0


def lease_timeout(dead_time: float) -> float:
    """Seconds a lease lasts after an advert: one dead time, at least 100 ms, in whole milliseconds."""
    return max(SHORTEST_LEASE, round(dead_time, 3))


def _command_frame(command: int) -> bytes:
    return bytes.fromhex("0180c200000e") + bytes(6) + struct.pack("!HB", COMMAND_TYPE, command) + bytes(45)


def set_name(ifindex: int) -> str:
    """The set that holds the lease of the VIP device `ifindex`."""
    return f"lease_{ifindex}"


def milliseconds(timeout: float) -> int:
    """As nftables wants it; at least 1."""
    return max(1, round(timeout * 1000))


def _element_message(kind: int, flags: int, ifindex: int, timeout: float | None) -> bytes:
    element = [
        netlink.nested(_NFTA_SET_ELEM_KEY, netlink.attribute(_NFTA_DATA_VALUE, struct.pack("=H", _ARPHRD_ETHER)))
    ]
    if timeout is not None:
        element.append(netlink.attribute(_NFTA_SET_ELEM_TIMEOUT, struct.pack("!Q", milliseconds(timeout))))
    body = (
        struct.pack("!BBH", _NFPROTO_NETDEV, 0, 0)
        + netlink.attribute(_NFTA_SET_ELEM_LIST_TABLE, TABLE.encode() + b"\0")
        + netlink.attribute(_NFTA_SET_ELEM_LIST_SET, set_name(ifindex).encode() + b"\0")
        + netlink.nested(_NFTA_SET_ELEM_LIST_ELEMENTS, netlink.nested(_NFTA_LIST_ELEM, *element))
    )
    return netlink.message(_NFNL_SUBSYS_NFTABLES << 8 | kind, netlink.NLM_F_REQUEST | flags, body)


def lease_message(ifindex: int, timeout: float | None) -> bytes:
    """Takes the lease of a VIP device for `timeout` seconds; None is until it is released (mode `static`)."""
    return _element_message(_NFT_MSG_NEWSETELEM, netlink.NLM_F_CREATE, ifindex, timeout)


def release_message(ifindex: int) -> bytes:
    """Ends the lease at once, whether it stands or not.

    Two netlink messages: deleting an element that is not there would undo the whole transaction, so it is put there
    first. (DESTROYSETELEM does the same in one, but only since Linux 6.3.)
    """
    return lease_message(ifindex, 60.0) + _element_message(_NFT_MSG_DELSETELEM, 0, ifindex, None)


class NftSocket(netlink.RequestSocket):
    """Sends prebuilt set element messages as one transaction. It waits for the commit lock: whoever loads a large
    ruleset delays it.
    """

    def __init__(self) -> None:
        super().__init__(_NETLINK_NETFILTER)
        header = struct.pack("!BBH", 0, 0, _NFNL_SUBSYS_NFTABLES)
        self._begin = netlink.message(_NFNL_MSG_BATCH_BEGIN, netlink.NLM_F_REQUEST, header)
        self._end = netlink.message(_NFNL_MSG_BATCH_END, netlink.NLM_F_REQUEST, header)

    def request(self, messages: Sequence[bytes]) -> list[int]:
        """The errno of each of `messages`, 0 where it worked. One failure undoes all: none had an effect then."""
        results = [0] * len(messages)
        if not messages:
            return results
        owners = [0]
        for index, one in enumerate(messages):
            owners += [index] * netlink.count_messages(one)
        batch = bytearray().join((self._begin, *messages))
        first, count = self._number(batch)
        batch += self._end
        netlink.set_sequence(batch, len(batch) - len(self._end), first + count)
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        self._exchange(batch, owners, first, results)
        return results


class LeaseSocket:
    """Takes and gives up leases in the packet path, in the mode `adverts`."""

    def __init__(self) -> None:
        self._lease, self._release, self._nothing = (
            _command_frame(command) for command in (COMMAND_LEASE, COMMAND_RELEASE, _COMMAND_NOTHING)
        )
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)

    def lease(self, device: str) -> int:
        """Takes the lease of the VIP device for its timeout, from now. Returns 0, or an errno: ENOENT if the gate is
        missing there.
        """
        return self._send(device, self._lease)

    def release(self, device: str) -> int:
        """Ends the lease at once. Returns as `lease` does."""
        return self._send(device, self._release)

    def check(self, device: str) -> int:
        """Changes nothing; returns as `lease` does. `nft flush ruleset` takes our tables away with all others."""
        return self._send(device, self._nothing)

    def _send(self, device: str, frame: bytes) -> int:
        try:
            self._socket.sendto(frame, (device, 0))
        except OSError as error:
            # The chain worked off the frame and dropped it, which the socket reports as a lack of buffers.
            return 0 if error.errno == errno.ENOBUFS else error.errno or errno.EIO
        return errno.ENOENT

    def close(self) -> None:
        """Closes the socket; leases stay as they are."""
        self._socket.close()
