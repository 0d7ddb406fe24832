"""Watches the election worker's pulse, and gives up what a dead worker held: within one dead time, from messages
built beforehand.
"""

from __future__ import annotations

import os
import socket

from hacore.linux.rtnl import RouteSocket
from hacore.node.messages import LastWords, VipLastWords
from hacore.node.pulse import Pulse
from hacore.node.vips import Gates

SHORTEST_SILENCE = (
    1.0  # dead and stopped workers are noticed at once; one that is only late loses its gate by itself, not its life
)
SILENT_SHARE = 0.75  # of the silence that is allowed: a pulse that rests for longer will not come back in time
_JUST_AFTER = 0.001  # seconds
LATE_SHARE = 0.25  # of it: a look that comes so late says nothing


class Guard:
    """Holds the pulse page and the last words of the election worker that runs now."""

    def __init__(self) -> None:
        self.pulse_fd = Pulse.create()
        self._pulse = Pulse(self.pulse_fd)
        self._words: list[VipLastWords] = []
        self._route = RouteSocket()
        self._gates = Gates()
        self._packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        self._next_look = 0.0

    def renew(self, now: float) -> None:
        """A new worker starts: it has not held anything yet."""
        for index in self._pulse.held(len(self._words)):
            self._pulse.set_held(index, False)
        self._words = []
        self._pulse.beat(now)
        self._next_look = now

    def take(self, words: LastWords) -> None:
        """Keep what a worker said, for when it cannot."""
        self._words = words.vips

    @property
    def held(self) -> list[VipLastWords]:
        """The VIPs that the worker holds now."""
        return [self._words[index] for index in self._pulse.held(len(self._words))]

    def silence_allowed(self) -> float | None:
        """How long the pulse may rest, or None while nothing is held."""
        held = self.held
        return max(SHORTEST_SILENCE, min(vip.dead_time for vip in held)) if held else None

    def is_silent(self, now: float) -> bool:
        """Whether the pulse has rested for too long. A look that itself came late says nothing: both were stalled."""
        allowed = self.silence_allowed()
        if allowed is None or now - self._next_look > LATE_SHARE * allowed:
            return False
        return now - self._pulse.last_beat > SILENT_SHARE * allowed

    def next_look(self, now: float) -> float:
        """When to call `is_silent` next: the first moment at which the pulse can have rested for too long, whatever is
        held by then. A worker that was stalled together with this process has a while to beat again.
        """
        shortest = max(SHORTEST_SILENCE, min((vip.dead_time for vip in self._words), default=0.0))
        earliest = now + LATE_SHARE * shortest
        self._next_look = max(earliest, self._pulse.last_beat + SILENT_SHARE * shortest + _JUST_AFTER)
        return self._next_look

    def give_up(self, now: float) -> list[str]:
        """Bow out, close the gates, take the addresses away; returns the names of the VIPs that were held.

        No bow-out where a successor is there by now: it comes from the virtual MAC, and the switches would send to this
        node again.
        """
        held = self.held
        silent = now - self._pulse.last_beat
        for vip in held:
            for frame in vip.bow_out if silent < vip.dead_time else ():
                try:
                    self._packet.sendto(frame, (vip.interface, 0))
                except OSError:
                    continue  # the interface is gone: nobody to tell there
        try:
            self._gates.move([], [vip.device for vip in held])
            self._route.request([message for vip in held for message in vip.addresses])
        except OSError:
            pass  # the leases end all the same
        for index in self._pulse.held(len(self._words)):
            self._pulse.set_held(index, False)
        return [vip.name for vip in held]

    def close(self) -> None:
        """Close the sockets and the page."""
        self._pulse.close()
        self._route.close()
        self._gates.close()
        self._packet.close()
        os.close(self.pulse_fd)
