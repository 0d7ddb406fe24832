"""Every virtual router of a node, and what they share: demotion, preemption, the leave, the counters.

A machine with five verbs: `receive`, `frames_to_send`, `next_deadline`, `handle_deadline`, `events`. Its owner, on each
turn, drains the sockets into `receive`, calls `handle_deadline`, takes `events`, brings the kernel in line with every
router's `state` (addresses and filter), and only then sends `frames_to_send`: so a successor is ready before it speaks.
"""

from __future__ import annotations

import functools
import heapq
import ipaddress
import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import msgspec

from hacore._fast.advert import (
    Advertisement,
    AdvertKey,
    advert_frame,
    gratuitous_arp_frame,
    parse_frame,
    unsolicited_na_frame,
)
from hacore.carp import demotion as reasons
from hacore.carp.announce import RateLimit
from hacore.carp.counters import Counters, counter_of
from hacore.carp.demotion import Demotion
from hacore.carp.events import AnyEvent, DemotionChanged, Noticed
from hacore.carp.router import Port, RouterSettings, VirtualRouter
from hacore.carp.table import Situation
from hacore.carp.terms import BOW_OUT, CARP_TTL, State
from hacore.errors import WireError

MULTICAST_MAC = {4: bytes.fromhex("01005e000012"), 6: bytes.fromhex("333300000012")}
MULTICAST_GROUP = {4: bytes([224, 0, 0, 18]), 6: bytes.fromhex("ff020000000000000000000000000012")}
ADVERT_TOS = 0xE0  # DSCP 56, as current FreeBSD sends

MAX_PEERS = 256  # bounds what authentic senders that change their addresses can make this node remember
STALL_SHARE = 0.75  # of the dead time: a MASTER that did not run for this long may have been replaced
ANNOUNCE_RATE = 500.0  # announcements a second over all interfaces, after a burst of twice the addresses and 64

NOBODYS_KEY = AdvertKey(b"", 1, [])


@functools.cache
def virtual_mac(vhid: int) -> bytes:
    """00:00:5e:00:01:VHID, for both families."""
    return bytes([0, 0, 0x5E, 0, 1, vhid])


class Outgoing(NamedTuple):
    """One thing to send: a whole frame, or the 36 bytes for a unicast peer (`peer` is its address)."""

    router: VirtualRouter
    family: int
    data: bytes
    peer: str = ""
    is_advert: bool = True


class Peer(msgspec.Struct):
    """Another node whose authentic advertisements were heard on an interface."""

    interface: str
    address: str
    vhids: set[int]
    last_heard: float
    form: str


class Election:
    """All virtual routers of this node."""

    def __init__(self, *, preempt: bool, counters_from: int, rekey_time: float = 600.0) -> None:
        """`counters_from` is a random 64-bit number: where the advertisements' counters start."""
        self.preempt = preempt
        self.rekey_time = rekey_time
        self.demotion = Demotion()
        self.counters = Counters()  # what belongs to no virtual router
        self.peers: dict[tuple[str, bytes], Peer] = {}  # by interface and address
        self.enabled = True
        self.stall_tolerance = math.inf  # the shortest time without a turn after which a MASTER may have been replaced
        self._counters_from = counters_from
        self._routers: dict[tuple[str, int], VirtualRouter] = {}
        self._ports: dict[str, Port] = {}
        self._without_device: dict[str, frozenset[int]] = {}
        self._journal: list[AnyEvent] = []
        self._timers: list[tuple[float, int, VirtualRouter]] = []
        self._armed: dict[int, float] = {}
        self._due: dict[int, VirtualRouter] = {}
        self._moved: dict[int, VirtualRouter] = {}
        self._removed: set[tuple[str, int]] = set()
        self._leaving = False
        self._rate = RateLimit(ANNOUNCE_RATE, 64)

    # Configuration

    @property
    def routers(self) -> list[VirtualRouter]:
        """All of them, also those that leave."""
        return list(self._routers.values())

    def router(self, interface: str, vhid: int) -> VirtualRouter | None:
        """The virtual router of this VHID on this interface, or None."""
        return self._routers.get((interface, vhid))

    def configure(self, routers: Sequence[RouterSettings], now: float, *, preempt: bool, rekey_time: float) -> None:
        """Take these settings: new VHIDs start, missing ones leave, changed ones are changed in place."""
        self.preempt, self.rekey_time = preempt, rekey_time
        wanted = {(settings.interface, settings.vhid): settings for settings in routers}
        for place, router in self._routers.items():
            if place not in wanted and place not in self._removed:
                self._removed.add(place)
                router.leave(Situation.REMOVED, now)
                self._touch(router)
        for place, settings in wanted.items():
            known = self._routers.get(place)
            if known is None:
                counter = (self._counters_from + 0x9E3779B97F4A7C15 * len(self._routers)) % 2**64
                router = self._routers[place] = VirtualRouter(settings, counter, self._journal)
                router.since, router.enabled = now, self.enabled
                router.keep_previous_keys(now)
                self._give_port(router, now)
            else:
                router = known
                router.enabled = self.enabled
                self._removed.discard(place)
                router.change(settings, now, self.rekey_time)
            self._touch(router)
        self.stall_tolerance = STALL_SHARE * min((router.dead_time for router in self.routers), default=math.inf)
        self._rate.burst = 64 + 2 * sum(len(settings.addresses) for settings in routers)
        self._drop_removed()
        self._move_link_demotion(now)

    def rekeyed(self, interface: str, vhid: int, until: float, now: float) -> None:
        """The nodes that can be asked have this VHID's new addresses and password: the old ones end by then."""
        if router := self._routers.get((interface, vhid)):
            router.rekeyed(until, now)
            self._touch(router)

    # Links

    def set_port(self, interface: str, port: Port | None, now: float, *, without_device: Collection[int] = ()) -> None:
        """The interface's link, MAC or addresses changed; None: it is gone.

        `without_device` are the VHIDs that have nothing there to hold their addresses: they are INIT, the others go on.
        """
        self._without_device[interface] = frozenset(without_device)
        if port is None:
            self._ports.pop(interface, None)
        else:
            self._ports[interface] = port
        for router in self._on(interface):
            self._give_port(router, now)
            self._touch(router)
        self._move_link_demotion(now)
        self._move_send_demotion(now)

    def _give_port(self, router: VirtualRouter, now: float) -> None:
        interface = router.settings.interface
        absent = router.settings.vhid in self._without_device.get(interface, ())
        router.set_port(None if absent else self._ports.get(interface), now)
        if absent and interface in self._ports and router.state is State.INIT:
            router.reason = "no device for the addresses"

    def _on(self, interface: str) -> list[VirtualRouter]:
        return [router for router in self._routers.values() if router.settings.interface == interface]

    def _move_link_demotion(self, now: float) -> None:
        """One count of "link down" for each interface with a VHID and without a link."""
        used = {router.settings.interface for router in self._routers.values()}
        dead = sum(1 for name in used if name not in self._ports or not self._ports[name].up)
        self._demoted(reasons.LINK_DOWN, self.demotion.set(reasons.LINK_DOWN, reasons.FULL * dead), now)

    def _move_send_demotion(self, now: float) -> None:
        """One count of "send errors" while any VHID's adverts fail."""
        failing = any(router.send_failing for router in self._routers.values())
        self._demoted(reasons.SEND_ERRORS, self.demotion.set(reasons.SEND_ERRORS, reasons.FULL if failing else 0), now)

    # Demotion and the administrator

    def demote(self, name: str, value: int, now: float, *, administrative: bool = False) -> None:
        """Hold a reason with this value (0 lets it go)."""
        self._demoted(name, self.demotion.set(name, value, administrative=administrative), now)

    def reset_demotion(self, now: float) -> list[str]:
        """Let go of what the administrator added; returns the names."""
        before = self.demotion.total
        gone = self.demotion.reset()
        self._demoted("reset", self.demotion.total - before, now)
        return gone

    def _demoted(self, name: str, by: int, now: float) -> None:
        if by == 0:
            return
        self._journal.append(DemotionChanged(at=now, reason=name, by=by, total=self.demotion.total))
        hands_over = (
            by > 0 and name not in reasons.KEEPS_MASTERSHIP and (not self.preempt or name == reasons.MAINTENANCE)
        )
        for router in self._routers.values():
            if router.state is State.MASTER and not router.leaving:
                if hands_over:
                    router.leave(Situation.HANDED_OVER, now)
                else:
                    router.advertise_now()
                self._touch(router)

    def disable(self, now: float) -> None:
        """Every virtual router leaves, until `enable`."""
        self.enabled = False
        for router in self._routers.values():
            router.enabled = False
            router.leave(Situation.DISABLED, now)
            self._touch(router)

    def enable(self, now: float) -> None:
        """The end of `disable`."""
        self.enabled = True
        for router in self._routers.values():
            router.enabled = True
            router.configure(now, Situation.ENABLED)
            self._touch(router)

    def leave(self, now: float) -> None:
        """A planned end: bow out everywhere. `has_left` tells when nothing is held any more."""
        self.enabled = False
        for router in self._routers.values():
            router.enabled = False
            router.leave(Situation.SHUT_DOWN, now)
            self._touch(router)

    @property
    def has_left(self) -> bool:
        """Whether nothing is held any more, after `leave`."""
        return all(router.state is State.INIT for router in self._routers.values())

    # Stalls

    def stalled(self, duration: float) -> None:
        """The owner did not run for `duration`. Call it before the drained frames are received."""
        for router in self._routers.values():
            if router.state is State.MASTER and duration >= STALL_SHARE * router.dead_time:
                router.suspect = True

    def resumed(self, duration: float, now: float) -> None:
        """The sockets are drained: who is still MASTER goes on, and says so to the segment."""
        for router in self._routers.values():
            if router.suspect:
                router.reassert(now)
                text = f"did not run for {duration:.3f} s; no other master was heard"
                self._journal.append(Noticed(at=now, vip=router.settings.name, kind="stalled", text=text))
                self._touch(router)

    def notice(self, vip: str, kind: str, text: str, now: float) -> None:
        """The owner saw something that belongs into the history."""
        self._journal.append(Noticed(at=now, vip=vip, kind=kind, text=text))

    # The five verbs

    def receive(self, interface: str, data: bytes, now: float) -> None:
        """A frame from the wire: any bytes at all end in a counter or in the election."""
        try:
            frame = parse_frame(data)
        except WireError as error:
            self._count(self.counters, counter_of(error))
            return
        family, vhid = frame.family, frame.vhid
        router = self._routers.get((interface, vhid))
        if router is None or family not in router.families:
            counters = self.counters
            self._count_received(counters, family)
            self._count(counters, _why_nobodys(frame.payload))
            return
        counters = router.counters
        self._count_received(counters, family)
        ttl_wrong = frame.ttl != CARP_TTL and family not in router.unicast_peers
        try:
            advert, key = self._verify(router, frame.payload)
        except WireError as error:
            self._count(counters, "badttl" if ttl_wrong and error.rung == "authentication" else counter_of(error))
            return
        if ttl_wrong:
            counters.badttl += 1
            return
        port = self._ports.get(interface)
        source = frame.source
        if port is not None and source == port.source(family) and any(source):
            counters.badaddrs += 1
            return
        self._note_peer(interface, source, vhid, advert.form, now)
        router.receive(advert, key, family, source, now, preempt=self.preempt, demotion=self.demotion.total)
        self._touch(router)

    @staticmethod
    def _verify(router: VirtualRouter, payload: bytes) -> tuple[Advertisement, AdvertKey]:
        """The advertisement, and which of the router's keys it authenticates under."""
        try:
            return router.key.verify(payload), router.key
        except WireError as error:
            if error.rung != "authentication":
                raise
            for old in router.old_keys:
                try:
                    return old.key.verify(payload), old.key
                except WireError:
                    continue
            raise

    def handle_deadline(self, now: float) -> None:
        """Timers that are due by `now`."""
        self._arm_moved()
        timers = self._timers
        while timers and timers[0][0] <= now:
            time, identity, router = heapq.heappop(timers)
            if self._armed.get(identity) == time:
                del self._armed[identity]
                router.handle_deadline(now)
                self._touch(router)
        self._finish_leaves(now)

    def _finish_leaves(self, now: float) -> None:
        """All VHIDs are given up together, so that a flow does not find one side moved and the other not."""
        if not self._leaving:
            return
        leaving = [place for place, router in self._routers.items() if router.leaving]
        self._leaving = bool(leaving)
        all_heard = all(self._routers[place].successor_heard for place in leaving)
        for place in leaving:
            router = self._routers[place]
            if all_heard or router.leave_expired_at <= now:
                router.finish_leave(now)
                if place not in self._removed:
                    router.configure(now)
                self._touch(router)
        self._drop_removed()

    def _drop_removed(self) -> None:
        for place in list(self._removed):
            router = self._routers[place]
            if router.state is State.INIT:
                self._removed.discard(place)
                del self._routers[place]
                for table in (self._armed, self._due, self._moved):
                    table.pop(id(router), None)

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called next, if ever."""
        self._arm_moved()
        timers = self._timers
        while timers and self._armed.get(timers[0][1]) != timers[0][0]:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def events(self) -> list[AnyEvent]:
        """What happened since the last call, in order."""
        journal, self._journal[:] = self._journal[:], []
        return journal

    def frames_to_send(self, now: float) -> list[Outgoing]:
        """What is due on the wire: for each router its announcements first, then its advertisement."""
        if not self._due:
            return []
        frames: list[Outgoing] = []
        for router in self._due.values():
            if router.state is State.MASTER and router.port is not None:
                if router.announcements.take(now) and not router.leaving:
                    count = len(router.settings.addresses)
                    if self._rate.take(count, now):
                        frames += self._announcements(router, router.port)
                    else:
                        router.announcements.postpone(self._rate.next_turn(count, now))
                if router.advert_due:
                    router.advert_due = False
                    frames += self._adverts(router, router.port)
        self._due.clear()
        return frames

    # Frames

    def _announcements(self, router: VirtualRouter, port: Port) -> Iterable[Outgoing]:
        mac = virtual_mac(router.settings.vhid) if router.settings.virtual_mac else port.mac
        for text in router.settings.addresses:
            address = ipaddress.ip_interface(text).ip
            if address.version == 4:
                yield Outgoing(router, 4, gratuitous_arp_frame(mac, address.packed), is_advert=False)
            else:
                yield Outgoing(router, 6, unsolicited_na_frame(mac, address.packed, router=True), is_advert=False)

    def bow_out_frames(self, router: VirtualRouter) -> list[bytes]:
        """Frames that say this node leaves the VHID, for somebody who speaks when the node no longer can."""
        if router.port is None:
            return []
        return [each.data for each in self._adverts(router, router.port, bow_out=True) if not each.peer]

    def _adverts(self, router: VirtualRouter, port: Port, *, bow_out: bool = False) -> Iterable[Outgoing]:
        settings, peers = router.settings, router.unicast_peers
        advbase, advskew = settings.advbase, router.effective_advskew(self.demotion.total)
        if router.leaving or bow_out:
            advbase = advskew = BOW_OUT
        demotion = min(max(self.demotion.total, 0), 255)
        mac = virtual_mac(settings.vhid) if settings.virtual_mac else port.mac
        for key in router.keys:
            for family in router.families:
                payload = key.build(advbase, advskew, router.counter, demotion)
                router.counter = (router.counter + 1) % 2**64
                if peer := peers.get(family, ""):
                    yield Outgoing(router, family, payload, peer)
                    continue
                frame = advert_frame(
                    mac,
                    MULTICAST_MAC[family],
                    port.source(family),
                    MULTICAST_GROUP[family],
                    payload,
                    tos=ADVERT_TOS,
                    ttl=CARP_TTL,
                    identification=router.counter & 0xFFFF,
                )
                yield Outgoing(router, family, frame)

    def sent(self, outgoing: Outgoing, error: int, now: float) -> None:
        """What became of an advertisement: 0 or the errno of the send."""
        router = outgoing.router
        change = router.sent(outgoing.family, error)
        if change is None:
            return
        self._move_send_demotion(now)
        if change is False and router.state is State.MASTER:
            router.reassert(now)
            self._touch(router)

    # Bookkeeping

    def _touch(self, router: VirtualRouter) -> None:
        """A router's timers or outputs may have changed."""
        identity = id(router)
        self._due[identity] = self._moved[identity] = router
        self._leaving = self._leaving or router.leaving

    def _arm_moved(self) -> None:
        """Keep one timer a router, at or before its true deadline: moving a deadline later costs nothing."""
        for identity, router in self._moved.items():
            deadline = router.next_deadline()
            armed = self._armed.get(identity)
            if deadline is not None and (armed is None or deadline < armed):
                self._armed[identity] = deadline
                heapq.heappush(self._timers, (deadline, identity, router))
        self._moved.clear()

    def _note_peer(self, interface: str, source: bytes, vhid: int, form: str, now: float) -> None:
        place = (interface, source)
        peer = self.peers.get(place)
        if peer is None:
            if len(self.peers) >= MAX_PEERS:
                oldest = min(self.peers, key=lambda each: self.peers[each].last_heard)
                del self.peers[oldest]
            address = str(ipaddress.ip_address(source))
            peer = self.peers[place] = Peer(interface, address, set(), now, form)
        peer.vhids.add(vhid)
        peer.last_heard, peer.form = now, form

    @staticmethod
    def _count(counters: Counters, name: str) -> None:
        setattr(counters, name, getattr(counters, name) + 1)

    @staticmethod
    def _count_received(counters: Counters, family: int) -> None:
        if family == 4:
            counters.ipackets += 1
        else:
            counters.ipackets6 += 1


def _why_nobodys(payload: bytes) -> str:
    """The counter of a packet that no virtual router here takes: as in the kernel, length and checksum come first."""
    try:
        NOBODYS_KEY.verify(payload)
    except WireError as error:
        if error.rung in ("short", "checksum"):
            return counter_of(error)
    return "badvhid"
