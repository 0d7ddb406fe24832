"""When a MASTER announces its addresses (gratuitous ARP, unsolicited NA), and how often it may.

FreeBSD announces once, on becoming MASTER. That loses where the old MASTER is frozen rather than gone: its kernel still
answers ARP until its lease ends, and one such answer sends the segment's traffic into nothing for minutes.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterable

AFTER_BOW_OUT = (0.02, 0.06, 1.05)  # the leaver may answer ARP until it gives up: after its limits, say it again
SPLIT_SPACING = 0.1  # seconds between announcements while another MASTER is heard
MAX_PENDING = 16
ROUNDING = 1e-6  # of a token
TURNS_TOGETHER = 0.02  # seconds: whose turns come within these ask at one wake


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
        """The rate limit was reached: try again at `when`, with all that is due until then."""
        self._pending[: bisect_left(self._pending, when)] = [when]


class RateLimit:
    """A token bucket over all announcements of the node: switches throttle ports that flood."""

    __slots__ = ("_at", "_promised", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: int) -> None:
        self.rate = rate
        self.burst = burst
        self._tokens = float(burst)
        self._at = 0.0
        self._promised = 0.0

    def take(self, count: int, now: float) -> bool:
        """Whether `count` may be sent now. Who is refused asks again at its `next_turn`."""
        self._tokens = min(self.burst, self._tokens + max(now - self._at, 0.0) * self.rate)
        self._at = now
        if self._tokens < count - ROUNDING:
            return False
        self._tokens -= count
        return True

    def next_turn(self, count: int, now: float) -> float:
        """When there is room for `count` behind all who were told a time before: nobody asks in vain, however many
        wait.
        """
        self._promised = max(self._promised, now) + count / self.rate
        return math.ceil(self._promised / TURNS_TOGETHER) * TURNS_TOGETHER
