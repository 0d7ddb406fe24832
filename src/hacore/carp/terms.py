"""The words of CARP: states, families, the limits of the wire's fields, and how long its intervals are.

Times are seconds as floats; `advbase` is in seconds and `advskew` in 1/256 s, as on the wire.
Sources: FreeBSD sys/netinet/ip_carp.h and ip_carp.c; OpenBSD sys/netinet/ip_carp.c for advbase 0 and the bow-out.
"""

from __future__ import annotations

import enum

SKEW_UNIT = 1 / 256
MAX_EFFECTIVE_ADVSKEW = 240  # CARP_MAXSKEW: leaves room between a demoted node and silence
DEAD_RATIO = 3  # silent intervals after which a MASTER counts as gone
BOW_OUT = 255  # advbase and advskew of an advertisement that says "I leave" (OpenBSD)
CARP_TTL = 255  # anything less has crossed a router and is not from this segment

GATE_MINIMUM = 0.1  # the shortest time the forwarding gate stays open after an advertisement


class State(enum.Enum):
    """What a virtual router is on this node."""

    INIT = "INIT"
    BACKUP = "BACKUP"
    MASTER = "MASTER"


def advert_interval(advbase: int, advskew: int) -> float:
    """The time between two advertisements; 0/0 means one skew unit, as in OpenBSD."""
    return (advbase * 256 + advskew or 1) * SKEW_UNIT


def effective_advskew(advskew: int, demotion: int) -> int:
    """The advskew that is carried and compared while the node is demoted by `demotion`."""
    return min(max(advskew + demotion, 0), MAX_EFFECTIVE_ADVSKEW)


def frequency(advbase: int, advskew: int) -> int:
    """The interval as a comparable number of skew units: the lower one wins an election."""
    return advbase * 256 + advskew


def master_down_interval(advbase: int, advskew: int, measured_interval: float | None) -> float:
    """How long a BACKUP waits for the next advertisement.

    With advbase above 0 it is FreeBSD's 3 x advbase + advskew/256. With advbase 0 that would be nearly nothing, and the
    advskew that a demoted MASTER carries says nothing of how often it really sends; so it is three of the longer of the
    own interval and the current MASTER's, as measured from its advertisements (None: not known yet).
    """
    if advbase > 0:
        return DEAD_RATIO * advbase + advskew * SKEW_UNIT
    return DEAD_RATIO * max(advert_interval(advbase, advskew), measured_interval or 0.0)


def gate_timeout(dead_time: float) -> float:
    """How long the forwarding gate may stay open without a further advertisement of this node."""
    return max(dead_time, GATE_MINIMUM)
