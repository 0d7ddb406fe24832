"""What a batch of events comes to: one row a key, however often the events name it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hacore._fast.ctnetlink import complete
from hacore._fast.row import KEY_BYTES, ROW_DTYPE
from hacore._fast.table import Table
from hacore.states.gather import keys, pick, place
from hacore.states.layout import Rows

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]


def known_rows(table: Table, positions: Positions) -> Rows:
    """The rows at these positions, zeros where absent."""
    known = np.zeros(len(positions), dtype=ROW_DTYPE)
    if len(table):
        found = positions >= 0
        if found.all():
            return pick(table.rows(), positions)
        place(known, found, pick(table.rows(), positions[found]))
    return known


def net(
    table: Table,
    rows: Rows,
    events: Rows,
    alive: Mask,
    positions: Positions,
    order: npt.NDArray[np.intp],
    again: Mask,
) -> tuple[Rows, Mask, Positions]:
    """What events come to that name keys more than once: one row a key, whether it lives, and its position in the
    table.

    `order` sorts the events by hash, `again` tells where a hash comes once more. Two keys of one hash fall into
    one group; they are told apart by their positions being worked through one after the other only if they
    differ, so such a group is taken apart by key.
    """
    starts = np.flatnonzero(np.concatenate(([True], ~again)))
    sizes = np.diff(np.append(starts, len(order)))
    group = np.repeat(np.arange(len(starts)), sizes)
    first = order[starts]
    plain = keys(rows).view(np.dtype((np.void, KEY_BYTES)))
    if not (plain[order] == plain[first][group]).all():
        _, first, inverse = np.unique(plain, return_index=True, return_inverse=True)
        group_of = inverse.reshape(-1)
        order = group_of.argsort(kind="stable")
        group = group_of[order]
        starts = np.flatnonzero(np.concatenate(([True], group[1:] != group[:-1])))
        sizes = np.diff(np.append(starts, len(order)))
        first = order[starts]
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    where = positions[first]
    state = known_rows(table, where)
    lives = where >= 0
    place(state, ~lives, pick(rows, first[~lives]))  # a key that never lives is named, too
    unknown = ~lives
    for turn in range(int(sizes.max())):
        chosen = rank == turn
        event, target = order[chosen], group[chosen]
        told, living = pick(rows, event), alive[event]
        known = pick(state, target)
        fresh = unknown[target]
        if fresh.any():
            known.view(np.uint8).reshape(len(known), -1)[fresh] = 0
        complete(told, known, events[event])
        place(state, target[living], pick(told, living))
        lives[target] = living
        unknown[target] = ~living
    return state, lives, where
