"""Why this node is worth less than it could be: named, counted reasons whose values are added to every advskew.

FreeBSD keeps one bare sum (`net.inet.carp.demotion`), so that a value that was added twice or never taken back stays
for good and nobody knows why. Here each reason has a name, a value and a count.
"""

from __future__ import annotations

from typing import NamedTuple

LINK_DOWN = "link down"
SEND_ERRORS = "send errors"
MAINTENANCE = "maintenance"
BULK_UPDATE = "bulk update"
NO_STATE_SYNC = "no state sync"
FULL = 240  # ifdown_demotion_factor and senderr_demotion_factor of FreeBSD: worse than any healthy node

# A node that only lacks states still forwards better than none: these never make a MASTER hand its addresses over.
KEEPS_MASTERSHIP = frozenset({BULK_UPDATE, NO_STATE_SYNC})


class Reason(NamedTuple):
    """One reason: what each mention of it adds, how often it is held, and whether only the administrator holds it."""

    value: int
    holders: int
    administrative: bool

    @property
    def total(self) -> int:
        """What it adds to every advskew."""
        return self.value * self.holders


class Demotion:
    """The sum of the reasons for which this node is demoted."""

    __slots__ = ("_reasons", "total")

    def __init__(self) -> None:
        self._reasons: dict[str, Reason] = {}
        self.total = 0
        """What it adds to every advskew. Kept, for each advertisement asks for it."""

    def _add_up(self) -> int:
        """After a change of the reasons; returns what the total changed by."""
        before, self.total = self.total, sum(reason.total for reason in self._reasons.values())
        return self.total - before

    @property
    def reasons(self) -> dict[str, int]:
        """What each name adds now."""
        return {name: reason.total for name, reason in self._reasons.items()}

    def __contains__(self, name: object) -> bool:
        return name in self._reasons

    def add(self, name: str, value: int = FULL, *, administrative: bool = False) -> int:
        """Hold a reason once more; returns what the total changed by.

        A reason that is held with another value takes the new one, for all who hold it.
        """
        held = self._reasons.get(name)
        self._reasons[name] = Reason(value, held.holders + 1 if held else 1, administrative)
        return self._add_up()

    def set(self, name: str, value: int, *, administrative: bool = False) -> int:
        """Hold a reason exactly once, with this value; 0 lets it go."""
        self._reasons.pop(name, None)
        if value:
            self._reasons[name] = Reason(value, 1, administrative)
        return self._add_up()

    def remove(self, name: str) -> int:
        """Let go of a reason once; unknown names are a KeyError."""
        held = self._reasons[name]
        if held.holders > 1:
            self._reasons[name] = held._replace(holders=held.holders - 1)
        else:
            del self._reasons[name]
        return self._add_up()

    def reset(self) -> list[str]:
        """Let go of what the administrator added and of latched send errors; returns the names.

        A dead link, a failing check or maintenance are facts: they end when they end.
        """
        gone = [name for name, reason in self._reasons.items() if reason.administrative or name == SEND_ERRORS]
        for name in gone:
            del self._reasons[name]
        self._add_up()
        return gone
