"""The counters of carp(4): `struct carpstats`, in its order and with its names."""

from __future__ import annotations

import msgspec

from hacore.errors import WireError


class Counters(msgspec.Struct):
    """Packets since the start; one set for each virtual router and one for the node."""

    ipackets: int = 0  # IPv4 advertisements received
    ipackets6: int = 0  # IPv6 advertisements received
    badif: int = 0  # on an interface without virtual routers
    badttl: int = 0  # TTL or hop limit not 255
    hdrops: int = 0  # Ethernet or IP header unusable
    badsum: int = 0  # checksum wrong
    badver: int = 0  # CARP version not 2
    badlen: int = 0  # shorter than an advertisement
    badauth: int = 0  # HMAC wrong: another password or another address list
    badvhid: int = 0  # no such VHID on the interface, or not of this family
    badaddrs: int = 0  # from an address of this node: a loop in the network
    opackets: int = 0  # IPv4 advertisements sent
    opackets6: int = 0  # IPv6 advertisements sent
    onomem: int = 0  # not sent for want of a buffer or for another error
    ostates: int = 0  # state changes
    preempt: int = 0  # times a slower master was preempted


RUNG_COUNTERS = {
    "short": "badlen",
    "checksum": "badsum",
    "vhid": "badvhid",
    "version": "badver",
    "authentication": "badauth",
}


def counter_of(error: WireError) -> str:
    """The counter that a failed check of a received frame belongs to; whatever fails before CARP is `hdrops`."""
    return RUNG_COUNTERS.get(error.rung, "hdrops")
