"""Rows picked and joined as plain bytes: numpy copies a structured array field by field, 30 times slower than the
same bytes without fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hacore._fast.row import KEY_BYTES, KEY_DTYPE, ROW_BYTES, ROW_DTYPE

_PLAIN_ROW: Final = np.dtype((np.void, ROW_BYTES))
_PLAIN_KEY: Final = np.dtype((np.void, KEY_BYTES))

Records = npt.NDArray[np.void]

NO_ROWS: Final[Records] = np.zeros(0, dtype=ROW_DTYPE)
NO_KEYS: Final[Records] = np.zeros(0, dtype=KEY_DTYPE)


def _plain(records: Records) -> Records:
    return records.view(_PLAIN_ROW if records.dtype == ROW_DTYPE else _PLAIN_KEY)


def pick(records: Records, which: npt.NDArray[Any]) -> Records:
    """Copies of the rows or keys at these indices, or where this mask is true."""
    found: Records = _plain(records)[which].view(records.dtype)
    return found


def place(records: Records, which: npt.NDArray[Any], values: Records) -> None:
    """Overwrites the rows at these indices, or where this mask is true."""
    _plain(records)[which] = _plain(values)


def join(parts: Sequence[Records]) -> Records:
    """One array of them all; the array itself where there is only one that is not empty."""
    filled = [part for part in parts if len(part)]
    if len(filled) <= 1:
        return filled[0] if filled else parts[0]
    return np.concatenate([_plain(part) for part in filled]).view(parts[0].dtype)


def keys(rows: Records) -> Records:
    """The keys of rows, a copy."""
    octets = np.ascontiguousarray(rows.view(np.uint8).reshape(len(rows), ROW_BYTES)[:, :KEY_BYTES])
    return octets.view(KEY_DTYPE).reshape(len(rows))
