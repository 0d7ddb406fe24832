"""The steps of one transaction on the node that receives it, and what is to be done after a crash in each.

                    +--------------- a failure before anything was touched: "undone", nothing to do
                    |
    opened -> staged -> checked -> swapping -> applying -> restarting -> verifying -> done
                                      |           |            |            |
                                      +-----------+-----+------+------------+
                                                        v
                                                     undoing -> undone

A step is written down before it begins. `done` is reached by writing the revision: a crash before that undoes, a crash
after it changes nothing.
"""

from __future__ import annotations

from typing import Literal, get_args

from hacore.errors import LocalProtocolError

Step = Literal[
    "opened", "staged", "checked", "swapping", "applying", "restarting", "verifying", "done", "undoing", "undone"
]
Remedy = Literal["nothing", "forget", "undo"]

STEPS: tuple[Step, ...] = get_args(Step)
NEXT: dict[Step, tuple[Step, ...]] = {
    "opened": ("staged", "undone"),
    "staged": ("checked", "undone"),
    "checked": ("swapping", "undone"),
    "swapping": ("applying", "undoing"),
    "applying": ("restarting", "undoing"),
    "restarting": ("verifying", "undoing"),
    "verifying": ("done", "undoing"),
    "done": (),
    "undoing": ("undone",),
    "undone": (),
}
AFTER_CRASH: dict[Step, Remedy] = {
    "opened": "forget",
    "staged": "forget",
    "checked": "forget",
    "swapping": "undo",
    "applying": "undo",
    "restarting": "undo",
    "verifying": "undo",
    "done": "nothing",
    "undoing": "undo",
    "undone": "nothing",
}


class Plan:
    """Holds the step that a transaction is in, and refuses one that cannot follow."""

    def __init__(self, step: Step = "opened") -> None:
        self.step: Step = step

    def advance(self, step: Step) -> None:
        """The next step begins."""
        if step not in NEXT[self.step]:
            raise LocalProtocolError(f"a transaction that is {self.step} cannot become {step}")
        self.step = step

    @property
    def touched(self) -> bool:
        """Whether something of the node may be changed already."""
        return AFTER_CRASH[self.step] == "undo"

    @property
    def ended(self) -> bool:
        """Whether nothing follows."""
        return not NEXT[self.step]
