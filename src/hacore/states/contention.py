"""Two connections with one reply tuple, such as the same NAT port given to both: only one can be in a kernel.

On a node that is MASTER of nothing the newer one goes in. A MASTER carries traffic: of what it owns, and what a peer
says of another connection, stays what would win if both claimed one row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hacore._fast.table import Table
from hacore.states.layout import Rows
from hacore.states.ownership import SELF, Ownership
from hacore.states.spared import Spared

Mask = npt.NDArray[np.bool_]


def displacing(table: Table, ownership: Ownership, spared: Spared, rows: Rows, holders: Rows) -> Mask:
    """Which of `rows`, as peers have told them, go into this MASTER's kernel in place of the entries `holders`, one
    beside each.

    A holder that the table does not have is this node's, of this moment, but for one that its owner has let go of.
    """
    positions, places = table.find(rows), table.find(holders)
    metadata = table.metadata()
    claims, held = metadata[positions], metadata[places]
    unknown = places < 0
    owners = np.where(unknown, SELF, held["owner"]).astype(np.uint8)
    epochs = np.where(unknown, ownership.epoch, held["epoch"]).astype(np.uint32)
    wins = ownership.wins(claims["owner"], claims["epoch"], owners, epochs)
    wins |= unknown & spared.holds(holders)
    told: Mask = (positions >= 0) & (claims["owner"] != SELF)
    return told & wins
