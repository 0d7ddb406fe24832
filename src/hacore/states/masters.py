"""Connections that others expected: FTP's data, the control and the media of an H.323 call. The kernel takes one with
its master, the connection that expected it, only when that is there, and without it for good.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hacore._fast.row import KEY_BYTES, ROW_DTYPE
from hacore._fast.table import Table
from hacore.states.gather import keys, pick
from hacore.states.layout import Keys, Rows

Order = npt.NDArray[np.intp]

MAX_ZONES: Final = 64
"""In which a connection that expects is looked for."""

_FIELDS: Final = {
    "family": "family",
    "protocol": "master_protocol",
    "zone": "zone",
    "source": "master_source",
    "destination": "master_destination",
    "source_port": "master_source_port",
    "destination_port": "master_destination_port",
}
"""Of a master's key, and where a row or an expectation tells them."""


def masters_of(records: npt.NDArray[Any]) -> Rows:
    """The masters of rows or expectations: rows with nothing but a key, one beside each."""
    masters = np.zeros(len(records), dtype=ROW_DTYPE)
    for field, theirs in _FIELDS.items():
        masters[field] = records[theirs]
    return masters


def places_of_masters(table: Table, expectations: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(n,): where the table has the masters of expectations, -1 where it does not. The kernel does not tell their
    zones: all that the table has are tried.
    """
    masters = masters_of(expectations)
    places = table.find(masters)
    if (places < 0).any() and len(table):
        for zone in np.unique(table.rows()["zone"])[:MAX_ZONES]:
            unknown = places < 0
            masters["zone"] = zone
            places[unknown] = table.find(pick(masters, unknown))
    return places


def generations(own: Keys, masters: Keys) -> npt.NDArray[np.int64]:
    """(n,): how many of these connections, told by `own`, stand above each as its master, the master of that, and so
    on. Those in and below a circle, which no kernel has, get more than all others.
    """
    count = len(own)
    plain = np.dtype(("S", KEY_BYTES))  # ends in zeros or not, strings of one length compare as their bytes do
    names, wanted = own.view(plain), masters.view(plain)
    order = np.argsort(names)
    above = order[np.searchsorted(names, wanted, sorter=order).clip(max=count - 1)] if count else order
    # Each looks ever further up, twice as far every time; `count` is above all.
    jumps = np.append(np.where(names[above] == wanted, above, count), count)
    found = (jumps < count).astype(np.int64)
    for _ in range(count.bit_length()):
        if (jumps == count).all():
            break
        found += found[jumps]
        jumps = jumps[jumps]
    return found[:count]


def masters_first(rows: Rows) -> Order | None:
    """An order in which each row comes after its master, as far as that is among them; None: they may stay as they
    are.
    """
    expected = rows["master_protocol"] != 0
    if not expected.any():
        return None
    last = np.flatnonzero(expected)
    if len(last) > 1:
        some = pick(rows, last)
        last = last[np.argsort(generations(keys(some), keys(masters_of(some))), kind="stable")]
    return np.concatenate([np.flatnonzero(~expected), last])
