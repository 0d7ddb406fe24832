"""The election worker: `python -m hacore.node.election CHANNEL_FD PULSE_FD`. A plain loop around
`hacore.carp.Election`.

Each turn drains the sockets, lets the election decide, brings the kernel in line, and then sends. It never waits for
another process: what it has to say goes into a bounded queue, and what others want from it arrives as a message.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping

from hacore.carp.election import Election, Outgoing
from hacore.carp.events import AnyEvent
from hacore.carp.router import RouterSettings
from hacore.carp.terms import State
from hacore.linux import libc
from hacore.linux.packet import AdvertSocket, UnicastSocket
from hacore.linux.rtnl import AddressChange, LinkChange
from hacore.node import reports
from hacore.node.channel import Channel
from hacore.node.messages import (
    AskReport,
    Configure,
    Demote,
    Happened,
    Leave,
    Left,
    Ready,
    Rekeyed,
    ResetDemotion,
    SetEnabled,
    ToElection,
    WantsDevices,
)
from hacore.node.ports import Ports
from hacore.node.pulse import Pulse
from hacore.node.realtime import become_realtime, freeze_collector
from hacore.node.vips import Vip, Vips

PRIORITY = 50  # of SCHED_RR; above ordinary work, below the kernel's own threads
FRAMES_AT_ONCE = 256  # received from one socket before the timers are looked at again
DEVICES_PAUSE = 1.0  # between two requests for devices, doubled from one to the next
DEVICES_PAUSE_LIMIT = 60.0
BEAT_IDLE = 0.5  # how often the pulse is written where no timer is due
LEAVE_LIMIT = 2.0  # a leave takes at most a second; after this the worker ends all the same


class ElectionWorker:
    """Owns the sockets and the kernel's side of the election."""

    def __init__(self, channel: Channel[ToElection], pulse: Pulse) -> None:
        self.channel = channel
        self.pulse = pulse
        self.ports = Ports()
        self.vips = Vips(pulse)
        self.election = Election(preempt=True, counters_from=int.from_bytes(os.urandom(8), "big"))
        self.sockets: dict[str, tuple[int, AdvertSocket]] = {}
        self.unicast: dict[tuple[str, int, int], UnicastSocket] = {}
        self.warnings: dict[str, float] = {}
        self.refused: list[str] = []
        self.reconfigured = False
        self.interrupted = 0.0  # how long, in the middle of a turn
        self.asked_to_leave = False
        self.timer = libc.Timer()
        self.poll = select.epoll()
        self.readers: dict[int, str] = {}
        self.ends_at: float | None = None
        self.wants_devices = False
        self.asked_for_devices_at = 0.0
        self.devices_pause = DEVICES_PAUSE
        self.poll.register(self.timer.fileno(), select.EPOLLIN)
        self.poll.register(self.channel.fileno(), select.EPOLLIN)
        self.poll.register(self.ports.monitor.fileno(), select.EPOLLIN)
        self.channel_events = select.EPOLLIN

    # The loop

    def run(self) -> None:
        """Until everything was given up."""
        planned = time.monotonic()
        channel_fd, monitor_fd = self.channel.fileno(), self.ports.monitor.fileno()
        ready = {channel_fd, monitor_fd}
        while True:
            now = time.monotonic()
            self.pulse.beat(now)
            late, self.interrupted = max(now - planned, self.interrupted), 0.0
            stalled = late > self.election.stall_tolerance
            if stalled:
                self.election.stalled(late)
            self._receive(set(self.readers) if stalled else ready, now, everything=stalled)
            if monitor_fd in ready or stalled:
                self._follow_links(now)
            if stalled:
                self.election.resumed(late, time.monotonic())
            if channel_fd in ready or self.channel.closed or self.asked_to_leave:
                self._hear_supervisor(now)
            now = time.monotonic()
            self.election.handle_deadline(now)
            self._settle(now, renew_all=stalled)
            self._ask_for_devices(now)
            if self.ends_at is not None and (self.election.has_left or now >= self.ends_at):
                self.vips.finish(LEAVE_LIMIT)
                self.channel.send(Left())
                return
            planned = self._next_time()
            ready = self._wait(planned)

    def _settle(self, now: float, *, renew_all: bool) -> None:
        """Events, then the kernel, then the wire. A stall in between undoes the turn: the next one decides again."""
        events = self.election.events()
        if self._was_interrupted(now):
            self._publish(events)
            return
        if events or self.reconfigured:
            self.reconfigured = False
            self._warn(self.vips.bring_in_line(self._is_master, now), now)
        self._renew(now, everything=renew_all)
        if self.vips.gate_is_missing(now):
            self.election.notice("", "gate", "the nftables table hacore was deleted: making it again", now)
            self.wants_devices = True
        self._warn(self.vips.problems(), now)
        if not self._was_interrupted(now + self.vips.take_waited()):
            self._send(self.election.frames_to_send(now), now)
        self._publish(events + self.election.events())

    def _renew(self, now: float, *, everything: bool) -> None:
        """What would be due before the worker wakes for something else is renewed now: a wake less."""
        until = now
        if self.vips.next_renewal < now + BEAT_IDLE:
            until = now + BEAT_IDLE
            if (deadline := self.election.next_deadline()) is not None:
                until = min(until, deadline)
        self._warn(self.vips.renew(now, until, everything=everything), now)
        for vip, address in self.vips.were_put_back():
            text = f"{address} was removed and is put back"
            self.election.notice(vip.settings.name, "address removed", text, now)

    def _was_interrupted(self, since: float) -> bool:
        """Whether this process was stalled since then: what it was about to do is no longer to be done."""
        duration = time.monotonic() - since
        if duration <= self.election.stall_tolerance:
            return False
        self.interrupted = max(self.interrupted, duration)
        self.reconfigured = True  # what was decided and not done yet
        return True

    def _publish(self, events: list[AnyEvent]) -> None:
        if events:
            self.channel.send(Happened(reports.in_unix_time(events)))

    def _is_master(self, place: tuple[str, int]) -> bool:
        router = self.election.router(*place)
        return router is not None and router.state is State.MASTER

    def _next_time(self) -> float:
        times = [self.election.next_deadline(), self.vips.next_renewal, self.ends_at, time.monotonic() + BEAT_IDLE]
        if self.asked_to_leave and self.ends_at is None:
            return 0.0
        return min(at for at in times if at is not None)

    def _wait(self, until: float) -> set[int]:
        """Sleep until then or until a descriptor is ready; returns those that are."""
        self.timer.arm(until)
        events = select.EPOLLIN | (select.EPOLLOUT if self.channel.wants_write else 0)
        if events != self.channel_events:
            self.poll.modify(self.channel.fileno(), events)
            self.channel_events = events
        ready = {fd for fd, _events in self.poll.poll()}
        if self.timer.fileno() in ready:
            self.timer.drain()
        return ready

    # Receiving

    def _receive(self, ready: set[int], now: float, *, everything: bool) -> None:
        for fd in ready:
            name = self.readers.get(fd)
            if name is None:
                continue
            opened = self.sockets[name][1]
            while True:
                try:
                    frames = opened.receive(FRAMES_AT_ONCE)
                except OSError as error:
                    if error.errno != errno.ENETDOWN:  # the socket works again when the interface is up
                        self._close_socket(name)
                    break
                for frame in frames:
                    self.election.receive(name, frame, now)
                if not everything or len(frames) < FRAMES_AT_ONCE:
                    break

    def _follow_links(self, now: float) -> None:
        changes = self.ports.read()
        if not changes:
            return
        devices = {vip.device.ifindex for vip in self.vips}
        interfaces = {router.settings.interface for router in self.election.routers}
        for change in changes:
            if isinstance(change, AddressChange) and not change.added:
                self._address_removed(change)
            elif isinstance(change, LinkChange) and (change.ifindex in devices or change.name in interfaces):
                self.devices_pause = DEVICES_PAUSE
                self.wants_devices = self.wants_devices or (not change.present and change.ifindex in devices)
        self._follow_ports(now)

    def _follow_ports(self, now: float) -> None:
        for name in {router.settings.interface for router in self.election.routers}:
            self._open_socket(name, now)
            settings = [each.settings for each in self.election.routers if each.settings.interface == name]
            self._set_port(name, settings, self.vips.by_place, now)

    def _set_port(
        self, name: str, routers: list[RouterSettings], vips: Mapping[tuple[str, int], Vip], now: float
    ) -> None:
        """A deleted interface takes the devices of its VIPs with it: when it is back, it counts once they are."""
        port = self.ports.port(name)
        found = {each.vhid: vips.get((name, each.vhid)) for each in routers}
        missing = [vhid for vhid, vip in found.items() if vip is None or not self.ports.is_present(vip.device.ifindex)]
        if port is not None and missing:
            self.wants_devices = True
        self.election.set_port(name, None if len(missing) == len(found) else port, now, without_device=missing)

    def _ask_for_devices(self, now: float) -> None:
        """What comes too soon after the last time is asked on a later turn; ever more seldom while it does not help."""
        if self.wants_devices and now - self.asked_for_devices_at > self.devices_pause:
            self.wants_devices, self.asked_for_devices_at = False, now
            self.devices_pause = min(2 * self.devices_pause, DEVICES_PAUSE_LIMIT)
            self.channel.send(WantsDevices())

    def _address_removed(self, change: AddressChange) -> None:
        """Whoever did that: the kernel does not tell, and adds it only where it is not there."""
        for vip in self.vips:
            ours = vip.held and vip.device.ifindex == change.ifindex and change.address in vip.put_back
            if ours and self._is_master((vip.settings.interface, vip.settings.vhid)):
                self.vips.put_back(vip, change.address)

    def _open_socket(self, name: str, now: float) -> None:
        link = self.ports.link(name)
        opened = self.sockets.get(name)
        if opened is not None and (link is None or link.ifindex != opened[0]):
            self._close_socket(name)
            opened = None
        if opened is None and link is not None:
            try:
                created = AdvertSocket(name, link.ifindex)
            except OSError as error:
                self._warn([f"{name}: cannot open a packet socket: {error.strerror}"], now)
                return
            for group, number in created.membership_errors.items():
                self._warn([f"{name}: cannot join {group}: {errno.errorcode.get(number, number)}"], now)
            self.sockets[name] = (link.ifindex, created)
            self.readers[created.fileno()] = name
            self.poll.register(created.fileno(), select.EPOLLIN)

    def _close_socket(self, name: str) -> None:
        _ifindex, opened = self.sockets.pop(name)
        del self.readers[opened.fileno()]
        self.poll.unregister(opened.fileno())
        opened.close()

    # Sending

    def _send(self, frames: list[Outgoing], now: float) -> None:
        before = time.monotonic()
        for outgoing in frames:
            if self._was_interrupted(before):
                return
            before = time.monotonic()
            error = self._send_one(outgoing)
            if outgoing.is_advert:
                self.election.sent(outgoing, error, now)

    def _send_one(self, outgoing: Outgoing) -> int:
        """The errno of the send, or 0."""
        settings = outgoing.router.settings
        try:
            if outgoing.peer:
                self._unicast_socket(outgoing).send(outgoing.data)
            else:
                self.sockets[settings.interface][1].send(outgoing.data)
        except KeyError:
            return errno.ENETDOWN
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _unicast_socket(self, outgoing: Outgoing) -> UnicastSocket:
        settings = outgoing.router.settings
        place = (settings.interface, settings.vhid, outgoing.family)
        opened = self.unicast.get(place)
        if opened is not None and opened.peer != outgoing.peer:
            opened.close()
            opened = None
        if opened is None:
            opened = self.unicast[place] = UnicastSocket(settings.interface, settings.vhid, outgoing.peer)
        return opened

    # The supervisor

    def _hear_supervisor(self, now: float) -> None:
        if self.channel.wants_write:
            self.channel.flush()
        for message in self.channel.receive():
            self._obey(message, now)
        if self.channel.closed or self.asked_to_leave:
            self._leave(now)

    def _obey(self, message: ToElection, now: float) -> None:
        if isinstance(message, Configure):
            self._configure(message, now)
        elif isinstance(message, Demote):
            self.election.demote(message.name, message.value, now, administrative=message.administrative)
        elif isinstance(message, ResetDemotion):
            self.election.reset_demotion(now)
        elif isinstance(message, Rekeyed):
            for interface, vhid, remaining in message.places:
                self.election.rekeyed(interface, vhid, now + remaining, now)
        elif isinstance(message, SetEnabled):
            if message.enabled:
                self.election.enable(now)
            else:
                self.election.disable(now)
        elif isinstance(message, AskReport):
            self.channel.send(reports.report(message.number, self))
        elif isinstance(message, Leave):
            self._leave(now)

    def ask_to_leave(self) -> None:
        """For a signal handler: wakes the loop, which then leaves."""
        self.asked_to_leave = True
        self.timer.arm(0.0)

    def _leave(self, now: float) -> None:
        if self.ends_at is None:
            self.ends_at = now + LEAVE_LIMIT
            self.election.leave(now)

    def _configure(self, message: Configure, now: float) -> None:
        devices = {device.name: device for device in message.devices}
        self.ports.exclude({address.split("/")[0] for router in message.routers for address in router.addresses})
        vips: dict[tuple[str, int], Vip] = {}
        for index, settings in enumerate(message.routers):
            if device := devices.get(settings.name):
                vips[settings.interface, settings.vhid] = Vip(index, settings, device)
        for name in {settings.interface for settings in message.routers}:
            self._set_port(name, [each for each in message.routers if each.interface == name], vips, now)
        for demotion in message.demotions:
            self.election.demote(demotion.name, demotion.value, now, administrative=demotion.administrative)
        self.election.enabled = message.enabled
        self.election.configure(message.routers, now, preempt=message.preempt, rekey_time=message.rekey_time)
        self.vips.configure(vips)
        for place in [place for place in self.unicast if place[:2] not in vips]:
            self.unicast.pop(place).close()
        used = {settings.interface for settings in message.routers}
        for name in [name for name in self.sockets if name not in used]:
            self._close_socket(name)
        self._follow_ports(now)
        self.reconfigured = True
        self.channel.send(reports.last_words(self.election, list(vips.values())))

    def _warn(self, problems: list[str], now: float) -> None:
        for problem in problems:
            if problem not in self.warnings:
                self.election.notice("", "kernel", problem, now)
            self.warnings[problem] = now


def main() -> None:
    """Entry of the process."""
    channel_fd, pulse_fd = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc.set_process_name("hacore-election")
    libc.forbid_core_dumps()
    channel: Channel[ToElection] = Channel(socket.socket(fileno=channel_fd), ToElection)
    worker = ElectionWorker(channel, Pulse(pulse_fd))
    os.close(pulse_fd)
    signal.signal(signal.SIGTERM, lambda _number, _frame: worker.ask_to_leave())
    worker.refused = become_realtime(PRIORITY)
    freeze_collector()
    channel.send(Ready(refused=worker.refused))
    worker.run()
    channel.flush()


if __name__ == "__main__":
    main()
