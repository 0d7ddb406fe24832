"""The interfaces that VIPs stand on, as the kernel reports them: present or not, link, MAC, the addresses to send
from.
"""

from __future__ import annotations

import ipaddress

from hacore.carp.router import Port
from hacore.linux.rtnl import AddressChange, Change, LinkChange, LinkMonitor, Overrun, dump_addresses, dump_links

IFA_F_SECONDARY = 0x01
IFA_F_TENTATIVE = 0x40
IFA_F_DADFAILED = 0x08


class Ports:
    """Follows links and addresses. The owner waits on `monitor` and calls `read`."""

    def __init__(self) -> None:
        self.monitor = LinkMonitor(own_addresses=False)
        self._links: dict[int, LinkChange] = {}
        self._addresses: dict[int, dict[str, int]] = {}
        self._virtual: set[str] = set()
        self._resync()

    def exclude(self, addresses: set[str]) -> None:
        """Virtual addresses are never sources of advertisements."""
        self._virtual = addresses

    def _resync(self) -> None:
        self._links = {link.ifindex: link for link in dump_links()}
        self._addresses = {}
        for change in dump_addresses():
            self._note_address(change)

    def _note_address(self, change: AddressChange) -> bool:
        """Whether it was not known."""
        addresses = self._addresses.setdefault(change.ifindex, {})
        if not change.added:
            addresses.pop(change.address, None)
            return True
        if addresses.get(change.address) == change.flags:
            return False
        addresses[change.address] = change.flags
        return True

    def read(self) -> list[Change]:
        """Takes in what happened and returns it; after an overrun everything is asked for again.

        An address that is there already, as the kernel tells of each renewed lifetime, is nothing that happened. The
        node's own virtual addresses are told of only when they leave.
        """
        return [change for change in self.monitor.read() if self._take_in(change)]

    def _take_in(self, change: Change) -> bool:
        """Whether it is worth looking at."""
        if isinstance(change, AddressChange):
            return self._note_address(change)
        if isinstance(change, Overrun):
            self._resync()
        elif change.present:
            self._links[change.ifindex] = change
        else:
            self._links.pop(change.ifindex, None)
            self._addresses.pop(change.ifindex, None)
        return True

    def link(self, name: str) -> LinkChange | None:
        """The interface of this name, or None."""
        return next((link for link in self._links.values() if link.name == name), None)

    def is_present(self, ifindex: int) -> bool:
        """Whether there is an interface with this index."""
        return ifindex in self._links

    def port(self, name: str) -> Port | None:
        """The election's view of an interface; None where it does not exist."""
        link = self.link(name)
        if link is None:
            return None
        return Port(
            up=link.up,
            mac=link.mac if len(link.mac) == 6 else bytes(6),
            source4=self._source(link.ifindex, 4) or bytes(4),
            source6=self._source(link.ifindex, 6) or bytes(16),
        )

    def _source(self, ifindex: int, family: int) -> bytes | None:
        """The first primary IPv4 address, or the first link-local IPv6 address, that is not a virtual one.

        A link-local address whose uniqueness is still being checked serves until another is there: an advertisement
        from `::` would not tell the nodes apart, and none at all would make the peer take over.
        """
        tentative: bytes | None = None
        for text, flags in self._addresses.get(ifindex, {}).items():
            address = ipaddress.ip_address(text)
            if address.version != family or text in self._virtual:
                continue
            if family == 4 and not flags & IFA_F_SECONDARY:
                return address.packed
            if family == 6 and address.is_link_local and not flags & IFA_F_DADFAILED:
                if not flags & IFA_F_TENTATIVE:
                    return address.packed
                tentative = address.packed
        return tentative
