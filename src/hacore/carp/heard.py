"""The MASTER that a virtual router hears: who it is, what it said last, and how often it speaks."""

from __future__ import annotations

import ipaddress
from collections import deque
from statistics import median

import msgspec

from hacore._fast.advert import AdvertKey
from hacore.carp.terms import DEAD_RATIO, advert_interval

MEASURED_GAPS = 8  # how many intervals of the current MASTER are remembered


def address_text(source: bytes) -> str:
    """An address as people write it; empty for none."""
    return str(ipaddress.ip_address(source)) if source else ""


class Heard(msgspec.Struct):
    """The MASTER that was heard last."""

    source: bytes
    family: int
    advbase: int
    advskew: int
    demotion: int
    key: AdvertKey  # a sender that changes its settings sends under several: the interval is that between two of one
    at: float
    timed_at: float
    gaps: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=MEASURED_GAPS))
    measured: float | None = None  # from the gaps

    @property
    def address(self) -> str:
        """The source address as text."""
        return address_text(self.source)

    @property
    def interval(self) -> float:
        """Measured between its advertisements; what it carries, until two were heard."""
        return advert_interval(self.advbase, self.advskew) if self.measured is None else self.measured

    def time(self, key: AdvertKey, now: float) -> None:
        """An advertisement under this key arrived: one more gap, where it is the key that is timed."""
        gap = now - self.timed_at
        silent = gap > DEAD_RATIO * self.interval
        if key is not self.key and not silent:
            return
        if silent:
            self.gaps.clear()  # what was measured before says nothing of it now
            self.measured = None
        else:
            self.gaps.append(gap)
            self.measured = max(self.gaps) if len(self.gaps) < 3 else median(self.gaps)
        self.key, self.timed_at = key, now
