"""When a MASTER announces its addresses (gratuitous ARP, unsolicited NA), and how often it may.

FreeBSD announces once, on becoming MASTER. That loses where the old MASTER is frozen rather than gone: its kernel still
answers ARP until its lease ends, and one such answer sends the segment's traffic into nothing for minutes.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

AFTER_BOW_OUT = (0.02, 0.06, 1.05)  # the leaver may answer ARP until it gives up: after its limits, say it again
SPLIT_SPACING = 0.1  # seconds between announcements while another MASTER is heard
MAX_PENDING = 16


def after_silence(old_lease: float) -> list[float]:
    """Times after a takeover from a silent MASTER: often at first, once more after its lease must have ended."""
    times = [step * old_lease for step in (0.1, 0.25, 0.5, 0.75, 1.05)]
    return [*times, 2 * old_lease]


class Announcements:
    """The pending announcements of one virtual router."""

    __slots__ = ("_last_split", "_pending")

    def __init__(self) -> None:
        self._pending: list[float] = []
        self._last_split = float("-inf")

    def clear(self) -> None:
        """Forget what is pending."""
        self._pending.clear()

    def next_time(self) -> float | None:
        """When the next one is due, if any."""
        return self._pending[0] if self._pending else None

    def add(self, now: float, offsets: Iterable[float]) -> None:
        """Announce at `now` plus each of these seconds."""
        for offset in offsets:
            if len(self._pending) < MAX_PENDING:
                insort(self._pending, now + offset)

    def split_heard(self, now: float) -> bool:
        """Note that another MASTER is heard; True when it is the first word of it for a while."""
        first = now - self._last_split > 10 * SPLIT_SPACING
        self._last_split = now
        return first

    def add_after_split(self, now: float, dead_time: float) -> None:
        """While another MASTER speaks: now and then; and once when it must have fallen silent."""
        if not self._pending or self._pending[0] - now > SPLIT_SPACING:
            self.add(now, [SPLIT_SPACING])
        if not self._pending or self._pending[-1] < now + dead_time:
            self.add(now, [dead_time + SPLIT_SPACING])

    def take(self, now: float) -> bool:
        """Whether one is due; those that are due together count as one."""
        due = False
        while self._pending and self._pending[0] <= now:
            del self._pending[0]
            due = True
        return due

    def postpone(self, when: float) -> None:
        """The rate limit was reached: try again at `when`."""
        insort(self._pending, when)


class RateLimit:
    """A token bucket over all announcements of the node: switches throttle ports that flood."""

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = float(burst)
        self._at = 0.0

    def take(self, count: int, now: float) -> bool:
        """Whether `count` may be sent now."""
        self._tokens = min(self.burst, self._tokens + max(now - self._at, 0.0) * self.rate)
        self._at = now
        if self._tokens < count:
            return False
        self._tokens -= count
        return True
