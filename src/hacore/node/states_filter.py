"""Which connections are replicated: not those that the settings ignore, and not the nodes' own."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import numpy as np
import numpy.typing as npt

from hacore._fast.row import ROW_DTYPE
from hacore.node.messages import IgnoredStates
from hacore.states.layout import Rows

Mask = npt.NDArray[np.bool_]

CARP_PROTOCOL = 112
TEMPLATE = 1 << 11  # IPS_TEMPLATE: no connection
OFFSET = {name: ROW_DTYPE.fields[name][1] for name in ("source", "destination")}  # type: ignore[index]

#: The row once more, with addresses as numbers: bytes in memory order, so that masks and networks read alike compare.
_NUMBERS = np.dtype(
    {
        "names": ["source_4", "source_high", "source_low", "destination_4", "destination_high", "destination_low"],
        "formats": ["<u4", "<u8", "<u8", "<u4", "<u8", "<u8"],
        "offsets": [
            OFFSET["source"], OFFSET["source"], OFFSET["source"] + 8,
            OFFSET["destination"], OFFSET["destination"], OFFSET["destination"] + 8,
        ],
        "itemsize": ROW_DTYPE.itemsize,
    }
)  # fmt: skip


class Network:
    """A network of either family, as a test on the addresses of rows."""

    def __init__(self, text: str) -> None:
        network = ip_network(text, strict=False)
        self.family = socket.AF_INET if network.version == 4 else socket.AF_INET6
        kind = "<u4" if network.version == 4 else "<u8"
        self._address = np.frombuffer(network.network_address.packed, kind)
        self._mask = np.frombuffer(network.netmask.packed, kind)

    def holds(self, rows: Rows, end: str) -> Mask:
        """Which rows have the address at this end ("source" or "destination") in it, whatever their family says."""
        numbers = rows.view(_NUMBERS)
        if self.family == socket.AF_INET:
            return np.asarray((numbers[f"{end}_4"] & self._mask[0]) == self._address[0])
        high = (numbers[f"{end}_high"] & self._mask[0]) == self._address[0]
        return np.asarray(high & ((numbers[f"{end}_low"] & self._mask[1]) == self._address[1]))


class Filter:
    """Made of the settings' rules and of the places (host, port) where the nodes' workers listen."""

    def __init__(self, ignore: Iterable[IgnoredStates] = (), own_places: Iterable[tuple[str, int]] = ()) -> None:
        self._rules = [(rule.protocol, Network(rule.network) if rule.network else None) for rule in ignore]
        self._places: list[tuple[Network, int]] = []
        for host, port in own_places:
            try:
                self._places.append((Network(str(ip_address(host))), port))
            except ValueError:
                continue  # a name: its connections are not tracked in the first place
        self._local = [Network("127.0.0.0/8"), Network("::1/128")]
        self._own_4 = np.empty(0, np.uint32)
        self._own_6: list[Network] = []

    def set_own_addresses(self, addresses: Iterable[str]) -> None:
        """Addresses of this node alone, which no other node takes over: connections to and from them stay here."""
        packed = [ip_address(text) for text in addresses]
        four = [np.frombuffer(address.packed, "<u4")[0] for address in packed if address.version == 4]
        self._own_4 = np.sort(np.array(four, np.uint32))
        self._own_6 = [Network(str(address)) for address in packed if address.version == 6]

    def _is_own(self, rows: Rows, end: str) -> Mask:
        found = np.zeros(len(rows), np.bool_)
        if len(self._own_4):
            address = rows.view(_NUMBERS)[f"{end}_4"]
            place = np.minimum(np.searchsorted(self._own_4, address), len(self._own_4) - 1)
            found |= (self._own_4[place] == address) & (rows["family"] == socket.AF_INET)
        if self._own_6:
            six = rows["family"] == socket.AF_INET6
            if six.any():
                for network in self._own_6:
                    found |= six & network.holds(rows, end)
        return found

    def wanted(self, rows: Rows) -> Mask:
        """(n,): which of `rows` are replicated, by their original tuple."""
        family, protocol = rows["family"], rows["protocol"]
        left_out = (protocol == CARP_PROTOCOL) | ((rows["status"] & TEMPLATE) != 0)
        for network in self._local:
            left_out |= (family == network.family) & network.holds(rows, "source")
        left_out |= self._is_own(rows, "source") | self._is_own(rows, "destination")
        tcp = protocol == socket.IPPROTO_TCP
        if tcp.any():
            for network, port in self._places:
                ends = (network.holds(rows, "source") & (rows["source_port"] == port)) | (
                    network.holds(rows, "destination") & (rows["destination_port"] == port)
                )
                left_out |= tcp & (family == network.family) & ends
        for number, rule_network in self._rules:
            hit = np.ones(len(rows), np.bool_) if number < 0 else protocol == number
            if rule_network is not None:
                either = rule_network.holds(rows, "source") | rule_network.holds(rows, "destination")
                hit = hit & (family == rule_network.family) & either
            left_out |= hit
        return np.asarray(~left_out)
