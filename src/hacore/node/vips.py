"""What a MASTER holds in the kernel: addresses with a lifetime, and the forwarding gate. Taken and given up in one
batch.

Each address lives for `LIFETIME` and is renewed while the VIP is held, so that a node which stops running loses it
by the
kernel's hand; the gate closes by itself one dead time after the last advertisement (see `hacore.linux.gate`).
"""

from __future__ import annotations

import errno
import itertools
import math
import sys
import time
from _thread import LockType
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import cast

from hacore.carp.router import RouterSettings
from hacore.linux.gate import LeaseSocket, NftSocket, lease_message, release_message
from hacore.linux.rtnl import delete_address_message, new_address_message
from hacore.node.address_writer import AddressWriter, describe
from hacore.node.messages import Device
from hacore.node.pulse import Pulse

LIFETIME = 2  # seconds, whole ones: the kernel takes an address away up to a second later
RENEW_AFTER = 0.6
GATE_CHECK = 1.0  # seconds between looks at the gate
# Seconds a takeover waits for the routing lock, then it speaks first: its gate is open already. Meanwhile it advertises
# nothing of what else it holds, so not for three of the shortest intervals.
TAKE_TIMEOUT = 0.01
NO_INDEX = -1  # of a VIP that is no longer in the settings and has yet to be given up
RENEWED_TOGETHER = 0.1  # seconds: what is due so soon after another goes with it
RENEWALS_AT_ONCE = 128  # VIPs that are handed to the writer in one turn
RENEWALS_IN_A_SEND = 16  # addresses; the routing lock is for others too


class Vip:
    """The messages that take, renew and give up one VIP, built beforehand."""

    def __init__(self, index: int, settings: RouterSettings, device: Device) -> None:
        self.index = index
        self.settings = settings
        self.device = device
        self.held = False
        self.renew_at = 0.0
        self.take: list[bytes] = []
        self.give_up: list[bytes] = []
        self.put_back: dict[str, bytes] = {}
        for text, noprefixroute in zip(settings.addresses, device.noprefixroute, strict=True):
            address, length = text.split("/")
            prefix = (128 if ":" in address else 32) if noprefixroute else int(length)
            self.take.append(
                new_address_message(device.ifindex, address, prefix, lifetime=LIFETIME, noprefixroute=noprefixroute)
            )
            self.put_back[address] = new_address_message(
                device.ifindex, address, prefix, lifetime=LIFETIME, noprefixroute=noprefixroute, exclusive=True
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
        self._renewals: OrderedDict[tuple[str, int], Vip] = OrderedDict()  # what is held, in the order of `renew_at`
        self._next_gate_check = 0.0
        self._waited = 0.0

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
                new.held = True
                unwanted += [message for message in vip.give_up if message not in new.give_up]
            else:
                unwanted += vip.give_up
        for vip in self._vips.values():
            self._mark(vip, vip.held)
        self._renewals = OrderedDict((place, vip) for place, vip in self._vips.items() if vip.held)
        for vip in self._renewals.values():
            vip.renew_at = 0.0
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
                self._renew_after(place, vip, now)
                addresses += vip.take
                taken.append(vip)
            else:
                given_up.append(vip)
                del self._renewals[place]
                addresses += vip.give_up
                if vip.index == NO_INDEX:
                    del self._vips[place]
        problems = self._move_gates(taken, given_up)
        written = self._write(addresses, "moving addresses")
        if taken:
            self._wait_for(written)
        for vip in given_up:
            self._mark(vip, False)
        return problems

    def _renew_after(self, place: tuple[str, int], vip: Vip, now: float) -> None:
        """Its addresses are written now: it comes last."""
        vip.renew_at = now + RENEW_AFTER
        self._renewals[place] = vip
        self._renewals.move_to_end(place)

    def _wait_for(self, written: LockType | None) -> None:
        if written is not None and not written.acquire(blocking=False):
            began = time.monotonic()
            written.acquire(timeout=TAKE_TIMEOUT)
            self._waited += min(time.monotonic() - began, TAKE_TIMEOUT)

    def take_waited(self) -> float:
        """Seconds spent waiting for the routing lock since the last call: no stall, as it was meant."""
        waited, self._waited = self._waited, 0.0
        return waited

    def _mark(self, vip: Vip, held: bool) -> None:
        if vip.index != NO_INDEX:
            self._pulse.set_held(vip.index, held)

    @property
    def next_renewal(self) -> float:
        """When `renew` has something to do; infinite while nothing is held."""
        return next(iter(self._renewals.values())).renew_at if self._renewals else math.inf

    def renew(self, now: float, until: float, *, everything: bool = False) -> list[str]:
        """Renew the lifetimes that are due before `until`, the next time that the worker wakes in any case: a few at a
        time, and with them what is due soon after. Or all of them and the gates too, where they may have ended: the
        first frames that say so to the switches must not find a closed gate.
        """
        if self.next_renewal > max(now, until) and not everything:
            return []
        due = list(self._renewals.items()) if everything else self._due(max(now, until) + RENEWED_TOGETHER)
        messages: list[bytes] = []
        ended = any(now >= vip.renew_at - RENEW_AFTER + LIFETIME for _place, vip in due)
        for place, vip in due:
            self._renew_after(place, vip, now)
            messages += vip.take
        problems = self._move_gates([vip for _place, vip in due], []) if everything else []
        written = self._write(messages, "renewing addresses", at_once=RENEWALS_IN_A_SEND)
        if ended:
            self._wait_for(written)
        return problems

    def _due(self, until: float) -> list[tuple[tuple[str, int], Vip]]:
        first = itertools.islice(self._renewals.items(), RENEWALS_AT_ONCE)
        return list(itertools.takewhile(lambda each: each[1].renew_at <= until, first))

    def put_back(self, vip: Vip, address: str) -> None:
        """The address left this VIP's device while the VIP is held: add it, where it is not there again already, as
        after this node's own giving up and taking back. `were_put_back` tells.
        """
        self._writer.submit([vip.put_back[address]], "putting addresses back", [(vip, address)])

    def were_put_back(self) -> list[tuple[Vip, str]]:
        """Addresses that were missing since the last call: somebody else had removed them."""
        return cast("list[tuple[Vip, str]]", self._writer.done())

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

    def close(self) -> None:
        """Close what is open; the kernel keeps what it has."""
        self._writer.close()
        self._gates.close()

    def _write(self, messages: list[bytes], doing: str, at_once: int = sys.maxsize) -> LockType | None:
        return self._writer.submit(messages, doing, at_once=at_once) if messages else None

    def _move_gates(self, opened: list[Vip], closed: list[Vip]) -> list[str]:
        try:
            results = self._gates.move([vip.device for vip in opened], [vip.device for vip in closed])
        except OSError as error:
            return [f"moving the gate: {error.strerror}"]
        return describe(results, "moving the gate", harmless=set())
