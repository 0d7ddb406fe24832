"""The election as a table: what a virtual router does in each state when something happens, and why.

`judge` turns an advertisement into one of the situations below; timers, links and the administrator give the others.
A situation that a state's row does not name changes nothing. The rules are those of FreeBSD's carp(4)
(`carp_input_c`, `carp_master_down`, `carp_sc_state`), with these departures:

* A MASTER that hears an equally frequent one yields only to the source address that ucarp would yield to. FreeBSD
  yields always, which leaves two equals without a MASTER for one dead time, again and again where their timers agree.
* "The master will time out" is judged from the interval that is carried only where advbase is above 0; with advbase 0
  the carried advskew rises with demotion while the interval stays. A bow-out is recognised as such.
* A MASTER that was stalled steps down for any MASTER that appeared meanwhile, also a slower one.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from hacore.carp.terms import BOW_OUT, DEAD_RATIO, State, frequency


class Situation(enum.Enum):
    """Something that may change the state of a virtual router."""

    CONFIGURED = "configured"
    LINK_UP = "link up"
    ENABLED = "enabled"
    LINK_DOWN = "link down"
    DISABLED = "disabled"
    CHANGED = "changed"
    REMOVED = "removed"
    SHUT_DOWN = "shut down"
    TIMED_OUT = "timed out"
    HEARD_BOW_OUT = "heard a bow-out"
    HEARD_SLOWER = "heard a slower master, and may preempt"
    HEARD_TOO_SLOW = "heard a master that will time out"
    HEARD_FASTER = "heard a faster master"
    HEARD_EQUAL = "heard an equal master that keeps the address"
    HEARD_WORSE = "heard a master that must yield"
    HEARD_MASTER = "heard the master"
    STALLED = "stalled, and heard a master"
    HANDED_OVER = "handed over"
    UNANSWERED = "nobody answered"


class Outcome(NamedTuple):
    """The next state, and the reason that is logged and shown for it."""

    state: State
    reason: str


_LEAVE: dict[Situation, Outcome] = {
    Situation.LINK_DOWN: Outcome(State.INIT, "hardware interface down"),
    Situation.DISABLED: Outcome(State.INIT, "disabled by the administrator"),
    Situation.CHANGED: Outcome(State.INIT, "addresses or password changed"),
    Situation.REMOVED: Outcome(State.INIT, "removed from the settings"),
    Situation.SHUT_DOWN: Outcome(State.INIT, "node shuts down"),
}

TABLE: dict[State, dict[Situation, Outcome]] = {
    State.INIT: {
        Situation.CONFIGURED: Outcome(State.BACKUP, "initialization complete"),
        Situation.LINK_UP: Outcome(State.BACKUP, "hardware interface up"),
        Situation.ENABLED: Outcome(State.BACKUP, "enabled by the administrator"),
    },
    State.BACKUP: {
        **_LEAVE,
        Situation.TIMED_OUT: Outcome(State.MASTER, "master timed out"),
        Situation.HEARD_BOW_OUT: Outcome(State.MASTER, "master bowed out"),
        Situation.HEARD_SLOWER: Outcome(State.MASTER, "preempting a slower master"),
        Situation.HEARD_TOO_SLOW: Outcome(State.MASTER, "master will time out"),
        Situation.UNANSWERED: Outcome(State.MASTER, "nobody answered the bow-out"),
    },
    State.MASTER: {
        **_LEAVE,
        Situation.HEARD_FASTER: Outcome(State.BACKUP, "more frequent advertisement received"),
        Situation.HEARD_EQUAL: Outcome(State.BACKUP, "equally frequent advertisement of the address that keeps"),
        Situation.STALLED: Outcome(State.BACKUP, "stalled, and another master took over"),
        Situation.HANDED_OVER: Outcome(State.BACKUP, "handed over to a successor"),
    },
}


def next_outcome(state: State, situation: Situation) -> Outcome | None:
    """What the table says, or None where nothing changes."""
    return TABLE[state].get(situation)


def judge(
    state: State,
    *,
    advbase: int,
    advskew: int,
    his_advbase: int,
    his_advskew: int,
    preempt: bool,
    yields_to_equal: bool,
) -> Situation:
    """What an authentic advertisement means to a router in `state` whose own (effective) values are given."""
    bow_out = his_advbase == BOW_OUT and his_advskew == BOW_OUT
    mine, his = frequency(advbase, advskew), frequency(his_advbase, his_advskew)
    if state is State.MASTER:
        if bow_out or his > mine:
            return Situation.HEARD_WORSE
        if his < mine:
            return Situation.HEARD_FASTER
        return Situation.HEARD_EQUAL if yields_to_equal else Situation.HEARD_WORSE
    if bow_out:
        return Situation.HEARD_BOW_OUT
    if preempt and mine < his:
        return Situation.HEARD_SLOWER
    if advbase > 0 and DEAD_RATIO * advbase * 256 + advskew < his:
        return Situation.HEARD_TOO_SLOW
    return Situation.HEARD_MASTER
