"""What this kernel's helpers expect, into the log: events, and dumps for what no event tells or a lost one told."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from hacore._fast.ctnetlink import EVENT_DESTROY
from hacore._fast.table import Table
from hacore.states.expectations import Expectations, Expected
from hacore.states.frames import Kind, expectations_body
from hacore.states.layout import Rows
from hacore.states.log import Log
from hacore.states.masters import places_of_masters
from hacore.states.ownership import SELF, Ownership

FRAME_EXPECTATIONS: Final = 8192
"""Of each kind in one frame: 2.9 MB at most."""

Mask = npt.NDArray[np.bool_]


class ExpectationOrigin:
    """Those of connections that are not replicated are left out before, and echoes of this node's own injecting. An
    expectation is of the node that its master is of: the copies of others' are in this kernel, too.
    """

    def __init__(self, table: Table, ownership: Ownership, log: Log, *, slack: int) -> None:
        self._table, self._ownership, self._log = table, ownership, log
        self._slack = slack
        self._expected = Expected()

    def all(self, now: float) -> Expectations:
        """Those that are in force here, as they were told."""
        return self._expected.all(now)

    def observe(self, expectations: Expectations, events: Rows, now: float) -> None:
        """Events, in order: (n,) of EXPECTATION_DTYPE and EVENT_DTYPE."""
        born, gone = self._expected.observe(expectations, events["kind"] != EVENT_DESTROY, now)
        self._send(born, gone, now)

    def reconcile(self, expectations: Expectations, now: float) -> int:
        """A dump: all that the kernel has. What is not as it was told is told again, and what is gone; how many."""
        others = self._others(expectations)
        if others.any():
            self._expected.forget(expectations[others])
            expectations = expectations[~others]
        changed, gone = self._expected.replace(expectations, now, self._slack)
        return self._send(changed, gone, now)

    def send_all(self, now: float) -> None:
        """All that there are, for a replica that may have missed some."""
        if self._expected.are_known:
            mine = self._expected.all(now)
            mine = mine[~self._others(mine)]
            self._log.append(
                Kind.EXPECTATIONS, self._ownership.epoch, 1, now, expectations_body(mine, mine[:0], whole=True)
            )

    def _others(self, expectations: Expectations) -> Mask:
        """Which are for another node to tell of. A MASTER tells of those of nodes that are none, or gone."""
        ownership = self._ownership
        telling = [
            node.index
            for node in ownership.nodes
            if node.index != SELF and node.has_rows and (not ownership.master or (node.connected and node.master))
        ]
        if not telling or not len(expectations) or not len(self._table):
            return np.zeros(len(expectations), dtype=np.bool_)
        places = places_of_masters(self._table, expectations)
        return (places >= 0) & np.isin(self._table.metadata()["owner"][places], telling)

    def _send(self, born: Expectations, gone: Expectations, now: float) -> int:
        for start in range(0, max(len(born), len(gone)), FRAME_EXPECTATIONS):
            part = slice(start, start + FRAME_EXPECTATIONS)
            body = expectations_body(born[part], gone[part], whole=False)
            self._log.append(Kind.EXPECTATIONS, self._ownership.epoch, len(born[part]) + len(gone[part]), now, body)
        return len(born) + len(gone)
