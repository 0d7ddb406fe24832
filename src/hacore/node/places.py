"""Who may hold a connection: peers have places of their own, and a stranger that did not say who it is makes way.

A connection belongs to a peer's places when it comes from an address of a peer: one of the settings, one that a name
there stands for, or one from which a peer's certificate was shown. The node API and the stream of states each have
such places.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

#: From one address; a peer needs a handful.
CONNECTIONS_PER_ADDRESS = 16
#: Of all who are no peers, together, and as many of all peers: bounds the memory that they can force.
CONNECTIONS = 64


class Place:
    """One connection. `drop` closes it; `trusted` once it showed a peer's certificate."""

    __slots__ = ("drop", "reserved", "source", "trusted")

    def __init__(self, source: str, reserved: bool, drop: Callable[[], None]) -> None:
        self.source, self.reserved, self.drop = source, reserved, drop
        self.trusted = False


class Places:
    """All connections, the oldest first."""

    def __init__(self) -> None:
        self._held: dict[Place, None] = {}
        self._literal: set[str] = set()
        self._named: dict[str, set[str]] = {}
        self._seen: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._held)

    # Whose address

    def know(self, hosts: Iterable[str]) -> list[str]:
        """The hosts of the peers in the settings; returns those that are names."""
        self._literal, names = set(), []
        for host in hosts:
            try:
                self._literal.add(_plain(host))
            except ValueError:
                names.append(host)
        self._named = {name: self._named.get(name, set()) for name in names}
        return names

    def stands_for(self, name: str, addresses: Iterable[str]) -> None:
        """What a host of the settings that is a name was found to stand for."""
        if name in self._named:
            self._named[name] = {_plain(address) for address in addresses}

    def shown(self, place: Place, peer: str) -> None:
        """A peer's certificate was shown there."""
        place.trusted = True
        self._seen[peer] = place.source

    def _is_peers(self, source: str) -> bool:
        named = any(source in addresses for addresses in self._named.values())
        return named or source in self._literal or source in self._seen.values()

    # Coming and going

    def take(self, address: str, drop: Callable[[], None]) -> Place | None:
        """A place for a connection from there, or None where there is none.

        Where all are taken the oldest that has not shown who it is is dropped for the new one.
        """
        source = _plain(address)
        if sum(one.source == source for one in self._held) >= CONNECTIONS_PER_ADDRESS:
            return None
        reserved = self._is_peers(source)
        alike = [one for one in self._held if one.reserved == reserved]
        if len(alike) >= CONNECTIONS:
            oldest = next((one for one in alike if not one.trusted), None)
            if oldest is None:
                return None
            self.leave(oldest)
            oldest.drop()
        place = Place(source, reserved, drop)
        self._held[place] = None
        return place

    def leave(self, place: Place) -> None:
        """The connection is over; may be said twice."""
        self._held.pop(place, None)


def _plain(address: str) -> str:
    """An address as text, one way for each; IPv4 in IPv6 as IPv4. Raises ValueError."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(found)
