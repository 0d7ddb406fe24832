"""Expectations: connections that a helper waits for. Few and short-lived: kept one by one, they travel as they are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hacore._fast.ctnetlink_dtypes import EXPECTATION_DTYPE

Expectations = npt.NDArray[np.void]
"""A one-dimensional array of `EXPECTATION_DTYPE`."""

MAX_EXPECTATIONS: Final = 16_384
"""Of one owner: bounds the memory that they can take."""
KEY_BYTES: Final = 58
"""Of an expectation: everything in front of its master, which is zone, tuple and mask."""

assert EXPECTATION_DTYPE.fields is not None
assert EXPECTATION_DTYPE.fields["master_protocol"][1] == KEY_BYTES


def records(parts: list[bytes]) -> Expectations:
    """As one array."""
    return np.frombuffer(b"".join(parts), dtype=EXPECTATION_DTYPE)


class Expected:
    """The expectations of one owner."""

    def __init__(self) -> None:
        self.ever = False
        """There has been one."""
        self._held: dict[bytes, bytes] = {}

    def all(self) -> Expectations:
        """Those in force."""
        return records(list(self._held.values()))

    def clear(self) -> None:
        """There are none any more."""
        self._held.clear()

    def observe(self, expectations: Expectations, alive: npt.NDArray[Any]) -> tuple[Expectations, Expectations]:
        """Events in order, with whether each came or went; what that comes to: those that there are, and those gone."""
        self.ever = self.ever or bool(len(expectations))
        touched: dict[bytes, bytes] = {}
        for record, lives in zip(expectations, alive, strict=True):
            data = record.tobytes()
            name = data[:KEY_BYTES]
            touched[name] = data
            if not lives:
                self._held.pop(name, None)
            elif name in self._held or len(self._held) < MAX_EXPECTATIONS:
                self._held[name] = data
        born = [data for name, data in touched.items() if name in self._held]
        return records(born), records([data for name, data in touched.items() if name not in self._held])

    def replace(self, expectations: Expectations) -> Expectations:
        """These are all there are; those that are gone with that."""
        before = self._held
        self._held = {record.tobytes()[:KEY_BYTES]: record.tobytes() for record in expectations[:MAX_EXPECTATIONS]}
        return records([data for name, data in before.items() if name not in self._held])
