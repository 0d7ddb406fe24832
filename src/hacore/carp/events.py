"""What the election tells of itself: every change with its time and its reason. Times are the machine's `now`."""

from __future__ import annotations

import msgspec

from hacore.carp.terms import State


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at `at`."""

    at: float


class Transition(Event, frozen=True, kw_only=True, tag="transition"):
    """A virtual router changed its state."""

    vip: str
    interface: str
    vhid: int
    old: State
    new: State
    reason: str
    master: str = ""  # the source address of the advertisement that led to it


class DemotionChanged(Event, frozen=True, kw_only=True, tag="demotion"):
    """The node's demotion changed by `by` to `total`."""

    reason: str
    by: int
    total: int


class Noticed(Event, frozen=True, kw_only=True, tag="notice"):
    """Something an administrator wants to know of that changed no state."""

    vip: str
    kind: str
    text: str


AnyEvent = Transition | DemotionChanged | Noticed
