"""What a MASTER holds in the kernel: addresses with a lifetime, and the forwarding gate. Taken and given up in one
batch.

Each address lives for `LIFETIME` and is renewed while the VIP is held, so that a node which stops running loses it
by the
kernel's hand; the gate closes by itself one dead time after the last advertisement (see `hacore.linux.gate`).
"""

from __future__ import annotations

import errno
import math
from _thread import LockType
from collections.abc import Callable, Iterable, Iterator, Mapping

from hacore.carp.router import RouterSettings
from hacore.linux.gate import LeaseSocket, NftSocket, lease_message, release_message
from hacore.linux.rtnl import delete_address_message, new_address_message
from hacore.node.address_writer import AddressWriter, describe
from hacore.node.messages import Device
from hacore.node.pulse import Pulse

LIFETIME = 2  # seconds, whole ones: the kernel takes an address away up to a second later
RENEW_AFTER = 0.6
GATE_CHECK = 1.0  # seconds between looks at the gate
# Seconds a takeover waits for the routing lock; then it speaks first: its gate is open already. Well below any stall
# that counts, or the election would take its own waiting for one and say nothing.
TAKE_TIMEOUT = 0.005
NO_INDEX = -1  # of a VIP that is no longer in the settings and has yet to be given up
RENEWALS_AT_ONCE = 16  # VIPs in one batch: it holds the routing lock that others wait for


class Vip:
    """The messages that take, renew and give up one VIP, built beforehand."""

    def __init__(self, index: int, settings: RouterSettings, device: Device) -> None:
        self.index = index
        self.settings = settings
        self.device = device
        self.held = False
        self.renew_at = 0.0
        self.addresses: list[str] = []
        self.take: list[bytes] = []
        self.give_up: list[bytes] = []
        for text, noprefixroute in zip(settings.addresses, device.noprefixroute, strict=True):
            address, length = text.split("/")
            prefix = (128 if ":" in address else 32) if noprefixroute else int(length)
            self.addresses.append(address)
            self.take.append(
                new_address_message(device.ifindex, address, prefix, lifetime=LIFETIME, noprefixroute=noprefixroute)
            )
            self.give_up.append(delete_address_message(device.ifindex, address, prefix))


class Gates:
    """Opens and closes the forwarding gates of devices, in whichever way the kernel at hand allows."""

    def __init__(self) -> None:
        self._leases = LeaseSocket()
        self._nft = NftSocket()

    def close(self) -> None:
        """Close the sockets; gates stay as they are."""
        self._leases.close()
        self._nft.close()

    def check(self, device: Device) -> int:
        """0 while the gate of the device stands; ENOENT if somebody deleted it (`nft flush ruleset` does)."""
        return self._leases.check(device.device) if device.gate == "adverts" else 0

    def move(self, opened: Iterable[Device], closed: Iterable[Device]) -> list[int]:
        """Returns an errno for each device whose gate could not be moved."""
        opened, closed = list(opened), list(closed)
        results = [self._leases.lease(device.device) for device in opened if device.gate == "adverts"]
        results += [self._leases.release(device.device) for device in closed if device.gate == "adverts"]
        messages = [lease_message(device.ifindex, None) for device in opened if device.gate == "static"]
        messages += [release_message(device.ifindex) for device in closed if device.gate == "static"]
        return [number for number in results + self._nft.request(messages) if number]


class Vips:
    """All VIPs that this node may hold. Errors of the kernel are returned, not raised: the election goes on."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._writer = AddressWriter()
        self._gates = Gates()
        self._vips: dict[tuple[str, int], Vip] = {}
        self._next_renewal = math.inf
        self._next_gate_check = 0.0

    def __iter__(self) -> Iterator[Vip]:
        return iter(self._vips.values())

    @property
    def by_place(self) -> Mapping[tuple[str, int], Vip]:
        """By interface and VHID."""
        return self._vips

    def get(self, interface: str, vhid: int) -> Vip | None:
        """The VIP of this VHID on this interface, or None."""
        return self._vips.get((interface, vhid))

    def configure(self, vips: Mapping[tuple[str, int], Vip]) -> None:
        """Replace what is known; what was held stays held, less the addresses that are no longer wanted.

        A held VIP that is no longer known leaves first: it stays here until `bring_in_line` gives it up.
        """
        old, self._vips = self._vips, dict(vips)
        unwanted: list[bytes] = []
        for vip in old.values():
            self._mark(vip, False)
        for place, vip in old.items():
            new = self._vips.get(place)
            if not vip.held:
                continue
            if new is None:
                vip.index = NO_INDEX
                self._vips[place] = vip
            elif new.device == vip.device:
                new.held, new.renew_at = True, 0.0
                unwanted += [message for message in vip.give_up if message not in new.give_up]
            else:
                unwanted += vip.give_up
        for vip in self._vips.values():
            self._mark(vip, vip.held)
        self._next_renewal = 0.0
        self._write(unwanted, "giving up addresses")

    def bring_in_line(self, is_master: Callable[[tuple[str, int]], bool], now: float) -> list[str]:
        """Hold the VIPs this node is MASTER of and give up the others: one batch of addresses and one of gate
        elements.
        """
        addresses: list[bytes] = []
        taken: list[Vip] = []
        given_up: list[Vip] = []
        for place, vip in list(self._vips.items()):
            hold = is_master(place)
            if hold == vip.held:
                continue
            vip.held = hold
            if hold:
                self._mark(vip, True)
                vip.renew_at = now + RENEW_AFTER
                addresses += vip.take
                taken.append(vip)
            else:
                given_up.append(vip)
                addresses += vip.give_up
                if vip.index == NO_INDEX:
                    del self._vips[place]
        problems = self._move_gates(taken, given_up)
        written = self._write(addresses, "moving addresses")
        if taken and written is not None:
            written.acquire(timeout=TAKE_TIMEOUT)
        for vip in given_up:
            self._mark(vip, False)
        self._next_renewal = min(self._next_renewal, now + RENEW_AFTER)
        return problems

    def _mark(self, vip: Vip, held: bool) -> None:
        if vip.index != NO_INDEX:
            self._pulse.set_held(vip.index, held)

    @property
    def next_renewal(self) -> float:
        """When `renew` has something to do; infinite while nothing is held."""
        return self._next_renewal

    def renew(self, now: float, *, everything: bool = False) -> list[str]:
        """Renew the lifetimes that are due, a few at a time; or all of them and the gates too, where they may have
        ended: the first frames that say so to the switches must not find a closed gate.
        """
        if now < self._next_renewal and not everything:
            return []
        held = [vip for vip in self._vips.values() if vip.held]
        due = held if everything else [vip for vip in held if vip.renew_at <= now][:RENEWALS_AT_ONCE]
        messages: list[bytes] = []
        ended = any(now >= vip.renew_at - RENEW_AFTER + LIFETIME for vip in due)
        for vip in due:
            vip.renew_at = now + RENEW_AFTER
            messages += vip.take
        self._next_renewal = min((vip.renew_at for vip in held), default=math.inf)
        problems = self._move_gates(held, []) if everything else []
        written = self._write(messages, "renewing addresses")
        if ended and written is not None:
            written.acquire(timeout=TAKE_TIMEOUT)
        return problems

    def put_back(self, vip: Vip) -> None:
        """Somebody else removed an address that this node holds."""
        self._write(vip.take, "putting addresses back")

    def gate_is_missing(self, now: float) -> bool:
        """Look at the gate of one VIP, now and then."""
        if now < self._next_gate_check:
            return False
        self._next_gate_check = now + GATE_CHECK
        return any(self._gates.check(vip.device) == errno.ENOENT for vip in list(self._vips.values())[:1])

    def problems(self) -> list[str]:
        """What the kernel refused of earlier batches."""
        return self._writer.problems()

    def finish(self, timeout: float) -> None:
        """Wait until everything is written."""
        self._writer.submit([], "").acquire(timeout=timeout)

    def _write(self, messages: list[bytes], doing: str) -> LockType | None:
        return self._writer.submit(messages, doing) if messages else None

    def _move_gates(self, opened: list[Vip], closed: list[Vip]) -> list[str]:
        try:
            results = self._gates.move([vip.device for vip in opened], [vip.device for vip in closed])
        except OSError as error:
            return [f"moving the gate: {error.strerror}"]
        return describe(results, "moving the gate", harmless=set())
