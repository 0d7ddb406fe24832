"""Which connections are replicated: not those that the settings ignore, and not the nodes' own."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

import numpy as np
import numpy.typing as npt

from hacore._fast.match import DESTINATION, REPLY_DESTINATION, REPLY_SOURCE, RULE_DTYPE, SOURCE, matching, sift
from hacore.node.messages import IgnoredStates
from hacore.states.layout import Rows

Mask = npt.NDArray[np.bool_]
Rules = npt.NDArray[np.void]

CARP_PROTOCOL = 112
TEMPLATE = 1 << 11  # IPS_TEMPLATE: no connection
EITHER = SOURCE | DESTINATION
ANY_END = EITHER | REPLY_SOURCE | REPLY_DESTINATION
ANY = -1


def rule(protocol: int = ANY, network: str = "", *, ends: int = 0, port: int = 0, status: int = 0) -> Rules:
    """One record of RULE_DTYPE."""
    made = np.zeros(1, dtype=RULE_DTYPE)
    made["any_protocol"], made["protocol"] = protocol == ANY, max(protocol, 0)
    made["port"], made["status"] = port, status
    if network:
        parsed = ip_network(network, strict=False)
        made["family"] = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
        made["ends"] = ends
        size = len(parsed.network_address.packed)
        made["address"][0, :size] = list(parsed.network_address.packed)
        made["mask"][0, :size] = list(parsed.netmask.packed)
    return made


class Filter:
    """Made of the settings' rules and of the places (host, port) where the nodes' workers listen."""

    def __init__(self, ignore: Iterable[IgnoredStates] = (), own_places: Iterable[tuple[str, int]] = ()) -> None:
        rules = [
            rule(CARP_PROTOCOL),
            rule(status=TEMPLATE),
            rule(network="127.0.0.0/8", ends=SOURCE),
            rule(network="::1/128", ends=SOURCE),
        ]
        for host, port in own_places:
            try:
                rules.append(rule(socket.IPPROTO_TCP, str(ip_address(host)), ends=EITHER, port=port))
            except ValueError:
                continue  # a name: its connections are not tracked in the first place
        rules += [rule(ignored.protocol, ignored.network, ends=EITHER) for ignored in ignore]
        self._fixed = np.concatenate(rules)
        self._rules = self._fixed

    def set_own_addresses(self, addresses: Iterable[str]) -> None:
        """Addresses of this node alone, which no other node takes over: connections to and from them stay here."""
        own = [rule(network=str(ip_address(text)), ends=EITHER) for text in addresses]
        self._rules = np.concatenate([self._fixed, *own])

    def sift(self, rows: Rows, events: Rows, portid: int) -> tuple[int, int]:
        """`match.sift`: how many are left in front, to be replicated, and how many that socket has caused."""
        return sift(rows, events, portid, self._rules)

    def wanted(self, rows: Rows) -> Mask:
        """(n,): which of `rows` are replicated, by their original tuple."""
        return np.logical_not(matching(np.ascontiguousarray(rows), self._rules))
